;; Calls a function as if it took something else.
(table $table funcref (elem $other))
(func $other (param i64) (result i64) (local.get 0))
(func $attack (result i32) (call_indirect $table (result i32) (i32.const 0)))
