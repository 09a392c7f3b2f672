;; Reads the value of a secret.
(func $open (import "berth:secrets/secrets@0.1.0" "open") (param i32 i32 i32))
(func $reveal (import "berth:secrets/reader@0.1.0" "reveal") (param i32 i32))
(data (i32.const 1024) "read")
(func $attack (result i32)
  (call $open (i32.const 1024) (i32.const 4) (i32.const 256))
  (call $reveal (i32.load (i32.const 260)) (i32.const 256))
  (i32.const 256))
