//! Modules that name no server though one is open.

use super::*;

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
