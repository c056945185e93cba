//! What is set on connections: where they leave from, and whether the system finds out that a peer is gone.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::{Ended, FakeServer, Group, Setup, TestProxy, echo, eventually, let_pass, output, replace};

/// An address of this machine, and one that it does not have.
const SOURCE: &str = "127.77.66.55";
const ELSEWHERE: &str = "192.0.2.1";

/// The system's timer of the connection from `own` to `peer`, of which one end may be anybody's: 2 probes a silent peer.
fn timer(own: Option<SocketAddr>, peer: Option<SocketAddr>) -> Option<u8> {
    let text = fs::read_to_string("/proc/net/tcp").expect("the kernel tells");
    let port = |field: &str| u16::from_str_radix(field.split_once(':').expect("ip:port").1, 16).expect("a port");
    let is = |addr: Option<SocketAddr>, field: &str| addr.is_none_or(|addr| addr.port() == port(field));
    let mut lines = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Established only.
    let found = lines.find(|fields| fields[3] == "01" && is(own, fields[1]) && is(peer, fields[2]));
    found.map(|fields| fields[5][..2].parse().expect("a number"))
}

#[test]
fn clients_are_probed_from_the_beginning_and_servers_once_a_session_is_no_short_one() {
    let server = FakeServer::echo();
    let off = json!({ "keepalive": null });
    let proxy = Setup::default()
        .group(Group::new("ha", &[&server]))
        .group(Group::new("ha", &[]).server(&FakeServer::echo(), json!({})).with("client_tcp", off))
        .start();
    let mut client = proxy.connect();
    client.echo(b"x");
    let from = client.stream.local_addr().unwrap();
    eventually("the client is probed", || timer(Some(proxy.addr()), Some(from)) == Some(2));
    assert_eq!(timer(None, Some(server.addr)), Some(0), "a short session costs no call");
    eventually("the server is probed", || timer(None, Some(server.addr)) == Some(2));
}

#[test]
fn a_change_of_client_tcp_holds_for_those_who_come_after_it() {
    let server = FakeServer::echo();
    let group = Group::new("ha", &[&server]).with("client_tcp", json!({ "keepalive": null }));
    let proxy = TestProxy::start(group);
    let probed = || {
        let mut client = proxy.connect();
        client.echo(b"x");
        timer(Some(proxy.addr()), Some(client.stream.local_addr().unwrap())) == Some(2)
    };
    assert!(!probed());
    replace(proxy.path(), &proxy.file().replace("null", "\"9s\""));
    proxy.ok("/config-reload.do");
    eventually("it is probed now", probed);
}

#[test]
fn servers_are_reached_and_checked_from_the_source() {
    let peers = Arc::new(Mutex::new(Vec::<IpAddr>::new()));
    let seen = Arc::clone(&peers);
    let server = FakeServer::start(move |client, _| {
        seen.lock().unwrap().push(client.stream.peer_addr().expect("it is connected").ip());
        echo(client);
    });
    let check = json!({ "kind": "tcp", "interval": "100ms", "traffic_counts": false });
    let group = Group::new("ha", &[&server]).with("server_tcp", json!({ "source": SOURCE })).with("check", check);
    let proxy = TestProxy::start(group);
    for _ in 0..20 {
        proxy.connect().echo(b"x");
    }
    eventually("checks have come, too", || peers.lock().unwrap().len() > 25);
    let source: IpAddr = SOURCE.parse().unwrap();
    assert!(peers.lock().unwrap().iter().all(|peer| *peer == source));
    assert_eq!(proxy.metric("goproxy_connects_without_port_total", &[]), 0.0);
}

#[test]
fn a_source_that_this_machine_lacks_makes_no_server_suspect_and_is_not_taken_by_a_reload() {
    let server = FakeServer::echo();
    let check = json!({ "kind": "tcp", "interval": "100ms" });
    let group = Group::new("ha", &[&server]).with("check", check);
    let proxy = TestProxy::start(group.clone().with("server_tcp", json!({ "source": ELSEWHERE })));
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
    let line = proxy.log.wait_for_end("connect_failed");
    assert_eq!(line["error"], "cannot assign requested address", "{line}");
    let_pass(Duration::from_millis(300), "the time for some checks");
    let shown = proxy.server(server.addr);
    assert_eq!((&shown["suspect"], &shown["online"]), (&json!(false), &json!(true)), "{shown}");
    assert_eq!(proxy.metric("goproxy_connects_without_port_total", &[]), 1.0);
    // An address that is in force already is in the way of no other change.
    proxy.set_state(server.addr, "drain");
    let taken = TestProxy::start(group);
    let mut file: serde_json::Value = serde_json::from_str(&taken.file()).unwrap();
    file["groups"][0]["server_tcp"] = json!({ "source": ELSEWHERE });
    replace(taken.path(), &file.to_string());
    let refused = taken.refused("/config-reload.do", 400, "not_accepted");
    let msg = refused["msg"].as_str().unwrap();
    assert!(msg.contains("server_tcp.source: cannot connect from 192.0.2.1: cannot assign"), "{msg}");
    taken.connect().echo(b"what runs stays");
    let mut strict = crate::support::goproxy();
    strict.args(["check", "--strict", "-c"]).arg(taken.path());
    let said = output(strict, Duration::from_secs(60));
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("server_tcp.source: cannot connect from 192.0.2.1"));
}

#[test]
fn a_client_that_takes_nothing_for_longer_than_probing_takes_is_not_gone() {
    const LENGTH: usize = 24 << 20;
    let server = FakeServer::start(|mut client, _| {
        client.stream.set_write_timeout(None).expect("a stream takes options");
        client.send(&vec![7; LENGTH]);
    });
    // It would be gone after 1 s and six probes of 1 s.
    let tcp = json!({ "keepalive": "1s" });
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("client_tcp", tcp.clone()).with("server_tcp", tcp));
    let mut client = proxy.connect();
    client.hold_little();
    client.receive(1);
    let_pass(Duration::from_secs(12), "a client that does something else");
    client.finish();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).expect("it goes on where it was");
    assert_eq!(rest.len(), LENGTH - 1);
}
