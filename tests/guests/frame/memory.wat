;; The guest's own memory: 64 KiB for itself, its words from 1024, results of host calls from 256.
(memory (export "memory") 1)
