;; Gives a view of two megabytes.
(memory (export "memory") 40)
(func $attack (result i32)
  (i32.store (i32.const 260) (i32.const 2048))
  (i32.store (i32.const 264) (i32.const 2000000))
  (i32.const 256))
