//! Policies for tests, as text: a correct one, and ways to spoil it.
//!
//! [`policy`] gives a whole module in which each part can be replaced, so that a test shows only what is wrong
//! with its guest. Unspoilt, it picks the first server that is available. It keeps its answers below 64, its
//! words from 64 to 128, and what the proxy passes in above 65536.

/// What a policy is made of: text that stands inside the parentheses of its place.
///
/// The parameters of the functions are `$old $old_size $align $size`, `$group $group_len $params $params_len`,
/// `$ptr $len`, and `$family $ip_high $ip_low $client_port $listener_port $attempt`.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// The version in the names of the exports.
    pub(crate) version: &'a str,
    /// Imports, in front of everything else.
    pub(crate) imports: &'a str,
    /// The declaration of the memory.
    pub(crate) memory: &'a str,
    /// Data, globals, functions, a `start`: whatever else is wanted.
    pub(crate) fields: &'a str,
    /// Body of `cabi_realloc`; may use `$bump`, which gives out room and grows the memory.
    pub(crate) cabi_realloc: &'a str,
    /// Body of `describe`.
    pub(crate) describe: &'a str,
    /// Body of `configure`.
    pub(crate) configure: &'a str,
    /// Body of `set-servers`; may set `$some` and `$first`.
    pub(crate) set_servers: &'a str,
    /// Body of `pick`.
    pub(crate) pick: &'a str,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Self {
            version: "1.0.0",
            imports: "",
            memory: r#"(memory (export "memory") 1)"#,
            fields: "",
            cabi_realloc: "(call $bump (local.get $align) (local.get $size))",
            describe: DESCRIBE,
            configure: "(i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16)",
            set_servers: SET_SERVERS,
            pick: PICK,
        }
    }
}

/// A whole policy, as text.
pub(crate) fn policy(parts: Parts<'_>) -> String {
    let Parts { version, imports, memory, fields, cabi_realloc, describe, configure, set_servers, pick } = parts;
    format!(
        r#"(module
  {imports}
  {memory}
  (data (i32.const 64) "guest1.0.0")
  (global $some (mut i32) (i32.const 0))
  (global $first (mut i32) (i32.const 0))
  (global $heap (mut i32) (i32.const 65536))
  {BUMP}
  {fields}
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
    (result i32)
    {cabi_realloc})
  (func (export "goproxy:balance/policy@{version}#describe") (result i32)
    {describe})
  (func (export "goproxy:balance/policy@{version}#configure")
    (param $group i32) (param $group_len i32) (param $params i32) (param $params_len i32) (result i32)
    {configure})
  (func (export "goproxy:balance/policy@{version}#set-servers") (param $ptr i32) (param $len i32)
    {set_servers})
  (func (export "goproxy:balance/policy@{version}#pick")
    (param $family i32) (param $ip_high i64) (param $ip_low i64) (param $client_port i32)
    (param $listener_port i32) (param $attempt i32) (result i32)
    {pick}))
"#
    )
}

/// Picks by turns among the servers that are available.
pub(crate) fn turns() -> String {
    policy(Parts {
        fields: "(global $next (mut i32) (i32.const 0)) (global $count (mut i32) (i32.const 0))",
        set_servers: "(global.set $count (i32.const 0))
            (block $done
              (loop $each
                (br_if $done (i32.eqz (local.get $len)))
                (if (i32.load8_u offset=24 (local.get $ptr))
                  (then
                    (i32.store offset=4096 (i32.shl (global.get $count) (i32.const 2)) (i32.load (local.get $ptr)))
                    (global.set $count (i32.add (global.get $count) (i32.const 1)))))
                (local.set $ptr (i32.add (local.get $ptr) (i32.const 36)))
                (local.set $len (i32.sub (local.get $len) (i32.const 1)))
                (br $each)))
            (global.set $heap (i32.const 65536))",
        pick: "(i32.store8 (i32.const 32) (i32.ne (global.get $count) (i32.const 0)))
            (if (global.get $count)
              (then
                (i32.store (i32.const 36) (i32.load offset=4096
                  (i32.shl (i32.rem_u (global.get $next) (global.get $count)) (i32.const 2))))
                (global.set $next (i32.add (global.get $next) (i32.const 1)))))
            (i32.const 32)",
        ..Parts::default()
    })
}

/// The optional interface, for [`Parts::fields`]; it does nothing.
pub(crate) const FEEDBACK: &str = r#"
  (func (export "goproxy:balance/feedback@1.0.0#on-connected") (param i32 i32))
  (func (export "goproxy:balance/feedback@1.0.0#on-failed") (param i32))
  (func (export "goproxy:balance/feedback@1.0.0#on-closed") (param i32 i64 i64))
"#;

/// The optional interface, for [`Parts::fields`]; it traps when it hears of an end without having heard of a connect.
pub(crate) const STRICT_FEEDBACK: &str = r#"
  (global $open (mut i32) (i32.const 0))
  (func (export "goproxy:balance/feedback@1.0.0#on-connected") (param i32 i32)
    (global.set $open (i32.add (global.get $open) (i32.const 1))))
  (func (export "goproxy:balance/feedback@1.0.0#on-failed") (param i32))
  (func (export "goproxy:balance/feedback@1.0.0#on-closed") (param i32 i64 i64)
    (if (i32.eqz (global.get $open)) (then (unreachable)))
    (global.set $open (i32.sub (global.get $open) (i32.const 1))))
"#;

const BUMP: &str = "(func $bump (param $align i32) (param $size i32) (result i32)
    (local $p i32)
    (local.set $p (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $p) (local.get $size)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
      (br_if $enough (i32.ne (i32.const -1)
        (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))))
      (unreachable))
    (local.get $p))";

const DESCRIBE: &str = "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 5))
    (i32.store (i32.const 8) (i32.const 69)) (i32.store (i32.const 12) (i32.const 5))
    (i32.const 0)";

const SET_SERVERS: &str = "(global.set $heap (i32.const 65536))
    (global.set $some (i32.const 0))
    (block $done
      (loop $each
        (br_if $done (i32.eqz (local.get $len)))
        (if (i32.load8_u offset=24 (local.get $ptr))
          (then
            (global.set $some (i32.const 1))
            (global.set $first (i32.load (local.get $ptr)))
            (br $done)))
        (local.set $ptr (i32.add (local.get $ptr) (i32.const 36)))
        (local.set $len (i32.sub (local.get $len) (i32.const 1)))
        (br $each)))";

const PICK: &str = "(i32.store8 (i32.const 32) (global.get $some))
    (i32.store (i32.const 36) (global.get $first))
    (i32.const 32)";
