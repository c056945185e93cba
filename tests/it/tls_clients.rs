//! Clients that prove who they are.

use std::fs;
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::support::{Ended, FakeServer, Group, TestProxy, check, echo, eventually};
use crate::tls_kit::{Authority, TlsClient};

const NAME: &str = "db.example.com";

fn group(authority: &Authority, clients: &Authority, server: &FakeServer, keys: Value) -> Group {
    let mut tls = json!({
        "certificates": [authority.issue("site", &[NAME])],
        "client_auth": "require",
        "client_ca": clients.path("ca.pem"),
    });
    tls.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    Group::new("ha", &[server]).with("tls", tls)
}

/// True when the server answers over such a connection. With TLS 1.3 a client hears that it is refused after its handshake.
fn is_served(proxy: &TestProxy, config: ClientConfig) -> bool {
    let Ok(mut client) = TlsClient::try_connect(proxy.addr(), &Arc::new(config), NAME) else { return false };
    if client.try_echo(b"hello").is_err() {
        return false;
    }
    client.finish();
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    true
}

#[test]
fn only_clients_with_a_valid_certificate_are_let_in_where_one_is_required() {
    let (authority, ours, other) = (Authority::new(), Authority::new(), Authority::new());
    let server = FakeServer::echo();
    let proxy = TestProxy::start(group(&authority, &ours, &server, json!({})));
    for version in [&TLS12, &TLS13] {
        let versions = [version];
        let trusting = || authority.trusting(&versions);
        assert!(is_served(&proxy, ours.showing(trusting, "alice")));
        assert!(!is_served(&proxy, other.showing(trusting, "mallory")));
        assert!(!is_served(&proxy, trusting()));
    }
    let line = proxy.log.wait_for("a client with a certificate", |line| line["client.cert"] == "alice");
    assert_eq!(line["end"], "client_closed");
    eventually("four are refused", || proxy.ended("tls_failed") == 4);
    for error in
        ["TLS: the peer has sent no certificate", "TLS: the peer's certificate is signed by no authority trusted here"]
    {
        proxy.log.wait_for(error, |line| line["end"] == "tls_failed" && line["error"] == error);
    }
    assert_eq!(server.accepted(), 2);
}

#[test]
fn clients_without_a_certificate_are_let_in_where_one_is_asked_for() {
    let (authority, ours, other) = (Authority::new(), Authority::new(), Authority::new());
    let server = FakeServer::echo();
    let proxy = TestProxy::start(group(&authority, &ours, &server, json!({ "client_auth": "request" })));
    let trusting = || authority.trusting(rustls::ALL_VERSIONS);
    assert!(is_served(&proxy, ours.showing(trusting, "alice")));
    assert!(is_served(&proxy, trusting()));
    assert!(!is_served(&proxy, other.showing(trusting, "mallory")));
}

#[test]
fn a_certificate_that_is_revoked_is_refused_from_then_on_even_with_a_ticket() {
    let (authority, ours) = (Authority::new(), Authority::new());
    let server = FakeServer::echo();
    fs::write(ours.path("crl.pem"), ours.revoking(&[])).unwrap();
    let proxy = TestProxy::start(group(&authority, &ours, &server, json!({ "client_crl": ours.path("crl.pem") })));
    let trusting = || authority.trusting(rustls::ALL_VERSIONS);
    let (alice, bob) = (ours.showing(trusting, "alice"), ours.showing(trusting, "bob"));
    // Clones share the tickets.
    for config in [&alice, &bob, &alice] {
        assert!(is_served(&proxy, config.clone()));
    }
    proxy.log.wait_for("a client that came back", |line| line["tls.resumed"] == true && line["client.cert"] == "alice");
    fs::write(ours.path("crl.pem"), ours.revoking(&["alice"])).unwrap();
    eventually("alice is refused", || !is_served(&proxy, alice.clone()));
    assert!(is_served(&proxy, bob));
    let line = proxy.log.wait_for_end("tls_failed");
    assert_eq!(line["error"], "TLS: the peer's certificate is revoked");
}

#[test]
fn what_is_wrong_with_authorities_is_told_with_its_place() {
    let authority = Authority::new();
    let site = authority.issue("site", &[NAME]);
    fs::write(authority.path("empty.pem"), "").unwrap();
    for (keys, wanted) in [
        (json!({ "client_auth": "require" }), "tls.client_auth: require needs client_ca"),
        (json!({ "client_auth": "request", "client_ca": "gone.pem" }), "tls.client_ca: "),
        (json!({ "client_ca": "empty.pem" }), "empty.pem: no certificate is in it"),
        (json!({ "client_ca": "ca.pem", "client_crl": "empty.pem" }), "empty.pem: no list is in it"),
    ] {
        let mut tls = json!({ "certificates": [site] });
        tls.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let file = json!({ "groups": [{ "listen": "127.0.0.1:1", "tls": tls }] });
        let path = authority.path("proxy.json");
        fs::write(&path, file.to_string()).unwrap();
        let (is_fine, said) = check(&path);
        assert!(!is_fine && said.contains(wanted), "{keys}: {said}");
    }
}

#[test]
fn a_header_of_version_2_tells_the_server_of_the_clients_tls() {
    let (authority, ours) = (Authority::new(), Authority::new());
    let headers: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let seen = Arc::clone(&headers);
    let server = FakeServer::start(move |mut client, _| {
        let fixed = client.receive(16);
        let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        seen.lock().unwrap().push([fixed, client.receive(length)].concat());
        echo(client);
    });
    let keys = json!({ "client_auth": "request", "alpn": ["h2"] });
    let proxy = TestProxy::start(group(&authority, &ours, &server, keys).with("send_proxy", "v2"));
    let trusting = || {
        let mut config = authority.trusting(rustls::ALL_VERSIONS);
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    };
    assert!(is_served(&proxy, ours.showing(trusting, "alice")) && is_served(&proxy, trusting()));
    let headers = headers.lock().unwrap();
    let name = [&[2, 0, 14][..], NAME.as_bytes()].concat();
    let ssl = |flags: &[u8], more: &[u8]| [flags, &[0x21, 0, 7], b"TLSv1.3", more].concat();
    for (header, ssl) in headers.iter().zip([
        // The bits for TLS and for a certificate on this connection, and that it is valid.
        ssl(&[7, 0, 0, 0, 0], b"\x22\0\x05alice"),
        ssl(&[1, 0, 0, 0, 1], b""),
    ]) {
        let expected = [&b"\x01\0\x02h2"[..], &name, &[0x20, 0, ssl.len() as u8], &ssl].concat();
        assert_eq!(header[28..], expected, "{}", header.escape_ascii());
    }
    // Without TLS nothing is told of it.
    drop(headers);
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("send_proxy", "v2"));
    proxy.connect().echo(b"hello");
}
