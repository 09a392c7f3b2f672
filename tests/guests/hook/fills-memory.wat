;; Spends its time in single instructions that take very long.
(memory (export "memory") 960)
(func $attack (result i32)
  (loop $again
    (memory.fill (i32.const 0) (i32.const 7) (i32.const 62914560))
    (br $again))
  unreachable)
