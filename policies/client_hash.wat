;; client_hash: a client's IP, never its port, decides which server it gets; weights are ignored.
;;
;; Every available server gets a score for this client, a hash of both; the highest wins ("highest random weight", or
;; rendezvous hashing). A server that goes moves only its own clients, to whoever came second for each; one that
;; comes takes an even share from all. The score depends on the server's address, not on its id or its place in the
;; list, so several proxies, and a proxy that was started again, agree.
;;
;; The price is a look at every server: about 2 ns each, so 2 µs a pick with 1,000 servers. The built-in policy
;; `maglev` costs the same with any number of servers, as it keeps a table.
;;
;; `round_robin.wat` beside this file explains how the types of `wit/balance.wit` look to a module.
;;
;; This module's memory
;;       0   return area of `describe`      16   of `configure`      32   of `pick`
;;      64   the texts of `describe`
;;    1024   the available servers, 16 bytes each: hash of the address +0, id +8
;;   65536   what the proxy passes in, or behind the servers when there are so many that they reach beyond
(module
  (import "goproxy:balance/host@1.0.0" "already-tried" (func $already_tried (param $server i32) (result i32)))

  (memory (export "memory") 2)
  (data (i32.const 64) "client_hash" "1.0.0")

  (global $end (mut i32) (i32.const 1024))          ;; behind the last server
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

  ;; Spreads every bit of a number over all 64. The constants are the ones of splitmix64, which are known to do it well.
  (func $mix (param $x i64) (result i64)
    (local.set $x (i64.mul
      (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 30))) (i64.const 0xbf58476d1ce4e5b9)))
    (local.set $x (i64.mul
      (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 27))) (i64.const 0x94d049bb133111eb)))
    (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 31))))

  ;; The hash of a text: FNV-1a byte by byte, and mixed at the end, as FNV leaves its upper bits poor.
  (func $hash (param $text i32) (param $length i32) (result i64)
    (local $hash i64)
    (local.set $hash (i64.const 0xcbf29ce484222325))
    (block $done
      (loop $each
        (br_if $done (i32.eqz (local.get $length)))
        (local.set $hash (i64.mul
          (i64.xor (local.get $hash) (i64.load8_u (local.get $text))) (i64.const 0x100000001b3)))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $each)))
    (call $mix (local.get $hash)))

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
  ;; Hashes each address once, here, so that a pick has nothing to read but 16 bytes a server. Of a server's 36 bytes
  ;; this reads id +0, address +12 (address, length) and available +24. The table lies before the list and grows more
  ;; slowly, so it overwrites only what has been read; the texts lie behind the list.
  (func (export "goproxy:balance/policy@1.0.0#set-servers") (param $server i32) (param $length i32)
    (global.set $end (i32.const 1024))
    (block $done
      (loop $each
        (br_if $done (i32.eqz (local.get $length)))
        (if (i32.load8_u offset=24 (local.get $server))
          (then
            (i64.store (global.get $end)
              (call $hash (i32.load offset=12 (local.get $server)) (i32.load offset=16 (local.get $server))))
            (i32.store offset=8 (global.get $end) (i32.load (local.get $server)))
            (global.set $end (i32.add (global.get $end) (i32.const 16)))))
        (local.set $server (i32.add (local.get $server) (i32.const 36)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $each)))
    (global.set $heap_start
      (select (global.get $end) (i32.const 65536) (i32.gt_u (global.get $end) (i32.const 65536))))
    (global.set $heap (global.get $heap_start)))

  ;; pick: func(connection: connection) -> option<u32>
  ;; The client's address: $family 0 is IPv4, in the low 32 bits of $ip_high; 1 is IPv6, in both halves.
  (func (export "goproxy:balance/policy@1.0.0#pick")
    (param $family i32) (param $ip_high i64) (param $ip_low i64)
    (param $client_port i32) (param $listener_port i32) (param $attempt i32) (result i32)
    (local $client i64) (local $server i32) (local $score i64) (local $best i64) (local $end i32)
    (i32.store8 (i32.const 32) (i32.const 0))
    (local.set $client
      (call $mix (i64.xor (local.get $ip_high)
        (call $mix (i64.add (local.get $ip_low) (i64.extend_i32_u (local.get $family)))))))
    (local.set $server (i32.const 1024))
    (local.set $end (global.get $end))
    (block $done
      (loop $each
        (br_if $done (i32.eq (local.get $server) (local.get $end)))
        ;; Both halves are well mixed already; multiplying, folding and multiplying again makes every server's score
        ;; independent of the others', at half the price of $mix.
        (local.set $score (i64.mul
          (i64.xor (local.get $client) (i64.load (local.get $server))) (i64.const 0xbf58476d1ce4e5b9)))
        (local.set $score (i64.mul
          (i64.xor (local.get $score) (i64.shr_u (local.get $score) (i64.const 32))) (i64.const 0x94d049bb133111eb)))
        (block $worse
          ;; Equal scores count, so that a score of 0 can win where there is no other.
          (br_if $worse (i64.lt_u (local.get $score) (local.get $best)))
          ;; The proxy is asked about the best ones only: a handful of questions, not one for each server.
          (if (local.get $attempt)
            (then (br_if $worse (call $already_tried (i32.load offset=8 (local.get $server))))))
          (local.set $best (local.get $score))
          (i32.store8 (i32.const 32) (i32.const 1))
          (i32.store (i32.const 36) (i32.load offset=8 (local.get $server))))
        (local.set $server (i32.add (local.get $server) (i32.const 16)))
        (br $each)))
    (i32.const 32)))
