//! A server that does not answer costs its client a moment, later clients nothing, and nobody the service.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Client, Ended, FakeServer, Group, Setup, TestProxy, echo, eventually, let_pass, swallow, wait_for,
};

/// Which of the servers of [`FakeServer::banner`] a new client gets.
fn banner_of(proxy: &TestProxy) -> String {
    String::from_utf8(proxy.connect().receive(1)).unwrap()
}

fn errors_of(proxy: &TestProxy, server: &FakeServer) -> u64 {
    proxy.metric("goproxy_server_connect_errors_total", &[&format!("server=\"{}\"", server.addr)]) as u64
}

#[test]
fn ha_moves_a_client_to_the_next_server_when_the_first_refuses() {
    let (first, second) = (FakeServer::refusing(), FakeServer::banner("2"));
    let proxy = TestProxy::start(Group::new("ha", &[&first, &second]));
    assert_eq!(banner_of(&proxy), "2");
    assert_eq!(proxy.metric("goproxy_connect_retries_total", &[]), 1.0);
}

#[test]
fn a_client_of_a_server_that_never_answers_is_served_by_another_after_connect_timeout() {
    let (first, second) = (FakeServer::blackholed(), FakeServer::banner("2"));
    let proxy = TestProxy::start(Group::new("ha", &[&first, &second]).with("connect_timeout", "400ms"));
    let start = Instant::now();
    assert_eq!(banner_of(&proxy), "2");
    assert!(start.elapsed() >= Duration::from_millis(390), "{:?}", start.elapsed());
    assert_eq!(errors_of(&proxy, &first), 1);
}

/// Two find out, and all others are served although the time that a connect may take is far from over.
#[test]
fn a_server_that_swallows_connects_costs_two_clients_their_time() {
    for policy in ["ha", "round_robin", "least_sessions"] {
        let (first, second) = (FakeServer::blackholed(), FakeServer::echo());
        let group = Group::new(policy, &[&first, &second]).with("connect_timeout", "1m");
        let mut proxy = TestProxy::start(group);
        proxy.may_leave_sessions();
        let clients: Vec<_> = (0..30).map(|_| proxy.connect()).collect();
        let connected = || proxy.log.with_message("server connected").len();
        eventually("the others are served", || connected() == 28);
        let server = proxy.server(first.addr);
        assert_eq!((&server["suspect"], &server["sessions"]), (&json!(true), &json!(2)), "{policy}");
        assert!(server["cause"].as_str().unwrap().starts_with("no answer within "), "{server}");
        for _ in 0..20 {
            proxy.connect().echo(b"later clients do not even begin to wait");
        }
        let slow = proxy.log.with_message("server connected");
        let slow = slow.iter().filter(|line| line["attempt"] == 2).count();
        assert!(slow <= 28 && errors_of(&proxy, &first) == slow as u64, "{policy}: {slow}");
        drop(clients);
    }
}

#[test]
fn a_client_that_left_a_slow_server_returns_to_it_when_nobody_else_answers() {
    let (slow, other) = (FakeServer::blackholed(), FakeServer::refusing());
    let group = Group::new("ha", &[&slow, &other]).with("connect_timeout", "1m");
    let mut proxy = TestProxy::start(group);
    proxy.may_leave_sessions();
    let clients: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    eventually("one has tried the other", || errors_of(&proxy, &other) >= 1 && errors_of(&proxy, &slow) >= 1);
    eventually("all wait for the slow one", || proxy.server(slow.addr)["sessions"] == 5);
    assert_eq!(proxy.ended("connect_failed"), 0, "nobody is turned away");
    drop(clients);
}

