//! What is recorded while several threads pick, servers fail, come and go, is answered the same again.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Repeated, Survey, compare, repeat, survey};
use crate::base::clock;
use crate::config::parse;
use crate::group::{Group, GroupSettings, Outcome, ServerSlot};
use crate::lab::Subject;
use crate::policy::IBalancePolicy;
use crate::policy::built_in::{self, BUILT_IN};
use crate::policy::factory::Factory;
use crate::policy::follow::Following;
use crate::policy::recorded::{
    About, AboutModule, Blocks, Decoder, FIRST_LINE, Mirror, Note, Recorded, SERVERS_MAX, Tape, TapeOptions, block,
    take_over,
};
use crate::policy::shadow::{Batch, Tap, Tapped};
use crate::policy::spec::{ModuleSpec, PolicySpec};
use crate::policy::wasm::guests::{self, Parts};
use crate::policy::wasm::source::{PolicyKeys, sha256};
use crate::server::{Origin, ServerId, ServerSettings, State};

/// Threads that pick at the same time.
const THREADS: u64 = 4;

/// Sessions of each.
const SESSIONS: u32 = 3_000;

const OPTIONS: TapeOptions = TapeOptions { bytes_max: 1 << 30, is_anonymous: false, sha256: None };

/// A group that is recorded.
struct Rig {
    group: Arc<Group>,
    tape: Arc<Tape>,
    recorded: Arc<Recorded>,
    folder: TempDir,
    /// What was written down so far.
    file: Mutex<Vec<u8>>,
}

fn settings(policy: &PolicySpec) -> GroupSettings {
    let text = r#"{ "groups": [ { "listen": "127.0.0.1:8081" } ] }"#;
    let config = parse(Path::new("proxy.json"), text).unwrap();
    GroupSettings { policy: policy.clone(), fail_open: true, ..config.groups[0].settings.clone() }
}

fn server(number: u8) -> ServerSettings {
    let addr = SocketAddr::from(([10, 0, 0, number], 9_000));
    let labels = [("zone".to_owned(), ["a", "b"][usize::from(number % 2)].to_owned())];
    ServerSettings {
        weight: u16::from(number % 3) + 1,
        max_sessions: if number == 3 { 5 } else { 0 },
        backup: number > 8,
        labels: labels.into(),
        ..ServerSettings::new(addr.into(), Origin::File)
    }
}

fn servers() -> Vec<ServerSettings> {
    (1..=10).map(server).collect()
}

impl Rig {
    fn new(spec: &PolicySpec, servers: Vec<ServerSettings>, options: TapeOptions) -> Self {
        Self::with_module(spec, servers, options, None)
    }

