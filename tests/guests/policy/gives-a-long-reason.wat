;; Denies with a reason of 100 kB.
(memory (export "memory") 4)
(func $attack (result i32)
  (i32.store8 (i32.const 260) (i32.const 1))
  (i32.store (i32.const 264) (i32.const 2048))
  (i32.store (i32.const 268) (i32.const 100000))
  (i32.const 256))
