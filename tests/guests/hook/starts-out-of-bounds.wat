;; Has data that begin where its memory ends.
(data (i32.const 65536) "beyond")
(func $attack (result i32) unreachable)
