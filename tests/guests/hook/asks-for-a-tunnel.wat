;; Asks for a tunnel instead of a request.
(func $request (import "berth:http-out/http-out@0.1.0" "[constructor]request")
  (param i32 i32 i32 i32) (result i32))
(func $send (import "berth:http-out/http-out@0.1.0" "[method]request.send") (param i32 i32))
(data (i32.const 1024) "CONNECT")
(data (i32.const 2048) "https://api.example/")
(func $attack (result i32)
  (call $send
    (call $request (i32.const 1024) (i32.const 7) (i32.const 2048) (i32.const 20))
    (i32.const 256))
  (i32.const 256))