    fn with_module(
        spec: &PolicySpec,
        servers: Vec<ServerSettings>,
        options: TapeOptions,
        file: Option<(&str, &[u8])>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let module = file.map(|(name, bytes)| {
            fs::write(folder.path().join(name), bytes).unwrap();
            (name.to_owned(), bytes.to_vec())
        });
        let sha256 = module.as_ref().map(|(_, bytes)| sha256(bytes));
        let about = About {
            goproxy: "1.0".to_owned(),
            group: "8081".to_owned(),
            port: 8081,
            started: "2026-11-29T19:48:00.000Z".to_owned(),
            policy: spec.to_string(),
            sessions_before: 0,
            is_anonymous: options.is_anonymous,
            module: spec.as_module().map(|module| AboutModule::new(module)),
        };
        let tape = Tape::new(&about, module, TapeOptions { sha256, ..options });
        let settings = settings(spec);
        let factory = Factory::new(folder.path().to_owned(), 1 << 30, PolicyKeys::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (label, keys) = (crate::base::label::GroupLabel::new(8081, None), PolicyKeys::default());
        let made = runtime.block_on(factory.make_overseen(spec, &label, &keys, Some(Arc::clone(&tape) as _)));
        let recorded = Arc::new(Recorded::new(Arc::clone(&tape), made.unwrap()));
        let group = Arc::new(Group::new(settings, servers, Arc::clone(&recorded) as _));
        Self { group, tape, recorded, folder, file: Mutex::new(FIRST_LINE.to_vec()) }
    }

    /// Writes down what was noted; true when nothing comes after that.
    fn write(&self) -> bool {
        let mut notes = Vec::new();
        let noted = self.tape.take(&mut notes);
        self.file.lock().unwrap().extend(block(&notes));
        noted.is_over
    }

    /// Ends the recording and writes its file.
    fn end(&self) -> PathBuf {
        self.tape.end("the test was over");
        assert!(self.write());
        let path = self.folder.path().join("test.picks");
        fs::write(&path, &*self.file.lock().unwrap()).unwrap();
        path
    }

    /// How many notes there are of this kind so far.
    fn count(&self, is_meant: fn(&Note) -> bool) -> usize {
        self.write();
        let file = self.file.lock().unwrap();
        let (mut blocks, mut decoder, mut count) = (Blocks::open(&file[..]).unwrap(), Decoder::default(), 0);
        while let Some(block) = blocks.next_block().unwrap() {
            let mut rest = &block[..];
            while let Some(note) = decoder.next(&mut rest).unwrap() {
                count += usize::from(is_meant(&note));
            }
        }
        count
    }

    /// Runs until there are so many notes of this kind: another instance comes when its thread gets a processor.
    fn run_until(&self, is_meant: fn(&Note) -> bool, count: usize) {
        let began = Instant::now();
        while self.count(is_meant) < count {
            assert!(began.elapsed() < Duration::from_secs(120), "{:?}", self.tape.why());
            self.run();
        }
    }

    fn repeated(&self) -> (Survey, Repeated) {
        let path = self.end();
        let survey = survey(&path).unwrap();
        let repeated = repeat(&path, &survey).unwrap();
        (survey, repeated)
    }

    /// Lets several threads pick while servers change.
    fn run(&self) {
        let is_over = AtomicBool::new(false);
        self.change(0);
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..THREADS).map(|seed| scope.spawn(move || serve(&self.group, seed, SESSIONS))).collect();
            scope.spawn(|| {
                for round in 0_u8.. {
                    if is_over.load(Relaxed) {
                        break;
                    }
                    self.change(round);
                    thread::park_timeout(Duration::from_millis(2));
                }
            });
            clients.into_iter().for_each(|client| client.join().unwrap());
            is_over.store(true, Relaxed);
        });
    }

    /// Servers come and go, are drained, get other weights; those that were suspect answer again.
    fn change(&self, round: u8) {
        let mut list = servers();
        if round.is_multiple_of(2) {
            list.push(server(20 + round % 4));
        }
        list[usize::from(round % 8)].state = State::Drain;
        list[usize::from(round % 5)].weight = u16::from(round % 4) + 1;
        let settings = self.group.snapshot().settings.clone();
        self.group.apply(settings, list, None, &[], &[]);
        for addr in servers().into_iter().map(|server| server.addr) {
            self.group.answered_for_tests(&addr, clock::coarse_ms());
        }
    }
}

