;; Makes handles to a resource of its own, which the host keeps, without calling the host.
(func $new (import "[export]berth:hostile/things@0.1.0" "[resource-new]thing")
  (param i32) (result i32))
(func $attack (result i32)
  (loop $again
    (drop (call $new (i32.const 1)))
    (br $again))
  unreachable)
