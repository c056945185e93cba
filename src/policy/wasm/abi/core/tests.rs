//! Each test runs a module twice, as it is and as the component that was made of it: whatever goes in and comes out,
//! and whatever goes wrong, has to be the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::policy::spec::ModuleSpec;
use crate::policy::testing::{server, set_of};
use crate::policy::wasm::compiled::Compiled;
use crate::policy::wasm::engine::{Runtime, Time};
use crate::policy::wasm::fault::Fault;
use crate::policy::wasm::guests::{self, Parts};
use crate::policy::wasm::host::GuestLog;
use crate::policy::wasm::instance::Instance;
use crate::policy::wasm::source::{ModuleFile, source};
use crate::policy::{Outcome, PickRequest, ServerSet};
use crate::server::{Avoided, Server, ServerId, ServerSettings};

/// What an instance says of itself and answers, in the order in which it is asked.
type Answers = (String, Vec<Option<u32>>);

/// Asks a module and the component made of it.
fn both(text: &str) -> [Result<Answers, Fault>; 2] {
    let runtime = Runtime::start(Time::Processor).unwrap();
    let core = source("x.wat", text.as_bytes(), 8 << 20).unwrap();
    assert!(core.core.is_some(), "{text}");
    let component = ModuleFile { core: None, ..core.clone() };
    [core, component].map(|file| answers(&compile(&runtime, file).unwrap()))
}

fn compile(runtime: &Runtime, file: ModuleFile) -> wasmtime::Result<Compiled> {
    Compiled::new(runtime, Path::new("x.wat"), file, Instant::now())
}

fn answers(compiled: &Compiled) -> Result<Answers, Fault> {
    let spec = ModuleSpec {
        deadline: std::time::Duration::from_secs(1),
        config: "{\"ä\": 1}".to_owned(),
        ..ModuleSpec::new("x")
    };
    let mut instance = Instance::new(compiled, &spec, 8_081, Arc::new(GuestLog::silent()))?;
    let said = instance.describe()?;
    let set = servers();
    instance.set_servers(&set, &[1])?;
    let mut picked = Vec::new();
    for client in ["192.0.2.1:40000", "[2001:db8::fedc]:1"] {
        let request = PickRequest {
            client: client.parse().unwrap(),
            group: 8_081,
            attempt: 3,
            servers: &set,
            tried: &[ServerId(1_001)],
            avoided: Avoided::DOUBTFUL,
            now_ms: 77,
            random: 5,
        };
        picked.push(instance.pick(&request)?);
        instance.report(ServerId(7), Outcome::Connected { micros: 90 })?;
        instance.report(ServerId(7), Outcome::Failed)?;
        instance.report(ServerId(7), Outcome::Closed { millis: 1 << 40, bytes: 1 << 50 })?;
    }
    Ok((format!("{} {}", said.name, said.version), picked))
}

/// Servers of which no two are alike, with labels.
fn servers() -> Arc<ServerSet> {
    let labelled = |(index, labels): (u32, &[(&str, &str)])| {
        let plain = server(index, index + 1, 0);
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert!(plain.live.try_acquire(0) && (index == 0 || plain.live.try_acquire(0)));
        Arc::new(Server {
            id: plain.id,
            settings: ServerSettings { labels, ..plain.settings.clone() },
            live: Arc::clone(&plain.live),
        })
    };
    let sets: [&[(&str, &str)]; 3] = [&[("zone", "ä"), ("", "")], &[], &[("rack", "17")]];
    set_of((0..).zip(sets).map(labelled))
}

/// The fault of both, which has to be the same. What needs the guest's memory is imported into a component by way of
/// a module that stands between; that is a frame more.
#[track_caller]
fn fault(parts: Parts<'_>) -> String {
    let [core, component] = both(&guests::policy(parts)).map(Result::unwrap_err);
    let text =
        component.text.replace(", in function 1, called by ", ", in ").replace(", in function 0, called by ", ", in ");
    assert_eq!((core.kind, &core.text), (component.kind, &text));
    core.text
}

/// Names all functions of the host.
const HOST: &str = r#"
  (import "goproxy:balance/host@1.0.0" "active-connections" (func $active (param i32) (result i32)))
  (import "goproxy:balance/host@1.0.0" "all-active-connections" (func $all_active (param i32)))
  (import "goproxy:balance/host@1.0.0" "connect-latency" (func $latency (param i32) (result i32)))
  (import "goproxy:balance/host@1.0.0" "already-tried" (func $tried (param i32) (result i32)))
  (import "goproxy:balance/host@1.0.0" "random-u64" (func $random (result i64)))
  (import "goproxy:balance/host@1.0.0" "now-nanos" (func $now (result i64)))
  (import "goproxy:balance/host@1.0.0" "log" (func $log (param i32 i32 i32)))"#;

