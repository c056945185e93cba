//! What the log says and what it leaves out: the keys of `log`, warnings, the first line, and reloads in words.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{FakeServer, Group, Setup, TestProxy, eventually, free_port, own_ip, ports, replace, run};

#[test]
fn log_sessions_says_which_lines_there_are_and_a_reload_changes_it() {
    let server = FakeServer::echo();
    let log = |sessions: &str| json!({ "format": "json", "status_interval": "0s", "sessions": sessions });
    let proxy = Setup::default()
        .group(Group::new("ha", &[&server]))
        .group(Group::new("ha", &[]))
        .with("log", log("all"))
        .start();
    let mut expected = [0, 0, 0];
    for (sessions, adds) in [("all", [1, 1, 2]), ("closed", [0, 0, 2]), ("refused", [0, 0, 1]), ("none", [0, 0, 0])] {
        let mut file: Value = serde_json::from_str(&proxy.file()).unwrap();
        file["log"] = log(sessions);
        replace(proxy.path(), &file.to_string());
        proxy.ok("/config-reload.do");
        let ended = (proxy.ended("client_closed"), proxy.ended("no_server"));
        proxy.connect().finish();
        crate::support::Client::connect(proxy.addr_of(1)).receive_all();
        eventually("both are over", || {
            (proxy.ended("client_closed"), proxy.ended("no_server")) == (ended.0 + 1, ended.1 + 1)
        });
        // A line of another kind that comes after them proves that theirs have been written, or never will be.
        let probes = || proxy.log.with_message("admin request").iter().filter(|line| line["path"] == "/live").count();
        let before = probes();
        proxy.ok("/live");
        eventually("what came before is written", || probes() > before);
        expected.iter_mut().zip(adds).for_each(|(count, more)| *count += more);
        let said = ["client connected", "server connected", "session closed"];
        let lines = said.map(|message| proxy.log.with_message(message).len());
        // The client of the group without servers has connected, too.
        assert_eq!(lines, [expected[0] + 1, expected[1], expected[2]], "{sessions}");
    }
    let levels: Vec<Value> =
        proxy.log.with_message("session closed").iter().map(|line| line["level"].clone()).collect();
    assert_eq!(levels.iter().filter(|level| *level == "WARN").count(), 3, "who got no server is a warning");
    assert_eq!(levels.iter().filter(|level| *level == "INFO").count(), 2);
}

#[test]
fn clients_without_a_server_are_named_up_to_a_hundred_a_second_and_the_others_counted() {
    const CLIENTS: usize = 600;
    let proxy = TestProxy::start(Group::new("ha", &[]));
    for _ in 0..CLIENTS {
        proxy.connect().receive_all();
    }
    let named = || proxy.log.with_message("session closed").len();
    let counted = || -> u64 {
        proxy.log.with_message("refused more clients").iter().filter_map(|line| line["no_server"].as_u64()).sum()
    };
    eventually("all are told of", || named() as u64 + counted() == CLIENTS as u64);
    let mut seconds = std::collections::BTreeMap::<String, usize>::new();
    for line in proxy.log.with_message("session closed") {
        *seconds.entry(line["timestamp"].as_str().unwrap()[..19].to_owned()).or_default() += 1;
    }
    assert!(seconds.values().all(|lines| *lines <= 100), "{seconds:?}");
}

#[test]
fn with_log_requests_changes_a_look_leaves_no_line() {
    let server = FakeServer::echo();
    let log = json!({ "format": "json", "status_interval": "0s", "requests": "changes" });
    let proxy = Setup::default().group(Group::new("ha", &[&server])).with("log", log).start();
    for look in ["/live", "/ready", "/metrics", "/group-list.do", "/session-list.do", "/policy-list.do"] {
        assert_eq!(proxy.get(look).status, 200);
    }
    proxy.refused("/no-such.do", 404, "unknown_path");
    proxy.set_state(server.addr, "drain");
    let lines = || proxy.log.with_message("admin request");
    eventually("the change is written", || lines().iter().any(|line| line["path"] == "/worker-state.do"));
    let paths: Vec<Value> = lines().iter().map(|line| line["path"].clone()).collect();
    assert_eq!(paths, ["/no-such.do", "/worker-state.do"]);
}

