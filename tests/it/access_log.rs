//! The access log: a line for each session, in a file of its own, as JSON, as text or as HAProxy writes it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Client, FakeServer, Group, Setup, TestProxy, eventually, is_refusal, ports, replace, spawn};

fn access(format: &str, path: &str) -> Value {
    json!({ "format": format, "path": path })
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What a line of HAProxy says of the server, the three times, the code and the retries.
fn haproxy_fields(line: &str) -> (String, String, String, String) {
    let fields: Vec<&str> = line.split(' ').collect();
    let [_, _, _, server, times, _, code, counts, queues] = fields[fields.len() - 9..] else { panic!("{line}") };
    assert_eq!(queues, "0/0", "{line}");
    let retries = counts.rsplit('/').next().unwrap().to_owned();
    (server.split('/').nth(1).unwrap().to_owned(), times.to_owned(), code.to_owned(), retries)
}

#[test]
fn sessions_of_each_end_have_the_line_that_haproxy_writes() {
    let (echo, refusing) = (FakeServer::echo(), FakeServer::refusing());
    // Not at once, which may be before the connect is over.
    let resetting = FakeServer::start(|mut client, _| {
        client.receive_some(1);
        client.reset();
    });
    let proxy = Setup::default()
        .with("access_log", access("haproxy", "access.log"))
        .group(Group::new("ha", &[&echo]).with("max_sessions", 1))
        .group(Group::new("ha", &[]))
        .group(Group::new("ha", &[&refusing]).with("connect_wait", "0s"))
        .group(Group::new("ha", &[&refusing, &echo]).with("idle_timeout", "100ms"))
        .group(Group::new("ha", &[&resetting]))
        .start();
    let path = proxy.home().join("access.log");
    let of_port = |group: usize, code: &str| {
        let port = proxy.addr_of(group).port().to_string();
        lines(&path).into_iter().filter(|line| line.contains(&format!(" {port} {port}/"))).find_map(|line| {
            let (server, times, found, retries) = haproxy_fields(&line);
            (found == code).then_some((server, times, retries, line))
        })
    };
    let wait = |group: usize, code: &str| {
        crate::support::wait_for(&format!("a line of group {group} with {code}"), || of_port(group, code))
    };
    let mut client = proxy.connect();
    client.echo(b"hello");
    // One too many.
    if let Ok(mut refused) = Client::try_connect(proxy.addr()) {
        refused.receive_all();
    }
    let (server, times, _, _) = wait(0, "PC");
    assert_eq!((server.as_str(), times.starts_with("-1/-1/")), ("<NOSRV>", true), "{times}");
    client.finish();
    let (server, times, retries, line) = wait(0, "--");
    assert_eq!((server, retries.as_str()), (echo.addr.to_string(), "0"), "{line}");
    assert!(times.starts_with("0/") && !times.contains("-1"), "{line}");
    assert!(line.ends_with(" 5 -- 1/1/1/1/0 0/0") && line.contains(&format!(" goproxy[{}]: ", proxy.pid())), "{line}");

    Client::connect(proxy.addr_of(1)).receive_all();
    let (server, times, retries, _) = wait(1, "SC");
    assert_eq!((server.as_str(), times.starts_with("-1/-1/"), retries.as_str()), ("<NOSRV>", true, "0"), "{times}");

    Client::connect(proxy.addr_of(2)).receive_all();
    let (server, times, ..) = wait(2, "SC");
    assert_eq!((server, times.starts_with("0/-1/")), (refusing.addr.to_string(), true), "{times}");

    // The first server refuses, the second is taken, and then nobody says anything.
    Client::connect(proxy.addr_of(3)).receive_all();
    let (server, _, retries, line) = wait(3, "cD");
    assert_eq!((server, retries.as_str()), (echo.addr.to_string(), "+1"), "{line}");

    let mut client = proxy.connect();
    client.echo(b"hello");
    client.reset();
    wait(0, "CD");

    let mut client = Client::connect(proxy.addr_of(4));
    client.send(b"x");
    client.receive_all();
    wait(4, "SD");

    let mut client = proxy.connect();
    client.echo(b"hello");
    let port = proxy.addr().port();
    let id = proxy.ok(&format!("/session-list.do?group={port}"))["sessions"][0]["id"].clone();
    proxy.ok(&format!("/session-close.do?id={id}"));
    wait(0, "KD");
    drop(client);
    // The log of the process does not say the same, but warns of clients that got no server.
    eventually("each of them is warned of", || {
        let said = proxy.log.with_message("session closed");
        assert_eq!(said.iter().filter(|line| line["level"] != "WARN").count(), 0, "{said:?}");
        let ends: BTreeSet<&str> = said.iter().filter_map(|line| line["end"].as_str()).collect();
        ends == ["connect_failed", "limit", "no_server"].into()
    });
    assert!(
        proxy.log.with_message("client connected").is_empty() && proxy.log.with_message("server connected").is_empty()
    );
}

#[test]
fn a_group_may_have_a_log_of_its_own_or_none_and_a_reload_changes_that() {
    let server = FakeServer::echo();
    let own = json!({ "format": "json", "path": "own.log", "connect_line": true });
    let proxy = Setup::default()
        .with("access_log", access("text", "common.log"))
        .group(Group::new("ha", &[&server]))
        .group(Group::new("ha", &[&server]).with("access_log", own))
        .group(Group::new("ha", &[&server]).with("access_log", "off"))
        .start();
    let [common, own] = ["common.log", "own.log"].map(|name| proxy.home().join(name));
    for group in 0..3 {
        Client::connect(proxy.addr_of(group)).finish();
    }
    eventually("the common log has its line", || lines(&common).len() == 1);
    let line = lines(&common).remove(0);
    let of_group = format!(" group={} policy=ha ", proxy.addr().port());
    assert!(line.contains(" INFO session closed session.id=") && line.contains(&of_group), "{line}");
    eventually("the other has its lines", || lines(&own).len() == 2);
    let said: Vec<Value> = lines(&own).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&said[0]["message"], &said[1]["message"]), (&"client connected".into(), &"session closed".into()));
    assert_eq!(said[1]["end"], "client_closed");
    // The third group has all in the log of the process.
    eventually("the log has its end", || proxy.log.with_message("session closed").len() == 1);
    assert_eq!(proxy.log.with_message("client connected").len(), 1);

    let mut file: Value = serde_json::from_str(&proxy.file()).unwrap();
    file["access_log"] = Value::Null;
    file["groups"][2]["access_log"] = access("text", "common.log");
    replace(proxy.path(), &file.to_string());
    proxy.ok("/config-reload.do");
    for group in 0..3 {
        Client::connect(proxy.addr_of(group)).finish();
    }
    eventually("the third group's line is in the file", || {
        lines(&common).iter().any(|line| line.contains(&format!("group={}", proxy.addr_of(2).port())))
    });
    eventually("the first group's is in the log", || proxy.log.with_message("session closed").len() == 2);
    eventually("its own log goes on", || lines(&own).len() == 4);
    assert_eq!(lines(&common).len(), 2);
}

