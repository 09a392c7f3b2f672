;; What makes a guest a policy. It does its harm where the plan is of the first millisecond, and
;; allows every other: the words at 16 are a verdict without remarks.
(func (export "berth:policy/judge@0.1.0#judge")
  (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (param $at i64) (param i32 i32 i32 i32)
  (result i32)
  (if (i64.ne (local.get $at) (i64.const 1)) (then (return (i32.const 16))))
  (call $attack))
