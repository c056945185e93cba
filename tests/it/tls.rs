//! TLS to clients: what they send reaches the server in plain, and the other way round.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::support::{
    Client, Ended, FakeServer, Group, Setup, TestProxy, check, eventually, let_pass, pattern, sha256, spawn, wait_for,
};
use crate::tls_kit::{Authority, TlsClient, first_of};

const NAME: &str = "db.example.com";

/// A group with one certificate, for [`NAME`].
fn group(authority: &Authority, server: &FakeServer) -> Group {
    group_with(authority, server, json!({}))
}

/// The same with further keys of `tls`.
fn group_with(authority: &Authority, server: &FakeServer, keys: Value) -> Group {
    let mut tls = json!({ "certificates": [authority.issue("site", &[NAME])] });
    tls.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    Group::new("round_robin", &[server]).with("tls", tls)
}

#[track_caller]
fn closed(proxy: &TestProxy) -> Value {
    proxy.log.wait_for("a session that is over", |line| line["message"] == "session closed")
}

#[test]
fn bytes_are_equal_both_ways_at_once_in_both_versions() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    for (version, name, length) in [(&TLS13, "1.3", 64 << 20), (&TLS12, "1.2", 16 << 20)] {
        let proxy = TestProxy::start(group(&authority, &server));
        let config = Arc::new(authority.trusting(&[version]));
        let mut client = TlsClient::connect(proxy.addr(), &config, NAME);
        client.echo(b"hello");
        let bytes = pattern(1, length);
        let received = client.exchange(&bytes);
        assert!(sha256(&received) == sha256(&bytes), "{name}");
        client.finish();
        assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder), "{name}");
        let line = closed(&proxy);
        assert_eq!((&line["tls.version"], &line["tls.sni"]), (&json!(name), &json!(NAME)), "{line}");
        assert!(line["tls.suite"].as_str().unwrap().starts_with("TLS_") && line["tls.alpn"].is_null(), "{line}");
        assert_eq!((&line["end"], &line["bytes.up"]), (&json!("client_closed"), &json!(length + 5)), "{line}");
        assert!(line["tls.truncated"].is_null(), "{line}");
    }
}

#[test]
fn single_bytes_arrive_at_once() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let proxy = TestProxy::start(group(&authority, &server));
    let mut client = TlsClient::connect(proxy.addr(), &authority.client(), NAME);
    for byte in pattern(2, 500) {
        client.echo(&[byte]);
    }
}

#[test]
fn a_client_that_has_finished_gets_the_whole_reply() {
    let authority = Authority::new();
    let reply = pattern(3, 3 << 20);
    let answer = reply.clone();
    let server = FakeServer::start(move |mut client, _| {
        let (question, ended) = client.receive_all();
        assert_eq!((&question[..], ended), (&b"question"[..], Ended::InOrder));
        client.send(&answer);
    });
    let proxy = TestProxy::start(group(&authority, &server));
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(authority.trusting(&[version]));
        let mut client = TlsClient::connect(proxy.addr(), &config, NAME);
        client.send(b"question");
        client.finish();
        let (received, ended) = client.receive_all();
        assert_eq!((sha256(&received), ended), (sha256(&reply), Ended::InOrder), "{version:?}");
    }
}

#[test]
fn a_server_that_ends_first_ends_the_client_in_order_however_slowly_that_one_reads() {
    let authority = Authority::new();
    let reply = pattern(4, 8 << 20);
    let answer = reply.clone();
    let server = FakeServer::start(move |mut client, _| client.send(&answer));
    let proxy = TestProxy::start(group(&authority, &server));
    let tcp = Client::connect(proxy.addr());
    tcp.hold_little();
    let mut client = TlsClient::over(tcp, &authority.client(), NAME).unwrap();
    eventually("the proxy is stuck with a client that does not read", || {
        proxy.ok("/session-list.do")["sessions"][0]["idle_ms"].as_u64() > Some(300)
    });
    let (received, ended) = client.receive_all();
    assert_eq!((sha256(&received), ended), (sha256(&reply), Ended::InOrder));
    drop(client);
    assert_eq!(closed(&proxy)["bytes.down"], reply.len());
}

