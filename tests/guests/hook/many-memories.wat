;; Has more memories than it may have, all of them empty.
(memory (export "memory") 1)
(memory 0) (memory 0) (memory 0) (memory 0)
(func $attack (result i32) unreachable)
