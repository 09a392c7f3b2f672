;; Takes memory of the host by way of a table.
(table $table 1 funcref)
(func $attack (result i32)
  (loop $again
    (br_if $again
      (i32.ne (table.grow $table (ref.null func) (i32.const 10000)) (i32.const -1))))
  unreachable)
