//! `state_file`: changes over HTTP are kept beside `proxy.json`, which is never written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{TestProxy, check, ports, replace, run};

/// What tells whether a file was touched.
fn stamp(path: &Path) -> (u64, i64, Vec<u8>) {
    let about = fs::metadata(path).unwrap();
    (about.ino(), about.mtime_nsec(), fs::read(path).unwrap())
}

fn file(admin: u16, group: u16, servers: &str) -> String {
    format!(
        "{{ \"state_file\": \"changes.json\", \"admin\": {{ \"listen\": \"127.0.0.1:{admin}\" }},\n\
         \"log\": {{ \"format\": \"json\", \"status_interval\": \"0s\" }},\n\
         \"groups\": [ {{ \"listen\": \"127.0.0.1:{group}\", \"heartbeat_timeout\": \"1h\", \"servers\": [{servers}] }} ] }}\n"
    )
}

/// The servers, as `ADDR WEIGHT STATE`.
fn servers(proxy: &TestProxy, group: u16) -> Vec<String> {
    let servers = proxy.servers(group);
    let text = |server: &Value, key: &str| server[key].as_str().map_or(server[key].to_string(), str::to_owned);
    servers.iter().map(|it| ["addr", "weight", "state"].map(|key| text(it, key)).join(" ")).collect()
}

fn overridden(proxy: &TestProxy) -> Vec<String> {
    let list = proxy.ok("/state-list.do");
    let list = list["overrides"].as_array().unwrap();
    list.iter()
        .map(|it| {
            format!(
                "{} {} {} {}",
                it["group"],
                it["server"].as_str().unwrap_or("-"),
                it["key"].as_str().unwrap(),
                it["now"]
            )
        })
        .collect()
}

/// Waits for a line whose message says this.
fn told(proxy: &TestProxy, words: &str) -> Value {
    proxy.log.wait_for(words, |line| line["message"].as_str().is_some_and(|message| message.contains(words)))
}

const THREE: &str = "\"127.0.0.1:1\", { \"addr\": \"127.0.0.1:2\", \"weight\": 2 }, \"127.0.0.1:3\"";

#[test]
fn changes_are_kept_beside_the_file_and_hold_after_a_kill() {
    let [admin, group, new] = ports();
    let mut proxy = TestProxy::with_file(admin, &file(admin, group, THREE));
    let before = stamp(proxy.path());
    for target in [
        format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"),
        format!("/worker-keepalive.do?group={group}&server=127.0.0.1:2&weight=9"),
        format!("/worker-remove.do?group={group}&server=127.0.0.1:3"),
        format!("/worker-keepalive.do?group={group}&server=127.0.0.1:4&zone=b"),
        format!("/group-policy.do?group={group}&policy=p2c"),
        format!("/group-open.do?group={new}&policy=ha"),
        format!("/worker-keepalive.do?group={new}&server=127.0.0.1:5"),
    ] {
        proxy.ok(&target);
    }
    let wanted = ["127.0.0.1:1 1 drain", "127.0.0.1:2 9 ready", "127.0.0.1:4 1 ready"];
    let list = overridden(&proxy);
    assert_eq!(servers(&proxy, group), wanted);
    assert_eq!(list.len(), 7, "{list:?}");
    proxy.kill();
    assert_eq!(stamp(proxy.path()), before);
    let proxy = proxy.again();
    assert_eq!(servers(&proxy, group), wanted);
    assert_eq!(servers(&proxy, new), ["127.0.0.1:5 1 ready"]);
    let groups = proxy.ok("/group-list.do");
    let policies: Vec<&Value> = groups["groups"].as_array().unwrap().iter().map(|group| &group["policy"]).collect();
    assert_eq!(policies, ["p2c", "ha"]);
    assert_eq!(overridden(&proxy), list);
    assert_eq!(stamp(proxy.path()), before);
}

