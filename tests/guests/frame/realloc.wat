;; Gives the host place for what it hands over: one after the other, never given back.
(global $heap (mut i32) (i32.const 65536))
(func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $bytes i32) (result i32)
  (local $at i32) (local $missing i32)
  (local.set $at
    (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
  (global.set $heap (i32.add (local.get $at) (local.get $bytes)))
  (local.set $missing
    (i32.sub
      (i32.shr_u (i32.add (global.get $heap) (i32.const 65535)) (i32.const 16))
      (memory.size)))
  (if (i32.gt_s (local.get $missing) (i32.const 0))
    (then
      (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable))))
  (local.get $at))
