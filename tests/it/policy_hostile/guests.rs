//! The guests: those that a trial shows to be bad, and those that pass it.

use crate::policy_kit::guests::{Parts, policy};
use crate::policy_kit::{LOOP, later, nth};

/// The host's function for writing into the log, as `$log`.
const LOG: &str = r#"(import "goproxy:balance/host@1.0.0" "log" (func $log (param i32 i32 i32)))"#;

/// Room for 13 MB.
const LARGE: &str = r#"(memory (export "memory") 210)"#;

/// A module that has its first call wrong, so that it is refused, and what the refusal says.
pub(super) struct Unfit {
    pub(super) what: &'static str,
    pub(super) content: Vec<u8>,
    pub(super) says: &'static str,
}

fn unfit(what: &'static str, parts: Parts<'_>, says: &'static str) -> Unfit {
    Unfit { what, content: policy(parts).into_bytes(), says }
}

/// What is refused because of what it does.
fn unfit_to_run() -> Vec<Unfit> {
    let plain = Parts::default();
    let looping = format!("{LOOP} (unreachable)");
    let looping = looping.as_str();
    let started = format!("(func $s {LOOP}) (start $s)");
    let wild = "(func $s (call $log (i32.const 2) (i32.const -16) (i32.const 100))) (start $s)";
    let huge = "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 65536))
        (i32.store (i32.const 24) (i32.const 9000000)) (i32.const 16)";
    let not_text = "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 128) (i32.const 255))
        (i32.store (i32.const 20) (i32.const 128)) (i32.store (i32.const 24) (i32.const 1)) (i32.const 16)";
    let unknown = "(i32.store8 (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const 999)) (i32.const 32)";
    vec![
        unfit("a start that loops", Parts { fields: &started, ..plain }, "start took longer than 100 ms"),
        unfit("a describe that loops", Parts { describe: looping, ..plain }, "describe took longer than 100 ms"),
        unfit("a configure that loops", Parts { configure: looping, ..plain }, "configure took longer than 100 ms"),
        unfit("a set-servers that loops", Parts { set_servers: LOOP, ..plain }, "set-servers took longer than 20 ms"),
        unfit("a realloc that loops", Parts { cabi_realloc: looping, ..plain }, "configure took longer than 100 ms"),
        unfit("a pick that loops", Parts { pick: looping, ..plain }, "pick took longer than 5 ms and was stopped"),
        unfit("4 GiB at once", Parts { memory: r#"(memory (export "memory") 65536)"#, ..plain }, "memory minimum size"),
        unfit("a table of ten million", Parts { fields: "(table 10000000 funcref)", ..plain }, "table minimum size"),
        unfit("a wild pointer at the start", Parts { imports: LOG, fields: wild, ..plain }, "start failed: "),
        unfit("nine megabytes of reasons", Parts { memory: LARGE, configure: huge, ..plain }, "configure refused {}: "),
        unfit("a reason that is no text", Parts { configure: not_text, ..plain }, "configure failed: "),
        unfit("a description elsewhere", Parts { describe: "(i32.const -16)", ..plain }, "describe failed: "),
        unfit("a server that never was", Parts { pick: unknown, ..plain }, "pick answered 999"),
        unfit("an answer elsewhere", Parts { pick: "(i32.const -4)", ..plain }, "pick failed: "),
        unfit("room elsewhere", Parts { cabi_realloc: "(i32.const -4)", ..plain }, "configure failed: "),
    ]
}

/// What is refused before it runs.
fn unfit_to_load() -> Vec<Unfit> {
    let plain = Parts::default();
    let import = |what, from, says| {
        let imports = format!(r#"(import "{from}" (func))"#);
        unfit(what, Parts { imports: &imports, ..plain }, says)
    };
    let shared = r#"(memory (export "memory") 1 2 shared)"#;
    let large = format!("(func {})", "nop ".repeat(1_100_000));
    let ifs =
        format!("(func (param i32) {})", "(if (local.get 0) (then (local.set 0 (i32.const 77777))))".repeat(120_000));
    let file = |what, content: &[u8], says| Unfit { what, content: content.to_vec(), says };
    let whole = wat::parse_str(nth(0)).unwrap();
    let native = wasmtime::Engine::default().precompile_module(&whole).unwrap();
    vec![
        unfit("a shared memory", Parts { memory: shared, ..plain }, "wants a shared memory"),
        unfit("a large function", Parts { fields: &large, ..plain }, "would take about 1.1 s to compile"),
        unfit("a hundred and twenty thousand ifs in one function", Parts { fields: &ifs, ..plain }, " s to compile, "),
        import(
            "WASI",
            r#"wasi_snapshot_preview1" "fd_write"#,
            "imports wasi_snapshot_preview1 (fd_write): policies run",
        ),
        import("AssemblyScript's abort", r#"env" "abort"#, "build with --use abort="),
        unfit(
            "another version",
            Parts { version: "2.0.0", ..plain },
            "speaks goproxy:balance@2.0.0; this proxy speaks",
        ),
        file("no WebAssembly", b"#!/bin/sh\n", r##"is not WebAssembly (begins with "#!/b")"##),
        file("code for this machine", b"\x7fELF\x02\x01\x01\0\0\0\0\0", "is compiled code for one machine"),
        file("a .cwasm under another name", &native, "is compiled code for one machine"),
        file("half a module", &whole[..whole.len() / 2], "ends in the middle"),
        file("nothing", b"", "is empty"),
    ]
}

pub(super) fn all_unfit() -> Vec<Unfit> {
    unfit_to_run().into_iter().chain(unfit_to_load()).collect()
}

/// What a module is found to do with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It fails each time, in this way: the fallback answers.
    Fails(&'static str),
    /// It fails in this way, if not each time.
    Faults(&'static str),
    /// It answers sooner or later.
    Answers,
    /// Depends on how fast the machine is.
    Either,
}

/// A module that is good when it is tried and bad with clients.
pub(super) struct Trap {
    pub(super) what: &'static str,
    pub(super) text: String,
    pub(super) expected: Expected,
}

/// What goes wrong in `pick`.
fn traps_of_pick() -> Vec<Trap> {
    use Expected::{Answers, Either, Fails};
    let plain = Parts::default();
    let (trap, deadline) = (Fails("trap"), Fails("deadline"));
    let answer = |id: u32| {
        format!(
            "(i32.store8 (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const {id})) (return (i32.const 32))"
        )
    };
    let logging = Parts { imports: LOG, memory: LARGE, ..plain };
    let say = |at: i32, len: u32| format!("(call $log (i32.const 2) (i32.const {at}) (i32.const {len}))");
    let grow = "(drop (memory.grow (i32.const 1)))";
    let fill = "(memory.fill (i32.const 65536) (i32.const 90) (i32.const 13000000))";
    let for_ever = |what: &str| format!("(loop $for_ever {what} (br $for_ever))");
    let one = |what, pick: &str, parts, expected| Trap { what, text: later(pick, parts), expected };
    let deep = Parts { fields: "(func $deep (call $deep) (call $deep))", ..plain };
    vec![
        one("loops", LOOP, plain, deadline),
        one("fills 13 MB again and again", &for_ever(fill), Parts { memory: LARGE, ..plain }, deadline),
        one("grows for ever", &for_ever(grow), plain, deadline),
        one(
            "grows as far as it may",
            "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))",
            plain,
            Answers,
        ),
        one(
            "grows a table by a hundred million",
            "(drop (table.grow $t (ref.null func) (i32.const 100000000)))",
            Parts { fields: "(table $t 1 funcref)", ..plain },
            Answers,
        ),
        one("logs from a wild pointer", &say(-16, 100), logging, trap),
        one(
            "logs what is no text",
            &format!("(i32.store8 (i32.const 128) (i32.const 255)) {}", say(128, 1)),
            logging,
            trap,
        ),
        one("logs nine megabytes", &say(65_536, 9_000_000), logging, Either),
        one("logs for ever", &for_ever(&say(64, 5)), logging, deadline),
        one("calls itself without end", "(call $deep)", deep, trap),
        one("answers a server that never was", &answer(999), plain, Fails("bad_answer")),
        one("answers elsewhere", "(return (i32.const -4))", plain, trap),
        one("answers at an odd place", "(return (i32.const 33))", plain, trap),
        one(
            "answers neither some nor none",
            "(i32.store8 (i32.const 32) (i32.const 7)) (return (i32.const 32))",
            plain,
            trap,
        ),
        one("gives up", "(unreachable)", plain, trap),
        one("divides by nothing", "(drop (i32.div_u (i32.const 1) (local.get $attempt)))", plain, trap),
        one("reads elsewhere", "(drop (i32.load (i32.const -8)))", plain, trap),
    ]
}

/// What goes wrong elsewhere.
fn traps_of_others() -> Vec<Trap> {
    use Expected::{Fails, Faults};
    let plain = Parts::default();
    let (trap, deadline) = (Fails("trap"), Fails("deadline"));
    let when_more_than_two =
        |what: &str| format!("(if (i32.gt_u (local.get $len) (i32.const 2)) (then {what})) {}", plain.set_servers);
    let realloc =
        |what: &str| format!("(if (i32.gt_u (local.get $size) (i32.const 100)) (then {what})) {}", plain.cabi_realloc);
    let feedback = |what: &str| {
        format!(
            r#"(func (export "goproxy:balance/feedback@1.0.0#on-connected") (param i32 i32) {what})
            (func (export "goproxy:balance/feedback@1.0.0#on-failed") (param i32))
            (func (export "goproxy:balance/feedback@1.0.0#on-closed") (param i32 i64 i64) {what})"#
        )
    };
    let other = |what, parts, expected| Trap { what, text: policy(parts), expected };
    vec![
        other("loops over its servers", Parts { set_servers: &when_more_than_two(LOOP), ..plain }, deadline),
        other("fails over its servers", Parts { set_servers: &when_more_than_two("(unreachable)"), ..plain }, trap),
        other("loops when room is wanted", Parts { cabi_realloc: &realloc(LOOP), ..plain }, deadline),
        other("gives room elsewhere", Parts { cabi_realloc: &realloc("(return (i32.const -4))"), ..plain }, trap),
        other("loops when told", Parts { fields: &feedback(LOOP), ..plain }, Faults("deadline")),
        other("fails when told", Parts { fields: &feedback("(unreachable)"), ..plain }, Faults("trap")),
    ]
}

/// All that passes the trial.
pub(super) fn traps() -> Vec<Trap> {
    traps_of_pick().into_iter().chain(traps_of_others()).collect()
}