/// What the state file of this proxy says, and where it is.
fn changes(proxy: &TestProxy) -> (std::path::PathBuf, String) {
    let path = proxy.home().join("changes.json");
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn the_file_wins_where_it_says_something_else_and_only_there() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &file(admin, group, THREE));
    for server in 1..=3 {
        proxy.ok(&format!("/worker-state.do?group={group}&server=127.0.0.1:{server}&state=drain"));
    }
    let edited = THREE
        .replace("\"127.0.0.1:1\"", "{ \"addr\": \"127.0.0.1:1\", \"state\": \"maint\" }")
        .replace("\"weight\": 2", "\"weight\": 5");
    let text = file(admin, group, &edited);
    replace(proxy.path(), &text);
    proxy.ok("/config-reload.do");
    assert_eq!(servers(&proxy, group), ["127.0.0.1:1 1 maint", "127.0.0.1:2 5 drain", "127.0.0.1:3 1 drain"]);
    let told = told(&proxy, "overrules");
    assert_eq!((&told["key"], &told["was"], &told["now"]), (&json!("state"), &json!("\"drain\""), &json!("\"maint\"")));
    assert_eq!(told["server.addr"], "127.0.0.1:1");
    assert_eq!(overridden(&proxy).len(), 2);
    assert!(!changes(&proxy).1.contains("127.0.0.1:1\""));
    assert_eq!(proxy.file(), text);
}

#[test]
fn what_is_cleared_is_as_the_file_says() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &file(admin, group, THREE));
    let change = || {
        for target in [
            format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"),
            format!("/worker-state.do?group={group}&server=127.0.0.1:2&state=maint"),
            format!("/group-policy.do?group={group}&policy=ha"),
            format!("/worker-keepalive.do?group={group}&server=127.0.0.1:9"),
        ] {
            proxy.ok(&target);
        }
    };
    change();
    assert_eq!(proxy.ok(&format!("/state-clear.do?group={group}&server=127.0.0.1:1"))["cleared"], 1);
    assert_eq!(servers(&proxy, group)[..2], ["127.0.0.1:1 1 ready", "127.0.0.1:2 2 maint"]);
    // A server with a lease is there whatever the files say.
    assert_eq!(proxy.ok("/state-clear.do")["cleared"], 2);
    assert_eq!(overridden(&proxy).len(), 1);
    assert_eq!(
        servers(&proxy, group),
        ["127.0.0.1:1 1 ready", "127.0.0.1:2 2 ready", "127.0.0.1:3 1 ready", "127.0.0.1:9 1 ready"]
    );
    proxy.refused("/state-clear.do?server=127.0.0.1:1", 400, "missing_parameter");
    let [other, listen] = ports();
    let text = file(other, listen, THREE).replace("\"state_file\": \"changes.json\", ", "");
    let without = TestProxy::with_file(other, &text);
    without.refused("/state-list.do", 404, "no_state_file");
    without.refused("/state-clear.do", 404, "no_state_file");
}

