//! Too few descriptors: clients are turned away or wait, nothing spins, nothing stays deaf.

use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Client, FakeServer, Group, Setup, TestProxy, eventually, let_pass};

/// A proxy with one data thread and one group, and with the server of that.
fn start(setup: Setup) -> (TestProxy, FakeServer) {
    let server = FakeServer::echo();
    (setup.with("threads", 1).group(Group::new("round_robin", &[&server])).start(), server)
}

/// Overloads a proxy that has too few descriptors, and expects it to come back.
fn overload_and_recover(proxy: &TestProxy) {
    let crowd: Vec<Client> = (0..200).map(|_| proxy.connect()).collect();
    let cpu_before = proxy.cpu_seconds();
    let_pass(Duration::from_secs(1), "the second that is measured: what the proxy does while it can do nothing");
    let cpu = proxy.cpu_seconds() - cpu_before;
    println!("{cpu} s of processor time in one second without descriptors");
    assert!(cpu < 0.5, "it spins: {cpu} s in one second");
    drop(crowd);
    eventually("it serves again", || {
        let mut client = proxy.connect();
        // One that is turned away is reset.
        client.stream.write_all(b"hello").is_ok() && client.receive_some(5) == b"hello"
    });
    eventually("no session is left", || proxy.sessions() == 0);
    for _ in 0..20 {
        proxy.connect().echo(b"as if nothing had happened");
        eventually("it is over", || proxy.sessions() == 0);
    }
}

#[test]
fn clients_beyond_what_the_descriptors_allow_are_turned_away_and_the_rest_is_served() {
    let (proxy, _server) = start(Setup::default().with_descriptors(64));
    overload_and_recover(&proxy);
    let started = proxy.log.with_message("goproxy starts").remove(0);
    assert_eq!(started["sessions_max"], 16, "derived from the limit, and told");
    proxy.log.wait_for_end("limit");
    assert!(proxy.ended("limit") > 0);
}

/// Nobody can be accepted, and waits; or there was a descriptor left for a client, but none for its server. Which of
/// the two comes first depends on what else the proxy has open at that moment.
fn has_run_out(proxy: &TestProxy) -> bool {
    let is_turned_away = |end: &Value| end["error"].as_str().is_some_and(|error| error.contains("os error 24"));
    !proxy.log.with_message("cannot accept clients for a moment").is_empty()
        || proxy.log.with_message("session closed").iter().any(is_turned_away)
}

#[test]
fn running_out_of_descriptors_is_told_once_in_a_while_and_passes() {
    for left in [8, 9] {
        let (proxy, _server) = start(Setup::default());
        proxy.leave_descriptors(left);
        overload_and_recover(&proxy);
        assert!(has_run_out(&proxy));
        let said = proxy.log.with_message("cannot accept clients for a moment");
        assert!(said.len() <= 1, "once, not for each client");
    }
}

/// A listener that waits for descriptors still hears that it shall close.
#[test]
fn a_proxy_without_descriptors_stops_when_it_is_told_to() {
    for left in [8, 9] {
        let (mut proxy, _server) = start(Setup::default().with("drain_timeout", "300ms"));
        proxy.leave_descriptors(left);
        let crowd: Vec<Client> = (0..200).map(|_| proxy.connect()).collect();
        eventually("it has run out", || has_run_out(&proxy));
        proxy.signal(Signal::TERM);
        assert!(proxy.wait().success(), "the sessions that are left end with drain_timeout");
        assert!(proxy.log.ends().iter().any(|end| end == "drained"));
        drop(crowd);
    }
}
