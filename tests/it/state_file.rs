//! `state_file`: changes over HTTP are kept beside `proxy.json`, which is never written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{TestProxy, ports, replace};

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
