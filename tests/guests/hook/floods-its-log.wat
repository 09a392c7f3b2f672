;; Writes lines without end.
(func $line (import "berth:log/log@0.1.0" "line") (param i32 i32 i32 i32))
(data (i32.const 1024) "info")
(func $attack (result i32)
  (loop $again
    (call $line (i32.const 1024) (i32.const 4) (i32.const 2048) (i32.const 8000))
    (br $again))
  unreachable)
