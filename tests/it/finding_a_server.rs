//! A server that does not answer costs its client a moment, later clients nothing, and nobody the service.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Client, Ended, FakeServer, Group, Setup, TestProxy, echo, eventually, swallow, wait_for};

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
    for _ in 0..40 {
        assert_eq!(banner_of(&proxy), "2");
    }
    // Suspect for one second, then two, then four.
    let tries_max = 1 + start.elapsed().as_secs();
    assert!((1..=tries_max).contains(&errors_of(&proxy, &first)), "{} tries", errors_of(&proxy, &first));
    assert_eq!(proxy.server(first.addr)["suspect"], true);
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
    eventually("the first is tried again", || banner_of(&proxy) == "1");
    assert_eq!(proxy.server(first.addr)["suspect"], false);
    assert_eq!(banner_of(&proxy), "1");
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
    let group = Group::new("ha", &servers.each_ref()).with("connect_attempts", 2);
    let proxy = TestProxy::start(group);
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
    assert_eq!(proxy.log.wait_for_end("connect_failed")["attempts"], 2);
    let errors = servers.each_ref().map(|server| errors_of(&proxy, server));
    assert_eq!(errors, [1, 1, 0, 0, 0]);
}
