//! A group's address is its own: no other process gets a part of its clients, or has to give up a part of its own.

use std::fs;
use std::net::SocketAddr;

use crate::support::{FakeServer, Group, TestProxy, own_ip, ports};

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
