;; Writes an event of 30,000 nested lists, for the stack of whoever reads it.
(func $emit (import "berth:events/events@0.1.0" "emit") (param i32 i32 i32 i32 i32))
(data (i32.const 1024) "done")
(func $attack (result i32)
  (memory.fill (i32.const 2048) (i32.const 91) (i32.const 30000))
  (memory.fill (i32.const 32048) (i32.const 93) (i32.const 30000))
  (call $emit (i32.const 1024) (i32.const 4) (i32.const 2048) (i32.const 60000) (i32.const 256))
  (i32.const 256))
