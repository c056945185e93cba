//! The PROXY protocol, in and out: who the client is, for the servers behind us and for us behind other proxies.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use serde_json::{Value, json};

use crate::support::{
    Client, Ended, FakeServer, Group, Setup, TestProxy, eventually, let_pass, pattern, replace, sha256, wait_for,
};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2: 10.1.2.3:4 to 192.0.2.1:80.
fn v2() -> Vec<u8> {
    [&SIGNATURE[..], &[0x21, 0x11, 0, 12, 10, 1, 2, 3, 192, 0, 2, 1, 0, 4, 0, 80]].concat()
}

/// A health check of the proxy before us, with an address that means nothing.
fn local() -> Vec<u8> {
    [&SIGNATURE[..], &[0x20, 0x11, 0, 12], &[0; 12]].concat()
}

const V1: &[u8] = b"PROXY TCP4 10.1.2.3 192.0.2.1 4 80\r\n";

/// A group that expects a header of every client on loopback but 127.0.0.2.
fn accepting(server: &FakeServer) -> Group {
    let accept_proxy = json!({ "from": ["127.0.0.1", "::1"], "timeout": "30s" });
    Group::new("round_robin", &[server]).with("accept_proxy", accept_proxy)
}

/// Keeps everything that each client sends until its end, and then ends as well.
fn recording() -> (FakeServer, Arc<Mutex<Vec<Vec<u8>>>>) {
    let recorded: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let record = Arc::clone(&recorded);
    let server = FakeServer::start(move |mut client, _| {
        let mut bytes = Vec::new();
        if client.stream.read_to_end(&mut bytes).is_ok() {
            record.lock().unwrap().push(bytes);
        }
    });
    (server, recorded)
}

#[track_caller]
fn taken(recorded: &Mutex<Vec<Vec<u8>>>) -> Vec<u8> {
    wait_for("the server has everything", || recorded.lock().unwrap().pop())
}

/// A client at this address.
fn connect_from(ip: Ipv4Addr, to: SocketAddr) -> Client {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((ip, 0))).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    Client::new(TcpStream::from(socket))
}

fn closed(proxy: &TestProxy) -> Value {
    proxy.log.wait_for("a session that is over", |line| line["message"] == "session closed")
}

fn headers(proxy: &TestProxy, result: &str) -> u64 {
    proxy.metric("goproxy_proxy_headers_total", &[&format!("result=\"{result}\"")]) as u64
}

#[test]
fn the_client_of_the_header_is_the_client_in_log_and_list() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(accepting(&server));
    let mut client = proxy.connect();
    client.send(&[&v2()[..], b"hello"].concat());
    assert_eq!(client.receive(5), b"hello");
    let via = client.stream.local_addr().unwrap().to_string();
    let session = proxy.ok("/session-list.do")["sessions"][0].clone();
    assert_eq!((&session["client"], &session["via"]), (&json!("10.1.2.3:4"), &json!(via)));
    client.finish();
    client.receive_all();
    for message in ["client connected", "session closed"] {
        let line = proxy.log.wait_for(message, |line| line["message"] == message);
        assert_eq!((&line["client.addr"], &line["client.via"]), (&json!("10.1.2.3:4"), &json!(via)), "{line}");
        assert_eq!(line["header.destination"], "192.0.2.1:80");
    }
    assert_eq!(closed(&proxy)["bytes.up"], 5);
    assert_eq!(headers(&proxy, "accepted"), 1);
}

#[test]
fn a_header_is_taken_in_whatever_pieces_it_comes() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(accepting(&server));
    for header in [V1, &v2(), b"PROXY UNKNOWN and more\r\n", &local()] {
        let mut client = proxy.connect();
        for byte in header {
            client.send(&[*byte]);
            let_pass(Duration::from_millis(1), "the pace of the client");
        }
        client.echo(b"hello");
    }
}

#[test]
fn the_server_gets_exactly_what_is_behind_the_header() {
    let (server, recorded) = recording();
    let proxy = TestProxy::start(accepting(&server));
    let large = pattern(1, 16 << 20);
    for rest in [&b""[..], b"x", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", &large] {
        for header in [V1, &v2()] {
            let mut client = proxy.connect();
            client.send(&[header, rest].concat());
            client.finish();
            assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
            let got = taken(&recorded);
            assert_eq!((got.len(), sha256(&got)), (rest.len(), sha256(rest)));
        }
    }
}

