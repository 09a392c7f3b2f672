;; Opens a secret.
(func $open (import "berth:secrets/secrets@0.1.0" "open") (param i32 i32 i32))
(data (i32.const 1024) "used")
(func $attack (result i32)
  (call $open (i32.const 1024) (i32.const 4) (i32.const 256))
  (i32.const 256))
