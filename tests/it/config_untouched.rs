//! A reload is a difference: what it does not name goes on as if nothing had happened.

use std::fs;
use std::net::TcpStream;

use serde_json::Value;

use crate::support::{TestProxy, Visitor, eventually, named_echo, ports, replace};

#[test]
fn what_a_reload_does_not_change_goes_on_untouched() {
    let [admin, group, other] = ports();
    let echoes = [named_echo(), named_echo(), named_echo()];
    let servers = echoes.iter().map(|echo| format!("\"{}\"", echo.addr)).collect::<Vec<_>>().join(", ");
    let text = |other_policy: &str| {
        format!(
            r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [
                {{ "listen": "127.0.0.1:{group}", "servers": [{servers}] }},
                {{ "listen": "127.0.0.1:{other}", "policy": "{other_policy}", "servers": [{servers}] }} ] }}"#
        )
    };
    let proxy = TestProxy::with_file(admin, &text("ha"));
    let listeners = || -> Vec<String> {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let ours = format!("0100007F:{group:04X} 00000000:0000 0A");
        let inode = |line: &str| line.split_whitespace().nth(9).unwrap().to_owned();
        let mut inodes: Vec<_> = table.lines().filter(|line| line.contains(&ours)).map(inode).collect();
        inodes.sort();
        inodes
    };
    let sockets = listeners();
    assert!(!sockets.is_empty());
    let mut session = Visitor::connect(group);
    let mut other_session = Visitor::connect(other);
    let mut order = vec![session.server.clone()];
    for round in 0..7 {
        replace(proxy.path(), &text(["random", "ha"][round % 2]));
        proxy.ok("/config-reload.do");
        session.round_trip(b"it lives through every reload");
        other_session.round_trip(b"and so do those of the changed group");
        order.push(Visitor::connect(group).server);
    }
    let expected: Vec<String> = (0..8).map(|number| echoes[number % 3].addr.to_string()).collect();
    assert_eq!(order, expected, "the round goes on where it was");
    assert_eq!(listeners(), sockets, "the listening sockets are the same");
    let sessions = proxy.series(&format!("goproxy_sessions_total{{group=\"{group}\"}}"));
    assert_eq!(sessions, Some(8.0), "counters go on");
}

#[test]
fn a_group_that_is_removed_closes_its_port_and_its_sessions_live() {
    let [admin, group, other] = ports();
    let echo = named_echo();
    let one = |port: u16| format!(r#"{{ "listen": "127.0.0.1:{port}", "servers": ["{}"] }}"#, echo.addr);
    let text = |groups: String| format!(r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [{groups}] }}"#);
    let both = text(format!("{}, {}", one(group), one(other)));
    let proxy = TestProxy::with_file(admin, &both);
    let mut session = Visitor::connect(group);
    replace(proxy.path(), &text(one(other)));
    eventually("the port is closed", || TcpStream::connect(("127.0.0.1", group)).is_err());
    session.round_trip(b"sessions live");
    eventually("only it is left", || proxy.ok("/session-list.do")["total"] == 1);
    proxy.refused(&format!("/worker-list.do?group={group}"), 404, "group_not_found");
    let label = format!("group=\"{group}\"");
    assert!(!proxy.get("/metrics").text().contains(&label), "its series are gone");
    replace(proxy.path(), &both);
    eventually("it is back", || TcpStream::connect(("127.0.0.1", group)).is_ok());
    session.round_trip(b"and lives on");
    Visitor::connect(group).round_trip(b"beside new ones");
}

#[test]
fn a_group_may_move_to_another_address_of_the_same_port() {
    let [admin, group] = ports();
    let echo = named_echo();
    let text = |ip: &str| {
        format!(
            r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [ {{ "listen": "{ip}:{group}", "servers": ["{}"] }} ] }}"#,
            echo.addr
        )
    };
    let proxy = TestProxy::with_file(admin, &text("127.0.0.1"));
    let mut session = Visitor::connect(group);
    for (ip, reached, not) in [
        ("0.0.0.0", "127.0.0.2", None),
        ("127.0.0.2", "127.0.0.2", Some("127.0.0.1")),
        ("127.0.0.1", "127.0.0.1", Some("127.0.0.2")),
    ] {
        replace(proxy.path(), &text(ip));
        let json = proxy.ok("/config-reload.do");
        assert_eq!(json["errors"], Value::Null);
        assert_eq!(proxy.ok("/group-list.do")["groups"][0]["listen"], format!("{ip}:{group}"));
        TcpStream::connect((reached, group)).expect(ip);
        if let Some(not) = not {
            assert!(TcpStream::connect((not, group)).is_err(), "{ip}");
        }
        session.round_trip(ip.as_bytes());
    }
}