/// Serves clients as data threads do.
fn serve(group: &Group, seed: u64, sessions: u32) {
    let mut random = crate::base::random::SplitMix64::new(seed);
    let mut held: Vec<ServerSlot> = Vec::new();
    let close = |slot: ServerSlot| {
        let outcome = Outcome::Closed { millis: 5, bytes: 10 };
        group.report(&slot.server, slot.epoch, outcome, clock::coarse_ms());
    };
    for _ in 0..sessions {
        let client = SocketAddr::from(([10, 1, seed as u8, random.draw() as u8], 1_024 + random.draw() as u16 % 9_000));
        let mut tried: Vec<ServerId> = Vec::new();
        while tried.len() < 3 {
            let now_ms = clock::coarse_ms();
            let Ok(slot) = group.pick(client, &tried, now_ms) else { break };
            if random.draw().is_multiple_of(50) {
                tried.push(slot.server.id);
                let outcome = Outcome::Failed { why: "refused", is_servers: true, since_ms: now_ms };
                group.report(&slot.server, slot.epoch, outcome, now_ms);
                continue;
            }
            group.report(&slot.server, slot.epoch, Outcome::Connected { micros: random.draw() % 2_000 }, now_ms);
            held.push(slot);
            break;
        }
        if held.len() > 10 {
            close(held.swap_remove(random.draw() as usize % held.len()));
        }
    }
    held.into_iter().for_each(close);
}

#[test]
fn every_built_in_policy_answers_the_same_again() {
    for name in BUILT_IN {
        let rig = Rig::new(&PolicySpec::parse(name).unwrap(), servers(), OPTIONS);
        rig.run();
        let (survey, repeated) = rig.repeated();
        assert_eq!((repeated.differ, &repeated.first), (0, &None), "{name}");
        assert!(
            repeated.picks >= THREADS * u64::from(SESSIONS) && survey.retries > 0 && survey.sets >= 4,
            "{survey:?}"
        );
        assert_eq!((survey.why.as_deref(), survey.is_cut), (Some("the test was over"), false));
        // Of every session but those of the last moments it is known what became of it.
        assert!(survey.abandoned.len() < 100, "{name}: {}", survey.abandoned.len());
    }
}

#[test]
fn every_sample_answers_the_same_again() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut seen = 0;
    for path in fs::read_dir(samples).unwrap().map(|entry| entry.unwrap().path()) {
        let is_module = path.extension().is_some_and(|ending| ending == "wat" || ending == "wasm");
        if !is_module {
            continue;
        }
        seen += 1;
        let (name, bytes) = (path.file_name().unwrap().to_str().unwrap(), fs::read(&path).unwrap());
        let module = ModuleSpec::new(path.file_stem().unwrap().to_str().unwrap());
        let config = if *module.name == *"zone_first" { r#"{"zone":"a"}"# } else { "{}" };
        let spec = PolicySpec::module(ModuleSpec { config: config.to_owned(), ..module });
        let rig = Rig::with_module(&spec, servers(), OPTIONS, Some((name, &bytes)));
        rig.run();
        let (_, repeated) = rig.repeated();
        assert_eq!((repeated.differ, &repeated.first), (0, &None), "{name}");
        assert!(repeated.picks >= THREADS * u64::from(SESSIONS), "{name}: {repeated:?}");
    }
    assert!(seen >= 4, "{seen}");
}

/// A guest that picks the first server, also where that was tried, which is a fault; and that fails in the thirtieth pick of each
/// instance.
fn failing(how: &str) -> String {
    let pick = format!(
        "(global.set $asked (i32.add (global.get $asked) (i32.const 1)))
         (if (i32.eq (global.get $asked) (i32.const 30)) (then {how}))
         (i32.store8 (i32.const 32) (global.get $some))
         (i32.store (i32.const 36) (global.get $first))
         (i32.const 32)"
    );
    let fields = format!("(global $asked (mut i32) (i32.const 0)) {}", guests::STRICT_FEEDBACK);
    guests::policy(Parts { fields: &fields, pick: &pick, ..Parts::default() })
}

#[test]
fn faults_and_the_instances_that_come_after_them_repeat() {
    let module = failing("(unreachable)");
    let spec = PolicySpec::module(ModuleSpec::new("failing"));
    let rig = Rig::with_module(&spec, servers(), OPTIONS, Some(("failing.wat", module.as_bytes())));
    rig.run_until(|note| matches!(note, Note::Instance(..)), 4);
    let (survey, repeated) = rig.repeated();
    assert_eq!((repeated.differ, &repeated.first, survey.deadlines), (0, &None, 0));
    assert!(survey.instances >= 4, "{survey:?}");
}

