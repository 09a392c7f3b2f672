;; Says that its result lies outside of its memory.
(func $attack (result i32) (i32.const 0xfffffff0))
