;; Opens a secret again and again, and keeps every handle.
(func $open (import "berth:secrets/secrets@0.1.0" "open") (param i32 i32 i32))
(data (i32.const 1024) "used")
(func $attack (result i32)
  (loop $again
    (call $open (i32.const 1024) (i32.const 4) (i32.const 256))
    (br_if $again (i32.eqz (i32.load8_u (i32.const 256)))))
  (i32.const 256))