#[test]
fn the_first_line_names_the_program_and_lists_are_arrays() {
    let server = FakeServer::echo();
    let log = json!({ "format": "json", "status_interval": "100ms" });
    let proxy = Setup::default().group(Group::new("ha", &[&server])).with("log", log).start();
    proxy.log.wait_for("the first line", |_| true);
    let first = proxy.log.all()[0].clone();
    assert_eq!(first["message"], "goproxy starts", "{first}");
    assert_eq!((&first["version"], &first["pid"]), (&env!("CARGO_PKG_VERSION").into(), &proxy.pid().into()));
    let status = proxy.log.wait_for("the status line", |line| line["message"] == "online");
    let group = format!("{} clients=0 servers=1/1", proxy.addr().port());
    assert_eq!((&status["groups"], &status["client.addrs"]), (&json!([group]), &json!([])));
    assert_eq!(status["server.addrs"], json!([server.addr.to_string()]));
}

#[test]
fn what_goes_wrong_before_the_start_is_json_where_the_log_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.json");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap();
    let lines = |format: &str, rest: &str| -> Vec<String> {
        let admin = free_port(own_ip());
        let text = format!(
            r#"{{ "admin": {{ "listen": "{admin}" }}, "log": {{ "format": "{format}" }}, "groups": [{{ "listen": "{busy}" {rest} }}] }}"#
        );
        fs::write(&path, text).unwrap();
        let output = run(&["-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
    };
    let json = |line: &String| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));

    let mistakes: Vec<Value> = lines("json", r#", "policy": "hx", "idle_timeout": 3"#).iter().map(json).collect();
    let said: Vec<_> = mistakes.iter().map(|line| (line["level"].as_str(), line["message"].as_str())).collect();
    let mistake = (Some("ERROR"), Some("mistake in proxy.json"));
    assert_eq!(said, [mistake, mistake, (Some("ERROR"), Some("cannot serve"))]);
    assert!(mistakes[0]["problem"].as_str().unwrap().contains("unknown policy \"hx\""), "{mistakes:?}");
    assert!(mistakes[2]["error"].as_str().unwrap().ends_with("has 2 mistakes"), "{mistakes:?}");

    let cannot_listen: Vec<Value> = lines("json", "").iter().map(json).collect();
    let last = cannot_listen.last().unwrap();
    assert!(last["error"].as_str().unwrap().starts_with(&format!("cannot listen on {busy}")), "{last}");

    let in_text = lines("text", r#", "policy": "hx""#);
    assert!(in_text[0].contains("unknown policy") && in_text[1].starts_with("goproxy: "), "{in_text:?}");
}

#[test]
fn a_reload_says_in_words_what_has_changed_and_that_there_is_nothing_to_do() {
    let [admin, group] = ports();
    let text = |keys: &str, servers: &str, level: &str| {
        format!(
            r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }},
                 "log": {{ "format": "json", "status_interval": "0s", "level": "{level}" }},
                 "groups": [ {{ "listen": "127.0.0.1:{group}", {keys} "servers": [{servers}] }} ] }}"#
        )
    };
    let proxy = TestProxy::with_file(admin, &text("", r#""127.0.0.1:1", "127.0.0.1:2""#, "info"));
    let after = text(
        r#""policy": "ha", "idle_timeout": "1h", "check": { "kind": "tcp" },"#,
        r#""127.0.0.1:1", "127.0.0.1:3", "127.0.0.1:4""#,
        "debug",
    );
    replace(proxy.path(), &after);
    let line = proxy.log.wait_for("the reload", |line| line["message"] == "proxy.json reloaded");
    let words = format!("group {group}: policy round_robin → ha; check changed; idle_timeout 10m → 1h; servers +2 −1");
    assert_eq!(line["changes"], json!(["log.level info → debug", words]));
    assert_eq!((&line["opened"], &line["changed"]), (&json!([]), &json!([group.to_string()])));

    let said = || proxy.log.with_message("reload: nothing to do").len();
    assert_eq!(proxy.ok("/config-reload.do")["changes"], json!([]));
    eventually("it is said", || said() == 1);
    proxy.signal(Signal::HUP);
    eventually("it is said again", || said() == 2);
}
