;; Has more tables than it may have, all of them empty.
(table 0 funcref) (table 0 funcref) (table 0 funcref) (table 0 funcref) (table 0 funcref)
(table 0 funcref) (table 0 funcref) (table 0 funcref) (table 0 funcref)
(func $attack (result i32) unreachable)
