;; Sends 100 headers.
(func $request (import "berth:http-out/http-out@0.1.0" "[constructor]request")
  (param i32 i32 i32 i32) (result i32))
(func $send (import "berth:http-out/http-out@0.1.0" "[method]request.send") (param i32 i32))
(func $header (import "berth:http-out/http-out@0.1.0" "[method]request.set-header")
  (param i32 i32 i32 i32 i32))
(data (i32.const 1024) "GEThttps://api.example/")
(func $attack (result i32) (local $request i32) (local $count i32)
  (local.set $request
    (call $request (i32.const 1024) (i32.const 3) (i32.const 1027) (i32.const 20)))
  (loop $again
    (i32.store8 (i32.const 2048) (i32.add (i32.const 97) (i32.div_u (local.get $count) (i32.const 10))))
    (i32.store8 (i32.const 2049) (i32.add (i32.const 97) (i32.rem_u (local.get $count) (i32.const 10))))
    (call $header (local.get $request)
      (i32.const 2048) (i32.const 2) (i32.const 2048) (i32.const 2))
    (local.set $count (i32.add (local.get $count) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $count) (i32.const 100))))
  (call $send (local.get $request) (i32.const 256))
  (i32.const 256))
