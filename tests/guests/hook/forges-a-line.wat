;; Writes a line that would clear the screen and look like one of the platform's.
(func $line (import "berth:log/log@0.1.0" "line") (param i32 i32 i32 i32))
(data (i32.const 1024) "info")
(data (i32.const 2048) "ok\1b[2J\1b]0;title\07\0a2026-11-20 error berthd: disk is lost\e2\80\aelive")
(func $attack (result i32)
  (call $line (i32.const 1024) (i32.const 4) (i32.const 2048) (i32.const 67))
  (i32.const 16))
