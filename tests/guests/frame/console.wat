;; What makes a guest an extension of the console. It does its harm in the panel of an app, and
;; gives an empty view of its page: the words at 16 are that, and no pages.
(func (export "berth:console/pages@0.1.0#pages") (result i32) (i32.const 16))
(func (export "berth:console/pages@0.1.0#render")
  (param i32 i32) (param $app i32) (param i32 i32 i32 i32 i32 i32 i32) (result i32)
  (if (i32.eqz (local.get $app)) (then (return (i32.const 16))))
  (call $attack))