#[test]
fn on_stderr_a_line_stands_beside_those_of_the_log_and_not_twice() {
    for (format, level, expected) in [("json", "info", 1), ("json", "warn", 1), ("haproxy", "info", 1)] {
        let server = FakeServer::echo();
        let log = json!({ "format": "json", "status_interval": "0s", "level": level });
        let setup = Setup::default().group(Group::new("ha", &[&server])).with("log", log);
        let mut access = access(format, "stderr");
        if format == "haproxy" {
            access["prefix"] = "none".into();
        }
        let mut proxy = setup.with("access_log", access).start();
        // A line of HAProxy is none of the log.
        proxy.may_alarm("127.");
        proxy.connect().finish();
        let all = || proxy.log.all();
        let haproxy =
            || all().iter().filter(|line| line.as_str().is_some_and(|line| line.contains(" -- 1/1/1/1/0 0/0"))).count();
        if format == "haproxy" {
            eventually("HAProxy's line", || haproxy() == 1);
        }
        eventually("the line", || proxy.log.with_message("session closed").len() == expected);
        let connected = if level == "info" { 1 } else { 0 };
        assert_eq!(proxy.log.with_message("client connected").len(), connected, "{format} {level}");
        proxy.kill();
        assert_eq!(proxy.log.with_message("session closed").len(), expected, "{format} {level}");
    }
}

