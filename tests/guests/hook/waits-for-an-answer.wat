;; Asks a server that never answers, with more patience than it may have.
(func $request (import "berth:http-out/http-out@0.1.0" "[constructor]request")
  (param i32 i32 i32 i32) (result i32))
(func $patience (import "berth:http-out/http-out@0.1.0" "[method]request.set-timeout-ms")
  (param i32 i32))
(func $send (import "berth:http-out/http-out@0.1.0" "[method]request.send") (param i32 i32))
(data (i32.const 1024) "GEThttps://api.example/")
(func $attack (result i32) (local $request i32)
  (local.set $request
    (call $request (i32.const 1024) (i32.const 3) (i32.const 1027) (i32.const 20)))
  (call $patience (local.get $request) (i32.const 0xffffffff))
  (call $send (local.get $request) (i32.const 256))
  (i32.const 256))
