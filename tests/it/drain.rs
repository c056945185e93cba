//! Stopping: who is connected is served to the end, within what the operator allows.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Client, Ended, FakeServer, Group, Setup, TestProxy, eventually};

fn with_a_session(drain_timeout: &str) -> (FakeServer, TestProxy, Client) {
    let server = FakeServer::echo();
    let group = Group::new("round_robin", &[&server]);
    let proxy = Setup::default().group(group).with("drain_timeout", drain_timeout).start();
    let mut client = proxy.connect();
    client.echo(b"before");
    (server, proxy, client)
}

fn wait_until_it_drains(proxy: &TestProxy) {
    proxy.log.wait_for("it drains", |line| line["message"] == "draining");
}

#[test]
fn term_takes_no_more_clients_lets_sessions_go_on_and_ends_with_the_last() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_server, mut proxy, mut client) = with_a_session("10m");
        proxy.signal(signal);
        wait_until_it_drains(&proxy);
        assert!(TcpStream::connect(proxy.addr()).is_err(), "nobody listens any more");
        client.echo(&[7; 100_000]);
        assert_eq!(proxy.try_get("/ready").unwrap().0, 503);
        assert_eq!(proxy.try_get("/live").unwrap().0, 200);
        assert_eq!(proxy.sessions(), 1);
        client.echo(b"after");
        assert!(proxy.runs());
        client.finish();
        assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
        assert_eq!(proxy.wait().code(), Some(0));
        proxy.log.wait_for_end("client_closed");
    }
}

#[test]
fn what_is_left_after_drain_timeout_is_ended() {
    let (_server, mut proxy, mut client) = with_a_session("300ms");
    proxy.signal(Signal::TERM);
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    assert_eq!(proxy.wait().code(), Some(0));
    proxy.log.wait_for_end("drained");
}

#[test]
fn a_session_that_still_looks_for_a_server_is_ended_after_drain_timeout() {
    let server = FakeServer::blackholed();
    let group = Group::new("ha", &[&server]).with("connect_timeout", "10m");
    let mut proxy = Setup::default().group(group).with("drain_timeout", "300ms").start();
    let mut client = proxy.connect();
    eventually("it looks for a server", || proxy.sessions() == 1);
    proxy.signal(Signal::TERM);
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    assert_eq!(proxy.wait().code(), Some(0));
    proxy.log.wait_for_end("drained");
}

#[test]
fn a_second_signal_ends_everything_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::QUIT, Signal::INT)] {
        let (_server, mut proxy, mut client) = with_a_session("10m");
        proxy.signal(first);
        wait_until_it_drains(&proxy);
        client.echo(b"still there");
        proxy.signal(second);
        assert_eq!(proxy.wait().code(), Some(3));
        client.receive_all();
        proxy.log.wait_for_end("shutdown");
    }
}

#[test]
fn clients_are_taken_for_shutdown_delay_while_ready_says_no() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = FakeServer::echo();
        let group = Group::new("round_robin", &[&server]);
        let setup = Setup::default().group(group).with("drain_timeout", "10m").with("shutdown_delay", "1500ms");
        let mut proxy = setup.start();
        let start = Instant::now();
        proxy.signal(signal);
        eventually("it is not ready", || proxy.try_get("/ready").unwrap().0 == 503);
        let mut client = proxy.connect();
        client.echo(b"taken");
        proxy.set_state(server.addr, "drain");
        proxy.set_state(server.addr, "ready");
        wait_until_it_drains(&proxy);
        assert!(start.elapsed() >= Duration::from_millis(1_500));
        assert!(TcpStream::connect(proxy.addr()).is_err(), "now nobody listens any more");
        client.echo(b"still there");
        client.finish();
        client.receive_all();
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

#[test]
fn a_second_signal_cuts_shutdown_delay_short_and_quit_has_none() {
    let server = FakeServer::echo();
    let start = || {
        let group = Group::new("round_robin", &[&server]);
        Setup::default().group(group).with("shutdown_delay", "10m").start()
    };
    let mut proxy = start();
    proxy.signal(Signal::TERM);
    eventually("it is not ready", || proxy.try_get("/ready").unwrap().0 == 503);
    proxy.connect().echo(b"taken");
    proxy.may_leave_sessions();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(3));
    assert_eq!(proxy.log.count("draining"), 0);
    let mut proxy = start();
    proxy.signal(Signal::QUIT);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn quit_waits_for_sessions_without_a_limit() {
    let (_server, mut proxy, mut client) = with_a_session("100ms");
    proxy.signal(Signal::QUIT);
    wait_until_it_drains(&proxy);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        client.echo(b"ten times the limit of a TERM");
    }
    drop(client);
    assert_eq!(proxy.wait().code(), Some(0));
    proxy.log.wait_for_end("client_closed");
}

#[test]
fn without_sessions_every_signal_to_stop_ends_it_at_once() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let server = FakeServer::echo();
        let group = Group::new("round_robin", &[&server]);
        let mut proxy = Setup::default().group(group).with("drain_timeout", "10m").start();
        proxy.signal(signal);
        assert_eq!(proxy.wait().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn an_idle_connection_to_the_admin_port_does_not_hold_up_the_end() {
    let server = FakeServer::echo();
    let mut proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let _silent = Client::connect(proxy.admin);
    proxy.stop();
}

#[test]
fn clients_that_the_kernel_has_queued_are_served_although_the_listener_closes() {
    let server = FakeServer::echo();
    let group = Group::new("round_robin", &[&server]);
    let mut proxy = Setup::default().group(group).with("drain_timeout", "10m").start();
    proxy.signal(Signal::STOP);
    let mut clients: Vec<Client> = (0..100).map(|_| proxy.connect()).collect();
    proxy.signal(Signal::TERM);
    proxy.signal(Signal::CONT);
    for client in &mut clients {
        client.echo(b"accepted by the kernel, so served");
    }
    drop(clients);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn signals_for_the_log_change_nothing() {
    let (_server, proxy, mut client) = with_a_session("10m");
    for signal in [Signal::USR1, Signal::USR1] {
        proxy.signal(signal);
        client.echo(b"alive");
    }
    proxy.connect().echo(b"and serving");
}

#[test]
fn hup_reads_the_file_again() {
    let (_server, proxy, mut client) = with_a_session("10m");
    let second = FakeServer::banner("2");
    let text = std::fs::read_to_string(proxy.path()).unwrap();
    let old = proxy.ok(&format!("/worker-list.do?group={}", proxy.addr().port()))["list"][0].clone();
    std::fs::write(proxy.path(), text.replace(old.as_str().unwrap(), &second.addr.to_string())).unwrap();
    proxy.signal(Signal::HUP);
    proxy.log.wait_for("the file is read again", |line| line["message"] == "proxy.json reloaded");
    eventually("new clients get the new server", || proxy.connect().receive_some(1) == b"2");
    client.echo(b"old sessions stay");
}
