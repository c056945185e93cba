//! Whatever a module does, every client is served, other groups hardly notice, and the proxy stays as it is.

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::policy_kit::guests::{Parts, policy};
use crate::policy_kit::{
    Bystander, DELAY_MAX, Folder, LOOP, connect, counted, group_of, is_refused, later, listed, nth, patient, served_by,
    takes_over, three,
};
use crate::support::{FakeServer, Group, TestProxy, eventually};

/// The host's function for writing into the log, as `$log`.
const LOG: &str = r#"(import "goproxy:balance/host@1.0.0" "log" (func $log (param i32 i32 i32)))"#;

/// Room for 13 MB.
const LARGE: &str = r#"(memory (export "memory") 210)"#;

/// Memory that may come to stay with the process whatever modules do, in bytes.
const RESIDENT_GROWTH_MAX: u64 = 200 << 20;

/// Clients that come at the same moment.
const CROWD: usize = 6;

/// A module that has its first call wrong, so that it is refused, and what the refusal says.
struct Unfit {
    what: &'static str,
    content: Vec<u8>,
    says: &'static str,
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
    let large = format!("(func {})", "nop ".repeat(140_000));
    let ifs =
        format!("(func (param i32) {})", "(if (local.get 0) (then (local.set 0 (i32.const 77777))))".repeat(16_000));
    let file = |what, content: &[u8], says| Unfit { what, content: content.to_vec(), says };
    let whole = wat::parse_str(nth(0)).unwrap();
    let native = wasmtime::Engine::default().precompile_module(&whole).unwrap();
    vec![
        unfit("a shared memory", Parts { memory: shared, ..plain }, "wants a shared memory"),
        unfit("a large function", Parts { fields: &large, ..plain }, "split it, or build for small size"),
        unfit("sixteen thousand ifs in one function", Parts { fields: &ifs, ..plain }, "split it, or build for small"),
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

fn all_unfit() -> Vec<Unfit> {
    unfit_to_run().into_iter().chain(unfit_to_load()).collect()
}

/// What a module is found to do with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
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
struct Trap {
    what: &'static str,
    text: String,
    expected: Expected,
}

fn traps() -> Vec<Trap> {
    use Expected::{Answers, Either, Fails, Faults};
    let plain = Parts::default();
    let (trap, deadline) = (Fails("trap"), Fails("deadline"));
    let answer = |id: u32| {
        format!(
            "(i32.store8 (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const {id})) (return (i32.const 32))"
        )
    };
    let logging = Parts { imports: LOG, memory: LARGE, ..plain };
    let say = |at: i32, len: u32| format!("(call $log (i32.const 2) (i32.const {at}) (i32.const {len}))");
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
    let grow = "(drop (memory.grow (i32.const 1)))";
    let fill = "(memory.fill (i32.const 65536) (i32.const 90) (i32.const 13000000))";
    let for_ever = |what: &str| format!("(loop $for_ever {what} (br $for_ever))");
    let one = |what, pick: &str, parts, expected| Trap { what, text: later(pick, parts), expected };
    let other = |what, parts, expected| Trap { what, text: policy(parts), expected };
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
        other("loops over its servers", Parts { set_servers: &when_more_than_two(LOOP), ..plain }, deadline),
        other("fails over its servers", Parts { set_servers: &when_more_than_two("(unreachable)"), ..plain }, trap),
        other("loops when room is wanted", Parts { cabi_realloc: &realloc(LOOP), ..plain }, deadline),
        other("gives room elsewhere", Parts { cabi_realloc: &realloc("(return (i32.const -4))"), ..plain }, trap),
        other("loops when told", Parts { fields: &feedback(LOOP), ..plain }, Faults("deadline")),
        other("fails when told", Parts { fields: &feedback("(unreachable)"), ..plain }, Faults("trap")),
    ]
}

/// Clients that come at once: the names of their servers.
#[track_caller]
fn crowd(proxy: &TestProxy) -> Vec<char> {
    let addr = proxy.addr();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CROWD)
            .map(|_| {
                scope.spawn(move || {
                    let start = Instant::now();
                    let server = served_by(addr);
                    assert!(start.elapsed() < DELAY_MAX, "served after {:?}", start.elapsed());
                    server
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("every client is served")).collect()
    })
}

/// A proxy whose first group is the module's; the second is a bystander's.
fn proxy(folder: &Folder, policy: Value, servers: &[FakeServer]) -> TestProxy {
    folder.setup().group(group_of(policy, servers)).group(Group::new("ha", &[&servers[0]])).start()
}

/// Lines of the log that modules cause.
fn lines_about_modules(proxy: &TestProxy) -> usize {
    let is_about = |line: &Value| line["message"].as_str().is_some_and(|message| message.starts_with("policy"));
    proxy.log.all().into_iter().filter(is_about).count()
}

#[test]
fn no_bad_file_takes_the_place_of_a_good_one() {
    let folder = Folder::with("x.wasm", nth(1));
    let servers = three();
    let proxy = proxy(&folder, json!({ "wasm": "x", "fallback": "ha" }), &servers);
    let bystander = Bystander::of(proxy.addr_of(1));
    let (mut session, _) = connect(proxy.addr());
    let before = proxy.resident_bytes();
    let rows = all_unfit();
    let mut slowest = (Duration::ZERO, "");
    for (number, Unfit { what, content, says }) in rows.iter().enumerate() {
        let start = Instant::now();
        folder.drop_in("x.wasm", content);
        // The reason may be the one of the row before.
        eventually(what, || counted(&proxy, "refused_versions_total") > number as u64);
        let text = is_refused(&proxy, says);
        slowest = slowest.max((start.elapsed(), what));
        assert!(text.contains("x.wasm") && text.len() < 4_096, "{what}: {} bytes: {text}", text.len());
        assert_eq!(listed(&proxy, "wasm:x")["state"], "loaded", "{what}");
        assert_eq!(crowd(&proxy), ['B'; CROWD], "{what}");
    }
    session.echo(b"still there");
    // Not read, so not counted as a version.
    folder.drop_in("x.wasm", vec![b' '; 9 << 20]);
    is_refused(&proxy, "x.wasm: is too large; expected at most 8388608 bytes (policy_max_bytes)");
    assert_eq!(crowd(&proxy), ['B'; CROWD]);
    folder.drop_in("x.wasm", nth(2));
    takes_over(&proxy, nth(2));
    assert_eq!(served_by(proxy.addr()), 'C');
    assert_eq!(counted(&proxy, "refused_versions_total"), rows.len() as u64);
    assert!(lines_about_modules(&proxy) < rows.len() + 10, "one line each");
    let growth = proxy.resident_bytes().saturating_sub(before);
    assert!(growth < RESIDENT_GROWTH_MAX, "{growth} bytes");
    let delay = bystander.was_served();
    println!(
        "{} files, the slowest refused after {slowest:?}; others waited {delay:?}; {growth} bytes more",
        rows.len()
    );
}

#[test]
fn a_proxy_starts_with_every_bad_file_there_is_and_the_fallback_serves() {
    let folder = Folder::new();
    let servers = three();
    let rows = all_unfit();
    let mut setup = folder.setup();
    for (number, row) in rows.iter().enumerate() {
        folder.drop_in(&format!("m{number}.wasm"), &row.content);
        setup = setup.group(group_of(json!({ "wasm": format!("m{number}"), "fallback": "ha" }), &servers));
    }
    let start = Instant::now();
    let mut proxy = setup.start();
    let start = start.elapsed();
    proxy.may_alarm("policy cannot be used: its fallback serves");
    for (number, Unfit { what, says, .. }) in rows.iter().enumerate() {
        assert_eq!(served_by(proxy.addr_of(number)), 'A', "{what}");
        let module = listed(&proxy, &format!("wasm:m{number}"));
        assert_eq!(module["state"], "refused", "{what}: {module}");
        assert!(module["error"].as_str().unwrap().contains(says), "{what}: {module}");
    }
    for number in 0..rows.len() {
        folder.drop_in(&format!("m{number}.wasm"), nth(2));
    }
    for number in 0..rows.len() {
        eventually("a good one takes over", || served_by(proxy.addr_of(number)) == 'C');
    }
    println!("{} bad modules at the start: ready after {start:?}", rows.len());
}

#[test]
fn no_client_is_lost_whatever_a_module_does_after_it_was_tried() {
    let folder = Folder::with("x.wat", nth(2));
    let servers = three();
    let mut proxy = proxy(&folder, json!({ "wasm": "x", "fallback": "round_robin" }), &servers);
    let bystander = Bystander::of(proxy.addr_of(1));
    let (mut session, _) = connect(proxy.addr());
    let (before, start) = (proxy.resident_bytes(), Instant::now());
    let mut report = String::new();
    for Trap { what, text, expected } in traps() {
        let faults = |reason: &str| proxy.metric("goproxy_policy_faults_total", &[reason]);
        let reason = match expected {
            Expected::Fails(reason) | Expected::Faults(reason) => reason,
            Expected::Answers | Expected::Either => "",
        };
        let before = faults(reason);
        // Forgiven with the new version, so each of them starts anew.
        folder.drop_in("x.wat", &text);
        takes_over(&proxy, &text);
        let (calls, began) = (counted(&proxy, "fallbacks_total"), Instant::now());
        let served = crowd(&proxy).len();
        let took = began.elapsed();
        let fallbacks = counted(&proxy, "fallbacks_total") - calls;
        match expected {
            Expected::Fails(_) => {
                assert_eq!(fallbacks, served as u64, "{what}: the fallback answers");
                assert!(faults(reason) > before, "{what}: {reason}");
            }
            Expected::Faults(_) => eventually(what, || faults(reason) > before),
            Expected::Answers => eventually(what, || served_by(proxy.addr()) == 'A'),
            Expected::Either => {}
        }
        write!(report, "\n{what}: {took:?}, {} faults", faults(reason) - before).unwrap();
        session.echo(b"still there");
    }
    let growth = proxy.resident_bytes().saturating_sub(before);
    let lines = lines_about_modules(&proxy);
    folder.drop_in("x.wat", nth(1));
    takes_over(&proxy, nth(1));
    eventually("the good one is back", || served_by(proxy.addr()) == 'B');
    assert!(proxy.runs());
    // At once and for each second: 20 and 1 of the module itself, as many about it; and one for each version.
    let seconds = start.elapsed().as_secs() as usize;
    let lines_max = 2 * (20 + seconds) + 2 * traps().len() + 10;
    assert!(lines < lines_max, "{lines} lines, {lines_max} expected at most");
    assert!(growth < RESIDENT_GROWTH_MAX, "{growth} bytes");
    let delay = bystander.was_served();
    println!("{report}\n{lines} lines; {growth} bytes more; others waited {delay:?}");
}

#[test]
fn a_module_that_takes_long_to_compile_delays_nobody() {
    let folder = Folder::with("x.wat", nth(1));
    let servers = three();
    let proxy = proxy(&folder, patient(), &servers);
    let bystander = Bystander::of(proxy.addr_of(1));
    let before = proxy.resident_bytes();
    let mut functions = String::new();
    for number in 0..20_000 {
        write!(functions, "(func (result i32) (i32.const {number}))").unwrap();
    }
    let text = nth(2).replacen("(func ", &format!("{functions}\n(func "), 1);
    let start = Instant::now();
    folder.drop_in("x.wat", &text);
    let mut meanwhile = 0;
    while served_by(proxy.addr()) == 'B' {
        meanwhile += 1;
        assert!(start.elapsed() < Duration::from_secs(120), "compiled in the end");
        thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(served_by(proxy.addr()), 'C');
    assert_eq!(counted(&proxy, "fallbacks_total"), 0);
    let delay = bystander.was_served();
    let growth = proxy.resident_bytes().saturating_sub(before);
    assert!(growth < 2 * RESIDENT_GROWTH_MAX, "{growth} bytes");
    println!(
        "20,000 functions were in use after {:?}, {meanwhile} clients served meanwhile, others waited {delay:?}; \
         {growth} bytes more",
        start.elapsed()
    );
}

#[test]
fn a_module_that_keeps_looping_is_left_alone_and_tried_again() {
    let folder = Folder::with("x.wat", nth(2));
    let servers = three();
    let proxy = proxy(&folder, json!({ "wasm": "x", "fallback": "ha" }), &servers);
    let bystander = Bystander::of(proxy.addr_of(1));
    let timed = || {
        let mut times: Vec<Duration> = (0..30)
            .map(|_| {
                let start = Instant::now();
                served_by(proxy.addr());
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let healthy = timed();
    let text = later(LOOP, Parts::default());
    folder.drop_in("x.wat", &text);
    takes_over(&proxy, &text);
    let faults = || counted(&proxy, "faults_total");
    let is_quarantined = || {
        let module = listed(&proxy, "wasm:x");
        let is_shown = module["error"].as_str().is_some_and(|text| text.contains("pick took longer than 5 ms"));
        module["state"] == "quarantined" && is_shown && counted(&proxy, "quarantined") == 1
    };
    eventually("it is left alone", || {
        assert_eq!(served_by(proxy.addr()), 'A');
        is_quarantined()
    });
    // The pauses double, so one of them is long enough even for a busy machine.
    let mut seen = 0;
    eventually("clients are served as quickly as ever while it is left alone", || {
        seen = faults();
        if !is_quarantined() {
            assert_eq!(served_by(proxy.addr()), 'A');
            return false;
        }
        let alone = timed();
        let is_one_pause = is_quarantined() && faults() == seen;
        if is_one_pause {
            println!(
                "connect, send, receive: {healthy:?} with a good module, {alone:?} while the bad one is left alone"
            );
            assert!(alone < healthy * 5 + Duration::from_millis(50), "{alone:?} after {healthy:?}");
        }
        is_one_pause
    });
    eventually("it is tried again", || {
        assert_eq!(served_by(proxy.addr()), 'A');
        faults() > seen
    });
    folder.drop_in("x.wat", nth(2));
    takes_over(&proxy, nth(2));
    assert_eq!((served_by(proxy.addr()), counted(&proxy, "quarantined")), ('C', 0));
    bystander.was_served();
}
