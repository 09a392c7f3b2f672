;; Asks by an address of 10 kB.
(func $request (import "berth:http-out/http-out@0.1.0" "[constructor]request")
  (param i32 i32 i32 i32) (result i32))
(func $send (import "berth:http-out/http-out@0.1.0" "[method]request.send") (param i32 i32))
(data (i32.const 1024) "GET")
(func $attack (result i32)
  (memory.fill (i32.const 2048) (i32.const 97) (i32.const 10000))
  (memory.init $begin (i32.const 2048) (i32.const 0) (i32.const 20))
  (call $send
    (call $request (i32.const 1024) (i32.const 3) (i32.const 2048) (i32.const 10000))
    (i32.const 256))
  (i32.const 256))
(data $begin "https://api.example/")