#[test]
fn an_end_that_was_not_announced_is_passed_on_and_told() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let proxy = TestProxy::start(group(&authority, &server));
    let mut client = TlsClient::connect(proxy.addr(), &authority.client(), NAME);
    client.echo(b"hello");
    client.tcp.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    let line = closed(&proxy);
    assert_eq!((&line["end"], &line["tls.truncated"]), (&json!("client_closed"), &json!(true)), "{line}");
}

#[test]
fn a_reset_is_passed_on_as_one() {
    let authority = Authority::new();
    let server = FakeServer::start(|mut client, number| match number {
        0 => {
            client.receive(5);
            client.reset();
        }
        _ => assert_eq!(client.receive_all().1, Ended::Reset),
    });
    let proxy = TestProxy::start(group(&authority, &server));
    let mut client = TlsClient::connect(proxy.addr(), &authority.client(), NAME);
    client.send(b"hello");
    assert_eq!(client.receive_all().1, Ended::Reset);
    proxy.log.wait_for_end("server_reset");
    let mut client = TlsClient::connect(proxy.addr(), &authority.client(), NAME);
    client.send(b"hello");
    eventually("the server is reached", || server.accepted() == 2);
    client.reset();
    proxy.log.wait_for_end("client_reset");
}

#[test]
fn a_client_gets_the_certificate_for_the_name_that_it_asks_for() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let certificates = [
        authority.issue("first", &["first.example.com", "other.example.com"]),
        authority.issue("all", &["*.example.com"]),
        authority.issue("second", &["Second.example.com"]),
    ];
    let group = |default: Value| {
        Group::new("ha", &[&server]).with("tls", json!({ "certificates": certificates, "default": default }))
    };
    let proxy = Setup::default().group(group(json!(1))).group(group(Value::Null)).start();
    for (name, wanted) in [
        ("first.example.com", "first"),
        ("OTHER.example.com", "first"),
        ("second.example.com", "second"),
        ("third.example.com", "all"),
    ] {
        for group in 0..2 {
            let mut client = TlsClient::connect(proxy.addr_of(group), &authority.client(), name);
            let pem = fs::read(authority.path(&format!("{wanted}.pem"))).unwrap();
            assert!(client.shown().as_ref() == first_of(&pem), "{name} gets {wanted}");
            client.echo(b"hello");
        }
    }
    // Names that no certificate has, and no name at all: the default, or none.
    let mut nameless = authority.trusting(rustls::ALL_VERSIONS);
    nameless.enable_sni = false;
    let nameless = Arc::new(nameless);
    let mut client = TlsClient::connect(proxy.addr_of(0), &nameless, "some.example.com");
    client.echo(b"hello");
    for (config, name) in [(&nameless, "some.example.com"), (&authority.client(), "far.from.example.com")] {
        let error = TlsClient::try_connect(proxy.addr_of(1), config, name).err().expect("it is refused");
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    }
    let line = proxy.log.wait_for_end("tls_failed");
    assert_eq!(line["error"], "TLS: no certificate for the name that the client asks for");
    assert_eq!(proxy.ended("tls_failed"), 2);
}

