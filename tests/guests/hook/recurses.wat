;; Calls itself until the stack is used up.
(func $attack (result i32) (i32.add (call $attack) (call $attack)))
