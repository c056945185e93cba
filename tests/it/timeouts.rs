//! Sessions that have fallen silent end after their time; those in which anything moves live on.
//!
//! No test here measures time: a session that runs out is the clock for another that must not.

use std::io::Write;
use std::time::Duration;

use crate::support::{
    Client, Ended, FakeServer, Group, Setup, TestProxy, eventually, let_pass, spawn, swallow, wait_for,
};

/// Calls `meanwhile` again and again until `times` silent sessions of a group have run out, one after the other.
fn while_others_time_out(proxy: &TestProxy, group: usize, times: usize, mut meanwhile: impl FnMut()) {
    for _ in 0..times {
        let silent = Client::connect(proxy.addr_of(group));
        let address = silent.stream.local_addr().unwrap().to_string();
        eventually("the silent session runs out", || {
            meanwhile();
            let closed = proxy.log.with_message("session closed");
            closed.iter().any(|line| line["client.addr"] == address && line["end"] == "idle_timeout")
        });
    }
}

#[test]
fn a_silent_session_ends_after_idle_timeout() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("idle_timeout", "300ms"));
    let mut client = proxy.connect();
    client.echo(b"once");
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    let line = proxy.log.wait_for_end("idle_timeout");
    assert!(line["elapsed_ms"].as_u64().unwrap() >= 290, "{line}");
}

#[test]
fn a_session_in_which_nobody_ever_says_anything_ends_after_idle_timeout() {
    let server = FakeServer::silent();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("idle_timeout", "300ms"));
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
    assert_eq!(proxy.log.wait_for_end("idle_timeout")["bytes.up"], 0);
}

#[test]
fn a_session_that_trickles_lives_however_long_it_takes() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("idle_timeout", "1s"));
    let mut client = proxy.connect();
    while_others_time_out(&proxy, 0, 3, || client.echo(b"."));
    client.echo(b"alive");
}

#[test]
fn a_download_without_a_word_from_the_client_is_not_silent() {
    let server = FakeServer::start(|mut client, number| match number {
        0 => {
            while client.stream.write_all(b".").is_ok() {
                let_pass(Duration::from_millis(10), "the pace of the server");
            }
        }
        _ => swallow(client),
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("idle_timeout", "1s"));
    let mut client = proxy.connect();
    client.receive(1);
    while_others_time_out(&proxy, 0, 2, || assert_eq!(client.receive(1), b"."));
    client.reset();
}

#[test]
fn a_half_closed_session_ends_after_half_close_timeout() {
    let (server, kept) = FakeServer::keeping();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("half_close_timeout", "300ms"));
    let mut client = proxy.connect();
    client.send(b"that is all");
    client.finish();
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    proxy.log.wait_for_end("half_close_timeout");
    let server = kept.lock().unwrap().pop();
    let mut server = server.expect("one client was passed on");
    eventually("the server is closed as well", || server.stream.write_all(b"too late").is_err());
}

#[test]
fn a_half_closed_session_in_which_the_other_side_goes_on_lives() {
    let server = FakeServer::start(|mut client, number| match number {
        0 => {
            let _ = client.receive_all();
            while client.stream.write_all(b".").is_ok() {
                let_pass(Duration::from_millis(10), "the pace of the server");
            }
        }
        _ => swallow(client),
    });
    let group = Group::new("round_robin", &[&server]).with("idle_timeout", "1s").with("half_close_timeout", "1s");
    let proxy = TestProxy::start(group);
    let mut client = proxy.connect();
    client.finish();
    client.receive(1);
    while_others_time_out(&proxy, 0, 2, || assert_eq!(client.receive(1), b"."));
    client.reset();
}

#[test]
fn zero_is_never() {
    let (server, kept) = FakeServer::keeping();
    let never = Group::new("round_robin", &[&server]).with("idle_timeout", "0s").with("half_close_timeout", "0s");
    let soon = Group::new("round_robin", &[&server]).with("idle_timeout", "200ms");
    let proxy = Setup::default().group(never).group(soon).start();
    let (silent, half_closed) = (proxy.connect(), proxy.connect());
    half_closed.finish();
    while_others_time_out(&proxy, 1, 3, || {});
    assert_eq!(proxy.sessions(), 2);
    assert!(proxy.log.ends().iter().all(|end| end == "idle_timeout"));
    drop((silent, half_closed));
    kept.lock().unwrap().clear();
}

#[test]
fn connecting_is_not_silence() {
    let (blackholed, server) = (FakeServer::blackholed(), FakeServer::echo());
    let group = Group::new("ha", &[&blackholed, &server]).with("idle_timeout", "100ms").with("connect_timeout", "1s");
    let proxy = TestProxy::start(group);
    let mut client = proxy.connect();
    client.echo(b"at last");
    assert_eq!(proxy.log.wait_for_end("idle_timeout")["attempts"], 2);
}

#[test]
fn a_half_closed_session_may_be_silent_as_long_as_any_other_unless_the_file_says_less() {
    let (server, kept) = FakeServer::keeping();
    let usual = Group::new("round_robin", &[&server]).with("idle_timeout", "2s");
    let soon = Group::new("round_robin", &[&server]).with("idle_timeout", "200ms");
    let proxy = Setup::default().group(usual).group(soon).start();
    let mut client = proxy.connect();
    client.finish();
    while_others_time_out(&proxy, 1, 3, || {});
    assert!(!proxy.log.ends().iter().any(|end| end == "half_close_timeout"));
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    let line = proxy.log.wait_for_end("half_close_timeout");
    assert!(line["elapsed_ms"].as_u64().unwrap() >= 1_990, "{line}");
    kept.lock().unwrap().clear();
}

/// Sends and takes what comes, or takes nothing.
fn send_for_ever(mut client: Client, takes: bool, bytes: &'static [u8]) {
    let other = client.twin();
    if takes {
        spawn(move || swallow(other));
    }
    while client.stream.write_all(bytes).is_ok() {
        let_pass(Duration::from_millis(10), "the pace of the sender");
    }
}

#[test]
fn a_session_in_which_nothing_reaches_one_side_is_silent_however_much_the_other_side_gets() {
    const MUCH: &[u8] = &[7; 256 << 10];
    for takes_nothing in ["client", "server"] {
        let is_client = takes_nothing == "client";
        let server = FakeServer::start(move |client, number| {
            let is_stuck = number == 0 && !is_client;
            send_for_ever(client, !is_stuck, if is_client { MUCH } else { b"." });
        });
        let mut proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("idle_timeout", "2s"));
        proxy.may_leave_sessions();
        let client = proxy.connect();
        client.hold_little();
        // Another one could overtake it on another thread.
        eventually("its server has it", || server.accepted() == 1);
        let port = client.stream.local_addr().unwrap().port().to_string();
        spawn(move || send_for_ever(client, !is_client, if is_client { b"." } else { MUCH }));
        // One that takes a little now and then goes on.
        let mut slow = proxy.connect();
        slow.hold_little();
        let length = if is_client { 4_096 } else { 1 };
        let line = wait_for("the end", || {
            slow.send(b".");
            slow.receive(length);
            let closed = proxy.log.with_message("session closed");
            closed.into_iter().find(|line| line["client.addr"].as_str().is_some_and(|addr| addr.ends_with(&port)))
        });
        assert_eq!(line["end"], "idle_timeout", "{line}");
        assert!(line["elapsed_ms"].as_u64().unwrap() >= 2_000, "{line}");
        assert_eq!(proxy.sessions(), 1, "{takes_nothing}");
        slow.reset();
    }
}
