;; Uses the handle of a secret that it was never given.
(func $name (import "berth:secrets/secrets@0.1.0" "[method]secret.name") (param i32 i32))
(func $attack (result i32)
  (call $name (i32.const 7) (i32.const 256))
  (i32.const 16))
