//! `goproxy policy record` and `policy replay`: what a running proxy writes down is answered the same again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::policy_kit::Folder;
use crate::policy_kit::guests::{self, Parts};
use crate::support::{FakeServer, Group, Setup, TestProxy, eventually, run};

/// Runs `goproxy policy` with these arguments: its exit code, and what it said.
fn policy(args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(&[&["policy"], args].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn record(proxy: &TestProxy, args: &[&str]) -> (Option<i32>, String, String) {
    policy(&[&["record", "--admin", &proxy.admin.to_string()], args].concat())
}

/// The only recording in the folder.
#[track_caller]
fn recording(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(folder).expect("the folder").map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn setup(policies: &Folder, group: Group) -> Setup {
    policies.setup().with("record_dir", "picks").group(group)
}

/// Serves clients one after the other.
fn serve(proxy: &TestProxy, clients: usize) {
    for _ in 0..clients {
        proxy.connect().echo(b"hello");
    }
}

fn port(proxy: &TestProxy) -> String {
    proxy.addr().port().to_string()
}

/// A recording of a proxy with a module, in which a server died.
fn recorded(policies: &Folder, module: &str, args: &[&str]) -> (TestProxy, PathBuf, [FakeServer; 3]) {
    let servers = [FakeServer::echo(), FakeServer::echo(), FakeServer::echo()];
    let group = Group::new(module, &[&servers[0], &servers[1], &servers[2]]);
    let proxy = setup(policies, group).start();
    serve(&proxy, 3);
    let (code, stdout, stderr) = record(&proxy, &[&["--group", &port(&proxy)], args].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.starts_with("recording ") && stdout.ends_with(&format!("{module} is started anew for it\n")),
        "{stdout}"
    );
    serve(&proxy, 20);
    servers[1].refuses_from_now_on();
    serve(&proxy, 20);
    let path = recording(&proxy.home().join("picks"));
    (proxy, path, servers)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn a_module_is_recorded_in_a_running_proxy_and_answers_the_same_again() {
    let module = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/two_choices.wat")).unwrap();
    let policies = Folder::with("two_choices.wat", &module);
    let (proxy, path, _servers) = recorded(&policies, "wasm:two_choices", &[]);
    let group = port(&proxy);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(proxy.ok("/group-list.do")["groups"][0]["records"], text(&path));
    assert_eq!(proxy.metric("goproxy_record_active", &[&format!("group=\"{group}\"")]), 1.0);
    let refused = proxy.refused(&format!("/record-start.do?group={group}"), 409, "recording");
    assert!(refused["msg"].as_str().unwrap().contains(text(&path)), "{refused}");

    let (code, stdout, _) = record(&proxy, &["--group", &group, "--stop"]);
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with(&format!("{} is complete, with ", text(&path))), "{stdout}");
    assert!(stdout.ends_with("; it ended because it was stopped\n"), "{stdout}");
    assert_eq!(proxy.ok("/group-list.do")["groups"][0].get("records"), None);
    proxy.refused(&format!("/record-stop.do?group={group}"), 409, "not_recording");
    let listed = proxy.ok("/record-list.do")["recordings"][0].clone();
    assert_eq!(
        (&listed["active"], &listed["lost"], &listed["why"]),
        (&json!(false), &json!(0), &json!("it was stopped"))
    );
    assert_eq!(listed["bytes"], fs::metadata(&path).unwrap().len());
    let (_, stdout, _) = record(&proxy, &["--list"]);
    assert!(stdout.contains("wasm:two_choices: ") && stdout.contains("ended because it was stopped"), "{stdout}");
    let said = |message: &str| proxy.log.wait_for(message, |line| line["message"] == message);
    assert_eq!(said("recording picks")["policy"], "wasm:two_choices");
    assert_eq!(said("recording ended")["picks"], listed["picks"]);
    // The policy goes on.
    serve(&proxy, 3);

    let (code, stdout, stderr) = policy(&["replay", text(&path)]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains(" picks, ") && stdout.contains(": all the same\n"), "{stdout}");
    let (_, stdout, _) = policy(&["replay", text(&path), "--json"]);
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&answer["repeated"]["differ"], &answer["recording"]["policy"]),
        (&json!(0), &json!("wasm:two_choices"))
    );
    assert_eq!(answer["repeated"]["picks"], listed["picks"]);
    assert!(answer["recording"]["retries"].as_u64().unwrap() > 0, "a server refused: {answer}");
}

#[test]
fn another_policy_is_compared_as_a_table_as_json_and_as_a_page() {
    let policies = Folder::new();
    let (proxy, path, _servers) = recorded(&policies, "round_robin", &[]);
    proxy.ok(&format!("/record-stop.do?group={}", port(&proxy)));
    let page = proxy.home().join("page.html");
    let args = ["replay", text(&path), "--policy", "ha", "--policy", "p2c"];
    let (code, stdout, stderr) = policy(&[&args[..], &["--html", text(&page)]].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let starts: Vec<&str> = stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(starts[1..5], ["busiest/mean", "round_robin", "ha", "p2c"], "{stdout}");
    assert!(stdout.contains("ha, first: pick ") && stdout.contains("): was "), "{stdout}");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<h2>ha</h2>") && page.contains("<svg") && !page.contains("<script"), "{page}");
    let (_, stdout, _) = policy(&[&args[..], &["--json"]].concat());
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    let [recorded, ha, _] = &answer["compared"]["policies"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!(
        (&recorded["differ"], &recorded["policy"], &recorded["sessions"]),
        (&json!(0), &json!("round_robin"), &json!(40))
    );
    let shares: Vec<f64> = ha["share"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).collect();
    assert!(shares[0] == 1.0 && ha["differ"].as_u64().unwrap() > 20, "{ha}");
    // The recorded policy itself would have done the same.
    let (_, stdout, _) = policy(&["replay", text(&path), "--policy", "round_robin", "--json"]);
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["compared"]["policies"][1]["differ"], 0, "{answer}");
}

#[test]
fn a_recording_ends_by_itself_after_its_time_and_at_its_size() {
    let policies = Folder::new();
    let (proxy, path, _servers) = recorded(&policies, "round_robin", &["--for", "1s"]);
    let last = || proxy.ok("/record-list.do")["recordings"][0].clone();
    eventually("the recording has ended", || last()["active"] == false);
    assert_eq!(last()["why"], "its time was over");
    assert_eq!(policy(&["replay", text(&path)]).0, Some(0));
    fs::remove_file(&path).unwrap();
    let (code, ..) = record(&proxy, &["--group", &port(&proxy), "--max", "64KiB"]);
    assert_eq!(code, Some(0));
    eventually("the file is full", || {
        serve(&proxy, 50);
        last()["active"] == false
    });
    assert_eq!(last()["why"], "the file may grow no further (max)");
    let path = recording(&proxy.home().join("picks"));
    assert!((60_000..70_000).contains(&fs::metadata(&path).unwrap().len()));
    assert_eq!(policy(&["replay", text(&path)]).0, Some(0));
    // Sessions were served all the while, and are.
    serve(&proxy, 3);
}

#[test]
fn a_recording_ends_with_its_policy_with_its_group_and_with_the_proxy() {
    let policies = Folder::new();
    let (mut proxy, path, _servers) = recorded(&policies, "round_robin", &[]);
    let group = port(&proxy);
    proxy.ok(&format!("/group-policy.do?group={group}&policy=ha"));
    let last = || proxy.ok("/record-list.do")["recordings"][0].clone();
    eventually("the recording has ended", || last()["active"] == false);
    assert_eq!(last()["why"], "the group has another policy, or is gone");
    assert_eq!(policy(&["replay", text(&path)]).0, Some(0));
    fs::remove_file(&path).unwrap();
    proxy.ok(&format!("/record-start.do?group={group}"));
    serve(&proxy, 5);
    let path = recording(&proxy.home().join("picks"));
    let copy = policies.path("copy.picks");
    proxy.stop();
    fs::copy(&path, &copy).unwrap();
    let (code, stdout, _) = policy(&["replay", text(&copy)]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("the recording ended because the proxy was stopped"), "{stdout}");
}

#[test]
fn a_recording_that_was_cut_by_a_kill_is_good_up_to_there() {
    let policies = Folder::new();
    let (mut proxy, path, _servers) = recorded(&policies, "p2c", &[]);
    eventually("something is written", || fs::metadata(&path).unwrap().len() > 1_000);
    proxy.kill();
    let (code, stdout, _) = policy(&["replay", text(&path)]);
    assert!(code == Some(0) && stdout.contains("all the same"), "{stdout}");
    let whole = fs::read(&path).unwrap();
    let cut = policies.path("cut.picks");
    fs::write(&cut, &whole[..whole.len() - 5]).unwrap();
    let (code, stdout, _) = policy(&["replay", text(&cut)]);
    assert!(
        code == Some(0) && stdout.contains("the file ends in the middle; what is before that is complete"),
        "{stdout}"
    );
}

#[test]
fn what_cannot_be_recorded_is_refused_and_changes_nothing() {
    let server = FakeServer::echo();
    let proxy = Setup::default().group(Group::new("round_robin", &[&server])).start();
    let group = port(&proxy);
    let refused = proxy.refused(&format!("/record-start.do?group={group}"), 403, "no_record_dir");
    assert_eq!(refused["msg"], "recording writes files: set record_dir in proxy.json first");
    let (code, _, stderr) = record(&proxy, &["--group", &group]);
    assert!(code == Some(1) && stderr.contains("set record_dir in proxy.json first"), "{stderr}");
    proxy.refused("/record-start.do?group=1", 404, "group_not_found");
    proxy.refused(&format!("/record-start.do?group={group}&max=1B"), 400, "bad_parameter");
    proxy.refused(&format!("/record-start.do?group={group}&time=10"), 400, "bad_parameter");

    let none = tempfile::tempdir().unwrap();
    let gone = none.path().join("not").join("there");
    let setup = Setup::default().with("record_dir", text(&gone)).group(Group::new("round_robin", &[&server]));
    let proxy = setup.start();
    let refused = proxy.refused(&format!("/record-start.do?group={}", port(&proxy)), 503, "record_failed");
    assert!(refused["msg"].as_str().unwrap().contains("record_dir: "), "{refused}");

    let full = tempfile::tempdir().unwrap();
    (0..8).for_each(|number| fs::write(full.path().join(format!("{number}.picks")), "").unwrap());
    let setup = Setup::default().with("record_dir", text(full.path())).group(Group::new("round_robin", &[&server]));
    let proxy = setup.start();
    let refused = proxy.refused(&format!("/record-start.do?group={}", port(&proxy)), 409, "too_many_recordings");
    assert!(
        refused["msg"].as_str().unwrap().ends_with("has 8 recordings already; expected fewer: remove some"),
        "{refused}"
    );
    serve(&proxy, 1);
}

#[test]
fn what_is_no_recording_is_told_so() {
    let folder = Folder::with("other.picks", "something else");
    let (code, _, stderr) = policy(&["replay", text(&folder.path("other.picks"))]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("other.picks: is no recording of picks; expected a file that begins with goproxy-picks 1"),
        "{stderr}"
    );
    let (code, _, stderr) = policy(&["replay", text(&folder.path("none.picks"))]);
    assert!(code == Some(1) && stderr.contains("none.picks: No such file"), "{stderr}");
    assert_eq!(policy(&["replay", "x.picks", "--html", "page.html"]).0, Some(2), "a page compares");
    assert_eq!(policy(&["record"]).0, Some(2), "of which group");
}

#[test]
fn a_recording_ends_where_another_version_of_its_module_comes() {
    let module = |version: &str| guests::policy(Parts { fields: &format!(";; {version}\n"), ..Parts::default() });
    let policies = Folder::with("mine.wat", module("1"));
    let server = FakeServer::echo();
    let proxy = setup(&policies, Group::new("wasm:mine", &[&server])).start();
    proxy.ok(&format!("/record-start.do?group={}", port(&proxy)));
    serve(&proxy, 5);
    policies.drop_in("mine.wat", module("2"));
    let last = || proxy.ok("/record-list.do")["recordings"][0].clone();
    eventually("the recording has ended", || last()["active"] == false);
    assert_eq!(last()["why"], "another version of the policy's module came");
    serve(&proxy, 5);
    let (code, stdout, _) = policy(&["replay", text(&recording(&proxy.home().join("picks")))]);
    assert!(code == Some(0) && stdout.starts_with("wasm:mine: 5 picks, "), "{stdout}");
}