#[test]
fn versions_and_protocols_are_those_of_the_file() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let keys = json!({ "min_version": "1.3", "alpn": ["h2", "postgresql"] });
    let proxy = TestProxy::start(group_with(&authority, &server, keys));
    let old = Arc::new(authority.trusting(&[&TLS12]));
    let error = TlsClient::try_connect(proxy.addr(), &old, NAME).err().expect("it is refused");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    let line = proxy.log.wait_for_end("tls_failed");
    assert_eq!(line["error"], "TLS: the peer speaks no version that is allowed here");
    let speaking = |protocols: &[&str]| {
        let mut config = authority.trusting(rustls::ALL_VERSIONS);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsClient::try_connect(proxy.addr(), &Arc::new(config), NAME)
    };
    let mut client = speaking(&["postgresql", "h2"]).unwrap();
    client.echo(b"hello");
    assert_eq!(client.connection.alpn_protocol(), Some(&b"h2"[..]));
    client.finish();
    client.receive_all();
    let line = proxy.log.wait_for("a protocol", |line| line["tls.alpn"] == "h2");
    assert_eq!(line["tls.version"], "1.3");
    assert!(speaking(&[]).is_ok());
    let error = speaking(&["http/1.1"]).err().expect("it is refused");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    eventually("three ends", || proxy.ended("tls_failed") == 2);
}

#[test]
fn a_client_that_does_not_shake_hands_costs_no_server_a_connection() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let proxy = TestProxy::start(group_with(&authority, &server, json!({ "handshake_timeout": "300ms" })));
    // One says nothing, one stops in the middle of its hello.
    for said in [&b""[..], &[0x16, 3, 1, 2, 0, 1]] {
        let mut client = proxy.connect();
        client.send(said);
        assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
    }
    let line = proxy.log.wait_for_end("handshake_timeout");
    assert_eq!(line["error"], "TLS: no handshake within 300ms");
    // One speaks something else, and hears so in an alert.
    let mut client = proxy.connect();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    let (alert, _) = client.receive_all();
    assert_eq!(alert.first(), Some(&21));
    let line = proxy.log.wait_for_end("tls_failed");
    assert_eq!(line["error"], "TLS: what the peer sends is not TLS");
    // One looks whether somebody listens.
    drop(proxy.connect());
    proxy.log.wait_for_end("client_closed");
    for (result, count) in [("ok", 0.0), ("failed", 1.0), ("timeout", 2.0)] {
        let label = format!("result=\"{result}\"");
        assert_eq!(proxy.metric("goproxy_tls_handshakes_total", &[&label]), count, "{result}");
    }
    eventually("each end is counted", || (proxy.ended("tls_failed"), proxy.ended("handshake_timeout")) == (1, 2));
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_handshake_in_single_bytes_and_what_comes_with_its_end_reach_the_server() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let proxy = TestProxy::start(group(&authority, &server));
    let slow = Client::connect(proxy.addr());
    let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
    let mut connection = rustls::ClientConnection::new(authority.client(), name).unwrap();
    // Kept until the handshake is over, and then sent with its last message.
    connection.writer().write_all(b"hello").unwrap();
    let mut client = TlsClient { connection, tcp: slow.stream };
    while client.connection.is_handshaking() || client.connection.wants_write() {
        let mut out = Vec::new();
        while client.connection.wants_write() {
            client.connection.write_tls(&mut out).unwrap();
        }
        for byte in out {
            client.tcp.write_all(&[byte]).unwrap();
            let_pass(Duration::from_micros(300), "the pace of the client");
        }
        if client.connection.is_handshaking() {
            client.connection.read_tls(&mut client.tcp).unwrap();
            client.connection.process_new_packets().unwrap();
        }
    }
    assert_eq!(client.receive(5), b"hello");
}

