//! Who may register, under which name, and how many.

use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use serde_json::json;

use crate::support::{Http, TestProxy, Visitor, eventually, goproxy, named_echo, ports, replace, spawn};

fn config(admin: u16, groups: &[(&str, u16)], more_admin: &str) -> String {
    let groups = groups.iter().map(|(ip, port)| {
        format!(r#"{{ "listen": "{ip}:{port}", "heartbeat_timeout": "1m", "connect_timeout": "500ms" }}"#)
    });
    let groups = groups.collect::<Vec<_>>().join(", ");
    format!(r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}"{more_admin} }}, "groups": [{groups}] }}"#)
}

/// The address of this machine by which others would reach it, if it has one.
fn own_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: it only asks for the way.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn an_address_that_is_no_server_may_not_register() {
    let [admin, pprof, group, other, free] = ports();
    let more = format!(r#", "pprof_listen": "127.0.0.1:{pprof}""#);
    let proxy = TestProxy::with_file(admin, &config(admin, &[("0.0.0.0", group), ("127.0.0.1", other)], &more));
    let before = proxy.state();
    let mut refused = vec![
        format!("127.0.0.1:{group}"),
        format!("127.200.3.4:{group}"),
        format!("localhost:{group}"),
        format!("LOCALHOST:{group}"),
        format!("[::ffff:127.0.0.1]:{group}"),
        format!("127.0.0.1:{other}"),
        format!("localhost:{other}"),
        format!("127.0.0.1:{admin}"),
        format!("localhost:{admin}"),
        format!("[::ffff:127.0.0.1]:{admin}"),
        format!("127.0.0.1:{pprof}"),
        format!("0.0.0.0:{free}"),
        format!("[::]:{free}"),
        format!("[::ffff:0.0.0.0]:{free}"),
        "224.0.0.1:80".to_owned(),
        "239.255.255.255:80".to_owned(),
        "[ff02::1]:80".to_owned(),
        "255.255.255.255:80".to_owned(),
        "169.254.169.254:80".to_owned(),
        "169.254.0.1:80".to_owned(),
        "[fe80::1]:80".to_owned(),
        "[::ffff:169.254.169.254]:80".to_owned(),
        "[fd00:ec2::254]:80".to_owned(),
    ];
    refused.extend(own_ip().map(|ip| format!("{ip}:{group}")));
    for server in refused {
        let json = proxy.refused(&format!("/worker-keepalive.do?group={group}&server={server}"), 403, "server_refused");
        assert!(json["msg"].as_str().unwrap().contains(" may not register: "), "{json}");
    }
    proxy.refused(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:0"), 400, "bad_parameter");
    assert_eq!(proxy.state(), before);
    // The other group is not on this address.
    proxy.ok(&format!("/worker-keepalive.do?group={group}&server=127.0.0.2:{other}"));
    proxy.ok(&format!("/worker-keepalive.do?group={group}&server=[::1]:{free}"));
}

#[test]
fn only_the_networks_of_register_allow_may_register_and_a_reload_changes_them() {
    let [admin, group] = ports();
    let groups = [("127.0.0.1", group)];
    let proxy =
        TestProxy::with_file(admin, &config(admin, &groups, r#", "register_allow": ["10.0.0.0/8", "fd00::/8"]"#));
    let before = proxy.state();
    let beat = |server: &str| format!("/worker-keepalive.do?group={group}&server={server}");
    for server in ["192.168.0.1:1", "11.0.0.1:1", "127.0.0.1:1", "[fe00::1]:1", "[::1]:1", "localhost:1"] {
        let json = proxy.refused(&beat(server), 403, "server_refused");
        assert!(json["msg"].as_str().unwrap().contains("register_allow"), "{json}");
    }
    assert_eq!(proxy.state(), before);
    proxy.ok(&beat("10.255.0.1:1"));
    proxy.ok(&beat("[fd00::1]:1"));
    let text = proxy.file().replace("10.0.0.0/8", "192.168.0.0/16");
    replace(proxy.path(), &text);
    eventually("the rule follows the file", || proxy.get(&beat("192.168.0.1:1")).status == 200);
    proxy.refused(&beat("10.255.0.2:1"), 403, "server_refused");
}

#[test]
fn a_name_is_resolved_and_one_that_is_not_stops_nothing_else() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, &[("127.0.0.1", group)], ""));
    let echo = named_echo();
    let name = format!("localhost:{}", echo.addr.port());
    let beat = |server: &str| proxy.ok(&format!("/worker-keepalive.do?group={group}&server={server}"));
    assert_eq!(beat(&name)["msg"], "online");
    let lost = "no-such-host.invalid:9000";
    let json = beat(lost);
    assert!(json["msg"].as_str().unwrap().contains("not resolved"), "{json}");
    eventually("the cause is the resolver's", || {
        let server = proxy.server_of(group, lost);
        let cause = server["cause"].as_str().unwrap_or_default().to_owned();
        server["online"] == false && cause.contains("not resolved") && !cause.contains("being resolved")
    });
    eventually("the log tells it", || proxy.log.count("name not resolved") >= 1);
    assert_eq!(proxy.online(group), [name.as_str()]);
    for _ in 0..20 {
        let mut client = Visitor::connect(group);
        client.round_trip(b"by name");
        assert_eq!(client.server, echo.addr.to_string());
    }
    let started = Instant::now();
    for number in 0..20 {
        beat(lost);
        beat(&format!("127.0.0.1:{}", 1 + number));
    }
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

/// Sends first heartbeats for the servers `from..to` over one connection; answers how many were taken.
fn register(admin: u16, group: u16, numbers: impl Iterator<Item = usize>) -> usize {
    let mut http = Http::connect(admin);
    let mut taken = 0;
    for number in numbers {
        let server = format!("10.{}.{}.{}:9000", number >> 16, number >> 8 & 255, number & 255);
        let reply = http.get(&format!("/worker-keepalive.do?group={group}&server={server}"));
        match reply.status {
            200 => taken += 1,
            _ => _ = crate::support::is_refusal(&reply, 409, "too_many_servers", &server),
        }
    }
    taken
}

#[test]
fn a_group_takes_4096_servers_and_not_one_more() {
    const MAX: usize = 4_096;
    const CONNECTIONS: usize = 128;
    let [admin, group] = ports();
    let text = config(admin, &[("127.0.0.1", group)], "").replace("\"1m\"", "\"1h\"");
    let proxy = TestProxy::with_file(admin, &text);
    // More than fit, all at once.
    let callers: Vec<_> = (0..CONNECTIONS)
        .map(|caller| spawn(move || register(admin, group, (caller..MAX + 200).step_by(CONNECTIONS))))
        .collect();
    let taken: usize = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    assert_eq!(taken, MAX);
    assert_eq!(proxy.servers(group).len(), MAX);
    let file = proxy.file();
    assert_eq!(file.matches("\"origin\": \"heartbeat\"").count(), MAX);
    let target = format!("/worker-keepalive.do?group={group}&server=10.9.9.9:9000");
    let json = proxy.refused(&target, 409, "too_many_servers");
    assert!(json["msg"].as_str().unwrap().contains("4096"), "{json}");
    assert_eq!(proxy.file(), file);
    // Those that are known go on as before, and one that leaves makes room.
    let known = proxy.online(group);
    proxy.ok(&format!("/worker-keepalive.do?group={group}&server={}", known[MAX - 1]));
    proxy.ok(&format!("/worker-remove.do?group={group}&server={}", known[0]));
    assert_eq!(proxy.ok(&target)["state"], json!("ready"));
    assert!(goproxy().args(["check", "-c"]).arg(proxy.path()).output().unwrap().status.success());
}
