//! `goproxy status`, `reload` and `drain`: what an operator asks of a running proxy, and the exit codes that scripts go by.

use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    DEADLINE, FakeServer, Group, Setup, TestProxy, eventually, free_port, goproxy, output, own_ip, replace, run,
};

/// Exit code, stdout and stderr.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What a command says of this proxy, which it finds by its configuration.
#[track_caller]
fn asked(proxy: &TestProxy, args: &[&str]) -> (Option<i32>, String, String) {
    said(&run(&[args, &["-c", proxy.path().to_str().unwrap()]].concat()))
}

fn with_two_groups() -> (TestProxy, FakeServer) {
    let server = FakeServer::echo();
    let web = Group::new("ha", &[&server]).with("name", "web");
    let zoo = Group::new("round_robin", &[&server]).with("name", "zoo");
    (Setup::default().group(web).group(zoo).start(), server)
}

#[test]
fn status_is_a_table_or_json_and_says_what_is_not_well() {
    let (proxy, server) = with_two_groups();
    let mut client = proxy.connect();
    client.echo(b"x");
    proxy.ok(&format!("/worker-state.do?group=web&server={}&state=drain", server.addr));
    let (code, table, complaint) = asked(&proxy, &["status"]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "ready  2 groups  1 of 2 servers online  1 session");
    assert_eq!(lines[2], format!("GROUP {} web  {}  ha  0 of 1 online", proxy.addr().port(), proxy.addr()));
    let words: Vec<&str> = lines[4].split_whitespace().collect();
    assert_eq!(words, [&server.addr.to_string(), "drain", "1", "1", "drained", "by", "an", "operator"]);
    let (code, json, _) = asked(&proxy, &["status", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["ready"]), (Some(0), &true.into()));
    assert_eq!(json["groups"][0]["name"], "web");
    assert_eq!(json["groups"][0]["servers"][0]["state"], "drain");
    assert_eq!(json["groups"][1]["servers"][0]["online"], true);
    client.finish();
}

#[test]
fn ready_is_an_exit_code_that_needs_no_token() {
    let server = FakeServer::echo();
    let mut proxy = Setup::default().group(Group::new("ha", &[&server])).with("drain_timeout", "1m").start();
    let admin = proxy.admin.to_string();
    let ready = || said(&run(&["status", "--ready", "--admin", &admin]));
    assert_eq!(ready(), (Some(0), "ready\n".to_owned(), String::new()));
    let mut client = proxy.connect();
    client.echo(b"x");
    proxy.signal(Signal::TERM);
    eventually("it is not ready while it drains", || {
        let (code, stdout, stderr) = ready();
        code == Some(1) && stdout.is_empty() && stderr.starts_with(&format!("goproxy: {admin}: not ready"))
    });
    client.finish();
    proxy.wait();
    let nobody = free_port(own_ip()).to_string();
    let (code, _, stderr) = said(&run(&["status", "--ready", "--admin", &nobody]));
    assert!(code == Some(1) && stderr.contains("cannot connect"), "{stderr}");
}

#[test]
fn reload_says_what_has_changed_or_every_mistake() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]));
    let good = proxy.file();
    assert_eq!(asked(&proxy, &["reload"]), (Some(0), "nothing has changed\n".to_owned(), String::new()));
    let wrong = good.replacen("\"ha\"", "\"hha\"", 1).replacen("\"groups\"", "\"drain_timeout\": 5, \"groups\"", 1);
    replace(proxy.path(), &wrong);
    let admin = proxy.admin.to_string();
    let (code, stdout, stderr) = said(&run(&["reload", "--admin", &admin]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{stderr}");
    assert!(lines[0].contains(": drain_timeout: "), "{stderr}");
    assert!(lines[1].contains(": groups[0].policy: unknown policy \"hha\""), "{stderr}");
    assert!(lines[2].starts_with(&format!("goproxy: {admin}: refused: ")), "{stderr}");
    assert!(lines[2].contains("2 mistake(s)"), "{stderr}");
    // A file that says nothing at all does not say where the proxy is, but what is wrong with it.
    replace(proxy.path(), "{ \"groups\": [ }");
    let (code, _, stderr) = asked(&proxy, &["reload"]);
    assert!(code == Some(1) && stderr.contains("proxy.json:1:"), "{stderr}");
    replace(proxy.path(), &good);
    assert_eq!(said(&run(&["reload", "--admin", &admin])).0, Some(0));
}

/// The file has the new token before the proxy knows it.
#[test]
fn a_token_that_the_reload_brings_is_no_reason_to_fail() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]));
    let untouched = proxy.file();
    for token in ["first", "second"] {
        let mut file: Value = serde_json::from_str(&untouched).unwrap();
        file["admin"]["token"] = token.into();
        replace(proxy.path(), &file.to_string());
        let (code, _, stderr) = asked(&proxy, &["reload"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
    }
    let mut command: Command = goproxy();
    command.args(["reload", "--admin", &proxy.admin.to_string()]).env("GOPROXY_TOKEN", "first");
    let (code, _, stderr) = said(&output(command, DEADLINE));
    assert!(code == Some(1) && stderr.ends_with("(see --token)\n"), "{stderr}");
    replace(proxy.path(), &untouched);
    eventually("no token is needed any more", || {
        proxy.try_get("/group-list.do").is_some_and(|(status, _)| status == 200)
    });
}

#[test]
fn drain_takes_a_server_out_of_every_group_and_waits_for_its_sessions() {
    let (proxy, server) = with_two_groups();
    let (addr, second) = (server.addr.to_string(), proxy.addr_of(1).port());
    let mut client = proxy.connect();
    client.echo(b"x");
    let (code, stdout, stderr) = asked(&proxy, &["drain", &addr, "--wait", "50ms"]);
    let expected = "group web: state is drain, 1 session left\ngroup zoo: state is drain, no session left\n".to_owned();
    assert_eq!((code, stdout), (Some(1), expected));
    assert!(stderr.contains("1 session left after the time to wait; it stays drained"), "{stderr}");
    assert_eq!(asked(&proxy, &["drain", &addr]).0, Some(0), "without --wait what is left is no failure");
    client.finish();
    let (code, stdout, _) = asked(&proxy, &["drain", &addr, "--group", "web", "--wait", "1m"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "group web: state is drain, no session left\n"));
    assert!(proxy.online(second).is_empty());
    let (code, stdout, _) = asked(&proxy, &["drain", &addr, "--undo"]);
    assert_eq!(code, Some(0));
    assert_eq!(stdout, "group web: state is ready, no session left\ngroup zoo: state is ready, no session left\n");
    assert_eq!(proxy.online(second), std::slice::from_ref(&addr));
    for (args, what) in [
        (&["drain", "10.9.9.9:1"][..], "no group has the server 10.9.9.9:1"),
        (&["drain", &addr, "--group", "nobody"], "refused: "),
    ] {
        let (code, _, stderr) = asked(&proxy, args);
        assert!(code == Some(1) && stderr.contains(what), "{stderr}");
    }
    for args in [&["drain"][..], &["drain", &addr, "--wait", "soon"], &["drain", &addr, "--wait", "1s", "--undo"]] {
        assert_eq!(asked(&proxy, args).0, Some(2), "{args:?}");
    }
}