#[test]
fn a_deadline_that_passed_is_noted_and_repeats_without_passing_again() {
    let module = failing("(loop $for_ever (br $for_ever))");
    let spec = PolicySpec::module(ModuleSpec::new("looping"));
    let rig = Rig::with_module(&spec, servers(), OPTIONS, Some(("looping.wat", module.as_bytes())));
    rig.run_until(|note| matches!(note, Note::RanOut(_)), 1);
    let (survey, repeated) = rig.repeated();
    assert_eq!((repeated.differ, &repeated.first), (0, &None));
    assert!(survey.deadlines > 0, "{survey:?}");
}

#[test]
fn a_recording_that_may_grow_no_further_ends_and_is_good_up_to_there() {
    let options = TapeOptions { bytes_max: 20_000, ..OPTIONS };
    let rig = Rig::new(&PolicySpec::default(), servers(), options);
    serve(&rig.group, 1, 2_000);
    assert_eq!(rig.tape.why().as_deref(), Some("the file may grow no further (max)"));
    let (survey, repeated) = rig.repeated();
    assert!(repeated.picks > 100 && repeated.picks < 1_000 && repeated.differ == 0, "{repeated:?}");
    assert_eq!(survey.why.as_deref(), Some("the file may grow no further (max)"));
}

#[test]
fn a_recording_that_nobody_writes_down_ends_and_never_blocks() {
    let rig = Rig::new(&PolicySpec::default(), servers(), OPTIONS);
    // Sixteen MiB of notes wait for nobody.
    while rig.tape.why().is_none() {
        serve(&rig.group, 1, 5_000);
    }
    assert_eq!(rig.tape.why().as_deref(), Some("the disk is slower than the picks"));
    assert!(rig.tape.is_too_slow() && rig.group.pick(([10, 0, 0, 1], 1).into(), &[], 1).is_ok());
    let (_, repeated) = rig.repeated();
    assert!(repeated.picks > 100_000 && repeated.differ == 0, "{repeated:?}");
}

#[test]
fn a_group_that_has_another_policy_is_recorded_no_longer() {
    let rig = Rig::new(&PolicySpec::default(), servers(), OPTIONS);
    serve(&rig.group, 1, 10);
    let (serving, _) = rig.group.policy();
    assert!(rig.group.exchange_policy(&serving, crate::policy::built_in::make("ha").unwrap()));
    assert!(!rig.group.exchange_policy(&serving, crate::policy::built_in::make("p2c").unwrap()), "it serves no more");
    let Rig { group, tape, recorded, folder: _folder, file: _ } = rig;
    drop((serving, recorded));
    assert_eq!(tape.why().as_deref(), Some("the group has another policy, or is gone"));
    drop(group);
}

#[test]
fn what_was_recorded_goes_on_without_the_recording() {
    let module = failing("(nop)");
    let spec = PolicySpec::module(ModuleSpec::new("strict"));
    let rig = Rig::with_module(&spec, servers(), OPTIONS, Some(("strict.wat", module.as_bytes())));
    let pick = |port: u16| rig.group.pick(([10, 0, 0, 1], port).into(), &[], clock::coarse_ms()).unwrap();
    let tell = |slot: &ServerSlot, outcome| rig.group.report(&slot.server, slot.epoch, outcome, clock::coarse_ms());
    let before = pick(1);
    tell(&before, Outcome::Connected { micros: 5 });
    rig.tape.end("the test was over");
    let (serving, _) = rig.group.policy();
    assert!(rig.group.exchange_policy(&serving, rig.recorded.after()));
    let after = pick(2);
    assert_ne!(before.epoch, after.epoch);
    // A module that heard of the connect hears of the end; one end too many makes it fail.
    tell(&before, Outcome::Closed { millis: 1, bytes: 1 });
    tell(&after, Outcome::Connected { micros: 5 });
    tell(&after, Outcome::Closed { millis: 1, bytes: 1 });
    assert_eq!(pick(3).epoch, after.epoch, "the same instance is at work");
    tell(&after, Outcome::Closed { millis: 1, bytes: 1 });
    assert_ne!(pick(4).epoch, after.epoch, "it has heard of all of them, and of one too many");
}

