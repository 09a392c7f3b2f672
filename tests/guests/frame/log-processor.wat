;; What makes a guest a log processor. It does its harm with a batch of one line, and drops every
;; other batch: the words at 16 are no entries.
(func (export "berth:log-processor/processor@0.1.0#process")
  (param i32) (param $lines i32) (result i32)
  (if (i32.ne (local.get $lines) (i32.const 1)) (then (return (i32.const 16))))
  (call $attack))
