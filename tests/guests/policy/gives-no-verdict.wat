;; Gives neither yes nor no.
(func $attack (result i32)
  (i32.store8 (i32.const 260) (i32.const 7))
  (i32.const 256))
