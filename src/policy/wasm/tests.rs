mod feedback;
mod files;
mod nobody;
mod refusals;
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
use super::record::ModuleRecord;
use super::slot::Slot;
use super::source::PolicyKeys;
use super::view::{ModuleState, ModuleView};
use super::{ModuleError, Modules};
use crate::base::label::GroupLabel;
use crate::counters::FaultKind;
use crate::policy::spec::ModuleSpec;
use crate::policy::testing::{PickIndex, request, server, set, set_of};
use crate::policy::{IBalancePolicy, Outcome, PickRequest, Picked, ServerSet};
use crate::server::{Avoided, ServerId};

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
        let modules = Modules::new(folder.path().to_owned(), 8 << 20, PolicyKeys::default());
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
        wait(self.modules.make(&Arc::new(spec.clone()), &label(), &PolicyKeys::default()))
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
    assert!(servers.servers.iter().all(|server| server.live.connect_failed("refused", now_ms, now_ms)));
    let policy = bench.policy(&servers);
    assert_eq!(policy.pick_index(&PickRequest { now_ms, ..request(&servers) }), None);
    assert!(policy.pick_index(&PickRequest { now_ms, avoided: Avoided::NONE, ..request(&servers) }).is_some());
    assert_eq!(bench.view().counters.unwrap().faults_total(), 0);
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
    let modules = Modules::new(folder, 8 << 20, PolicyKeys::default());
    for view in modules.views() {
        let mut spec = ModuleSpec::new(view.name.strip_prefix("wasm:").unwrap());
        if *spec.name == *"zone_first" {
            spec.config = r#"{"zone":"a"}"#.to_owned();
        }
        let made = wait(modules.make(&Arc::new(spec), &label(), &PolicyKeys::default()));
        assert!(made.is_ok(), "{}: {}", view.name, made.err().unwrap());
    }
}
