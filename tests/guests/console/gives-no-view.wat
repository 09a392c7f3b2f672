;; Gives a table whose row is longer than its head.
(data (i32.const 1024)
  "{\"blocks\":[{\"type\":\"table\",\"head\":[\"A\",\"B\",\"C\"],\"rows\":[[\"1\",\"2\",\"3\",\"4\"]]}]}")
(func $attack (result i32)
  (i32.store (i32.const 260) (i32.const 1024))
  (i32.store (i32.const 264) (i32.const 77))
  (i32.const 256))
