;; Returns an error whose message lies outside of its memory.
(func $attack (result i32)
  (i32.store8 (i32.const 256) (i32.const 1))
  (i32.store (i32.const 268) (i32.const 0x7fff0000))
  (i32.store (i32.const 272) (i32.const 100))
  (i32.const 256))