#[test]
fn too_many_servers_are_not_recorded() {
    let many = (0..=SERVERS_MAX as u32).map(|number| {
        let addr = SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0001 + number), 1));
        ServerSettings::new(addr.into(), Origin::File)
    });
    let rig = Rig::new(&PolicySpec::default(), many.collect(), OPTIONS);
    assert_eq!(rig.tape.why().as_deref(), Some("the group has more than 2000 servers"));
}

#[test]
fn an_anonymous_recording_names_no_client_and_repeats_for_policies_that_do_not_look_at_them() {
    for (name, is_same) in [("p2c", true), ("ip_hash", false)] {
        let options = TapeOptions { is_anonymous: true, ..OPTIONS };
        let rig = Rig::new(&PolicySpec::parse(name).unwrap(), servers(), options);
        serve(&rig.group, 7, 500);
        let (survey, repeated) = rig.repeated();
        assert_eq!((repeated.differ == 0, survey.about.is_anonymous), (is_same, true), "{name}");
        if let Some(first) = repeated.first {
            assert!(!first.client.ip().to_string().starts_with("10.1.7."), "{first:?}");
        }
    }
}

/// Whether a policy is followed as it answered, or asked again, comes to the same.
#[test]
fn a_policy_that_is_tried_beside_itself_makes_the_same_load() {
    for name in ["ha", "round_robin", "ip_hash", "least_sessions", "random", "p2c", "maglev"] {
        let make = || built_in::make(name).unwrap();
        let tap = Arc::new(Tap::default());
        let tapped: Arc<dyn IBalancePolicy> = Arc::new(Tapped::new(Arc::clone(&tap), make()));
        let spec = PolicySpec::parse(name).unwrap();
        let group = Group::new(settings(&spec), (1..=6).map(server).collect(), tapped);
        let (mut given, mut beside) = (Following::given(), Following::of(make()));
        let (mut batch, mut real, mut seen) = (Batch::default(), Vec::new(), Mirror::default());
        let mut random = crate::base::random::SplitMix64::new(1);
        let mut held: Vec<ServerSlot> = Vec::new();
        for round in 0..2_000_u64 {
            let client = SocketAddr::from(([10, 1, 2, random.draw() as u8], 1_024 + round as u16));
            let slot = group.pick(client, &[], round).unwrap();
            group.report(&slot.server, slot.epoch, Outcome::Connected { micros: 300 }, round);
            held.push(slot);
            if held.len() > 60 {
                let slot = held.swap_remove(random.draw() as usize % held.len());
                group.report(&slot.server, slot.epoch, Outcome::Closed { millis: 1, bytes: 1 }, round);
            }
            tap.take(&mut batch);
            for told in batch.told.drain(..) {
                for following in [&mut given, &mut beside] {
                    match &told.note {
                        Note::Servers(servers) => following.prepare(servers),
                        Note::Gone(set) => following.forget(*set),
                        Note::Pick(asked) => following.ask(asked, told.pick).unwrap(),
                        Note::Report(report) => following.report(report),
                        note => panic!("{note:?}"),
                    }
                }
            }
            for set in tap.sets() {
                let known = seen.known(&set);
                take_over(&set, &known, &mut real);
            }
            real.drain(..).for_each(|(id, facts)| beside.learn(id, facts));
        }
        assert_eq!(beside.counts().differ, 0, "{name}: {:?}", beside.first());
        assert_eq!(given.books().all_held(), beside.books().all_held(), "{name}");
        // The books are those of the servers.
        let sessions: Vec<u32> = group.servers().iter().map(|server| server.sessions).collect();
        assert_eq!(given.books().all_held(), sessions, "{name}");
        assert_eq!((given.counts().sessions, given.counts().nobody, batch.dropped), (2_000, 0, 0), "{name}");
    }
}

