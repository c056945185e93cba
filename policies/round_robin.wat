;; round_robin: the available servers by turns, 1..N in order and then again; weights are ignored.
;;
;; A complete policy for goproxy, written by hand, and the one to read first. The proxy takes this text as it is;
;; no tool chain is needed. The interface is `wit/balance.wit`; what follows says how its types look to a module.
;;
;; What a policy exports
;;   memory          where the proxy writes lists and strings and reads answers from
;;   cabi_realloc    room for what the proxy passes in
;;   goproxy:balance/policy@1.0.0#describe, #configure, #set-servers, #pick
;;
;; What it may import, by name, from "goproxy:balance/host@1.0.0": active-connections, all-active-connections,
;; connect-latency, already-tried, random-u64, now-nanos, log. There is nothing else: no file, no clock, no WASI.
;;
;; How values look
;;   string, list    two i32: address, then length (a string's in bytes, a list's in elements)
;;   a result of more than one value: the function returns the address of an area which holds it
;;
;; This module's memory
;;       0   return area of `describe`: name (address, length), version (address, length)
;;      16   return area of `configure`: 0 = ok, 1 = error; the error's text at +4 (address, length)
;;      64   the texts of `describe`
;;    1024   return area of `pick`: 0 = none, 1 = some; the server's id at +4. What a pick needs lies side by side, for the
;;           processor fetches memory in lines of 64 bytes
;;    1032   the ids of the available servers, 4 bytes each, in the order of the list
;;   65536   what the proxy passes in, or behind the ids when there are so many that they reach beyond
(module
  (import "goproxy:balance/host@1.0.0" "already-tried" (func $already_tried (param $server i32) (result i32)))

  (memory (export "memory") 2)
  (data (i32.const 64) "round_robin" "1.0.0")

  (global $count (mut i32) (i32.const 0))           ;; how many servers are available
  (global $next (mut i32) (i32.const 0))            ;; whose turn it is, below $count
  (global $heap_start (mut i32) (i32.const 65536))  ;; where room for the proxy begins
  (global $heap (mut i32) (i32.const 65536))        ;; and how far it is taken

  ;; Gives the proxy room. It asks before a call for everything that the call passes in, so there is nothing to
  ;; keep a record of: whoever has taken in what was passed sets $heap back. Blocks never move, as strings are
  ;; UTF-8 on both sides, so $old is 0. Without more memory the only way out is to trap, which the proxy survives.
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
  ;; Called once, first. This policy has no parameters, so it looks at neither.
  (func (export "goproxy:balance/policy@1.0.0#configure")
    (param $group i32) (param $group_length i32) (param $params i32) (param $params_length i32) (result i32)
    (global.set $heap (global.get $heap_start))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.const 16))

  ;; set-servers: func(servers: list<server>)
  ;; The whole list, each time that anything in it changes. One server takes 36 bytes:
  ;;   id +0, name +4 (address, length), address +12 (address, length), weight +20, available +24 (one byte),
  ;;   labels +28 (address, length; each element 16 bytes: key and value, both address and length)
  ;; The ids may safely be written while the list is read: they lie before it and grow by 4 bytes while it grows by 36.
  (func (export "goproxy:balance/policy@1.0.0#set-servers") (param $server i32) (param $length i32)
    (global.set $count (i32.const 0))
    (block $done
      (loop $each
        (br_if $done (i32.eqz (local.get $length)))
        (if (i32.load8_u offset=24 (local.get $server))
          (then
            (i32.store offset=1032 (i32.shl (global.get $count) (i32.const 2)) (i32.load (local.get $server)))
            (global.set $count (i32.add (global.get $count) (i32.const 1)))))
        (local.set $server (i32.add (local.get $server) (i32.const 36)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $each)))
    ;; The turn stays where it was, unless the list has become too short for it.
    (if (i32.ge_u (global.get $next) (global.get $count))
      (then (global.set $next (i32.const 0))))
    ;; Everything is taken in: the room is free again, but for what the ids reach into.
    (global.set $heap_start
      (select
        (i32.add (i32.const 1032) (i32.shl (global.get $count) (i32.const 2)))
        (i32.const 65536)
        (i32.gt_u (global.get $count) (i32.const 16126))))    ;; (65536 - 1032) / 4
    (global.set $heap (global.get $heap_start)))

  ;; pick: func(connection: connection) -> option<u32>
  ;; The client's address: $family 0 is IPv4, in the low 32 bits of $ip_high; 1 is IPv6, in both halves.
  (func (export "goproxy:balance/policy@1.0.0#pick")
    (param $family i32) (param $ip_high i64) (param $ip_low i64)
    (param $client_port i32) (param $listener_port i32) (param $attempt i32) (result i32)
    (local $left i32) (local $server i32)
    (i32.store8 (i32.const 1024) (i32.const 0))
    (local.set $left (global.get $count))
    (block $done
      (loop $turn
        (br_if $done (i32.eqz (local.get $left)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (local.set $server (i32.load offset=1032 (i32.shl (global.get $next) (i32.const 2))))
        (global.set $next (i32.add (global.get $next) (i32.const 1)))
        (if (i32.eq (global.get $next) (global.get $count))
          (then (global.set $next (i32.const 0))))
        ;; A second try passes over whoever has failed this client, at most once round. The first try asks
        ;; nothing: nobody has been tried, and each question costs as much as half a pick.
        (if (local.get $attempt)
          (then (br_if $turn (call $already_tried (local.get $server)))))
        (i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store (i32.const 1028) (local.get $server))))
    (i32.const 1024)))
