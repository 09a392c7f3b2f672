;; Returns an error that holds the same megabyte a thousand times.
(memory (export "memory") 50)
(func $attack (result i32) (local $at i32)
  ;; 1,000 pairs, each of them an empty name and the same million bytes.
  (local.set $at (i32.const 2000000))
  (loop $again
    (i32.store offset=8 (local.get $at) (i32.const 65536))
    (i32.store offset=12 (local.get $at) (i32.const 1000000))
    (local.set $at (i32.add (local.get $at) (i32.const 16)))
    (br_if $again (i32.lt_u (local.get $at) (i32.const 2016000))))
  (i32.store8 (i32.const 256) (i32.const 1))
  (i32.store (i32.const 280) (i32.const 2000000))
  (i32.store (i32.const 284) (i32.const 1000))
  (i32.const 256))
