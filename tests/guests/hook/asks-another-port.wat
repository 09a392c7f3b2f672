;; Asks another service of a server that was granted.
(func $request (import "berth:http-out/http-out@0.1.0" "[constructor]request")
  (param i32 i32 i32 i32) (result i32))
(func $send (import "berth:http-out/http-out@0.1.0" "[method]request.send") (param i32 i32))
(data (i32.const 1024) "GET")
(data (i32.const 2048) "https://api.example:6443/")
(func $attack (result i32)
  (call $send
    (call $request (i32.const 1024) (i32.const 3) (i32.const 2048) (i32.const 25))
    (i32.const 256))
  (i32.const 256))
