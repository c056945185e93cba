//! TLS to servers: they have to prove who they are before they get a byte of the client's.

use std::io::{Read, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Client, Ended, FakeServer, Group, TestProxy, eventually, pattern, sha256};
use crate::tls_kit::{Authority, TlsClient, echo_with, speaking};

fn echo_tls(authority: &Authority, names: &[&str]) -> FakeServer {
    echo_with(speaking(authority, names, None), |_| {})
}

/// A group that trusts this authority, with further keys of `server_tls`.
fn group(authority: &Authority, servers: &[&FakeServer], keys: Value) -> Group {
    let mut tls = json!({ "ca": authority.path("ca.pem") });
    tls.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    Group::new("ha", servers).with("server_tls", tls)
}

#[test]
fn bytes_reach_a_server_over_tls_and_come_back() {
    let authority = Authority::new();
    let server = echo_tls(&authority, &["db.example.com"]);
    let proxy = TestProxy::start(group(&authority, &[&server], json!({ "name": "db.example.com" })));
    for length in [0, 1, 20_000, 8 << 20] {
        let bytes = pattern(length as u64, length);
        let mut client = proxy.connect();
        let mut twin = client.twin();
        let sending = {
            let bytes = bytes.clone();
            crate::support::spawn(move || {
                twin.send(&bytes);
                twin.finish();
            })
        };
        let (received, ended) = client.receive_all();
        sending.join().unwrap();
        assert_eq!((received.len(), sha256(&received), ended), (length, sha256(&bytes), Ended::InOrder));
    }
}

#[test]
fn a_session_may_speak_tls_on_both_sides_and_pass_the_name_on() {
    let authority = Authority::new();
    let names = ["one.example.com", "two.example.com"];
    let server = echo_tls(&authority, &names);
    let tls = json!({ "certificates": [authority.issue("site", &names)] });
    let proxy = TestProxy::start(group(&authority, &[&server], json!({ "name": "client" })).with("tls", tls));
    for name in names {
        let mut client = TlsClient::connect(proxy.addr(), &authority.client(), name);
        let bytes = pattern(5, 4 << 20);
        assert!(client.exchange(&bytes) == bytes);
        client.finish();
        assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    }
}

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_no_byte_and_the_next_one_is_tried() {
    let (authority, other) = (Authority::new(), Authority::new());
    let name = ["db.example.com"];
    let strangers = [
        (echo_tls(&other, &name), "is signed by no authority trusted here"),
        (echo_tls(&authority, &["far.from.example.com"]), "is not for db.example.com, but for far.from.example.com"),
        (FakeServer::banner("no TLS is spoken here"), "not TLS"),
    ];
    let good = echo_tls(&authority, &name);
    for (stranger, why) in &strangers {
        let proxy = TestProxy::start(group(&authority, &[stranger, &good], json!({ "name": name[0] })));
        proxy.connect().echo(b"hello");
        assert!(proxy.metric("goproxy_connect_errors_total", &[]) >= 1.0, "{why}");
        let count = |result: &str| {
            proxy.metric("goproxy_tls_handshakes_total", &["side=\"server\"", &format!("result=\"{result}\"")])
        };
        assert!(count("ok") >= 1.0 && count("failed") >= 1.0, "{why}");
        // Alone, it is nobody.
        let proxy = TestProxy::start(group(&authority, &[stranger], json!({ "name": name[0] })));
        let mut client = proxy.connect();
        client.send(b"a secret");
        assert_eq!(client.receive_all().0, b"");
        let line = proxy.log.wait_for_end("server_tls_failed");
        assert!(line["error"].as_str().unwrap().contains(why), "{why}: {line}");
    }
    // Where nothing is verified, the certificate does not matter.
    let keys = json!({ "name": name[0], "verify": false });
    let proxy = TestProxy::start(group(&authority, &[&strangers[0].0], keys));
    proxy.connect().echo(b"hello");
}

#[test]
fn a_server_that_does_not_shake_hands_costs_the_time_of_a_connect() {
    let authority = Authority::new();
    let (silent, good) = (FakeServer::silent(), echo_tls(&authority, &["db.example.com"]));
    let group = group(&authority, &[&silent, &good], json!({ "name": "db.example.com" }));
    let proxy = TestProxy::start(group.with("connect_timeout", "500ms"));
    proxy.connect().echo(b"hello");
    assert!(silent.accepted() > 0);
}

