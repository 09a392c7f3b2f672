;; Puts requests together that it never sends: the host keeps their bodies, not its own memory.
(func $request (import "berth:http-out/http-out@0.1.0" "[constructor]request")
  (param i32 i32 i32 i32) (result i32))
(func $body (import "berth:http-out/http-out@0.1.0" "[method]request.set-body")
  (param i32 i32 i32))
(memory (export "memory") 50)
(data (i32.const 1024) "GEThttps://api.example/")
(func $attack (result i32)
  (loop $again
    (call $body
      (call $request (i32.const 1024) (i32.const 3) (i32.const 1027) (i32.const 20))
      (i32.const 0) (i32.const 3000000))
    (br $again))
  unreachable)
