//! A group's address is its own: no other process gets a part of its clients, or has to give up a part of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::support::{Client, FakeServer, Group, TestProxy, eventually, goproxy, own_ip, ports, run};

#[test]
fn an_address_that_another_proxy_of_the_same_user_holds_is_in_use() {
    let server = FakeServer::echo();
    let one = TestProxy::start(Group::new("round_robin", &[&server]));
    // A port that nobody is given by chance: one client's would be in the way of listening on all addresses.
    let [admin, port] = ports();
    let taken = SocketAddr::new(own_ip(), port);
    let group = format!("{{ \"listen\": \"{taken}\", \"servers\": [\"{}\"] }}", server.addr);
    let file = format!("{{ \"admin\": {{ \"listen\": \"127.0.0.1:{admin}\" }}, \"groups\": [{group}] }}");
    let mut other = TestProxy::with_file(admin, &file);
    let text = fs::read_to_string(one.path()).unwrap();
    let listen_at = |addr: SocketAddr| {
        fs::write(one.path(), text.replace(&one.addr().to_string(), &addr.to_string())).unwrap();
        one.try_get("/config-reload.do").expect("the admin port answers")
    };
    let (status, answer) = listen_at(SocketAddr::new(one.addr().ip(), taken.port()));
    assert_eq!(status, 200, "{answer}");
    // From now on the group keeps its port, at which our own listener is not in the way of finding out.
    let (status, answer) = listen_at(taken);
    assert!(status == 409 && answer.contains("in use"), "{status} {answer}");
    // On all addresses it is in the way of the usual probe.
    let everywhere = SocketAddr::new([0, 0, 0, 0].into(), taken.port());
    let (status, answer) = listen_at(everywhere);
    assert!(status == 409 && answer.contains("in use"), "{status} {answer}");
    other.stop();
    let (status, answer) = listen_at(everywhere);
    assert_eq!(status, 200, "{answer}");
}

const WAITS: &str = "the group waits for its address";

#[test]
fn a_group_with_bind_retry_waits_alone_until_its_address_is_free() {
    let server = FakeServer::echo();
    let (ip, [admin, port, taken, later]) = (own_ip(), ports());
    let at = |port| SocketAddr::new(ip, port);
    let group = |port, more| format!(r#"{{ "listen": "{}", {more}"servers": ["{}"] }}"#, at(port), server.addr);
    let file = |port_of_second| {
        let groups = [group(port, ""), group(port_of_second, "\"bind_retry\": true, ")].join(", ");
        format!(r#"{{ "admin": {{ "listen": "{}" }}, "groups": [{groups}] }}"#, at(admin))
    };
    let holder = TcpListener::bind(at(taken)).unwrap();
    let mut proxy = TestProxy::spawn(goproxy(), &file(taken), at(admin), vec![at(port)]);
    eventually("it waits", || proxy.log.count(WAITS) == 1);
    eventually("the admin port answers", || proxy.try_get("/ready").is_some());
    assert_eq!(proxy.try_get("/ready").unwrap().0, 503);
    proxy.connect().echo(b"the other group serves");
    // Any other change goes on, and does not say it again.
    proxy.ok(&format!("/worker-keepalive.do?group={port}&server=127.0.0.1:1"));
    drop(holder);
    proxy.wait_until_ready();
    Client::connect(at(taken)).echo(b"it listens");
    eventually("it is said", || proxy.log.count(&format!("group open group={taken}")) == 1);
    assert_eq!(proxy.log.count(WAITS), 1);
    // A reload is not refused either, and what the group had is given back.
    let holder = TcpListener::bind(at(later)).unwrap();
    fs::write(proxy.path(), file(later)).unwrap();
    proxy.ok("/config-reload.do");
    assert_eq!(proxy.try_get("/ready").unwrap().0, 503);
    eventually("it is said", || proxy.log.count(WAITS) == 2);
    assert!(TcpStream::connect(at(taken)).is_err());
    proxy.connect().echo(b"the other group serves");
    // Who does not want it any more does not wait for it.
    proxy.ok(&format!("/group-close.do?group={later}"));
    assert_eq!(proxy.try_get("/ready").unwrap().0, 200);
    proxy.ok(&format!("/group-open.do?group={later}"));
    assert_eq!(proxy.try_get("/ready").unwrap().0, 503);
    drop(holder);
    proxy.wait_until_ready();
    Client::connect(at(later)).echo(b"it listens");
}

#[test]
fn without_bind_retry_an_address_that_cannot_be_bound_stops_the_start() {
    let (ip, [admin, taken]) = (own_ip(), ports());
    let _holder = TcpListener::bind((ip, taken)).unwrap();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("proxy.json");
    fs::write(
        &path,
        format!(r#"{{ "admin": {{ "listen": "{ip}:{admin}" }}, "groups": [{{ "listen": "{ip}:{taken}" }}] }}"#),
    )
    .unwrap();
    let output = run(&["-c", path.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use"));
}
