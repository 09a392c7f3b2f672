;; What makes a guest a hook. It does its harm in the first attempt, and takes the event in every
;; later one: the word at 16 is a result without error.
(func (export "berth:hook/handler@0.1.0#on-event")
  (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (param $attempt i32) (param i32 i32)
  (result i32)
  (if (i32.ne (local.get $attempt) (i32.const 1)) (then (return (i32.const 16))))
  (call $attack))
