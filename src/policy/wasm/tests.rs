mod swaps;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::answers::Asked;
use super::guests::{self, Parts};
use super::slot::{ModuleRecord, Slot};
use super::view::{ModuleState, ModuleView};
use super::{ModuleError, Modules};
use crate::base::label::GroupLabel;
use crate::counters::FaultKind;
use crate::policy::spec::ModuleSpec;
use crate::policy::testing::{PickIndex, request, server, set, set_of};
use crate::policy::{IBalancePolicy, Outcome, PickRequest, Picked, ServerSet};
use crate::server::ServerId;

fn label() -> GroupLabel {
    GroupLabel::new(8081, None)
}

/// A folder of modules and what looks after it.
struct Bench {
    folder: TempDir,
    modules: Modules,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let modules = Modules::new(folder.path().to_owned(), 8 << 20);
        Self { folder, modules }
    }

    fn with(text: &str) -> Self {
        let bench = Self::new();
        bench.write(text);
        bench
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("x.wat"), text).unwrap();
    }

    fn make(&self, spec: &ModuleSpec) -> Result<Arc<dyn IBalancePolicy>, ModuleError> {
        wait(self.modules.make(&Arc::new(spec.clone()), &label()))
    }

    fn policy(&self, set: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        self.make(&spec()).unwrap().for_servers(set)
    }

    fn look(&self) {
        wait(self.modules.look());
    }

    fn view(&self) -> ModuleView {
        self.modules.views().into_iter().find(|view| &*view.name == "wasm:x").unwrap()
    }

    fn fallbacks(&self) -> u64 {
        self.view().counters.unwrap().fallbacks.load(Relaxed)
    }

    fn faults(&self, kind: FaultKind) -> u64 {
        self.view().counters.unwrap().faults(kind)
    }
}

fn spec() -> ModuleSpec {
    // Enough for a machine that is busy with other tests.
    ModuleSpec { deadline: Duration::from_millis(500), ..ModuleSpec::new("x") }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < until, "not within 30 s: {what}");
        thread::yield_now();
    }
}

fn pick(parts: &str) -> String {
    guests::policy(Parts { pick: parts, ..Parts::default() })
}

/// Answers the server of this id, whatever there is.
fn always(id: u32) -> String {
    pick(&format!(
        "(i32.store8 (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const {id})) (i32.const 32)"
    ))
}

const LOOP: &str = "(loop $for_ever (br $for_ever)) (unreachable)";

#[test]
fn a_module_answers_for_its_group_and_a_change_of_servers_goes_on_where_it_was() {
    let bench = Bench::with(&guests::turns());
    let (three, four) = (
        set(&[1; 3]),
        Arc::new(ServerSet {
            generation: 2,
            ..ServerSet { generation: 0, backup: false, servers: set(&[1; 4]).servers.clone() }
        }),
    );
    let policy = bench.policy(&three);
    assert_eq!(policy.name(), "wasm:x");
    assert_eq!([(); 4].map(|()| policy.pick_index(&request(&three)).unwrap()), [0, 1, 2, 0]);
    let policy = policy.for_servers(&four);
    assert_eq!([(); 4].map(|()| policy.pick_index(&request(&four)).unwrap()), [0, 1, 2, 3]);
    let view = bench.view();
    assert_eq!(
        (view.state, view.version.as_deref(), view.file.as_str()),
        (ModuleState::Loaded, Some("1.0.0"), "x.wat")
    );
    assert_eq!((view.error, bench.fallbacks()), (None, 0));
    assert_eq!(view.sha256.unwrap(), crate::base::text::hex(&super::source::sha256(guests::turns().as_bytes())));
}

