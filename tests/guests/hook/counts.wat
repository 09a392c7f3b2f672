;; Counts; the words of this power's error are 4 bytes further on.
(func $add (import "berth:counters/counters@0.1.0" "add") (param i32 i32 i64 i64 i32))
(data (i32.const 1024) "key")
(func $attack (result i32)
  (call $add (i32.const 1024) (i32.const 3) (i64.const 1) (i64.const 60000) (i32.const 256))
  (memory.copy (i32.const 260) (i32.const 264) (i32.const 28))
  (i32.const 256))
