;; Gives the host an address that is not aligned for the lines.
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 2049))
(func $attack (result i32) unreachable)