#[test]
fn a_request_for_which_there_is_no_room_is_sent_again_with_the_next_pick() {
    let (has_room, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (room, count) = (Arc::clone(&has_room), Arc::clone(&sent));
    let send = move |request| match room.load(Relaxed) {
        true => {
            count.fetch_add(1, Relaxed);
            Ok(())
        }
        false => Err(request),
    };
    let record = Arc::new(ModuleRecord::new("wasm:x".into()));
    let slot = Arc::new(Slot::new(label(), Arc::new(spec()), record, Some(Box::new(send))));
    let servers = set(&[1; 2]);
    slot.set_servers(&servers);
    assert_eq!(slot.ask(&request(&servers)), Asked::Unanswered);
    assert!(slot.is_awaiting());
    has_room.store(true, Relaxed);
    for _ in 0..3 {
        assert_eq!(slot.ask(&request(&servers)), Asked::Unanswered);
        assert_eq!(sent.load(Relaxed), 1, "once");
    }
}

#[test]
fn each_group_has_an_instance_of_its_own() {
    let bench = Bench::with(&guests::turns());
    let servers = set(&[1; 2]);
    let (one, other) = (bench.policy(&servers), bench.policy(&servers));
    assert_eq!(one.pick_index(&request(&servers)), Some(0));
    assert_eq!(other.pick_index(&request(&servers)), Some(0));
    assert_eq!(one.pick_index(&request(&servers)), Some(1));
}

#[test]
fn the_fallback_answers_for_a_module_that_traps_loops_or_names_a_server_that_may_not_be_picked() {
    let loop_spec = ModuleSpec { deadline: Duration::from_millis(5), ..spec() };
    for (text, spec, kind) in [
        (pick("(unreachable)"), spec(), FaultKind::Trap),
        (pick("(i32.const -4)"), spec(), FaultKind::Trap),
        (
            guests::policy(Parts {
                pick: "(call $deep)",
                fields: "(func $deep (result i32) (call $deep))",
                ..Parts::default()
            }),
            spec(),
            FaultKind::Trap,
        ),
        (pick(LOOP), loop_spec, FaultKind::Deadline),
        (always(999), spec(), FaultKind::BadAnswer),
        (always(1_000), spec(), FaultKind::BadAnswer),
    ] {
        // The trial at loading would notice: such a module passes it and goes wrong later.
        let servers = set(&[1; 3]);
        let tried = [ServerId(1_000)];
        let bench = Bench::with(&guests::turns());
        let policy = bench.make(&spec).unwrap().for_servers(&servers);
        bench.write(&text.replace("(func (export \"goproxy:balance/policy@1.0.0#pick\")", &good_once()));
        bench.look();
        assert_eq!(bench.view().error, None);
        let request = PickRequest { tried: &tried, attempt: 1, ..request(&servers) };
        let picked: Vec<_> = (0..4).map(|_| policy.pick_index(&request)).collect();
        assert!(picked.iter().all(|index| matches!(index, Some(1 | 2))), "{kind}: {picked:?}");
        assert!(bench.faults(kind) >= 1 && bench.fallbacks() >= 1, "{kind}: {:?}", bench.view());
    }
}

/// Renames the function `pick` and exports one that answers well for the clients of the trial's network.
fn good_once() -> String {
    r#"(func (export "goproxy:balance/policy@1.0.0#pick")
        (param $family i32) (param $ip_high i64) (param $ip_low i64) (param $client_port i32)
        (param $listener_port i32) (param $attempt i32) (result i32)
        (if (i32.eqz (local.get $attempt)) (then
          (i32.store8 (i32.const 32) (global.get $some))
          (i32.store (i32.const 36) (global.get $first))
          (return (i32.const 32))))
        (call $bad (local.get $family) (local.get $ip_high) (local.get $ip_low) (local.get $client_port)
          (local.get $listener_port) (local.get $attempt)))
      (func $bad"#
        .to_owned()
}

#[test]
fn a_module_that_fails_too_often_is_left_alone_and_tried_again_later() {
    let bench = Bench::with(
        &pick("(unreachable)").replace("(func (export \"goproxy:balance/policy@1.0.0#pick\")", &good_once()),
    );
    let servers = set(&[1; 3]);
    let policy = bench.policy(&servers);
    let retry = PickRequest { attempt: 1, ..request(&servers) };
    eventually("quarantine", || policy.pick_index(&retry).is_some() && bench.view().state == ModuleState::Quarantined);
    assert_eq!(bench.faults(FaultKind::Trap), 5);
    let view = bench.view();
    assert!(view.error.unwrap().contains("unreachable"), "the last fault is shown");
    // Nobody asks it meanwhile.
    assert!((0..100).all(|_| policy.pick_index(&retry).is_some()));
    assert_eq!(bench.faults(FaultKind::Trap), 5);
    eventually("another try", || bench.view().state == ModuleState::Loaded);
    assert_eq!(policy.pick_index(&request(&servers)), Some(0));
    // One more and it is left alone for longer.
    policy.pick_index(&retry);
    assert_eq!((bench.view().state, bench.faults(FaultKind::Trap)), (ModuleState::Quarantined, 6));
}

#[test]
fn a_version_that_takes_over_while_the_old_one_is_left_alone_keeps_what_it_learns() {
    let bad = pick("(unreachable)").replace("(func (export \"goproxy:balance/policy@1.0.0#pick\")", &good_once());
    let bench = Bench::with(&bad);
    let servers = set(&[1; 3]);
    let policy = bench.policy(&servers);
    let retry = PickRequest { attempt: 1, ..request(&servers) };
    eventually("quarantine", || policy.pick_index(&retry).is_some() && bench.view().state == ModuleState::Quarantined);
    let since = Instant::now();
    bench.write(&guests::turns());
    bench.look();
    let next = || policy.pick_index(&request(&servers)).unwrap();
    assert_eq!([next(), next()], [0, 1]);
    // The other try that the old one would have been given.
    eventually("its pause is over", || since.elapsed() > Duration::from_millis(1_200));
    bench.look();
    assert_eq!([next(), next()], [2, 0]);
}

#[test]
fn a_new_file_takes_over_and_a_bad_one_changes_nothing() {
    let bench = Bench::with(&guests::turns());
    let servers = set(&[1; 3]);
    let policy = bench.policy(&servers);
    let first = bench.view().sha256;
    bench.write("(module");
    bench.look();
    bench.write("this is no policy");
    bench.look();
    let view = bench.view();
    assert_eq!((view.state, &view.sha256), (ModuleState::Loaded, &first));
    assert!(view.error.as_ref().unwrap().contains("x.wat: "), "{view:?}");
    assert_eq!([(); 3].map(|()| policy.pick_index(&request(&servers)).unwrap()), [0, 1, 2]);
    bench.write(&always(1_002));
    bench.look();
    assert!(bench.view().error.unwrap().contains("pick answered 1002"), "the trial shows it");
    bench.write(&pick("(i32.store8 (i32.const 32) (i32.const 0)) (i32.const 32)"));
    bench.look();
    assert_eq!((bench.view().error, bench.view().counters.unwrap().swaps.load(Relaxed)), (None, 1));
    assert_eq!(policy.pick_index(&request(&servers)), None);
    fs::remove_file(bench.folder.path().join("x.wat")).unwrap();
    bench.look();
    let view = bench.view();
    assert!(view.error.unwrap().contains("there is no such file"));
    assert_eq!(policy.pick_index(&request(&servers)), None, "what is loaded stays");
}

#[test]
fn each_version_that_is_refused_counts_even_if_the_reason_is_the_same() {
    let bench = Bench::with(&guests::turns());
    let _policy = bench.policy(&set(&[1; 3]));
    for (more, refused) in [("", 1), (" ", 2), (" ", 2)] {
        bench.write(&format!("{}{more}", always(999)));
        bench.look();
        assert!(bench.view().error.unwrap().contains("pick answered 999"));
        assert_eq!(bench.view().counters.unwrap().refusals.load(Relaxed), refused);
    }
}

#[test]
fn a_file_that_ends_in_the_middle_is_looked_at_again_before_it_is_refused() {
    let bench = Bench::with(&guests::turns());
    let servers = set(&[1; 3]);
    let policy = bench.policy(&servers);
    let whole = wat::parse_str(guests::policy(Parts::default())).unwrap();
    fs::remove_file(bench.folder.path().join("x.wat")).unwrap();
    let path = bench.folder.path().join("x.wasm");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    bench.look();
    assert_eq!(bench.view().error, None, "somebody may be writing it");
    eventually("the half file is refused", || bench.view().error.is_some());
    assert_eq!(policy.pick_index(&request(&servers)), Some(0));
    fs::write(&path, &whole).unwrap();
    bench.look();
    assert_eq!((bench.view().error, bench.view().file.as_str()), (None, "x.wasm"));
}

#[test]
fn a_group_is_served_by_the_fallback_until_its_module_can_be_used() {
    let bench = Bench::new();
    let servers = set(&[1; 3]);
    assert!(bench.make(&spec()).err().unwrap().to_string().contains("x.wasm: there is no such file, nor x.wat"));
    assert!(bench.modules.views().is_empty());
    assert_eq!(bench.modules.files().len(), 2, "watched, so that whoever was refused can try again");
    let spec = Arc::new(ModuleSpec { fallback: "ha", ..spec() });
    let policy = wait(bench.modules.make_anyway(&spec, &label())).for_servers(&servers);
    assert_eq!([(); 2].map(|()| policy.pick_index(&request(&servers)).unwrap()), [0, 0]);
    assert_eq!(bench.view().state, ModuleState::Refused);
    assert_eq!(bench.modules.files().len(), 2);
    bench.write(&guests::turns());
    bench.look();
    assert_eq!([(); 3].map(|()| policy.pick_index(&request(&servers)).unwrap()), [0, 1, 2]);
    assert_eq!((bench.view().state, bench.view().error), (ModuleState::Loaded, None));
    drop(policy);
    bench.look();
    assert_eq!(bench.view().state, ModuleState::Available, "unloaded with the last group");
}

#[test]
fn the_configuration_is_taken_or_refused_in_the_module_s_words() {
    // Refuses whatever is not two bytes long, with the text at 64.
    let text = guests::policy(Parts {
        configure: "(i32.store8 (i32.const 16) (i32.ne (local.get $params_len) (i32.const 2)))
            (i32.store (i32.const 20) (i32.const 64)) (i32.store (i32.const 24) (i32.const 5)) (i32.const 16)",
        ..Parts::default()
    });
    let bench = Bench::with(&text);
    assert!(bench.make(&spec()).is_ok());
    let error = bench.make(&ModuleSpec { config: "{\"zone\":1}".to_owned(), ..spec() }).err().unwrap();
    assert!(error.to_string().ends_with("x.wat: configure refused {\"zone\":1}: guest"), "{error}");
}

#[test]
fn only_the_content_that_the_configuration_wants_is_used() {
    let bench = Bench::with(&guests::turns());
    let wanted = super::source::sha256(guests::turns().as_bytes());
    let servers = set(&[1; 3]);
    let policy = bench.make(&ModuleSpec { sha256: Some(wanted), ..spec() }).unwrap().for_servers(&servers);
    let error = bench.make(&ModuleSpec { sha256: Some([0; 32]), ..spec() }).err().unwrap();
    assert!(error.to_string().contains("its sha256 is ") && error.to_string().contains("expected 0000"), "{error}");
    bench.write(&guests::policy(Parts::default()));
    bench.look();
    let error = bench.view().error.unwrap();
    assert!(error.contains("expected") && error.ends_with("(for group 8081)"), "{error}");
    assert_eq!([(); 3].map(|()| policy.pick_index(&request(&servers)).unwrap()), [0, 1, 2]);
}

#[test]
fn a_server_that_becomes_full_is_no_fault_of_the_module_and_shown_as_not_available() {
    let bench = Bench::with(&guests::policy(Parts::default()));
    let servers = set_of([server(0, 1, 1), server(1, 1, 0)].into_iter());
    let policy = bench.policy(&servers);
    let at = |now_ms| PickRequest { now_ms: crate::base::clock::coarse_ms() + now_ms, ..request(&servers) };
    assert_eq!(policy.pick_index(&at(0)), Some(0));
    assert!(servers.servers[0].live.try_acquire(1));
    assert_eq!(policy.pick_index(&at(100)), Some(1), "told at once, as it was long ago");
    servers.servers[0].live.release();
    assert_eq!(policy.pick_index(&at(200)), Some(0));
    assert!(servers.servers[0].live.try_acquire(1));
    assert_eq!(policy.pick_index(&at(201)), Some(1), "the fallback answers: it was told a moment ago");
    assert_eq!((bench.view().counters.unwrap().faults_total(), bench.fallbacks()), (0, 1));
}

#[test]
fn suspects_are_shown_when_nobody_else_is_left() {
    let bench = Bench::with(&guests::policy(Parts::default()));
    let servers = set(&[1; 2]);
    let now_ms = crate::base::clock::coarse_ms() + 1_000;
    assert!(servers.servers.iter().all(|server| server.live.connect_failed(now_ms)));
    let policy = bench.policy(&servers);
    assert_eq!(policy.pick_index(&PickRequest { now_ms, ..request(&servers) }), None);
    assert!(policy.pick_index(&PickRequest { now_ms, avoid_suspects: false, ..request(&servers) }).is_some());
    assert_eq!(bench.view().counters.unwrap().faults_total(), 0);
}

const NOBODY: &str = "(i32.store8 (i32.const 32) (i32.const 0)) (i32.const 32)";

/// What a group does: asks, and asks what now when nobody is named.
fn serve(policy: &dyn IBalancePolicy, servers: &ServerSet) -> Option<usize> {
    let request = request(servers);
    policy.pick(&request).or_else(|| policy.named_nobody(&request)).map(|picked| picked.index)
}

#[test]
fn a_version_that_names_nobody_from_the_start_gives_way_to_the_former_one_and_costs_no_client() {
    let bench = Bench::with(&guests::turns());
    let servers = set(&[1; 3]);
    let policy = bench.make(&ModuleSpec { fallback: "ha", ..spec() }).unwrap().for_servers(&servers);
    let first = bench.view().sha256;
    bench.write(&pick(NOBODY));
    bench.look();
    assert_ne!(bench.view().sha256, first);
    let served: Vec<_> = (0..100).map(|_| serve(&*policy, &servers)).collect();
    assert!(served.iter().all(|index| *index == Some(0)), "by the fallback: {served:?}");
    eventually("the former version is back", || bench.view().sha256 == first);
    let view = bench.view();
    let error = view.error.unwrap();
    assert!(error.contains("x.wat: pick answered none to its first 100 clients"), "{error}");
    assert_eq!(view.counters.as_ref().unwrap().nones.load(Relaxed), 100);
    assert_eq!((view.state, bench.faults(FaultKind::BadAnswer)), (ModuleState::Loaded, 1));
    let next = || policy.pick_index(&request(&servers));
    assert_eq!([next(), next(), next()], [Some(0), Some(1), Some(2)]);
    bench.look();
    assert_eq!(bench.view().sha256, first, "the same file is not tried again");
}

#[test]
fn a_module_that_has_only_ever_named_nobody_is_left_alone_and_costs_no_client() {
    let bench = Bench::with(&pick(NOBODY));
    let servers = set(&[1; 3]);
    let policy = bench.policy(&servers);
    eventually("quarantine", || {
        assert!(serve(&*policy, &servers).is_some());
        bench.view().state == ModuleState::Quarantined
    });
    assert_eq!(bench.faults(FaultKind::BadAnswer), 5);
    assert!(bench.view().error.unwrap().contains("pick answered none to its first 100 clients"));
}

#[test]
fn a_module_that_has_named_a_server_may_refuse_a_client_and_that_is_counted() {
    let once = "(if (global.get $asked) (then (i32.store8 (i32.const 32) (i32.const 0)) (return (i32.const 32))))
        (global.set $asked (i32.const 1))";
    let bench = Bench::with(&guests::policy(Parts {
        fields: "(global $asked (mut i32) (i32.const 0))",
        pick: &format!("{once} {}", Parts::default().pick),
        ..Parts::default()
    }));
    let servers = set(&[1; 3]);
    let policy = bench.policy(&servers);
    assert_eq!(serve(&*policy, &servers), Some(0));
    assert!((0..200).all(|_| serve(&*policy, &servers).is_none()));
    let view = bench.view();
    assert_eq!(view.counters.as_ref().unwrap().nones.load(Relaxed), 200);
    assert_eq!((view.state, view.counters.unwrap().faults_total()), (ModuleState::Loaded, 0));
    assert_eq!(serve(&*policy.rehearsal().unwrap(), &servers), Some(0), "a fresh instance has not been asked");
}

#[test]
fn a_module_that_nobody_uses_any_more_is_gone_without_a_look_at_its_file() {
    let bench = Bench::with(&guests::turns());
    let policy = bench.policy(&set(&[1; 3]));
    assert_eq!(bench.view().state, ModuleState::Loaded);
    drop(policy);
    eventually("it is unloaded", || bench.view().state == ModuleState::Available);
}

#[test]
fn two_files_for_one_policy_are_an_error_and_the_one_in_force_stays() {
    let bench = Bench::with(&guests::turns());
    let servers = set(&[1; 3]);
    let policy = bench.policy(&servers);
    let first = bench.view().sha256;
    let binary = bench.folder.path().join("x.wasm");
    fs::write(&binary, wat::parse_str(guests::policy(Parts::default())).unwrap()).unwrap();
    bench.look();
    let view = bench.view();
    let error = view.error.unwrap();
    assert!(error.ends_with("x.wasm and x.wat: two files for one policy; expected one: remove the other"), "{error}");
    assert_eq!((view.sha256, view.file.as_str()), (first, "x.wat"));
    assert_eq!([(); 2].map(|()| policy.pick_index(&request(&servers)).unwrap()), [0, 1]);
    assert!(bench.make(&spec()).is_ok(), "what is loaded serves other groups, too");
    fs::remove_file(binary).unwrap();
    bench.look();
    assert_eq!(bench.view().error, None);
}

#[test]
fn a_file_that_cannot_be_used_is_shown_by_the_name_that_it_has() {
    let bench = Bench::with("(module");
    let _policy = wait(bench.modules.make_anyway(&Arc::new(spec()), &label()));
    assert_eq!((bench.view().state, bench.view().file.as_str()), (ModuleState::Refused, "x.wat"));
    assert!(bench.view().error.unwrap().contains("x.wat: "));
}

#[test]
fn a_module_that_wants_more_memory_than_it_may_have_is_told_by_which_key_and_flag() {
    let memory = r#"(memory (export "memory") 1000)"#;
    let bench = Bench::with(&guests::policy(Parts { memory, ..Parts::default() }));
    let error = bench.make(&spec()).err().unwrap().to_string();
    let says = "it wanted 63 MiB of memory, expected at most 16 MiB: raise \"memory\" of this policy, or link with a smaller stack";
    assert!(error.contains(says), "{error}");
    assert!(bench.make(&ModuleSpec { memory: 64 << 20, ..spec() }).is_ok());
}

#[test]
fn an_allocator_that_cannot_give_nothing_is_told_what_it_is_asked_for() {
    let cabi_realloc = "(if (i32.eqz (local.get $size)) (then (unreachable)))
        (call $bump (local.get $align) (local.get $size))";
    let text = guests::policy(Parts { cabi_realloc, ..Parts::default() });
    let named = text.replace("(func (export \"cabi_realloc\")", "(func $cabi_realloc (export \"cabi_realloc\")");
    let bench = Bench::with(&named);
    let error = bench.make(&spec()).err().unwrap().to_string();
    assert!(error.contains("cabi_realloc(0, 0, align, bytes)") && error.contains("also for 0 bytes"), "{error}");
}

/// The log keeps quiet while a module is tried on servers that do not exist, so the refusal has to tell it.
#[test]
fn what_a_refused_module_said_of_its_failure_stands_in_the_refusal() {
    let bench = Bench::with(&guests::policy(Parts {
        imports: r#"(import "goproxy:balance/host@1.0.0" "log" (func $log (param i32 i32 i32)))"#,
        fields: r#"(data (i32.const 512) "panicked at src/lib.rs:7")"#,
        pick: "(call $log (i32.const 0) (i32.const 512) (i32.const 24)) (unreachable)",
        ..Parts::default()
    }));
    let error = bench.make(&spec()).err().unwrap().to_string();
    assert!(error.ends_with("; it said: panicked at src/lib.rs:7"), "{error}");
}

#[test]
fn what_takes_longer_to_compile_than_its_policy_allows_is_refused_until_that_is_raised() {
    let code = format!("(func {})", "loop end ".repeat(10_000));
    let bench = Bench::with(&guests::policy(Parts { fields: &code, ..Parts::default() }));
    let tight = ModuleSpec { compile_budget: Duration::from_millis(100), ..spec() };
    let error = bench.make(&tight).err().unwrap().to_string();
    assert!(error.contains("x.wat: would take about 0.2 s to compile"), "{error}");
    assert!(bench.make(&spec()).is_ok());
}

const CONNECTED: Outcome = Outcome::Connected { micros: 100 };

const CLOSED: Outcome = Outcome::Closed { millis: 1_000, bytes: 10 };

/// Picks the first server, and traps at a retry.
fn strict() -> String {
    let pick = format!("(if (local.get $attempt) (then (unreachable))) {}", Parts::default().pick);
    guests::policy(Parts { fields: guests::STRICT_FEEDBACK, pick: &pick, ..Parts::default() })
}

#[test]
fn what_becomes_of_a_pick_is_told_to_the_instance_that_made_it() {
    let bench = Bench::with(&strict());
    let servers = set(&[1; 2]);
    let policy = bench.policy(&servers);
    let Picked { index, epoch } = policy.pick(&request(&servers)).unwrap();
    let (epoch, id) = (epoch.expect("the module listens"), servers.servers[index].id);
    policy.report(epoch, id, CONNECTED);
    policy.report(epoch, id, CLOSED);
    assert_eq!(bench.faults(FaultKind::Trap), 0);
    policy.report(epoch, id, CLOSED);
    assert_eq!(bench.faults(FaultKind::Trap), 1, "it does hear");
}

#[test]
fn a_version_that_takes_over_hears_no_end_of_a_session_whose_connect_it_did_not_hear() {
    let bench = Bench::with(&strict());
    let servers = set(&[1; 2]);
    let policy = bench.policy(&servers);
    let epoch = policy.pick(&request(&servers)).unwrap().epoch.unwrap();
    policy.report(epoch, servers.servers[0].id, CONNECTED);
    bench.write(&format!("{} ;; another version", strict()));
    bench.look();
    assert_eq!(bench.view().counters.unwrap().swaps.load(Relaxed), 1);
    policy.report(epoch, servers.servers[0].id, CLOSED);
    assert_eq!(bench.faults(FaultKind::Trap), 0);
    assert_ne!(policy.pick(&request(&servers)).unwrap().epoch.unwrap(), epoch);
}

#[test]
fn an_instance_that_was_made_anew_hears_no_end_of_a_session_whose_connect_it_did_not_hear() {
    let bench = Bench::with(&strict());
    let servers = set(&[1; 2]);
    let policy = bench.policy(&servers);
    let epoch = policy.pick(&request(&servers)).unwrap().epoch.unwrap();
    policy.report(epoch, servers.servers[0].id, CONNECTED);
    let fallback = policy.pick(&PickRequest { attempt: 1, ..request(&servers) }).unwrap();
    assert_eq!((fallback.epoch, bench.faults(FaultKind::Trap)), (None, 1), "nobody hears of what the fallback picked");
    eventually("another instance", || policy.pick(&request(&servers)).unwrap().epoch.is_some());
    policy.report(epoch, servers.servers[0].id, CLOSED);
    assert_eq!(bench.faults(FaultKind::Trap), 1);
}

#[test]
fn another_module_hears_no_end_of_a_session_whose_connect_it_did_not_hear() {
    let bench = Bench::with(&strict());
    fs::write(bench.folder.path().join("y.wat"), strict()).unwrap();
    let servers = set(&[1; 2]);
    let (one, other) = (bench.policy(&servers), bench.make(&ModuleSpec { name: "y".into(), ..spec() }).unwrap());
    let other = other.for_servers(&servers);
    let epoch = one.pick(&request(&servers)).unwrap().epoch.unwrap();
    one.report(epoch, servers.servers[0].id, CONNECTED);
    other.report(epoch, servers.servers[0].id, CLOSED);
    assert!(bench.modules.views().iter().all(|view| view.counters.as_ref().unwrap().faults_total() == 0));
}

#[test]
fn a_rehearsal_changes_nothing() {
    let bench = Bench::with(&guests::turns());
    let servers = set(&[1; 3]);
    let policy = bench.policy(&servers);
    assert_eq!(policy.pick_index(&request(&servers)), Some(0));
    let rehearsal = policy.rehearsal().unwrap();
    assert_eq!([(); 3].map(|()| rehearsal.pick_index(&request(&servers)).unwrap()), [0, 1, 2]);
    assert_eq!(policy.pick_index(&request(&servers)), Some(1));
    assert_eq!(bench.view().counters.unwrap().picks.load(Relaxed), 2);
}

#[test]
fn backups_have_an_instance_of_their_own_when_there_are_any() {
    let bench = Bench::with(&guests::turns());
    let (servers, none) = (set(&[1; 2]), Arc::new(ServerSet { backup: true, ..ServerSet::default() }));
    let root = bench.make(&spec()).unwrap();
    let policy = root.for_servers(&servers);
    assert_eq!(root.for_servers(&none).pick_index(&request(&none)), None);
    let backups = Arc::new(ServerSet { generation: 2, backup: true, servers: set(&[1; 3]).servers.clone() });
    let backup_policy = root.for_servers(&backups);
    assert_eq!(policy.pick_index(&request(&servers)), Some(0));
    // Made on another thread; the fallback answers until it is there.
    let functions = || bench.view().counters.unwrap().picks.load(Relaxed);
    eventually("an instance for the backups", || {
        backup_policy.pick_index(&request(&backups)).is_some() && functions() > 1
    });
    assert_eq!(policy.pick_index(&request(&servers)), Some(1), "not shared with the backups");
}

#[test]
fn the_shipped_samples_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let modules = Modules::new(folder, 8 << 20);
    for view in modules.views() {
        let mut spec = ModuleSpec::new(view.name.strip_prefix("wasm:").unwrap());
        if *spec.name == *"zone_first" {
            spec.config = r#"{"zone":"a"}"#.to_owned();
        }
        let made = wait(modules.make(&Arc::new(spec), &label()));
        assert!(made.is_ok(), "{}: {}", view.name, made.err().unwrap());
    }
}
