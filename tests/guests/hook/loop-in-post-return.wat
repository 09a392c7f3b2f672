;; Gives its result, and never comes back from the function that cleans up after it.
(global $harm (mut i32) (i32.const 0))
(func $attack (result i32)
  (global.set $harm (i32.const 1))
  (i32.const 16))
(func (export "cabi_post_berth:hook/handler@0.1.0#on-event") (param i32)
  (loop $again (br_if $again (global.get $harm))))
