;; Writes one line that is as long as its whole output may be.
(func $line (import "berth:log/log@0.1.0" "line") (param i32 i32 i32 i32))
(memory (export "memory") 4)
(data (i32.const 1024) "info")
(func $attack (result i32)
  (memory.fill (i32.const 2048) (i32.const 97) (i32.const 200000))
  (call $line (i32.const 1024) (i32.const 4) (i32.const 2048) (i32.const 200000))
  (i32.const 16))
