;; Adds what is not a number to its measure.
(func $add (import "berth:metrics/metrics@0.1.0" "add") (param i32 i32 f64 i32 i32 i32))
(data (i32.const 1024) "seen")
(func $attack (result i32)
  (call $add (i32.const 1024) (i32.const 4) (f64.const nan) (i32.const 0) (i32.const 0)
    (i32.const 256))
  (i32.const 256))