#[test]
fn a_server_that_never_answers_delays_nobody_else() {
    let (blackholed, server) = (FakeServer::blackholed(), FakeServer::echo());
    let stuck = Group::new("ha", &[&blackholed]).with("connect_timeout", "10m");
    let mut proxy = Setup::default().group(Group::new("ha", &[&server])).group(stuck).start();
    // They wait until the end of the test.
    proxy.may_leave_sessions();
    let _waiting: Vec<Client> = (0..50).map(|_| Client::connect(proxy.addr_of(1))).collect();
    eventually("they all wait", || proxy.sessions() == 50);
    let start = Instant::now();
    for _ in 0..200 {
        proxy.connect().echo(b"quick");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn later_clients_are_not_sent_to_a_server_that_has_just_refused() {
    let (first, second) = (FakeServer::refusing(), FakeServer::banner("2"));
    let proxy = TestProxy::start(Group::new("round_robin", &[&first, &second]));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(banner_of(&proxy), "2");
    }
    assert_eq!(errors_of(&proxy, &first), 1, "however long it lasts");
    let server = proxy.server(first.addr);
    assert_eq!(
        (&server["suspect"], &server["online"], &server["untried"]),
        (&json!(true), &json!(false), &json!(true))
    );
    let cause = server["cause"].as_str().unwrap();
    assert!(cause.starts_with("connection refused, ") && cause.contains(" times since 20"), "{cause}");
    assert_eq!(proxy.metric("goproxy_server_up", &[&format!("server=\"{}\"", first.addr)]), 0.0);
    assert_eq!(proxy.log.with_message("server suspect").len(), 1);
    assert_eq!(proxy.server(second.addr)["suspect"], false);
}

#[test]
fn a_server_that_is_back_gets_clients_again() {
    let (first, second) = (FakeServer::refusing(), FakeServer::banner("2"));
    let proxy = TestProxy::start(Group::new("ha", &[&first, &second]));
    assert_eq!(banner_of(&proxy), "2");
    first.listens_from_now_on(|mut client, _| {
        client.send(b"1");
        swallow(client);
    });
    eventually("the proxy has found out", || proxy.server(first.addr)["suspect"] == false);
    assert_eq!(banner_of(&proxy), "1");
    assert_eq!(errors_of(&proxy, &first), 1, "no client had to try");
    let recovered = proxy.log.wait_for("it is told", |line| line["message"] == "server recovered");
    assert!(recovered["suspect_ms"].as_u64().unwrap() >= 200, "{recovered}");
    assert_eq!(proxy.log.with_message("server online").len(), 2, "both have been reached");
}

#[test]
fn a_server_that_was_suspect_when_it_was_taken_away_is_tried_when_it_returns() {
    let (first, second) = (FakeServer::refusing(), FakeServer::banner("2"));
    let proxy = TestProxy::start(Group::new("ha", &[&first, &second]));
    assert_eq!(banner_of(&proxy), "2");
    proxy.set_state(first.addr, "maint");
    let_pass(Duration::from_millis(700), "until the proxy would have tried it, were it not away");
    first.listens_from_now_on(|client, _| swallow(client));
    proxy.set_state(first.addr, "ready");
    eventually("the proxy has tried it", || proxy.server(first.addr)["suspect"] == false);
}

#[test]
fn a_server_that_has_just_refused_is_tried_when_no_other_is_left_and_a_success_clears_it() {
    let server = FakeServer::refusing();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
    assert_eq!(proxy.server(server.addr)["suspect"], true);
    server.listens_from_now_on(|client, _| echo(client));
    proxy.connect().echo(b"at once");
    assert_eq!(proxy.server(server.addr)["suspect"], false);
}

#[test]
fn a_backup_is_used_only_while_no_other_server_is_online() {
    let (first, backup) = (FakeServer::banner("1"), FakeServer::banner("b"));
    let group = Group::new("round_robin", &[]).server(&backup, json!({ "backup": true })).server(&first, json!({}));
    let proxy = TestProxy::start(group);
    for _ in 0..10 {
        assert_eq!(banner_of(&proxy), "1");
    }
    proxy.set_state(first.addr, "maint");
    assert_eq!(banner_of(&proxy), "b");
    proxy.set_state(first.addr, "ready");
    assert_eq!(banner_of(&proxy), "1");
    assert_eq!(backup.accepted(), 1);
}

#[test]
fn a_backup_serves_a_client_whom_every_other_server_has_refused() {
    let (first, backup) = (FakeServer::refusing(), FakeServer::banner("b"));
    let proxy = TestProxy::start(Group::new("ha", &[&first]).server(&backup, json!({ "backup": true })));
    assert_eq!(banner_of(&proxy), "b");
    assert_eq!(errors_of(&proxy, &first), 1);
}

#[test]
fn a_full_server_gets_no_more_clients_until_one_leaves() {
    let (first, second) = (FakeServer::banner("1"), FakeServer::banner("2"));
    let group = Group::new("ha", &[]).server(&first, json!({ "max_sessions": 2 }));
    let proxy = TestProxy::start(group.server(&second, json!({ "max_sessions": 1 })));
    let get = || {
        let mut client = proxy.connect();
        let banner = client.receive_all_until(1);
        (client, banner)
    };
    let (one, two, three) = (get(), get(), get());
    assert_eq!([&one.1, &two.1, &three.1], [b"1", b"1", b"2"]);
    assert_eq!(get().1, b"", "all are full");
    proxy.log.wait_for_end("no_server");
    assert_eq!(proxy.server(first.addr)["online"], false);
    drop(two);
    let (_client, banner) = wait_for("a place is free again", || Some(get()).filter(|got| !got.1.is_empty()));
    assert_eq!(banner, b"1");
}

#[test]
fn a_drained_server_keeps_its_sessions_and_gets_no_more() {
    for state in ["drain", "maint"] {
        let (first, second) = (FakeServer::echo(), FakeServer::banner("2"));
        let proxy = TestProxy::start(Group::new("ha", &[&first, &second]));
        let mut client = proxy.connect();
        client.echo(b"on the first");
        proxy.set_state(first.addr, state);
        for _ in 0..10 {
            assert_eq!(banner_of(&proxy), "2");
        }
        client.echo(b"still on the first");
        assert_eq!(first.accepted(), 1);
        proxy.set_state(second.addr, state);
        assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
        proxy.log.wait_for_end("no_server");
        proxy.set_state(first.addr, "ready");
        proxy.connect().echo(b"back");
    }
}

#[test]
fn a_server_that_is_removed_keeps_its_sessions() {
    let (first, second) = (FakeServer::echo(), FakeServer::banner("2"));
    let proxy = TestProxy::start(Group::new("ha", &[&first, &second]));
    let mut client = proxy.connect();
    client.echo(b"on the first");
    proxy.ok(&format!("/worker-remove.do?group={}&server={}", proxy.addr().port(), first.addr));
    assert_eq!(banner_of(&proxy), "2");
    client.echo(b"still on the first");
}

/// `localhost` is an IPv6 address, too, on most machines, and nobody listens there.
#[test]
fn a_server_known_by_name_is_reached_at_whichever_of_its_addresses_answers() {
    let server = FakeServer::start_at("127.0.0.1:0".parse().unwrap(), |client, _| echo(client));
    let name = format!("localhost:{}", server.addr.port());
    let proxy = TestProxy::start(Group::new("ha", &[]).server(&server, json!({ "addr": name })));
    // It is not online before its name is resolved.
    eventually("it is served", || {
        let mut client = proxy.connect();
        let _ = std::io::Write::write_all(&mut client.stream, b"name");
        client.receive_some(4) == b"name"
    });
    proxy.connect().echo(b"and again");
    assert_eq!(proxy.ended("connect_failed"), 0);
}

#[test]
fn no_more_servers_are_tried_for_a_client_than_connect_attempts() {
    let servers = [0; 5].map(|_| FakeServer::refusing());
    let group = Group::new("ha", &servers.each_ref()).with("connect_attempts", 2).with("connect_wait", "0s");
    let proxy = TestProxy::start(group);
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
    assert_eq!(proxy.log.wait_for_end("connect_failed")["attempts"], 2);
    let errors = servers.each_ref().map(|server| errors_of(&proxy, server));
    assert_eq!(errors, [1, 1, 0, 0, 0]);
}
