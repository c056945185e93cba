//! What becomes of the file of a module.

use super::*;

#[test]
fn a_new_file_takes_over_and_a_bad_one_changes_nothing() {
    let bench = Bench::with(&guests::turns());
    let servers = set(&[1; 3]);
    let policy = bench.policy(&servers);
    let first = bench.view().sha256;
    bench.write("(module");
    bench.look();
    bench.write("not a policy");
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