#[test]
fn a_damaged_state_file_stops_no_start() {
    let [admin, group] = ports();
    let mut proxy = TestProxy::with_file(admin, &file(admin, group, THREE));
    proxy.ok(&format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"));
    let (path, text) = changes(&proxy);
    proxy.stop();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let proxy = proxy.again();
    assert_eq!(servers(&proxy, group)[0], "127.0.0.1:1 1 ready");
    assert!(told(&proxy, "state file cannot be used")["error"].as_str().unwrap().contains("EOF"));
    assert_eq!(fs::read_to_string(path.with_extension("json.damaged")).unwrap(), text[..text.len() / 2]);
    proxy.ok(&format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=maint"));
    assert!(changes(&proxy).1.contains("\"maint\""));
}

/// What a start and a check say of a file that names this state file; both have to refuse.
#[track_caller]
fn refused_by_start_and_check(home: &Path) -> String {
    let [admin, group] = ports();
    let path = home.join("proxy.json");
    fs::write(&path, file(admin, group, THREE)).unwrap();
    let start = run(&["-c", path.to_str().unwrap()]);
    let start = format!("{} {}", start.status, String::from_utf8_lossy(&start.stderr));
    assert!(start.starts_with("exit status: 1 "), "{start}");
    let (is_fine, check) = check(&path);
    let why = check.split("1:17: state_file: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
    assert!(!is_fine && !why.is_empty() && start.contains(why), "{check}\n{start}");
    why.to_owned()
}

#[test]
fn what_is_no_state_file_of_ours_is_left_as_it_is_and_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("changes.json");
    let about = "Changes over HTTP, kept beside proxy.json by goproxy.";
    for (text, said) in [
        ("-----BEGIN PRIVATE KEY-----\nMIGH\n", "not a state file of goproxy; expected one, or no file"),
        (&*format!("{{ \"about\": \"{about}\", \"version\": 2, \"overrides\": [] }}"), "its version is 2; expected 1"),
    ] {
        fs::write(&path, text).unwrap();
        let before = stamp(&path);
        let why = refused_by_start_and_check(home.path());
        assert!(why.contains(said) && !why.contains("MIGH"), "{why}");
        assert_eq!(stamp(&path), before);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(refused_by_start_and_check(home.path()).contains("not a file; expected a regular file"));
    fs::remove_dir(&path).unwrap();
    // Opening it would wait for ever.
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, rustix::fs::Mode::from(0o600), 0).unwrap();
    assert!(refused_by_start_and_check(home.path()).contains("not a file; expected a regular file"));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert!(refused_by_start_and_check(home.path()).contains("not a file; expected a regular file"));
    fs::remove_file(&path).unwrap();
    // What cannot be opened is as it is for a process that may not read it, whoever runs this test.
    std::os::unix::fs::symlink("changes.json", &path).unwrap();
    assert!(refused_by_start_and_check(home.path()).contains("expected a regular file that can be read and written"));
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    let mut names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["changes.json", "proxy.json"]);
}

#[test]
fn a_torn_state_file_that_cannot_be_set_aside_refuses_the_start() {
    let [admin, group] = ports();
    let mut proxy = TestProxy::with_file(admin, &file(admin, group, THREE));
    proxy.ok(&format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"));
    let (path, text) = changes(&proxy);
    proxy.stop();
    fs::write(&path, &text[..text.len() - 9]).unwrap();
    let kept = path.with_extension("json.damaged");
    fs::create_dir(&kept).unwrap();
    let before = stamp(&path);
    let start = run(&["-c", proxy.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&start.stderr);
    assert!(!start.status.success() && said.contains("cannot be renamed to end with .damaged"), "{said}");
    assert_eq!(stamp(&path), before);
    let (is_fine, said) = check(proxy.path());
    assert!(
        is_fine && said.contains("warning: state_file: ") && said.contains("the next start sets it aside"),
        "{said}"
    );
}

#[test]
fn a_link_to_a_state_file_stays_one() {
    let home = tempfile::tempdir().unwrap();
    let [admin, group] = ports();
    let (link, real) = (home.path().join("changes.json"), home.path().join("data/real.json"));
    fs::create_dir(home.path().join("data")).unwrap();
    std::os::unix::fs::symlink("data/real.json", &link).unwrap();
    let path = home.path().join("proxy.json");
    fs::write(&path, file(admin, group, THREE)).unwrap();
    let mut proxy = TestProxy::with_file_at(std::sync::Arc::new(home), path, admin);
    let drain = format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain");
    proxy.ok(&drain);
    let text = fs::read_to_string(&real).unwrap();
    assert!(text.contains("\"drain\""), "{text}");
    proxy.stop();
    fs::write(&real, &text[..text.len() - 9]).unwrap();
    let proxy = proxy.again();
    assert_eq!(fs::read_to_string(real.with_extension("json.damaged")).unwrap(), text[..text.len() - 9]);
    proxy.ok(&drain);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("\"drain\""));
}

#[test]
fn a_state_file_that_cannot_be_written_is_told_and_refuses_changes() {
    let [admin, group] = ports();
    let text = file(admin, group, THREE).replace("changes.json", "missing/changes.json");
    let proxy = TestProxy::with_file(admin, &text);
    assert!(told(&proxy, "state file cannot be written")["path"].as_str().unwrap().ends_with("missing/changes.json"));
    let drain = format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain");
    let told = proxy.refused(&drain, 503, "cannot_persist");
    assert!(told["msg"].as_str().unwrap().contains("missing/changes.json"), "{told}");
    assert_eq!(servers(&proxy, group)[0], "127.0.0.1:1 1 ready");
    fs::create_dir(proxy.home().join("missing")).unwrap();
    proxy.ok(&drain);
    assert_eq!((servers(&proxy, group)[0].as_str(), proxy.file()), ("127.0.0.1:1 1 drain", text));
}