#[test]
fn a_header_from_an_address_that_speaks_for_nobody_is_data() {
    let (server, recorded) = recording();
    let proxy = TestProxy::start(accepting(&server));
    for bytes in [V1, &v2(), b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = connect_from(Ipv4Addr::new(127, 0, 0, 2), proxy.addr());
        let addr = client.stream.local_addr().unwrap().to_string();
        client.send(bytes);
        client.finish();
        client.receive_all();
        assert_eq!(taken(&recorded), bytes);
        proxy.log.wait_for("it is the client", |line| {
            line["message"] == "session closed" && line["client.addr"] == addr && line.get("client.via").is_none()
        });
    }
}

#[test]
fn something_else_than_a_header_is_refused_and_told() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(accepting(&server));
    let mut client = proxy.connect();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
    let line = proxy.log.wait_for_end("bad_header");
    assert_eq!(line["error"], r#"PROXY header: no header: begins with "GET / HTTP/1.1\x0d\x0a\x0d\x0a""#);
    assert_eq!((proxy.ended("bad_header"), headers(&proxy, "bad"), server.accepted()), (1, 1, 0));
    assert!(proxy.log.with_message("client connected").is_empty(), "one line is enough");
}

#[test]
fn a_header_that_never_ends_ends_the_session_in_time_and_others_are_served_meanwhile() {
    const SLOW: usize = 300;
    let server = FakeServer::echo();
    let accept_proxy = json!({ "from": ["127.0.0.0/8"], "timeout": "2s" });
    let group = Group::new("round_robin", &[&server]).with("accept_proxy", accept_proxy);
    let proxy = TestProxy::start(group);
    let started = Instant::now();
    let mut slow: Vec<Client> = (0..SLOW).map(|_| proxy.connect()).collect();
    slow.iter_mut().for_each(|client| client.send(b"PROXY TCP4 "));
    let mut other = proxy.connect();
    other.send(V1);
    other.echo(b"served");
    for client in &mut slow {
        assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
    }
    assert!(started.elapsed() >= Duration::from_millis(1_900), "{:?}", started.elapsed());
    let line = proxy.log.wait_for_end("header_timeout");
    assert_eq!(line["error"], "PROXY header: incomplete after 2s (11 bytes)");
    assert!((1_900..60_000).contains(&line["elapsed_ms"].as_u64().unwrap()), "{line}");
    eventually("all are counted", || {
        (proxy.ended("header_timeout"), headers(&proxy, "timeout")) == (SLOW as u64, SLOW as u64)
    });
    other.echo(b"still served");
}

#[test]
fn clients_that_hold_their_header_back_take_no_more_places_than_the_group_has_for_them() {
    let server = FakeServer::echo();
    // One place in four, as the group has no limit of its own.
    let proxy = Setup::default().group(accepting(&server)).with_descriptors(256).start();
    let started = proxy.log.wait_for("the start", |line| line["message"] == "goproxy starts");
    let places = started["sessions_max"].as_u64().unwrap() / 4;
    assert!((2..200).contains(&places), "{places}");
    let waiting: Vec<Client> = (0..places).map(|_| proxy.connect()).collect();
    eventually("all are there", || proxy.sessions() == places);
    // The reset may come before the connect has returned.
    if let Ok(mut client) = Client::try_connect(proxy.addr()) {
        assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
    }
    assert_eq!(proxy.log.wait_for_end("limit")["limit"], "waiting");
    drop(waiting);
    eventually("their places are free", || proxy.sessions() == 0);
    let mut client = proxy.connect();
    client.send(V1);
    client.echo(b"served");
}

#[test]
fn whatever_comes_instead_of_a_header_ends_and_costs_nothing() {
    const CLIENTS: usize = 1_500;
    let server = FakeServer::echo();
    let accept_proxy = json!({ "from": ["127.0.0.0/8"], "timeout": "1s" });
    let group = Group::new("round_robin", &[&server]).with("accept_proxy", accept_proxy);
    let proxy = Setup::default().group(group).with("log", json!({ "format": "json", "level": "error" })).start();
    let mut random = fastrand::Rng::with_seed(7);
    let mut run = |clients: usize| {
        for _ in 0..clients {
            let mut bytes = [V1, &v2(), &local()][random.usize(..3)].to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes[at] ^= 1 << random.u8(..8),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            // It may be reset before everything is sent.
            let mut client = proxy.connect();
            let _ = std::io::Write::write_all(&mut client.stream, &bytes);
            if random.bool() {
                client.finish();
            }
            let mut received = Vec::new();
            let _ = client.stream.set_read_timeout(Some(Duration::from_millis(1)));
            let _ = client.stream.read_to_end(&mut received);
            assert!(received.len() <= bytes.len());
        }
        eventually("nobody is left", || proxy.sessions() == 0);
    };
    run(CLIENTS);
    let before = proxy.resident_bytes();
    run(CLIENTS);
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes more");
    let mut client = proxy.connect();
    client.send(V1);
    client.echo(b"alive");
}

