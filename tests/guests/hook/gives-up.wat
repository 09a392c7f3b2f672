;; Executes what is not to be reached.
(func $attack (result i32) unreachable)
