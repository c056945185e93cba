//! Servers are checked as their group wants it, and get clients accordingly.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{FakeServer, Group, Setup, TestProxy, echo, eventually, let_pass, replace, swallow};

/// A check that comes often.
fn often() -> Value {
    json!({ "kind": "tcp", "interval": "200ms", "fast_interval": "100ms", "traffic_counts": false })
}

fn checked(policy: &str, servers: &[&FakeServer], check: Value) -> Group {
    Group::new(policy, servers).with("check", check)
}

fn is_online(proxy: &TestProxy, server: &FakeServer) -> bool {
    proxy.server(server.addr)["online"] == true
}

fn checks(proxy: &TestProxy, server: &FakeServer, result: &str) -> f64 {
    let labels = [&*format!("server=\"{}\"", server.addr), &*format!("result=\"{result}\"")];
    proxy.metric("goproxy_server_checks_total", &labels)
}

#[test]
fn a_server_that_refuses_is_offline_until_it_passes_again_and_no_client_meets_it() {
    let (first, second) = (FakeServer::refusing(), FakeServer::echo());
    let proxy = TestProxy::start(checked("ha", &[&first, &second], often()));
    eventually("the first is down", || !is_online(&proxy, &first));
    let cause = proxy.server(first.addr)["cause"].as_str().unwrap().to_owned();
    assert!(cause.starts_with("check failed: connection refused ("), "{cause}");
    for _ in 0..20 {
        proxy.connect().echo(b"of the second");
    }
    assert_eq!(proxy.metric("goproxy_connect_errors_total", &[]), 0.0);
    assert_eq!(proxy.metric("goproxy_server_check_up", &[&format!("server=\"{}\"", first.addr)]), 0.0);
    first.listens_from_now_on(|client, _| echo(client));
    eventually("it is up again", || is_online(&proxy, &first));
    let check = &proxy.server(first.addr)["last_check"];
    assert_eq!(
        (&check["ok"], &check["kind"], &check["error"], &check["fails"]),
        (&json!(true), &json!("tcp"), &Value::Null, &json!(0))
    );
    assert!(check["passes"].as_u64().unwrap() >= 2, "{check}");
    proxy.log.wait_for("the first failure is told", |line| {
        line["message"] == "check failed" && line["check.error"] == "connection refused" && line["check.fall"] == 3
    });
    assert_eq!(proxy.log.with_message("server offline").len(), 1);
    eventually("the log tells that it is back", || proxy.log.with_message("server online").len() == 2);
}