#[test]
fn health_checks_of_the_proxy_before_us_and_probes_of_the_port_are_no_news() {
    let server = FakeServer::echo();
    let log = json!({ "format": "json", "level": "debug", "status_interval": "0s" });
    let proxy = Setup::default().group(accepting(&server)).with("log", log).start();
    let mut check = proxy.connect();
    check.send(&local());
    eventually("it is connected", || server.accepted() == 1);
    check.finish();
    check.receive_all();
    let line = closed(&proxy);
    assert_eq!((&line["level"], line.get("client.via")), (&json!("DEBUG"), None), "{line}");
    for message in ["client connected", "server connected"] {
        assert_eq!(proxy.log.with_message(message)[0]["level"], "DEBUG");
    }
    drop(proxy.connect());
    let message = "client left before its PROXY header was complete";
    let line = proxy.log.wait_for(message, |line| line["message"] == message);
    assert_eq!((&line["level"], &line["end"]), (&json!("DEBUG"), &json!("client_closed")));
    assert_eq!((headers(&proxy, "local"), headers(&proxy, "closed"), proxy.ended("client_closed")), (1, 1, 2));
    // One that says something is a client like any other.
    let mut client = proxy.connect();
    client.send(&[&local()[..], b"hello"].concat());
    client.receive(5);
    client.finish();
    client.receive_all();
    proxy.log.wait_for("it is told", |line| line["message"] == "session closed" && line["level"] == "INFO");
}

#[test]
fn what_a_header_says_besides_addresses_is_in_the_log() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(accepting(&server));
    let tlvs = [&[2, 0, 11][..], b"example.com", &[5, 0, 4], b"\0\x1b\"x"].concat();
    let mut header = [&v2()[..], &tlvs].concat();
    header[15] += tlvs.len() as u8;
    let mut client = proxy.connect();
    client.send(&header);
    client.echo(b"hello");
    let line = proxy.log.wait_for("the client", |line| line["message"] == "client connected");
    assert_eq!(
        (&line["header.authority"], &line["header.unique_id"]),
        (&json!("example.com"), &json!(r#"\x00\x1b"x"#))
    );
}

#[test]
fn a_server_gets_the_clients_address_in_front_of_its_bytes_and_nobody_counts_it() {
    let (refusing, (server, recorded)) = (FakeServer::refusing(), recording());
    for (version, unique_id) in [("v1", false), ("v2", false), ("v2", true)] {
        let group = Group::new("ha", &[&refusing, &server]);
        let proxy = TestProxy::start(group.with("send_proxy", version).with("proxy_unique_id", unique_id));
        let mut client = proxy.connect();
        let (source, destination) = (client.stream.local_addr().unwrap(), proxy.addr());
        client.send(b"hello");
        client.finish();
        client.receive_all();
        let line = closed(&proxy);
        assert_eq!((&line["attempts"], &line["bytes.up"]), (&json!(2), &json!(5)));
        let id = format!("{:016x}", line["session.id"].as_u64().unwrap());
        let expected = match version {
            "v1" => header_v1(source, destination),
            _ => header_v2(source, destination, unique_id.then_some(&id)),
        };
        assert_eq!(taken(&recorded), [&expected[..], b"hello"].concat());
    }
}

fn header_v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (from, to) = (source.ip(), destination.ip());
    let family = if source.is_ipv4() && destination.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn header_v2(source: SocketAddr, destination: SocketAddr, id: Option<&String>) -> Vec<u8> {
    let octets = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let tlv = id.map(|id| [&[5, 0, 16][..], id.as_bytes()].concat()).unwrap_or_default();
    let body = [octets(source), octets(destination), ports, tlv].concat();
    [&SIGNATURE[..], &[0x21, family, 0, body.len() as u8], &body].concat()
}

#[test]
fn a_server_that_speaks_first_gets_the_header_of_a_silent_client() {
    let server = FakeServer::start(|mut server, _| {
        let header = server.receive(SIGNATURE.len() + 16);
        assert!(header.starts_with(SIGNATURE));
        server.send(b"220 ready\r\n");
        crate::support::echo(server);
    });
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("send_proxy", "v2"));
    let mut client = proxy.connect();
    assert_eq!(client.receive(11), b"220 ready\r\n");
    client.echo(b"EHLO");
}

