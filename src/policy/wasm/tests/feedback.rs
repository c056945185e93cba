//! Who hears what became of a pick.

use super::*;

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
