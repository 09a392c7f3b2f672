;; Writes an event.
(func $emit (import "berth:events/events@0.1.0" "emit") (param i32 i32 i32 i32 i32))
(data (i32.const 1024) "done")
(data (i32.const 2048) "{}")
(func $attack (result i32)
  (call $emit (i32.const 1024) (i32.const 4) (i32.const 2048) (i32.const 2) (i32.const 256))
  (i32.const 256))