/// A digest of all that is put in, for [`Parts::fields`].
const DIGEST: &str = "(global $digest (mut i64) (i64.const 1))
    (func $note (param $number i64)
      (global.set $digest (i64.add (local.get $number) (i64.mul (i64.const 1000003) (global.get $digest)))))
    (func $note_memory (param $at i32) (param $end i32)
      (block $done
        (loop $each
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (call $note (i64.load8_u (local.get $at)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $each))))
    (func $answer (result i32)
      (i32.store8 (i32.const 32) (i32.const 1))
      (i32.store (i32.const 36) (i32.wrap_i64 (i64.xor (global.get $digest)
        (i64.shr_u (global.get $digest) (i64.const 32)))))
      (i32.const 32))";

#[test]
fn what_goes_in_and_comes_out_is_the_same_to_the_last_byte() {
    let feedback = r#"
      (func (export "goproxy:balance/feedback@1.0.0#on-connected") (param i32 i32)
        (call $note (i64.extend_i32_u (local.get 0))) (call $note (i64.extend_i32_u (local.get 1))))
      (func (export "goproxy:balance/feedback@1.0.0#on-failed") (param i32)
        (call $note (i64.extend_i32_u (local.get 0))))
      (func (export "goproxy:balance/feedback@1.0.0#on-closed") (param i32 i64 i64)
        (call $note (i64.extend_i32_u (local.get 0))) (call $note (local.get 1)) (call $note (local.get 2)))"#;
    let [core, component] = both(&guests::policy(Parts {
        imports: HOST,
        fields: &format!("{DIGEST}{feedback}"),
        configure: "(call $note_memory (local.get $group) (i32.add (local.get $group) (local.get $group_len)))
            (call $note_memory (local.get $params) (i32.add (local.get $params) (local.get $params_len)))
            (i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16)",
        set_servers: "(call $note (i64.extend_i32_u (local.get $len)))
            (call $note_memory (local.get $ptr) (global.get $heap))",
        pick: "(call $note (i64.extend_i32_u (local.get $family)))
            (call $note (local.get $ip_high))
            (call $note (local.get $ip_low))
            (call $note (i64.extend_i32_u (local.get $client_port)))
            (call $note (i64.extend_i32_u (local.get $listener_port)))
            (call $note (i64.extend_i32_u (local.get $attempt)))
            (call $note (i64.extend_i32_u (call $active (i32.const 1001))))
            (call $note (i64.extend_i32_u (call $latency (i32.const 1001))))
            (call $note (i64.extend_i32_u (call $tried (i32.const 1001))))
            (call $note (i64.extend_i32_u (call $tried (i32.const 1000))))
            (call $note (call $random))
            (call $note (call $now))
            (call $all_active (i32.const 200))
            (call $note_memory (i32.const 200) (i32.const 208))
            (call $note_memory (i32.load (i32.const 200)) (global.get $heap))
            (call $log (i32.const 3) (i32.const 64) (i32.const 5))
            (call $answer)",
        ..Parts::default()
    }))
    .map(Result::unwrap);
    assert_eq!(core, component);
    assert_eq!(core.0, "guest 1.0.0");
    assert!(core.1.iter().all(Option::is_some) && core.1[0] != core.1[1], "{core:?}");
}

#[test]
fn addresses_and_lengths_of_any_value_are_faults() {
    let two_pages = Parts { memory: r#"(memory (export "memory") 2 2)"#, ..Parts::default() };
    for (answer, says) in [
        ("(i32.const 2)", "describe failed: return pointer not aligned"),
        ("(i32.const -4)", "describe failed: pointer out of bounds of memory"),
        ("(i32.const -16)", "describe failed: pointer out of bounds of memory"),
        ("(i32.const 131060)", "describe failed: pointer out of bounds of memory"),
    ] {
        assert_eq!(fault(Parts { describe: answer, ..two_pages }), says);
    }
    for (at, len) in [(64, -1), (-1, 1), (-1, -1), (131_072, 1), (131_066, 7), (1 << 31, 1 << 31)] {
        let text = format!("(i32.store (i32.const 0) (i32.const {at})) (i32.store (i32.const 4) (i32.const {len}))");
        let says = "failed: string pointer/length out of bounds of memory";
        let describe = format!("{text} (i32.const 0)");
        assert_eq!(fault(Parts { describe: &describe, ..two_pages }), format!("describe {says}"));
        let configure = format!(
            "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const {at}))
             (i32.store (i32.const 24) (i32.const {len})) (i32.const 16)"
        );
        assert_eq!(fault(Parts { configure: &configure, ..two_pages }), format!("configure {says}"));
        let log = format!("(call $log (i32.const 0) (i32.const {at}) (i32.const {len})) (i32.const 32)");
        let text = fault(Parts { imports: HOST, pick: &log, ..two_pages });
        assert!(text.starts_with(&format!("pick {says}, in function")), "{text}");
    }
    for (pick, says) in [
        ("(i32.const 34)", "pick failed: return pointer not aligned"),
        ("(i32.const 131068)", "pick failed: pointer out of bounds of memory"),
        ("(i32.const -8)", "pick failed: pointer out of bounds of memory"),
    ] {
        assert_eq!(fault(Parts { pick, ..two_pages }), says);
    }
    for (at, says) in
        [(2, "pointer not aligned"), (-4, "pointer out of bounds"), (-8, "pointer out of bounds"), (131_068, "pointer")]
    {
        let pick = format!("(call $all_active (i32.const {at})) (i32.const 32)");
        let text = fault(Parts { imports: HOST, pick: &pick, ..two_pages });
        assert!(text.starts_with(&format!("pick failed: {says}")), "{text}");
    }
}

#[test]
fn numbers_without_a_meaning_are_faults_and_only_the_lowest_byte_of_a_case_has_one() {
    for (store, says) in [
        ("i32.store8 (i32.const 32) (i32.const 2)", "pick failed: invalid option discriminant"),
        ("i32.store8 (i32.const 32) (i32.const 255)", "pick failed: invalid option discriminant"),
    ] {
        assert_eq!(fault(Parts { pick: &format!("({store}) (i32.const 32)"), ..Parts::default() }), says);
    }
    let configure = "(i32.store8 (i32.const 16) (i32.const 2)) (i32.const 16)";
    let text = fault(Parts { configure, ..Parts::default() });
    assert_eq!(text, "configure failed: invalid expected discriminant");
    let pick = "(call $log (i32.const 4) (i32.const 64) (i32.const 1)) (i32.const 32)";
    let text = fault(Parts { imports: HOST, pick, ..Parts::default() });
    assert!(text.starts_with("pick failed: unexpected discriminant: 4, in function"), "{text}");

    let pick = "(i64.store (i32.const 32) (i64.const 0x2a_ffffff01)) (i32.const 32)";
    let [core, component] = both(&guests::policy(Parts { pick, ..Parts::default() })).map(Result::unwrap);
    assert_eq!(core, component);
    assert_eq!(core.1, [Some(42), Some(42)]);
}

#[test]
fn texts_that_are_no_utf_8_are_faults() {
    let name = "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1))
        (i32.store8 (i32.const 64) (i32.const 0xff)) (i32.const 0)";
    let text = fault(Parts { describe: name, ..Parts::default() });
    assert_eq!(text, "describe failed: invalid utf-8 sequence of 1 bytes from index 0");
    let refusal = "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 16))
        (i32.store (i32.const 24) (i32.const 8)) (i32.store8 (i32.const 23) (i32.const 0x80)) (i32.const 16)";
    let text = fault(Parts { configure: refusal, ..Parts::default() });
    assert!(text.starts_with("configure failed: "), "{text}");
    let log = "(i32.store8 (i32.const 64) (i32.const 0xc3)) (call $log (i32.const 0) (i32.const 64) (i32.const 2))
        (i32.const 32)";
    let text = fault(Parts { imports: HOST, pick: log, ..Parts::default() });
    assert!(text.starts_with("pick failed: invalid utf-8 sequence"), "{text}");
}

#[test]
fn room_that_is_no_room_is_a_fault() {
    for (cabi_realloc, says) in [
        ("(i32.const -1)", "configure failed: realloc return: beyond end of memory"),
        ("(i32.const 65530)", "configure failed: realloc return: beyond end of memory"),
        (
            "(select (i32.const 1024) (i32.const 65537) (i32.eq (local.get $align) (i32.const 1)))",
            "set-servers failed: realloc return: result not aligned",
        ),
        (
            "(select (i32.const 1024) (i32.const -4) (i32.eq (local.get $align) (i32.const 1)))",
            "set-servers failed: realloc return: beyond end of memory",
        ),
    ] {
        let text = fault(Parts { cabi_realloc, ..Parts::default() });
        assert!(text.starts_with(says) && text.contains("also for 0 bytes"), "{text}");
    }
    let text = fault(Parts { cabi_realloc: "(unreachable)", ..Parts::default() });
    assert!(text.starts_with("configure failed: wasm trap: wasm `unreachable`"), "{text}");
    let text = fault(Parts { cabi_realloc: "(loop $for_ever (br $for_ever)) (unreachable)", ..Parts::default() });
    assert_eq!(text, "configure took longer than 100 ms and was stopped");
    // Anywhere, even on top of what was passed in before.
    let [core, component] =
        both(&guests::policy(Parts { cabi_realloc: "(i32.const 1024)", ..Parts::default() })).map(Result::unwrap);
    assert_eq!(core.0, component.0);
}

#[test]
fn whoever_is_asked_for_room_or_frees_an_answer_cannot_call_back() {
    for call in [
        "(drop (call $now))",
        "(call $log (i32.const 0) (i32.const 64) (i32.const 1))",
        "(call $all_active (i32.const 0))",
    ] {
        let cabi_realloc = format!("{call} (call $bump (local.get $align) (local.get $size))");
        let text = fault(Parts { imports: HOST, cabi_realloc: &cabi_realloc, ..Parts::default() });
        assert!(
            text.starts_with("configure failed: wasm trap: cannot leave component instance, in function"),
            "{text}"
        );
        let post = r#"(func (export "cabi_post_goproxy:balance/policy@1.0.0#describe") (param i32)"#;
        let text = fault(Parts { imports: HOST, fields: &format!("{post} {call})"), ..Parts::default() });
        assert!(text.starts_with("describe failed: wasm trap: cannot leave component instance, in function"), "{text}");
    }
}

#[test]
fn an_answer_is_freed_after_it_was_read() {
    // Says of which function the answer was freed last, and spoils the texts.
    let freed = |function: &str, number: u32| {
        format!(
            r#"(func (export "cabi_post_goproxy:balance/policy@1.0.0#{function}") (param $at i32)
              (i32.store (local.get $at) (i32.const -1)) (global.set $first (i32.const {number})))"#
        )
    };
    let fields = [freed("describe", 1), freed("configure", 2), freed("pick", 3)].concat();
    let [core, component] = both(&guests::policy(Parts {
        fields: &fields,
        set_servers: "(global.set $some (i32.const 1))",
        ..Parts::default()
    }))
    .map(Result::unwrap);
    assert_eq!(core, component);
    assert_eq!(core, ("guest 1.0.0".to_owned(), vec![Some(1), Some(3)]));
}

#[test]
fn a_start_function_runs_within_the_limits() {
    let start = |body: &str| format!("(func $start {body}) (start $start)");
    let text = fault(Parts { fields: &start("(unreachable)"), ..Parts::default() });
    assert!(text.starts_with("start failed: wasm trap: wasm `unreachable`"), "{text}");
    let text = fault(Parts { fields: &start("(loop $for_ever (br $for_ever))"), ..Parts::default() });
    assert_eq!(text, "start took longer than 100 ms and was stopped");
    let memory = r#"(memory (export "memory") 1000)"#;
    let text = fault(Parts { memory, ..Parts::default() });
    assert!(text.starts_with("start failed: "), "{text}");
}

#[test]
fn what_the_engine_does_not_offer_is_refused_in_the_same_words() {
    let runtime = Runtime::start(Time::Processor).unwrap();
    for fields in ["(func (param externref))", "(memory 1 (pagesize 1))"] {
        let core = source("x.wat", guests::policy(Parts { fields, ..Parts::default() }).as_bytes(), 8 << 20).unwrap();
        let component = ModuleFile { core: None, ..core.clone() };
        assert!(core.core.is_some());
        let [core, component] =
            [core, component].map(|source| format!("{:#}", compile(&runtime, source).err().unwrap()));
        let words = |text: &str| text.split(" (at offset").next().unwrap().to_owned();
        assert_eq!(words(&core), words(&component));
        assert!(core.starts_with("failed to parse WebAssembly module: "), "{core}");
    }
}
