//! Too few descriptors: clients are turned away or wait, nothing spins, nothing stays deaf.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Client, FakeServer, Group, Setup, TestProxy, eventually};

/// Overloads a proxy that may have so few descriptors, and expects it to come back.
fn overload_and_recover(descriptors: u32) -> TestProxy {
    let server = FakeServer::echo();
    let proxy = Setup::default().group(Group::new("round_robin", &[&server])).with_descriptors(descriptors).start();
    let crowd: Vec<Client> = (0..200).map(|_| proxy.connect()).collect();
    // The one second is what is measured: what the proxy does while it can do nothing.
    let cpu_before = proxy.cpu_seconds();
    std::thread::park_timeout(Duration::from_secs(1));
    let cpu = proxy.cpu_seconds() - cpu_before;
    println!("{cpu} s of processor time in one second without descriptors");
    assert!(cpu < 0.5, "it spins: {cpu} s in one second");
    drop(crowd);
    eventually("it serves again", || {
        let mut client = proxy.connect();
        client.send(b"hello");
        client.receive_some(5) == b"hello"
    });
    eventually("no session is left", || proxy.sessions() == 0);
    for _ in 0..20 {
        proxy.connect().echo(b"as if nothing had happened");
        eventually("it is over", || proxy.sessions() == 0);
    }
    proxy
}

#[test]
fn clients_beyond_what_the_descriptors_allow_are_turned_away_and_the_rest_is_served() {
    let proxy = overload_and_recover(64);
    let started = proxy.log.with_message("goproxy starts").remove(0);
    assert_eq!(started["sessions_max"], 16, "derived from the limit, and told");
    proxy.log.wait_for_end("limit");
    assert!(proxy.ended("limit") > 0);
}

#[test]
fn running_out_of_descriptors_stops_the_accepting_for_a_moment_and_says_so() {
    let proxy = overload_and_recover(36);
    let said = proxy.log.with_message("cannot accept clients for a moment");
    assert_eq!(said.len(), 1, "once, not for each client");
}

/// A listener that waits for descriptors still hears that it shall close.
#[test]
fn a_proxy_without_descriptors_stops_when_it_is_told_to() {
    let server = FakeServer::echo();
    let group = Group::new("round_robin", &[&server]);
    let setup = Setup::default().group(group).with("drain_timeout", "300ms");
    let mut proxy = setup.with_descriptors(36).start();
    let crowd: Vec<Client> = (0..200).map(|_| proxy.connect()).collect();
    eventually("it has run out", || !proxy.log.with_message("cannot accept clients for a moment").is_empty());
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success(), "the sessions that are left end with drain_timeout");
    assert!(proxy.log.ends().iter().any(|end| end == "drained"));
    drop(crowd);
}
