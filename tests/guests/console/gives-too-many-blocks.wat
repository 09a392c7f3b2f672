;; Gives a view of 2,000 blocks.
(memory (export "memory") 2)
(data (i32.const 1024) "{\"blocks\":[{\"type\":\"text\",\"text\":\"\"}")
(data (i32.const 512) ",{\"type\":\"text\",\"text\":\"\"}")
(func $attack (result i32)
  (local $count i32) (local $end i32)
  (local.set $end (i32.const 1060))
  (loop $more
    (memory.copy (local.get $end) (i32.const 512) (i32.const 26))
    (local.set $end (i32.add (local.get $end) (i32.const 26)))
    (local.set $count (i32.add (local.get $count) (i32.const 1)))
    (br_if $more (i32.lt_u (local.get $count) (i32.const 1999))))
  ;; The end of it: ]}
  (i32.store16 (local.get $end) (i32.const 0x7d5d))
  (i32.store (i32.const 260) (i32.const 1024))
  (i32.store (i32.const 264) (i32.sub (local.get $end) (i32.const 1022)))
  (i32.const 256))