#[test]
fn what_is_told_beyond_what_may_wait_is_dropped_and_counted_and_the_policy_serves_on() {
    let tap = Arc::new(Tap::default());
    let spec = PolicySpec::default();
    let tapped = Arc::new(Tapped::new(Arc::clone(&tap), built_in::make("round_robin").unwrap()));
    let group = Group::new(settings(&spec), servers(), Arc::clone(&tapped) as _);
    serve(&group, 1, 40_000);
    let mut batch = Batch::default();
    tap.take(&mut batch);
    assert!(batch.dropped > 1_000 && batch.told.len() == 65_536, "{} {}", batch.told.len(), batch.dropped);
    // What is told of servers is never dropped, and what comes later is understood.
    let mut following = Following::given();
    group.apply(group.snapshot().settings.clone(), servers().split_off(2), None, &[], &[]);
    serve(&group, 2, 10);
    let mut second = Batch::default();
    tap.take(&mut second);
    for told in batch.told.into_iter().chain(second.told) {
        match &told.note {
            Note::Servers(servers) => following.prepare(servers),
            Note::Pick(asked) => following.ask(asked, told.pick).unwrap(),
            _ => {}
        }
    }
    assert!(following.counts().sessions > 20_000, "{:?}", following.counts());
}

#[test]
fn another_policy_sees_the_load_that_it_would_have_made() {
    let plain = |number: u8| ServerSettings::new(SocketAddr::from(([10, 0, 0, number], 9_000)).into(), Origin::File);
    let rig = Rig::new(&PolicySpec::parse("random").unwrap(), (1..=10).map(plain).collect(), OPTIONS);
    // A session leaves after 400 others have come, and time goes on with them.
    let mut held = std::collections::VecDeque::new();
    let mut random = crate::base::random::SplitMix64::new(1);
    for now_ms in 0..20_000_u64 {
        let client = SocketAddr::from(([10, 1, (now_ms >> 8) as u8, now_ms as u8], 1_024));
        let slot = rig.group.snapshot().pick(client, &[], now_ms, random.draw()).unwrap();
        rig.group.report(&slot.server, slot.epoch, Outcome::Connected { micros: 100 }, now_ms);
        held.push_back(slot);
        if held.len() > 400 {
            let slot = held.pop_front().unwrap();
            rig.group.report(&slot.server, slot.epoch, Outcome::Closed { millis: 400, bytes: 1 }, now_ms);
        }
    }
    let path = rig.end();
    let survey = survey(&path).unwrap();
    let subjects = ["random", "p2c", "least_sessions", "round_robin"].map(|name| Subject::built_in(name).unwrap());
    let comparison = compare(&path, &survey, &subjects).unwrap();
    let busiest: Vec<f64> = comparison.policies.iter().map(|policy| policy.busiest_over_mean.mean).collect();
    let [recorded, random, p2c, least, turns] = busiest[..] else { panic!("{busiest:?}") };
    assert!((recorded - random).abs() < 1e-9, "the same policy has the same books: {busiest:?}");
    assert_eq!(comparison.policies[1].differ, 0);
    assert!(recorded > 1.15 && p2c < 1.08 && least < 1.03 && turns < 1.03, "{busiest:?}");
    assert!(comparison.policies[2].differ > 10_000 && comparison.policies.iter().all(|policy| policy.nobody == 0));
    assert_eq!(comparison.policies[2].sessions, 20_000);
    assert!(comparison.policies.iter().all(|policy| policy.smallest_share.unwrap() > 0.08), "{comparison:?}");
}
