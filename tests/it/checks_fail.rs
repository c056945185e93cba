//! What happens when checks keep everybody out, or sessions find a server bad.

use serde_json::json;

use crate::support::{Client, Ended, FakeServer, Group, TestProxy, eventually};

/// Servers that answer, in a group whose check is of a port where nobody does.
fn all_down(fail_open: bool, servers: &[&FakeServer]) -> TestProxy {
    let nobody = FakeServer::refusing();
    let check = json!({ "kind": "tcp", "interval": "200ms", "port": nobody.addr.port(), "start": "checked" });
    let proxy = TestProxy::start(Group::new("ha", servers).with("check", check).with("fail_open", fail_open));
    for server in servers {
        assert!(proxy.server(server.addr)["cause"].as_str().unwrap().starts_with("check failed"));
    }
    proxy
}

fn is_fail_open(proxy: &TestProxy) -> bool {
    proxy.metric("goproxy_group_fail_open", &[]) == 1.0
}

#[test]
fn when_all_checks_fail_clients_are_served_by_who_answers_and_that_is_told_once() {
    let (dead, alive) = (FakeServer::refusing(), FakeServer::echo());
    let mut proxy = all_down(true, &[&dead, &alive]);
    for _ in 0..10 {
        proxy.connect().echo(b"served all the same");
    }
    assert!(is_fail_open(&proxy));
    eventually("it is told", || proxy.log.count("fail open: trying servers that only checks keep out") >= 1);
    assert_eq!(proxy.log.count("fail open: trying servers that only checks keep out"), 1);
    let explained = proxy.ok(&format!("/policy-explain.do?group={}&client=10.0.0.1", proxy.addr().port()));
    assert_eq!(explained["server"], json!(alive.addr.to_string()), "{explained}");
    proxy.stop();
}

#[test]
fn without_fail_open_nobody_is_served_by_a_server_that_is_down() {
    let server = FakeServer::echo();
    let proxy = all_down(false, &[&server]);
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
    proxy.log.wait_for_end("no_server");
    assert!(!is_fail_open(&proxy) && server.accepted() == 0);
}

#[test]
fn what_an_operator_has_taken_away_is_no_last_resort_and_neither_is_anybody_while_one_is_full() {
    let nobody = FakeServer::refusing();
    let (full, other) = (FakeServer::echo(), FakeServer::echo());
    let check = json!({ "kind": "tcp", "interval": "200ms", "start": "checked", "traffic_counts": false });
    let group = Group::new("ha", &[])
        .with("check", check)
        .server(&full, json!({ "max_sessions": 1 }))
        .server(&other, json!({ "check": { "port": nobody.addr.port() } }));
    let proxy = TestProxy::start(group);
    let mut client = proxy.connect();
    client.echo(b"on the first");
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder), "the first is only full");
    assert!(!is_fail_open(&proxy));
    proxy.set_state(full.addr, "maint");
    proxy.connect().echo(b"now the other is the last resort");
    assert!(is_fail_open(&proxy) && other.accepted() == 1);
    proxy.set_state(other.addr, "drain");
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder), "a drained one is not");
    proxy.set_state(full.addr, "ready");
    eventually("the end is told", || !is_fail_open(&proxy) && proxy.log.count("fail open ended") == 1);
    client.echo(b"still there");
}

#[test]
fn servers_that_fail_together_do_not_fill_the_log() {
    let servers: Vec<FakeServer> = (0..100).map(|_| FakeServer::refusing()).collect();
    let check = json!({ "kind": "tcp", "interval": "1s" });
    let proxy = TestProxy::start(Group::new("ha", &servers.iter().collect::<Vec<_>>()).with("check", check));
    eventually("all are down", || proxy.online(proxy.addr().port()).is_empty());
    eventually("how many lines were left out is said", || proxy.log.count("more was found by checks") >= 1);
    let mut seconds = std::collections::BTreeMap::<String, u32>::new();
    for line in proxy.log.with_message("check failed").into_iter().chain(proxy.log.with_message("server offline")) {
        *seconds.entry(line["timestamp"].as_str().unwrap()[..19].to_owned()).or_default() += 1;
    }
    // The seconds of the clock of the log are not those of the limit.
    assert!(seconds.values().all(|lines| *lines <= 20), "{seconds:?}");
}

/// Resets each session before it has said anything.
fn resetting() -> FakeServer {
    FakeServer::start(|mut client, _| {
        client.receive(1);
        client.reset();
    })
}

fn bad_session(proxy: &TestProxy) {
    let mut client: Client = proxy.connect();
    client.send(b"x");
    assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
}

#[test]
fn a_server_that_resets_its_sessions_is_ejected_and_let_in_again() {
    let (bad, good) = (resetting(), FakeServer::echo());
    let eject = json!({ "failures": 3, "time": "1s" });
    let proxy = TestProxy::start(Group::new("ha", &[&bad, &good]).with("eject", eject));
    for _ in 0..3 {
        bad_session(&proxy);
    }
    eventually("it is ejected", || proxy.log.with_message("server ejected").len() == 1);
    let server = proxy.server(bad.addr);
    let cause = server["cause"].as_str().unwrap_or_default();
    assert!(cause.starts_with("ejected for 1s: 3 faults in a row") && server["ejected_ms"].is_u64(), "{server}");
    proxy.connect().echo(b"of the good one");
    eventually("its time is over", || proxy.log.with_message("ejection over").len() == 1);
    assert_eq!(proxy.server(bad.addr)["online"], true);
    for _ in 0..3 {
        bad_session(&proxy);
    }
    let told = proxy.log.wait_for("it is ejected for twice as long", |line| line["eject_ms"] == 2_000);
    assert_eq!(told["message"], "server ejected");
    let labels = [&*format!("server=\"{}\"", bad.addr), "result=\"ejected\""];
    assert_eq!(proxy.metric("goproxy_server_ejections_total", &labels), 2.0);
}

#[test]
fn a_lone_server_is_never_ejected() {
    let bad = resetting();
    let proxy = TestProxy::start(Group::new("ha", &[&bad]).with("eject", json!({ "failures": 1 })));
    for _ in 0..5 {
        bad_session(&proxy);
    }
    let labels = [&*format!("server=\"{}\"", bad.addr), "result=\"over_limit\""];
    eventually("it was spared each time", || proxy.metric("goproxy_server_ejections_total", &labels) == 5.0);
    assert_eq!(proxy.server(bad.addr)["online"], true);
}

#[test]
fn sessions_that_end_in_order_without_a_byte_are_no_fault() {
    let silent = FakeServer::start(|mut client, _| {
        client.receive(1);
    });
    let (other, eject) = (FakeServer::echo(), json!({ "failures": 1 }));
    let proxy = TestProxy::start(Group::new("ha", &[&silent, &other]).with("eject", eject));
    for _ in 0..5 {
        let mut client = proxy.connect();
        client.send(b"x");
        assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    }
    assert_eq!(proxy.server(silent.addr)["online"], true);
}
