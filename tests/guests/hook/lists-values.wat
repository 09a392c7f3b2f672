;; Lists the keys of its values.
(func $keys (import "berth:kv/kv@0.1.0" "keys") (param i32 i32 i32 i32))
(func $attack (result i32)
  (call $keys (i32.const 1024) (i32.const 0) (i32.const 0xffffffff) (i32.const 256))
  (i32.const 256))