#[test]
fn a_client_comes_back_with_a_ticket_where_there_are_tickets() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let site = authority.issue("site", &[NAME]);
    let group =
        |tickets: bool| Group::new("ha", &[&server]).with("tls", json!({ "certificates": [site], "tickets": tickets }));
    let proxy = Setup::default().group(group(true)).group(group(false)).start();
    for version in [&TLS12, &TLS13] {
        for (index, is_resumed) in [(0, true), (1, false)] {
            let config = Arc::new(authority.trusting(&[version]));
            for round in 0..2 {
                let mut client = TlsClient::connect(proxy.addr_of(index), &config, NAME);
                client.echo(b"hello");
                let kind = client.connection.handshake_kind().unwrap();
                let is_back = kind == rustls::HandshakeKind::Resumed;
                assert_eq!(is_back, is_resumed && round == 1, "{version:?} {index} {round}");
                client.finish();
                client.receive_all();
            }
        }
    }
    let count = |version: &str| {
        proxy.metric("goproxy_tls_handshakes_total", &["side=\"client\"", &format!("version=\"{version}\""), "\"ok\""])
    };
    assert_eq!((count("1.2"), count("1.3")), (4.0, 4.0));
    assert_eq!(proxy.metric("goproxy_tls_resumed_total", &["side=\"client\""]), 2.0);
    assert_eq!(proxy.metric("goproxy_tls_handshake_seconds_count", &["side=\"client\""]), 8.0);
    proxy.log.wait_for("a client that came back", |line| line["tls.resumed"] == true);
}

/// It could be sent again by anybody who has seen it, and would be by us to the next server.
#[test]
fn nobody_may_send_data_before_the_handshake_is_over() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let proxy = TestProxy::start(group(&authority, &server));
    let mut config = authority.trusting(&[&TLS13]);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for round in 0..3 {
        let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        assert!(connection.early_data().is_none(), "no ticket allows it");
        let tcp = proxy.connect().stream;
        let mut client = TlsClient { connection, tcp };
        client.echo(b"hello");
        let is_back = client.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        assert_eq!(is_back, round > 0, "there are tickets");
        client.finish();
        client.receive_all();
    }
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let accept_proxy = json!({ "from": ["127.0.0.0/8"], "timeout": "30s" });
    let proxy = TestProxy::start(group(&authority, &server).with("accept_proxy", accept_proxy));
    for pause in [false, true] {
        let mut tcp = proxy.connect();
        tcp.send(b"PROXY TCP4 10.1.2.3 192.0.2.1 4 80\r\n");
        if pause {
            eventually("the header was read", || proxy.log.text().contains("10.1.2.3:4"));
        }
        let mut client = TlsClient::over(tcp, &authority.client(), NAME).unwrap();
        client.echo(b"hello");
        client.finish();
        client.receive_all();
    }
    let line = closed(&proxy);
    assert_eq!((&line["client.addr"], &line["tls.sni"]), (&json!("10.1.2.3:4"), &json!(NAME)), "{line}");
}

