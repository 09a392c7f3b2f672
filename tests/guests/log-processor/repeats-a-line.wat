;; Gives 1,000 entries that are the same megabyte.
(memory (export "memory") 50)
(func $attack (result i32) (local $at i32)
  (local.set $at (i32.const 2000000))
  (loop $again
    (i32.store offset=48 (local.get $at) (i32.const 65536))
    (i32.store offset=52 (local.get $at) (i32.const 1000000))
    (local.set $at (i32.add (local.get $at) (i32.const 72)))
    (br_if $again (i32.lt_u (local.get $at) (i32.const 2072000))))
  (i32.store (i32.const 264) (i32.const 2000000))
  (i32.store (i32.const 268) (i32.const 1000))
  (i32.const 256))
