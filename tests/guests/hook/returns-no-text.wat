;; Returns an error whose message is not UTF-8.
(data (i32.const 1024) "\ff\fe")
(func $attack (result i32)
  (i32.store8 (i32.const 256) (i32.const 1))
  (i32.store (i32.const 268) (i32.const 1024))
  (i32.store (i32.const 272) (i32.const 2))
  (i32.const 256))