#[test]
fn a_flood_of_handshakes_ends_with_no_session_left() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let proxy = TestProxy::start(group(&authority, &server));
    let config = authority.client();
    let clients: Vec<_> = (0..8)
        .map(|seed| {
            let (addr, config) = (proxy.addr(), Arc::clone(&config));
            spawn(move || {
                for round in 0..25 {
                    let mut client = TlsClient::connect(addr, &config, NAME);
                    client.echo(&pattern(seed, 10 + 3_000 * round));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    wait_for("no session is left", || (proxy.sessions() == 0).then_some(()));
}

/// What PostgreSQL's clients ask before their hello: for TLS, and for encryption by Kerberos.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

#[test]
fn a_client_of_postgresql_may_ask_for_tls_first_and_its_server_hears_nothing_of_that() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let proxy = TestProxy::start(group(&authority, &server).with("starttls", "postgresql"));
    let granted = |requests: &[(&[u8], &[u8])]| {
        let mut client = proxy.connect();
        for (request, answer) in requests {
            // Also where it does not come at once.
            let (first, rest) = request.split_at(3);
            client.send(first);
            let_pass(Duration::from_millis(5), "the pace of the client");
            client.send(rest);
            assert_eq!(client.receive(1), *answer);
        }
        client
    };
    for requests in [
        // TLS from the first byte is taken as well.
        &[][..],
        &[(&SSL_REQUEST[..], &b"S"[..])],
        &[(&GSSENC_REQUEST, b"N"), (&SSL_REQUEST, b"S")],
    ] {
        let mut client = TlsClient::over(granted(requests), &authority.client(), NAME).unwrap();
        client.echo(b"a start-up packet");
        client.finish();
        assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    }
    assert_eq!(server.accepted(), 3);
}

#[test]
fn a_client_of_postgresql_that_goes_on_without_tls_is_refused() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let keys = json!({ "handshake_timeout": "300ms" });
    let proxy = TestProxy::start(group_with(&authority, &server, keys).with("starttls", "postgresql"));
    let ends = |sent: &[u8]| {
        let mut client = proxy.connect();
        client.send(sent);
        client.receive_all();
    };
    // What came with the request would be taken for encrypted.
    ends(&[&SSL_REQUEST[..], b"injected"].concat());
    let told = |error: &str| proxy.log.wait_for(error, |line| line["end"] == "tls_failed" && line["error"] == error);
    told("SSLRequest: more came before it was answered");
    ends(&[0, 0, 0, 41, 0, 3, 0, 0, b'u']);
    told("TLS: what the peer sends is not TLS");
    let mut client = proxy.connect();
    client.send(&GSSENC_REQUEST);
    assert_eq!(client.receive(1), b"N");
    client.send(&GSSENC_REQUEST);
    client.receive_all();
    told("SSLRequest: asked for again");
    // One stops within its request, one behind it.
    ends(&SSL_REQUEST[..5]);
    proxy.log.wait_for_end("handshake_timeout");
    let mut client = proxy.connect();
    client.send(&SSL_REQUEST);
    assert_eq!(client.receive(1), b"S");
    assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
    eventually("both are counted", || proxy.ended("handshake_timeout") == 2);
    assert_eq!(server.accepted(), 0);
}

#[test]
fn what_is_wrong_with_certificates_is_told_with_its_place() {
    let authority = Authority::new();
    let (one, other) = (authority.issue("one", &[NAME]), authority.issue("other", &[NAME]));
    fs::write(authority.path("empty.pem"), "").unwrap();
    let path = authority.path("proxy.json");
    let said = |tls: Value| {
        let file = json!({ "groups": [{ "listen": "127.0.0.1:1", "tls": tls }] });
        fs::write(&path, file.to_string()).unwrap();
        check(&path)
    };
    let (is_fine, _) = said(json!({ "certificates": [{ "cert": "one.pem", "key": "one.key" }] }));
    assert!(is_fine);
    let both = json!({ "groups": [
        { "listen": "127.0.0.1:1", "tls": { "certificates": [one] }, "routes": [{ "sni": null, "group": 2 }] },
        { "listen": "127.0.0.1:2", "tls": { "certificates": [one] } },
    ] });
    fs::write(&path, both.to_string()).unwrap();
    let (is_fine, text) = check(&path);
    assert!(!is_fine && text.contains("groups[0].tls: the group has routes"), "{text}");
    assert!(text.contains("group 2 speaks TLS to its clients itself"), "{text}");
    for (tls, wanted) in [
        (json!({}), "groups[0].tls: certificates is missing"),
        (json!({ "certificates": [] }), "groups[0].tls.certificates: the list is empty"),
        (
            json!({ "certificates": [{ "cert": one["cert"], "key": other["key"] }] }),
            "the key is not that of the certificate in",
        ),
        (json!({ "certificates": [{ "cert": "gone.pem" }] }), "gone.pem: No such file"),
        (json!({ "certificates": [{ "cert": "one.pem" }] }), "one.pem: no key is in it"),
        (json!({ "certificates": [{ "cert": "empty.pem", "key": "one.key" }] }), "empty.pem: no certificate is in it"),
        (json!({ "certificates": [one], "default": 1 }), "groups[0].tls.default: 1 is out of range"),
        (json!({ "certificates": [one], "min_version": "1.1" }), "expected 1.2, 1.3"),
    ] {
        let (is_fine, text) = said(tls.clone());
        assert!(!is_fine && text.contains(wanted), "{tls}: {text}");
    }
}