#[test]
fn renamed_and_opened_again_under_load_the_log_loses_no_line_and_tears_none() {
    const ROTATIONS: usize = 50;
    let server = FakeServer::echo();
    let setup = Setup::default().group(Group::new("ha", &[&server]));
    let proxy = setup.with("access_log", access("json", "access.log")).start();
    let path = proxy.home().join("access.log");
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (addr, is_over) = (proxy.addr(), std::sync::Arc::clone(&is_over));
            spawn(move || {
                let mut sessions = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    Client::connect(addr).finish();
                    sessions += 1;
                }
                sessions
            })
        })
        .collect();
    for number in 0..ROTATIONS {
        fs::rename(&path, path.with_extension(number.to_string())).unwrap();
        proxy.signal(Signal::USR1);
        eventually("the log is opened again", || path.exists());
        eventually("and written to", || !lines(&path).is_empty());
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    let sessions: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let all = || -> Vec<String> {
        let rotated = (0..ROTATIONS).map(|number| path.with_extension(number.to_string()));
        rotated.chain([path.clone()]).flat_map(|path| lines(&path)).collect()
    };
    eventually("all lines are written", || all().len() >= sessions);
    let ids: BTreeSet<u64> = all()
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("a whole line")["session.id"].as_u64().unwrap())
        .collect();
    assert_eq!((ids.len(), all().len()), (sessions, sessions), "no line is lost, none is there twice");
    println!("{sessions} sessions, {ROTATIONS} rotations");
    assert_eq!(proxy.series("goproxy_log_dropped_total{log=\"access\"}"), Some(0.0));
    assert_eq!(proxy.log.with_message("access log opened again").len(), ROTATIONS);
}

#[test]
fn a_log_that_cannot_be_opened_refuses_the_start_and_a_reload() {
    let [admin, group] = ports();
    let text = |path: &str| {
        format!(
            r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "access_log": {{ "path": "{path}" }},
                 "groups": [ {{ "listen": "127.0.0.1:{group}" }} ] }}"#
        )
    };
    let proxy = TestProxy::with_file(admin, &text("access.log"));
    assert!(proxy.home().join("access.log").exists());
    let missing = proxy.home().join("missing/access.log").display().to_string();
    replace(proxy.path(), &text(&missing));
    let reply = proxy.get("/config-reload.do");
    is_refusal(&reply, 409, "cannot_open_log", "a folder that is not there");
    let expected = format!("access_log.path: cannot open {missing}: No such file or directory");
    assert!(reply.json()["msg"].as_str().unwrap().starts_with(&expected), "{}", reply.json());
    replace(proxy.path(), &text("access.log"));
    proxy.ok("/config-reload.do");

    let [admin, group] = ports();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.json");
    let path = folder.path().display();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "access_log": {{ "path": "{path}" }},
             "groups": [ {{ "listen": "127.0.0.1:{group}" }} ] }}"#
    );
    fs::write(&file, text).unwrap();
    let output = crate::support::run(&["-c", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("access_log.path: cannot open {path}: ")), "{said}");
}

#[test]
fn what_a_full_disk_does_not_take_is_counted_and_said_and_no_client_notices() {
    const SESSIONS: usize = 30;
    let server = FakeServer::echo();
    let proxy =
        Setup::default().group(Group::new("ha", &[&server])).with("access_log", access("json", "/dev/full")).start();
    for _ in 0..SESSIONS {
        let mut client = proxy.connect();
        client.echo(b"hello");
        client.finish();
    }
    let dropped = || proxy.series("goproxy_log_dropped_total{log=\"access\"}");
    eventually("each line is counted", || dropped() == Some(SESSIONS as f64));
    let line = proxy.log.wait_for("it is said", |line| line["message"] == "access log lines dropped");
    assert_eq!((&line["level"], &line["path"]), (&"WARN".into(), &"/dev/full".into()));
    assert!(line["error"].as_str().unwrap().starts_with("No space left on device"), "{line}");
    assert_eq!(proxy.log.with_message("access log lines dropped").len(), 1, "once a minute");
    assert_eq!(proxy.series("goproxy_log_dropped_total{log=\"server\"}"), Some(0.0));
}

#[test]
fn when_the_log_cannot_be_opened_again_the_old_file_goes_on() {
    let server = FakeServer::echo();
    let mut proxy =
        Setup::default().group(Group::new("ha", &[&server])).with("access_log", access("json", "access.log")).start();
    let path = proxy.home().join("access.log");
    let moved = path.with_extension("1");
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    proxy.may_alarm("cannot open the access log again");
    proxy.signal(Signal::USR1);
    proxy
        .log
        .wait_for("it is said", |line| line["message"] == "cannot open the access log again: the old file goes on");
    proxy.connect().finish();
    eventually("the old file has the line", || lines(&moved).len() == 1);
}

#[test]
fn the_last_sessions_are_in_the_log_when_the_process_has_ended() {
    let server = FakeServer::echo();
    let mut proxy = Setup::default()
        .group(Group::new("ha", &[&server]))
        .with("access_log", access("haproxy", "access.log"))
        .with("drain_timeout", "100ms")
        .start();
    let mut client = proxy.connect();
    client.echo(b"hello");
    proxy.stop();
    let said = lines(&proxy.home().join("access.log"));
    assert_eq!(said.len(), 1);
    assert_eq!(haproxy_fields(&said[0]).2, "KD");
}
