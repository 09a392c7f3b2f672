;; Names its measure so that it would add a line of its own to what Prometheus reads.
(func $add (import "berth:metrics/metrics@0.1.0" "add") (param i32 i32 f64 i32 i32 i32))
(data (i32.const 1024) "up{} 1\0ax")
(func $attack (result i32)
  (call $add (i32.const 1024) (i32.const 8) (f64.const 1) (i32.const 0) (i32.const 0)
    (i32.const 256))
  (i32.const 256))
