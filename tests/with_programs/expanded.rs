//! A name with several addresses, each of which is a server of its own.
//!
//! The proxy has a mount namespace with an `/etc/hosts` of the test. Needs root, and `unshare`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Client, FakeServer, TestProxy, eventually, ports};

/// Servers at the same port of three addresses; each says which it is, and then sends back what it gets.
const IPS: [&str; 3] = ["127.77.0.1", "127.77.0.2", "127.77.0.3"];

fn write_hosts(hosts: &Path, ips: &[&str]) {
    let lines: String = ips.iter().map(|ip| format!("{ip} db.goproxy.test\n")).collect();
    // In place: a file that takes its place would not be seen where this one is mounted.
    fs::write(hosts, format!("127.0.0.1 localhost\n{lines}")).unwrap();
}

/// Which server a new client gets.
fn visit(proxy: &TestProxy) -> (Client, String) {
    let mut client = proxy.connect();
    let server = String::from_utf8(client.receive(IPS[0].len())).unwrap();
    (client, server)
}

/// The servers that are online, and their sessions.
fn online(proxy: &TestProxy) -> BTreeMap<String, u64> {
    let list = proxy.ok("/worker-list.do?group=db")["servers"].as_array().unwrap().clone();
    let is_online = |server: &&Value| server["online"] == true;
    let facts = |server: &Value| (server["addr"].as_str().unwrap().to_owned(), server["sessions"].as_u64().unwrap());
    list.iter().filter(is_online).map(facts).collect()
}

#[test]
fn a_name_of_three_addresses_is_three_servers_that_come_and_go() {
    let [admin, listen, port] = ports();
    let servers = IPS.map(|ip| {
        let addr = SocketAddr::new(ip.parse().unwrap(), port);
        FakeServer::start_at(addr, move |mut client, _| {
            client.send(ip.as_bytes());
            crate::support::echo(client);
        })
    });
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    write_hosts(&hosts, &IPS);
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "log": {{ "format": "json", "status_interval": "0s" }}, "groups": [
            {{ "name": "db", "listen": "127.0.0.1:{listen}", "policy": "round_robin", "check": {{ "kind": "tcp", "interval": "1s" }}, "servers": [
                {{ "addr": "db.goproxy.test:{port}", "expand": true }} ] }} ] }}"#
    );
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(&hosts).arg(env!("CARGO_BIN_EXE_goproxy"));
    let [admin, listen] = [admin, listen].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut proxy = TestProxy::spawn(command, &text, admin, vec![listen]);
    proxy.wait_until_ready();
    eventually("three servers are online", || online(&proxy).len() == 3);

    let mut counts = BTreeMap::new();
    let mut clients = Vec::new();
    for _ in 0..300 {
        let (client, server) = visit(&proxy);
        *counts.entry(server).or_insert(0_u32) += 1;
        clients.push(client);
    }
    assert!(counts.len() == 3 && counts.values().all(|count| count.abs_diff(100) <= 1), "{counts:?}");
    eprintln!("300 clients: {counts:?}");

    write_hosts(&hosts, &IPS[..2]);
    let start = Instant::now();
    eventually("the third one has left", || online(&proxy).len() == 2);
    eprintln!("an address left the list after {:?}", start.elapsed());
    clients.iter_mut().for_each(|client| client.echo(b"still here"));
    for _ in 0..20 {
        assert_ne!(visit(&proxy).1, IPS[2]);
    }

    // A server that fails has its name looked up: no waiting for the next lookup that is due.
    write_hosts(&hosts, &IPS[1..]);
    servers[0].refuses_from_now_on();
    let start = Instant::now();
    eventually("the first one has left, and the third is back", || {
        let online = online(&proxy);
        IPS[1..].iter().all(|ip| online.keys().any(|addr| addr.ends_with(ip))) && online.len() == 2
    });
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    eprintln!("a server that failed was followed after {:?}", start.elapsed());

    let one = format!("db.goproxy.test:{port}@{}", IPS[1]);
    proxy.ok(&format!("/worker-state.do?group=db&server={one}&state=drain"));
    assert_eq!(online(&proxy).len(), 1);
    assert!(proxy.file().contains(&format!(r#""addr": "{one}", "state": "drain""#)), "{}", proxy.file());
    proxy.refused(
        &format!("/worker-state.do?group=db&server=db.goproxy.test:{port}@127.77.0.9&state=drain"),
        404,
        "server_not_found",
    );
    proxy.refused(&format!("/worker-keepalive.do?group=db&server=other.test:{port}@127.77.0.9"), 403, "server_refused");
    clients.iter_mut().for_each(|client| client.echo(b"still here"));
    drop(clients);
}