#[test]
fn a_server_that_swallows_connects_fails_with_the_time_it_was_given() {
    let (first, second) = (FakeServer::blackholed(), FakeServer::echo());
    let check = json!({ "kind": "tcp", "interval": "300ms", "timeout": "200ms" });
    let proxy = TestProxy::start(checked("ha", &[&first, &second], check));
    eventually("it is down", || !is_online(&proxy, &first));
    let cause = proxy.server(first.addr)["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("no answer within 200ms"), "{cause}");
}

#[test]
fn one_failure_of_a_server_that_was_up_takes_it_away_from_nobody() {
    let server = FakeServer::echo();
    let check = json!({ "kind": "tcp", "interval": "200ms", "fall": 100, "traffic_counts": false });
    let proxy = TestProxy::start(checked("ha", &[&server], check));
    eventually("it passes", || checks(&proxy, &server, "pass") >= 1.0);
    let addr = server.addr;
    drop(server);
    eventually("it fails", || proxy.server(addr)["last_check"]["fails"].as_u64().unwrap_or(0) >= 3);
    assert_eq!(proxy.server(addr)["online"], true);
    assert_eq!(proxy.log.with_message("check failed").len(), 1, "further failures are for debugging");
}

#[test]
fn a_new_server_counts_as_the_group_says_until_its_first_check() {
    let server = FakeServer::echo();
    for (start, online, cause) in [("up", true, Value::Null), ("down", false, json!("not checked yet"))] {
        let check = json!({ "kind": "tcp", "interval": "1h", "timeout": "1s", "start": start });
        let proxy = TestProxy::start(checked("ha", &[&server], check));
        let shown = proxy.server(server.addr);
        assert_eq!((&shown["online"], &shown["cause"], &shown["last_check"]), (&json!(online), &cause, &Value::Null));
        let asked = proxy.ok(&format!("/worker-check.do?group={}&server={}", proxy.addr().port(), server.addr));
        assert_eq!(asked["check"]["ok"], true, "{asked}");
        assert!(is_online(&proxy, &server), "one pass is enough");
    }
}

#[test]
fn the_proxy_is_ready_once_servers_that_must_be_checked_have_been() {
    let (good, bad) = (FakeServer::echo(), FakeServer::refusing());
    let check = json!({ "kind": "tcp", "interval": "10s", "start": "checked" });
    let proxy = TestProxy::start(checked("ha", &[&good, &bad], check));
    // It has been waited for.
    assert!(is_online(&proxy, &good) && !is_online(&proxy, &bad));
    assert!(proxy.server(bad.addr)["cause"].as_str().unwrap().starts_with("check failed"));
}

#[test]
fn who_asks_for_a_check_hears_what_came_of_it_or_why_there_is_none() {
    let (server, gone) = (FakeServer::echo(), FakeServer::refusing());
    let check = json!({ "kind": "tcp", "interval": "1h" });
    let proxy =
        Setup::default().group(checked("ha", &[&server, &gone], check)).group(Group::new("ha", &[&server])).start();
    let ask = |group: usize, server: &FakeServer| {
        format!("/worker-check.do?group={}&server={}", proxy.addr_of(group).port(), server.addr)
    };
    let failed = proxy.ok(&ask(0, &gone));
    assert_eq!((&failed["msg"], &failed["check"]["ok"]), (&json!("failed: connection refused"), &json!(false)));
    assert_eq!(proxy.ok(&ask(0, &server))["msg"], "passed");
    proxy.refused(&ask(1, &server), 409, "no_check");
    proxy.refused(&ask(1, &gone), 404, "server_not_found");
    proxy.set_state(server.addr, "maint");
    proxy.refused(&ask(0, &server), 409, "not_checked");
}

#[test]
fn sessions_stand_in_for_checks_and_checks_return_when_they_cease() {
    let (server, kept) = FakeServer::keeping();
    let check = json!({ "kind": "tcp", "interval": "1s" });
    let proxy = TestProxy::start(checked("ha", &[&server], check));
    eventually("it was checked once", || server.accepted() == 1);
    let (start, mut clients) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(4) {
        drop(proxy.connect());
        clients += 1;
        eventually("it has come", || server.accepted() > clients);
        let_pass(Duration::from_millis(50), "sessions that come one after the other");
    }
    assert!(checks(&proxy, &server, "pass") >= 3.0, "sessions were counted as checks");
    assert_eq!(server.accepted(), clients + 1, "none of them was sent");
    eventually("checks return", || server.accepted() >= clients + 2);
    kept.lock().unwrap().clear();
}

#[test]
fn a_server_that_speaks_first_sees_an_orderly_end_of_each_check() {
    let resets = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (count, ends) = (std::sync::Arc::clone(&resets), std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let ended = std::sync::Arc::clone(&ends);
    let server = FakeServer::start(move |mut client, _| {
        client.send(b"220 ready\r\n");
        let is_reset = std::io::Read::read(&mut client.stream, &mut [0; 16]).is_err();
        count.fetch_add(usize::from(is_reset), std::sync::atomic::Ordering::SeqCst);
        ended.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    });
    let _proxy = TestProxy::start(checked("ha", &[&server], often()));
    eventually("some checks have ended", || ends.load(std::sync::atomic::Ordering::SeqCst) >= 10);
    assert_eq!(resets.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn a_server_that_speaks_mysql_is_warned_of_once() {
    let server = FakeServer::start(|mut client, _| {
        client.send(b"\x05\0\0\0\x0a5.7\0");
        swallow(client);
    });
    let proxy = TestProxy::start(checked("ha", &[&server], often()));
    eventually("several checks are over", || checks(&proxy, &server, "pass") >= 5.0);
    assert_eq!(proxy.log.count("use kind mysql"), 1);
}

#[test]
fn a_reload_that_changes_something_else_sends_no_check_and_loses_no_state() {
    let (up, down) = (FakeServer::echo(), FakeServer::refusing());
    let check = json!({ "kind": "tcp", "interval": "1h", "timeout": "1s", "start": "checked" });
    let proxy = TestProxy::start(checked("ha", &[&up, &down], check));
    eventually("the server has noticed its check", || up.accepted() == 1);
    let before = up.accepted();
    for round in 0..50 {
        let text = proxy.file().replacen("\"ha\"", if round % 2 == 0 { "\"round_robin\"" } else { "\"ha\"" }, 1);
        replace(
            proxy.path(),
            &text.replacen("\"round_robin\"", if round % 2 == 0 { "\"round_robin\"" } else { "\"ha\"" }, 1),
        );
        proxy.ok("/config-reload.do");
    }
    assert_eq!(up.accepted(), before);
    assert!(is_online(&proxy, &up) && !is_online(&proxy, &down));
    let offline = proxy.log.with_message("server offline");
    assert!(offline.is_empty(), "it has never been online: {offline:?}");
    // Another check is another matter.
    replace(proxy.path(), &proxy.file().replacen("\"1h\"", "\"2s\"", 1));
    proxy.ok("/config-reload.do");
    eventually("it is checked soon", || up.accepted() > before);
    replace(proxy.path(), &proxy.file().replacen("\"check\"", "\"$comment\": 0, \"check\"", 1));
    assert!(is_online(&proxy, &up), "a file with a mistake changes nothing");
}

#[test]
fn a_server_may_be_left_out_or_be_checked_at_another_port() {
    let (out, other) = (FakeServer::refusing(), FakeServer::echo());
    let port = FakeServer::start_at(std::net::SocketAddr::new(other.addr.ip(), 0), |client, _| echo(client));
    let group = Group::new("ha", &[])
        .with("check", often())
        .server(&out, json!({ "check": false }))
        .server(&other, json!({ "check": { "port": port.addr.port() } }));
    let proxy = TestProxy::start(group);
    eventually("the other port is checked", || port.accepted() >= 5);
    assert_eq!(other.accepted(), 0);
    assert!(is_online(&proxy, &out) && proxy.server(out.addr)["last_check"] == Value::Null);
    drop(port);
    eventually("the server goes by that port", || !is_online(&proxy, &other));
}

#[test]
fn a_process_that_was_stopped_holds_no_server_for_down() {
    let server = FakeServer::blackholed();
    let good = FakeServer::echo();
    let check = json!({ "kind": "tcp", "interval": "1s", "timeout": "800ms", "traffic_counts": false, "fall": 1 });
    let proxy = TestProxy::start(checked("ha", &[&good, &server], check));
    eventually("one is down", || !is_online(&proxy, &server) && checks(&proxy, &good, "pass") >= 1.0);
    for _ in 0..3 {
        proxy.signal(rustix::process::Signal::STOP);
        let_pass(Duration::from_secs(3), "checks time out meanwhile");
        proxy.signal(rustix::process::Signal::CONT);
        let passes = checks(&proxy, &good, "pass");
        eventually("checks go on", || checks(&proxy, &good, "pass") >= passes + 2.0);
    }
    assert_eq!(checks(&proxy, &good, "fail"), 0.0);
}
