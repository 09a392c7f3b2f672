;; Has three memories, of which each alone is within the limit.
(memory (export "memory") 1008)
(memory 1008)
(memory 1008)
(func $attack (result i32) unreachable)
