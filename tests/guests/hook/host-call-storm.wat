;; Calls the host without end.
(func $get (import "berth:config/config@0.1.0" "get") (param i32 i32 i32))
(data (i32.const 1024) "nothing")
(func $attack (result i32)
  (loop $again
    (call $get (i32.const 1024) (i32.const 7) (i32.const 256))
    (br $again))
  unreachable)