#[test]
fn a_server_hears_who_we_are_and_what_we_speak() {
    let (authority, ours) = (Authority::new(), Authority::new());
    /// A certificate, a protocol and a name.
    type Seen = (Vec<u8>, Vec<u8>, Option<String>);
    let seen: Arc<std::sync::Mutex<Vec<Seen>>> = Arc::default();
    let see = Arc::clone(&seen);
    let config = speaking(&authority, &["db.example.com"], Some(&ours));
    let server = echo_with(config, move |connection| {
        let shown = connection.peer_certificates().unwrap()[0].to_vec();
        let protocol = connection.alpn_protocol().unwrap().to_vec();
        see.lock().unwrap().push((shown, protocol, connection.server_name().map(str::to_owned)));
    });
    let mine = ours.issue("proxy", &["proxy.example.com"]);
    let keys = json!({ "name": "db.example.com", "cert": mine["cert"], "key": mine["key"], "alpn": ["echo"] });
    let proxy = TestProxy::start(group(&authority, &[&server], keys));
    proxy.connect().echo(b"hello");
    let (shown, protocol, name) = seen.lock().unwrap()[0].clone();
    let cert = std::fs::read(ours.path("proxy.pem")).unwrap();
    assert!(shown == crate::tls_kit::first_of(&cert));
    assert_eq!((&protocol[..], name.as_deref()), (&b"echo"[..], Some("db.example.com")));
    // Without a certificate we are nobody.
    let keys = json!({ "name": "db.example.com", "alpn": ["echo"] });
    let proxy = TestProxy::start(group(&authority, &[&server], keys));
    let mut client = proxy.connect();
    client.send(b"hello");
    let (received, _) = client.receive_all();
    assert!(received.is_empty());
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let authority = Authority::new();
    let config = speaking(&authority, &["db.example.com"], None);
    let server = FakeServer::start(move |mut client: Client, _| {
        let mut header = Vec::new();
        while !header.ends_with(b"\r\n") {
            header.extend(client.receive(1));
        }
        assert!(header.starts_with(b"PROXY TCP4 127."));
        let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut client.stream).unwrap();
        }
        let mut stream = rustls::Stream::new(&mut connection, &mut client.stream);
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        std::io::Write::write_all(&mut stream, &bytes).unwrap();
    });
    let keys = json!({ "name": "db.example.com" });
    let proxy = TestProxy::start(group(&authority, &[&server], keys).with("send_proxy", "v1"));
    proxy.connect().echo(b"hello");
    eventually("the session is over", || proxy.sessions() == 0);
}

/// Says something over TLS and ends, with or without a word of that.
fn answers(authority: &Authority, says_so: bool) -> FakeServer {
    let config = speaking(authority, &["db.example.com"], None);
    FakeServer::start(move |mut client, _| {
        let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        while connection.is_handshaking() {
            if connection.complete_io(&mut client.stream).is_err() {
                return;
            }
        }
        connection.writer().write_all(b"answer").unwrap();
        if says_so {
            connection.send_close_notify();
        }
        while connection.wants_write() && connection.write_tls(&mut client.stream).is_ok() {}
        client.finish();
        let _ = std::io::copy(&mut client.stream, &mut std::io::sink());
    })
}

/// Anybody on the way can make the end of a connection, but not the word that announces it.
#[test]
fn an_answer_over_tls_that_may_be_cut_does_not_look_complete() {
    let authority = Authority::new();
    for says_so in [true, false] {
        let server = answers(&authority, says_so);
        let group = || group(&authority, &[&server], json!({ "name": "db.example.com" }));
        let tls = json!({ "certificates": [authority.issue("site", &["db.example.com"])] });
        let proxy = TestProxy::start(group().with("tls", tls));
        let mut client = TlsClient::connect(proxy.addr(), &authority.client(), "db.example.com");
        let mut answer = Vec::new();
        let ended = rustls::Stream::new(&mut client.connection, &mut client.tcp).read_to_end(&mut answer);
        let ended = ended.map(drop).map_err(|error| error.kind());
        let expected = if says_so { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof) };
        assert_eq!((&answer[..], ended), (&b"answer"[..], expected));
        client.finish();
        let is_told = |proxy: &TestProxy| {
            let line = proxy.log.wait_for("the end", |line| line["message"] == "session closed");
            line["server_tls.truncated"] == true
        };
        assert_eq!(is_told(&proxy), !says_so);
        // A client in plain cannot be told, but the log says it.
        let proxy = TestProxy::start(group());
        let mut client = proxy.connect();
        client.finish();
        assert_eq!(client.receive_all(), (b"answer".to_vec(), Ended::InOrder));
        assert_eq!(is_told(&proxy), !says_so);
    }
}
