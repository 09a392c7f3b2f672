;; Gives one request more and more headers.
(func $request (import "berth:http-out/http-out@0.1.0" "[constructor]request")
  (param i32 i32 i32 i32) (result i32))
(func $header (import "berth:http-out/http-out@0.1.0" "[method]request.set-header")
  (param i32 i32 i32 i32 i32))
(memory (export "memory") 50)
(data (i32.const 1024) "GEThttps://api.example/")
(func $attack (result i32) (local $request i32) (local $count i32)
  (local.set $request
    (call $request (i32.const 1024) (i32.const 3) (i32.const 1027) (i32.const 20)))
  (loop $again
    (local.set $count (i32.add (local.get $count) (i32.const 1)))
    (i32.store8 (i32.const 2048) (i32.add (i32.const 64) (local.get $count)))
    (call $header (local.get $request)
      (i32.const 2048) (i32.const 1) (i32.const 0) (i32.const 3000000))
    (br $again))
  unreachable)
