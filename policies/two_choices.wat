;; two_choices: two servers at random; the one with fewer sessions for its weight gets the client.
;;
;; Nearly as even as looking at all servers, at a price that does not depend on how many there are. And several
;; proxies that do not know of each other's sessions do not all run to the same server, as they would with the
;; least loaded one.
;;
;; Read it for how a policy uses what the proxy offers: random-u64 and active-connections, 50 ns each.
;; `round_robin.wat` beside this file explains how the types of `wit/balance.wit` look to a module.
;;
;; This module's memory
;;       0   return area of `describe`      16   of `configure`      32   of `pick`
;;      64   the texts of `describe`
;;    1024   the available servers, 8 bytes each: id +0, weight +4
;;   65536   what the proxy passes in, or behind the servers when there are so many that they reach beyond
(module
  (import "goproxy:balance/host@1.0.0" "active-connections"
    (func $active_connections (param $server i32) (result i32)))
  (import "goproxy:balance/host@1.0.0" "already-tried" (func $already_tried (param $server i32) (result i32)))
  (import "goproxy:balance/host@1.0.0" "random-u64" (func $random_u64 (result i64)))

  (memory (export "memory") 2)
  (data (i32.const 64) "two_choices" "1.0.0")

  (global $count (mut i32) (i32.const 0))           ;; how many servers are available
  (global $heap_start (mut i32) (i32.const 65536))  ;; where room for the proxy begins
  (global $heap (mut i32) (i32.const 65536))        ;; and how far it is taken

  ;; Gives the proxy room; `configure` and `set-servers` take it back.
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $start i32)
    (local.set $start
      (i32.and
        (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $start) (local.get $size)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
      (br_if $enough
        (i32.ne (i32.const -1)
          (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))))
      (unreachable))
    (local.get $start))

  ;; describe: func() -> description
  (func (export "goproxy:balance/policy@1.0.0#describe") (result i32)
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 11))
    (i32.store (i32.const 8) (i32.const 75))
    (i32.store (i32.const 12) (i32.const 5))
    (i32.const 0))

  ;; configure: func(group: string, params: string) -> result<_, string>
  (func (export "goproxy:balance/policy@1.0.0#configure")
    (param $group i32) (param $group_length i32) (param $params i32) (param $params_length i32) (result i32)
    (global.set $heap (global.get $heap_start))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.const 16))

  ;; set-servers: func(servers: list<server>)
  ;; Of a server's 36 bytes this reads id +0, weight +20 and available +24. The table lies before the list and grows
  ;; more slowly, so it overwrites only what has been read.
  (func (export "goproxy:balance/policy@1.0.0#set-servers") (param $server i32) (param $length i32)
    (local $entry i32)
    (local.set $entry (i32.const 1024))
    (block $done
      (loop $each
        (br_if $done (i32.eqz (local.get $length)))
        (if (i32.load8_u offset=24 (local.get $server))
          (then
            (i32.store (local.get $entry) (i32.load (local.get $server)))
            (i32.store offset=4 (local.get $entry) (i32.load offset=20 (local.get $server)))
            (local.set $entry (i32.add (local.get $entry) (i32.const 8)))))
        (local.set $server (i32.add (local.get $server) (i32.const 36)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $each)))
    (global.set $count (i32.shr_u (i32.sub (local.get $entry) (i32.const 1024)) (i32.const 3)))
    (global.set $heap_start
      (select (local.get $entry) (i32.const 65536) (i32.gt_u (local.get $entry) (i32.const 65536))))
    (global.set $heap (global.get $heap_start)))

  ;; A number below $below, made of 32 random bits: a multiplication does it with no division and no bias to speak of.
  (func $scale (param $bits i64) (param $below i32) (result i32)
    (i32.wrap_i64 (i64.shr_u (i64.mul (local.get $bits) (i64.extend_i32_u (local.get $below))) (i64.const 32))))

  ;; The place of the first server from $place on that has not failed this client; -1 when all have.
  (func $untried (param $place i32) (result i32)
    (local $left i32)
    (local.set $left (global.get $count))
    (loop $each
      (if (i32.eqz (call $already_tried (i32.load offset=1024 (i32.shl (local.get $place) (i32.const 3)))))
        (then (return (local.get $place))))
      (local.set $place (i32.add (local.get $place) (i32.const 1)))
      (if (i32.eq (local.get $place) (global.get $count))
        (then (local.set $place (i32.const 0))))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $each (local.get $left)))
    (i32.const -1))

  ;; How loaded the server at $place would be with this client, when the other one weighs $weight. Two fractions,
  ;; sessions by weight, compare like this without a division: each numerator times the other's denominator.
  (func $load (param $place i32) (param $weight i32) (result i64)
    (i64.mul
      (i64.add (i64.const 1)
        (i64.extend_i32_u (call $active_connections
          (i32.load offset=1024 (i32.shl (local.get $place) (i32.const 3))))))
      (i64.extend_i32_u (local.get $weight))))

  ;; pick: func(connection: connection) -> option<u32>
  (func (export "goproxy:balance/policy@1.0.0#pick")
    (param $family i32) (param $ip_high i64) (param $ip_low i64)
    (param $client_port i32) (param $listener_port i32) (param $attempt i32) (result i32)
    (local $random i64) (local $one i32) (local $other i32)
    (i32.store8 (i32.const 32) (i32.const 0))
    (if (i32.eqz (global.get $count))
      (then (return (i32.const 32))))

    ;; Two different places: the second is drawn from one place fewer, and steps over the first. A single server is
    ;; compared with nobody.
    (if (i32.gt_u (global.get $count) (i32.const 1))
      (then
        (local.set $random (call $random_u64))
        (local.set $one
          (call $scale (i64.and (local.get $random) (i64.const 0xffffffff)) (global.get $count)))
        (local.set $other
          (call $scale (i64.shr_u (local.get $random) (i64.const 32))
            (i32.sub (global.get $count) (i32.const 1))))
        (local.set $other
          (i32.add (local.get $other) (i32.ge_u (local.get $other) (local.get $one))))))

    ;; A second try moves both on to servers that have not failed this client; they may meet at the last one left.
    (if (local.get $attempt)
      (then
        (local.set $one (call $untried (local.get $one)))
        (if (i32.eq (local.get $one) (i32.const -1))
          (then (return (i32.const 32))))
        (local.set $other (call $untried (local.get $other)))))

    (if (i32.ne (local.get $one) (local.get $other))
      (then
        (if (i64.gt_u
              (call $load (local.get $one)
                (i32.load offset=1028 (i32.shl (local.get $other) (i32.const 3))))
              (call $load (local.get $other)
                (i32.load offset=1028 (i32.shl (local.get $one) (i32.const 3)))))
          (then (local.set $one (local.get $other))))))
    (i32.store8 (i32.const 32) (i32.const 1))
    (i32.store (i32.const 36) (i32.load offset=1024 (i32.shl (local.get $one) (i32.const 3))))
    (i32.const 32)))
