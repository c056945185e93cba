;; For the demonstration: a policy with a fault. It answers some clients, the first available server, and then
;; loops for ever. Memory: 0 describe's answer, 16 configure's, 32 pick's, 64 texts, 65536 on what is passed in.
(module
  (memory (export "memory") 2)
  (data (i32.const 64) "loops" "1.0.0")
  (global $first (mut i32) (i32.const 0))
  (global $is_any (mut i32) (i32.const 0))
  (global $answers_left (mut i32) (i32.const 20))
  (global $heap (mut i32) (i32.const 65536))

  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $start i32)
    (local.set $start (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $start) (local.get $size)))
    (local.get $start))

  (func (export "goproxy:balance/policy@1.0.0#describe") (result i32)
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 5))
    (i32.store (i32.const 8) (i32.const 69)) (i32.store (i32.const 12) (i32.const 5))
    (i32.const 0))

  (func (export "goproxy:balance/policy@1.0.0#configure")
    (param i32 i32 i32 i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.const 16))

  (func (export "goproxy:balance/policy@1.0.0#set-servers") (param $server i32) (param $length i32)
    (global.set $heap (i32.const 65536))
    (global.set $is_any (i32.const 0))
    (block $done
      (loop $each
        (br_if $done (i32.eqz (local.get $length)))
        (if (i32.load8_u offset=24 (local.get $server))
          (then
            (global.set $first (i32.load (local.get $server)))
            (global.set $is_any (i32.const 1))
            (br $done)))
        (local.set $server (i32.add (local.get $server) (i32.const 36)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $each))))

  (func (export "goproxy:balance/policy@1.0.0#pick") (param i32 i64 i64 i32 i32 i32) (result i32)
    (global.set $answers_left (i32.sub (global.get $answers_left) (i32.const 1)))
    (if (i32.lt_s (global.get $answers_left) (i32.const 0))
      (then (loop $for_ever (br $for_ever))))
    (i32.store8 (i32.const 32) (global.get $is_any))
    (i32.store (i32.const 36) (global.get $first))
    (i32.const 32)))
