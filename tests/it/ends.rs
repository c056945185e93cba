//! Clients that cannot be served, and sessions that an operator ends: each for its own reason.
//!
//! The other reasons have their promises in `half_close`, `resets`, `timeouts` and `drain`. `policy_failed`
//! is none of a built-in policy's: each of them names a server whenever it is shown one.

use crate::support::{Client, Ended, FakeServer, Group, Setup, TestProxy, eventually};

#[test]
fn a_client_is_closed_at_once_when_the_group_has_no_server() {
    let proxy = TestProxy::start(Group::new("round_robin", &[]));
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
    let line = proxy.log.wait_for_end("no_server");
    assert_eq!((&line["attempts"], line.get("server.addr")), (&0.into(), None));
    assert_eq!(proxy.ended("no_server"), 1);
}

#[test]
fn a_client_is_closed_at_once_when_every_server_refuses() {
    let servers = [FakeServer::refusing(), FakeServer::refusing()];
    let proxy = TestProxy::start(Group::new("round_robin", &[&servers[0], &servers[1]]).with("connect_wait", "0s"));
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
    let line = proxy.log.wait_for_end("connect_failed");
    assert_eq!(line["attempts"], 2);
    assert!(line["error"].as_str().unwrap().contains("refused"), "{line}");
    assert_eq!(proxy.ended("connect_failed"), 1);
}

/// A client is turned away with a reset, which may come before its connect has returned.
#[track_caller]
fn is_reset(addr: std::net::SocketAddr) {
    match Client::try_connect(addr) {
        Ok(mut client) => assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset)),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_client_too_many_for_the_group_is_turned_away_and_the_next_is_served_when_one_leaves() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("max_sessions", 2));
    let mut clients = [proxy.connect(), proxy.connect()];
    clients.iter_mut().for_each(|client| client.echo(b"in"));
    is_reset(proxy.addr());
    assert_eq!(proxy.log.wait_for_end("limit")["limit"], "group_sessions");
    clients.iter_mut().for_each(|client| client.echo(b"still in"));
    let [first, _second] = clients;
    drop(first);
    eventually("a place is free", || proxy.sessions() == 1);
    proxy.connect().echo(b"in as well");
    assert_eq!(proxy.ended("limit"), 1);
}

#[test]
fn an_operator_ends_one_session_and_no_other() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let (mut victim, mut other) = (proxy.connect(), proxy.connect());
    victim.echo(b"one");
    other.echo(b"two");
    let address = victim.stream.local_addr().unwrap().to_string();
    let list = proxy.ok("/session-list.do");
    let session = list["sessions"].as_array().unwrap().iter().find(|session| session["client"] == address).unwrap();
    proxy.ok(&format!("/session-close.do?id={}", session["id"]));
    assert_eq!(victim.receive_all(), (Vec::new(), Ended::InOrder));
    assert_eq!(proxy.log.wait_for_end("killed")["session.id"], session["id"]);
    other.echo(b"still here");
    assert_eq!(proxy.sessions(), 1);
}

/// True when nothing has moved for so long that nothing will.
fn is_stuck(proxy: &TestProxy) -> bool {
    proxy.ok("/session-list.do")["sessions"][0]["idle_ms"].as_u64().is_some_and(|idle_ms| idle_ms > 500)
}

/// Sends more than all buffers on the way hold.
fn talkative() -> FakeServer {
    FakeServer::start(|mut server, _| {
        // Until the session is ended.
        while std::io::Write::write_all(&mut server.stream, &[7; 64 << 10]).is_ok() {}
    })
}

#[test]
fn an_answer_that_an_operator_cuts_does_not_look_complete() {
    let server = talkative();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    eventually("the client holds no more", || is_stuck(&proxy));
    let id = proxy.ok("/session-list.do")["sessions"][0]["id"].clone();
    proxy.ok(&format!("/session-close.do?id={id}"));
    proxy.log.wait_for_end("killed");
    assert_eq!(client.receive_all().1, Ended::Reset);
}

#[test]
fn an_answer_that_a_time_out_cuts_does_not_look_complete() {
    let server = talkative();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("idle_timeout", "500ms"));
    let mut client = proxy.connect();
    proxy.log.wait_for_end("idle_timeout");
    assert_eq!(client.receive_all().1, Ended::Reset);
}

#[test]
fn an_upload_that_an_operator_cuts_does_not_look_complete() {
    let (server, kept) = FakeServer::keeping();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    let session = || proxy.ok("/session-list.do")["sessions"][0].clone();
    client.send_until(|| is_stuck(&proxy));
    proxy.ok(&format!("/session-close.do?id={}", session()["id"]));
    proxy.log.wait_for_end("killed");
    let mut server = kept.lock().unwrap().pop().expect("one client was passed on");
    assert_eq!(server.receive_all().1, Ended::Reset);
}

#[test]
fn an_operator_can_end_a_session_that_is_still_connecting() {
    let server = FakeServer::blackholed();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("connect_timeout", "10m"));
    let mut client = proxy.connect();
    eventually("the session is there", || proxy.sessions() == 1);
    let id = proxy.ok("/session-list.do")["sessions"][0]["id"].clone();
    proxy.ok(&format!("/session-close.do?id={id}"));
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    proxy.log.wait_for_end("killed");
}

#[test]
fn closing_a_group_keeps_its_sessions_unless_told_to_close_them() {
    let server = FakeServer::echo();
    let group = || Group::new("round_robin", &[&server]);
    let proxy = Setup::default().group(group()).group(group()).start();
    let mut clients = [0, 1].map(|group| Client::connect(proxy.addr_of(group)));
    clients.iter_mut().for_each(|client| client.echo(b"open"));
    proxy.ok(&format!("/group-close.do?group={}", proxy.addr_of(0).port()));
    proxy.ok(&format!("/group-close.do?group={}&sessions=close", proxy.addr_of(1).port()));
    let [mut kept, mut closed] = clients;
    assert_eq!(closed.receive_all(), (Vec::new(), Ended::InOrder));
    assert_eq!(proxy.log.wait_for_end("killed")["group"], proxy.addr_of(1).port());
    kept.echo(b"alive");
    assert!(std::net::TcpStream::connect(proxy.addr_of(0)).is_err(), "nobody listens there any more");
}
