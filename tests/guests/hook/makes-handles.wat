;; Makes 2,000 handles to a resource of its own, which the host keeps, without calling the host.
(func $new (import "[export]berth:hostile/things@0.1.0" "[resource-new]thing")
  (param i32) (result i32))
(func $attack (result i32) (local $count i32)
  (loop $again
    (drop (call $new (i32.const 1)))
    (local.set $count (i32.add (local.get $count) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $count) (i32.const 2000))))
  (i32.const 16))
