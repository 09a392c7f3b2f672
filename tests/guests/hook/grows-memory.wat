;; Takes all the memory that it gets, and then more.
(func $attack (result i32)
  (loop $again
    (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
  unreachable)