#[test]
fn each_server_gets_the_header_that_it_asks_for() {
    let (first, second, third) = (recording(), recording(), recording());
    let group = Group::new("round_robin", &[])
        .with("send_proxy", "v1")
        .server(&first.0, json!({}))
        .server(&second.0, json!({ "send_proxy": "v2" }))
        .server(&third.0, json!({ "send_proxy": "none" }));
    let proxy = TestProxy::start(group);
    let mut got = Vec::new();
    for (_, recorded) in [&first, &second, &third] {
        let mut client = proxy.connect();
        client.send(b"hello");
        client.finish();
        client.receive_all();
        got.push(taken(recorded));
    }
    assert!(got[0].starts_with(b"PROXY TCP4 127.0.0.1 ") && got[0].ends_with(b"\r\nhello"));
    assert!(got[1].starts_with(SIGNATURE) && got[1].len() == 28 + 5);
    assert_eq!(got[2], b"hello");
}

/// Through two groups of one proxy: the second one believes what the first one says.
#[test]
fn the_clients_address_goes_through_a_chain_of_proxies() {
    for (version, ip) in [("v1", "127.0.0.1"), ("v2", "127.0.0.1"), ("v1", "::1"), ("v2", "::1")] {
        let (server, recorded) = recording();
        let ip: IpAddr = ip.parse().unwrap();
        let last = accepting(&server).with("send_proxy", "v1");
        let inner = Setup::default().group(last).start();
        let outer = Group::new("ha", &[]).server_at(inner.addr(), json!({})).with("send_proxy", version).on(ip);
        let outer = Setup::default().group(outer).start();
        let mut client = outer.connect();
        let source = client.stream.local_addr().unwrap();
        client.send(b"hello");
        client.finish();
        client.receive_all();
        assert_eq!(taken(&recorded), [&header_v1(source, outer.addr())[..], b"hello"].concat(), "{version} {ip}");
        assert_eq!(closed(&inner)["client.addr"], source.to_string());
    }
}

#[test]
fn a_listener_on_every_address_tells_the_one_that_the_client_chose() {
    let (server, recorded) = recording();
    for (listen, connect) in [("0.0.0.0", "127.0.0.9"), ("::", "::1"), ("::", "127.0.0.9")] {
        let group = Group::new("ha", &[&server]).with("send_proxy", "v2").on(listen.parse().unwrap());
        let proxy = TestProxy::start(group);
        let to = SocketAddr::new(connect.parse().unwrap(), proxy.addr().port());
        let mut client = Client::connect(to);
        let source = client.stream.local_addr().unwrap();
        client.finish();
        client.receive_all();
        assert_eq!(taken(&recorded), header_v2(source, to, None), "{listen} {connect}");
    }
}

#[test]
fn who_has_to_send_a_header_changes_with_the_file_and_for_new_clients_only() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]));
    let mut before = proxy.connect();
    before.echo(b"without");
    let without = proxy.file();
    let with = without.replace("\"policy\":", "\"accept_proxy\": { \"from\": [\"127.0.0.0/8\"] }, \"policy\":");
    replace(proxy.path(), &with);
    proxy.log.wait_for("the reload", |line| line["message"] == "proxy.json reloaded");
    before.echo(b"as before");
    let mut client = proxy.connect();
    client.send(V1);
    client.echo(b"with");
    // Its header is waited for by the settings with which it began.
    let mut waiting = proxy.connect();
    waiting.send(b"PROXY ");
    eventually("it is there", || proxy.sessions() == 3);
    replace(proxy.path(), &without);
    eventually("the reload", || proxy.log.with_message("proxy.json reloaded").len() == 2);
    waiting.send(b"UNKNOWN\r\n");
    waiting.echo(b"with");
    proxy.connect().echo(b"without");
}

#[test]
fn tries_of_a_suspect_begin_with_the_header_that_sessions_begin_with() {
    for (of_group, of_server, expected) in [
        ("v2", Value::Null, &b"\r\n\r\n\0\r\nQUIT\n \0\0\0"[..]),
        ("none", json!("v1"), &b"PROXY TCP4 127."[..]),
        ("v1", json!("none"), &b""[..]),
    ] {
        let server = FakeServer::refusing();
        let group = Group::new("ha", &[]).with("send_proxy", of_group).with("connect_wait", "0s");
        let proxy = TestProxy::start(group.server(&server, json!({ "send_proxy": of_server })));
        proxy.connect().receive_all();
        eventually("it is suspect", || proxy.server(server.addr)["suspect"] == true);
        let recorded = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&recorded);
        server.listens_from_now_on(move |mut client, _| {
            *noted.lock().unwrap() = Some(client.receive_all());
        });
        eventually("it is no longer", || proxy.server(server.addr)["suspect"] == false);
        let (said, end) = wait_for("the end of the try", || recorded.lock().unwrap().take());
        assert_eq!(end, Ended::InOrder, "{of_group}");
        assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{of_group}: {said:?}");
    }
}
