;; Hands over the same megabyte a thousand times: a gigabyte, were it taken.
(func $add (import "berth:metrics/metrics@0.1.0" "add")
  (param i32 i32 f64 i32 i32 i32))
(memory (export "memory") 50)
(data (i32.const 1024) "seen")
(func $attack (result i32) (local $at i32)
  ;; 1,000 pairs, each of them an empty name and the same million bytes.
  (local.set $at (i32.const 2000000))
  (loop $again
    (i32.store offset=8 (local.get $at) (i32.const 65536))
    (i32.store offset=12 (local.get $at) (i32.const 1000000))
    (local.set $at (i32.add (local.get $at) (i32.const 16)))
    (br_if $again (i32.lt_u (local.get $at) (i32.const 2016000))))
  (call $add (i32.const 1024) (i32.const 4) (f64.const 1) (i32.const 2000000) (i32.const 1000)
    (i32.const 256))
  (i32.const 256))
