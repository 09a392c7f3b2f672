;; Tells how far it got, until it is ended: were that place another each time, so were a verdict.
(func $line (import "berth:log/log@0.1.0" "line") (param i32 i32 i32 i32))
(data (i32.const 1024) "info")
(func $attack (result i32) (local $turn i32)
  (loop $again
    (local.set $turn (i32.add (local.get $turn) (i32.const 1)))
    (if (i32.eqz (i32.rem_u (local.get $turn) (i32.const 1000)))
      (then (call $line (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 4))))
    (br $again))
  unreachable)
