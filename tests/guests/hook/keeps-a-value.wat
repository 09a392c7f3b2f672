;; Keeps a value.
(func $put (import "berth:kv/kv@0.1.0" "put") (param i32 i32 i32 i32 i32 i64 i32))
(data (i32.const 1024) "key")
(func $attack (result i32)
  (call $put (i32.const 1024) (i32.const 3) (i32.const 1024) (i32.const 3)
    (i32.const 0) (i64.const 0) (i32.const 256))
  (i32.const 256))
