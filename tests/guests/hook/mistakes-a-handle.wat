;; Uses a secret as if it were a request.
(func $open (import "berth:secrets/secrets@0.1.0" "open") (param i32 i32 i32))
(func $send (import "berth:http-out/http-out@0.1.0" "[method]request.send") (param i32 i32))
(data (i32.const 1024) "used")
(func $attack (result i32)
  (call $open (i32.const 1024) (i32.const 4) (i32.const 256))
  (call $send (i32.load (i32.const 260)) (i32.const 256))
  (i32.const 256))
