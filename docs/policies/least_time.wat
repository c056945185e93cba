;; least_time: the server with the smallest average time to connect, times its sessions, gets the client.
;;
;; It is here as a warning, and not in policies/: docs/policies/lab.md shows what is wrong with it. The average is of all
;; connects a server ever had, so one that was unlucky with its first client looks slow, gets no client, and so is never
;; measured again. (`p2c` lets old times fade, ignores small differences, and picks without comparing now and then.)
;;
;; policies/two_choices.wat, from which this was made, explains the parts.
;;
;; This module's memory
;;       0   return area of `describe`      16   of `configure`      32   of `pick`
;;      64   the texts of `describe`
;;    1024   the available servers, 8 bytes each: id +0, weight +4
;;   65536   what the proxy passes in, or behind the servers when there are so many that they reach beyond
;; 1048576   sum of the times +0 and number of connects +8 of each server, 16 bytes each, by its id modulo 4,096
(module
  (import "goproxy:balance/host@1.0.0" "active-connections"
    (func $active_connections (param $server i32) (result i32)))
  (import "goproxy:balance/host@1.0.0" "already-tried" (func $already_tried (param $server i32) (result i32)))

  (memory (export "memory") 18)
  (data (i32.const 64) "least_time" "0.1.0")

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
    (i32.store (i32.const 4) (i32.const 10))
    (i32.store (i32.const 8) (i32.const 74))
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

  ;; Where the times of a server are.
  (func $times (param $server i32) (result i32)
    (i32.add (i32.const 1048576) (i32.shl (i32.and (local.get $server) (i32.const 4095)) (i32.const 4))))

  ;; The average time to connect in microseconds, times the sessions with this one; 0 for a server without a connect.
  (func $score (param $server i32) (result f64)
    (local $at i32)
    (local.set $at (call $times (local.get $server)))
    (if (result f64) (i64.eqz (i64.load offset=8 (local.get $at)))
      (then (f64.const 0))
      (else
        (f64.mul
          (f64.div
            (f64.convert_i64_u (i64.load (local.get $at)))
            (f64.convert_i64_u (i64.load offset=8 (local.get $at))))
          (f64.convert_i32_u (i32.add (i32.const 1) (call $active_connections (local.get $server))))))))

  ;; pick: func(connection: connection) -> option<u32>
  (func (export "goproxy:balance/policy@1.0.0#pick")
    (param $family i32) (param $ip_high i64) (param $ip_low i64)
    (param $client_port i32) (param $listener_port i32) (param $attempt i32) (result i32)
    (local $place i32) (local $server i32) (local $score f64) (local $best f64)
    (i32.store8 (i32.const 32) (i32.const 0))
    (local.set $best (f64.const inf))
    (block $done
      (loop $each
        (br_if $done (i32.ge_u (local.get $place) (global.get $count)))
        (local.set $server (i32.load offset=1024 (i32.shl (local.get $place) (i32.const 3))))
        (local.set $score (call $score (local.get $server)))
        (if (f64.lt (local.get $score) (local.get $best))
          (then
            (if (i32.or (i32.eqz (local.get $attempt)) (i32.eqz (call $already_tried (local.get $server))))
              (then
                (local.set $best (local.get $score))
                (i32.store8 (i32.const 32) (i32.const 1))
                (i32.store (i32.const 36) (local.get $server))))))
        (local.set $place (i32.add (local.get $place) (i32.const 1)))
        (br $each)))
    (i32.const 32))

  ;; on-connected: func(server: u32, micros: u32)
  (func (export "goproxy:balance/feedback@1.0.0#on-connected") (param $server i32) (param $micros i32)
    (local $at i32)
    (local.set $at (call $times (local.get $server)))
    (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (i64.extend_i32_u (local.get $micros))))
    (i64.store offset=8 (local.get $at) (i64.add (i64.load offset=8 (local.get $at)) (i64.const 1))))

  ;; on-failed: func(server: u32)
  (func (export "goproxy:balance/feedback@1.0.0#on-failed") (param $server i32))

  ;; on-closed: func(server: u32, millis: u64, bytes: u64)
  (func (export "goproxy:balance/feedback@1.0.0#on-closed") (param $server i32) (param $millis i64) (param $bytes i64)))
