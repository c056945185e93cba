//! Checks of servers that speak TLS, and the tries of those that clients could not reach: each shakes hands where sessions do.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::support::{FakeServer, Group, Setup, TestProxy, check, eventually, free_port, swallow};
use crate::tls_kit::{Authority, TlsClient, echo_with, showing, speaking};

const NAME: &str = "db.example.com";

/// A check that counts at once, and has time on a busy machine.
fn often(keys: Value) -> Value {
    let mut check =
        json!({ "interval": "2s", "fast_interval": "100ms", "down_interval": "100ms", "rise": 1, "fall": 1 });
    check.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    check
}

/// The keys of `server_tls` with which this authority is trusted.
fn trusting(authority: &Authority) -> Value {
    json!({ "ca": authority.path("ca.pem"), "name": NAME })
}

/// A server that answers over TLS as its configuration of the moment says, with this for every request.
fn answering(config: &Arc<Mutex<Arc<ServerConfig>>>, answer: &'static [u8]) -> FakeServer {
    let config = Arc::clone(config);
    FakeServer::start(move |mut client, _| {
        let config = Arc::clone(&config.lock().unwrap());
        let mut connection = rustls::ServerConnection::new(config).unwrap();
        while connection.is_handshaking() {
            if connection.complete_io(&mut client.stream).is_err() {
                return;
            }
        }
        let mut stream = rustls::Stream::new(&mut connection, &mut client.stream);
        while let Ok(1..) = stream.read(&mut [0; 4_096]) {
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    })
}

#[track_caller]
fn goes_down(proxy: &TestProxy, server: &FakeServer, why: &str) {
    let wanted = format!("check failed: {why}");
    let is_down = || proxy.server(server.addr)["cause"].as_str().is_some_and(|cause| cause.starts_with(&wanted));
    eventually(&format!("it is down: {why}"), is_down);
}

#[test]
fn a_check_of_kind_tls_passes_when_the_server_proves_who_it_is() {
    let (authority, other) = (Authority::new(), Authority::new());
    let config = Arc::new(Mutex::new(speaking(&authority, &[NAME], None)));
    let server = answering(&config, b"");
    // Sessions pass TLS through as it is: the check has its own way to speak it.
    let keys = json!({ "kind": "tls", "server_tls": trusting(&authority) });
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("check", often(keys)));
    let is_up = || proxy.server(server.addr)["last_check"]["ok"] == true;
    let again = || proxy.ok(&format!("/worker-check.do?group={}&server={}", proxy.addr().port(), server.addr));
    eventually("it is up", is_up);
    assert_eq!(proxy.server(server.addr)["last_check"]["kind"], "tls");
    for (next, why) in [
        (showing(authority.sign_until(&[NAME], (2024, 1, 1)), None), "TLS: the peer's certificate expired "),
        (speaking(&other, &[NAME], None), "TLS: the peer's certificate is signed by no authority trusted here"),
        (
            speaking(&authority, &["far.from.example.com"], None),
            "TLS: the peer's certificate is not for db.example.com, but for far.from.example.com",
        ),
    ] {
        *config.lock().unwrap() = next;
        again();
        goes_down(&proxy, &server, why);
        *config.lock().unwrap() = speaking(&authority, &[NAME], None);
        eventually("it is up again", is_up);
    }
    // A client's TLS goes through as ever.
    let tls = TlsClient::connect(proxy.addr(), &authority.client(), NAME);
    drop(tls);
}

#[test]
fn a_server_that_does_not_speak_tls_or_is_silent_fails_with_that() {
    let authority = Authority::new();
    let (plain, silent) = (FakeServer::banner("no TLS is spoken here"), FakeServer::silent());
    let check = often(json!({ "kind": "tls", "timeout": "300ms", "server_tls": trusting(&authority) }));
    let proxy = TestProxy::start(Group::new("ha", &[&plain, &silent]).with("check", check));
    goes_down(&proxy, &plain, "TLS: what the peer sends is not TLS");
    goes_down(&proxy, &silent, "TLS: no handshake within 300ms");
}

#[test]
fn checks_speak_tls_where_sessions_do() {
    let authority = Authority::new();
    let config = Arc::new(Mutex::new(speaking(&authority, &[NAME], None)));
    let pages = answering(&config, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let redis = answering(&config, b"+PONG\r\n");
    let elsewhere = FakeServer::start_at(free_port(pages.addr.ip()), |mut client, _| {
        client.send(b"HTTP/1.1 204 No Content");
        swallow(client);
    });
    let group = |server: &FakeServer, name: &str, check: Value| {
        let group = Group::new("ha", &[server]).with("name", name).with("server_tls", trusting(&authority));
        group.with("check", often(check)).with("send_proxy", "none")
    };
    let port = elsewhere.addr.port();
    let proxy = Setup::default()
        .group(group(&pages, "pages", json!({ "kind": "http" })))
        .group(group(&redis, "redis", json!({ "kind": "redis" })))
        .group(group(&pages, "shake", json!({ "kind": "tls" })))
        .group(group(&pages, "connect", json!({ "kind": "tcp" })))
        // Another port is no business of sessions.
        .group(group(&pages, "port", json!({ "kind": "exchange", "port": port, "expect": "HTTP/1.1 204" })))
        .start();
    for group in 0..5 {
        let port = proxy.addr_of(group).port();
        let last = || proxy.servers(port)[0]["last_check"].clone();
        eventually("the check passes", || last()["ok"] == true);
        assert_eq!(last()["error"], Value::Null, "{group}");
    }
}

#[test]
fn a_header_comes_before_the_handshake_of_a_check_and_of_a_try() {
    let authority = Authority::new();
    let config = speaking(&authority, &[NAME], None);
    let server = FakeServer::start(move |mut client, _| {
        let mut header = Vec::new();
        while !header.ends_with(b"\r\n") {
            header.extend(client.receive(1));
        }
        let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        while connection.is_handshaking() && connection.complete_io(&mut client.stream).is_ok() {}
    });
    let group = Group::new("ha", &[&server]).with("server_tls", trusting(&authority)).with("send_proxy", "v1");
    let proxy = TestProxy::start(group.with("check", often(json!({ "kind": "tls" }))));
    eventually("the check passes", || proxy.server(server.addr)["last_check"]["ok"] == true);
}

#[test]
fn a_server_that_failed_a_handshake_is_back_when_it_shakes_hands_and_not_before() {
    let (authority, other) = (Authority::new(), Authority::new());
    let config = Arc::new(Mutex::new(speaking(&other, &[NAME], None)));
    let (bad, good) = (answering(&config, b"x"), echo_with(speaking(&authority, &[NAME], None), |_| {}));
    // The check connects in plain, which proves nothing here.
    let group = Group::new("ha", &[&bad, &good]).with("server_tls", trusting(&authority));
    let group = group.with("check", often(json!({ "kind": "tcp", "traffic_counts": false })));
    let proxy = TestProxy::start(group.with("recheck_max", "250ms"));
    proxy.connect().echo(b"hello");
    let is_suspect = || proxy.server(bad.addr)["suspect"] == true;
    eventually("it is suspect", is_suspect);
    let before = bad.accepted();
    eventually("it was tried and checked some times", || bad.accepted() >= before + 6);
    assert!(is_suspect(), "it listens, but no session would reach it");
    *config.lock().unwrap() = speaking(&authority, &[NAME], None);
    eventually("it is back, and no client had to find out", || !is_suspect());
}

#[test]
fn a_group_that_speaks_tls_and_one_that_does_not_judge_the_same_server_each_for_itself() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = echo_with(speaking(&other, &[NAME], None), |_| {});
    let group = |name: &str| Group::new("ha", &[&server]).with("name", name).with("recheck_max", "250ms");
    let tls = group("tls").with("server_tls", trusting(&authority));
    let proxy = Setup::default().group(tls).group(group("plain")).start();
    let suspect = |group: usize| proxy.servers(proxy.addr_of(group).port())[0]["suspect"] == true;
    let mut client = crate::support::Client::connect(proxy.addr_of(0));
    client.send(b"hello");
    client.receive_all();
    eventually("it is suspect", || suspect(0));
    let before = server.accepted();
    eventually("it was tried", || server.accepted() >= before + 3);
    assert!(suspect(0) && !suspect(1));
}

#[test]
fn where_the_client_says_whom_to_expect_a_connect_has_to_do() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = echo_with(speaking(&other, &[NAME], None), |_| {});
    let keys = json!({ "ca": authority.path("ca.pem"), "name": "client" });
    let tls = json!({ "certificates": [authority.issue("site", &[NAME])] });
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("server_tls", keys).with("tls", tls));
    let mut client = TlsClient::connect(proxy.addr(), &authority.client(), NAME);
    client.send(b"hello");
    client.receive_all();
    eventually("it is back after a connect", || !proxy.log.with_message("server recovered").is_empty());
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    let authority = Authority::new();
    let path = authority.path("proxy.json");
    let said = |group: Value, more: Value| {
        let mut first = json!({ "listen": "127.0.0.1:1" });
        first.as_object_mut().unwrap().extend(group.as_object().unwrap().clone());
        std::fs::write(&path, json!({ "groups": [first, more] }).to_string()).unwrap();
        check(&path)
    };
    let tls = trusting(&authority);
    let plain = json!({ "listen": "127.0.0.1:2" });
    let by_client = json!({ "ca": authority.path("ca.pem"), "name": "client" });
    let routes = json!([{ "sni": null, "group": 2 }]);
    let asks = json!({ "routes": routes, "starttls": "postgresql", "route_default": "close" });
    for (group, more, wanted) in [
        (
            json!({ "check": { "kind": "tls" } }),
            plain.clone(),
            "groups[0].check: kind \"tls\" has to be told how servers speak TLS",
        ),
        (
            json!({ "check": { "kind": "http" }, "server_tls": by_client }),
            plain.clone(),
            "groups[0].check: checks have no client whose name they could ask for",
        ),
        (
            json!({ "check": { "kind": "tls", "server_tls": by_client } }),
            plain.clone(),
            "groups[0].check.server_tls: a check has no client",
        ),
        (
            json!({ "check": { "kind": "tcp", "server_tls": tls } }),
            plain.clone(),
            "groups[0].check.server_tls: only with kind tls, exchange, http, redis, postgresql or mysql",
        ),
        (
            asks.clone(),
            json!({ "listen": "127.0.0.1:2", "server_tls": tls }),
            "groups[0].routes[0].group: group 2 begins with TLS at its servers, which starttls has asked for it in the clear",
        ),
        (
            json!({ "routes": routes, "starttls": "postgresql", "server_tls": tls }),
            plain.clone(),
            "groups[0].starttls: its servers are asked for TLS in the clear, but server_tls begins with it",
        ),
    ] {
        let (is_fine, text) = said(group.clone(), more);
        assert!(!is_fine && text.contains(wanted), "{group}: {text}");
    }
    for (group, more) in [
        (json!({ "check": { "kind": "tls" }, "server_tls": tls }), plain.clone()),
        (json!({ "check": { "kind": "tcp" }, "server_tls": by_client }), plain.clone()),
        (json!({ "check": { "kind": "tls", "server_tls": tls }, "server_tls": by_client }), plain.clone()),
        // Who speaks no TLS may get to such servers.
        (
            json!({ "routes": [], "starttls": "postgresql", "route_default": "close", "route_plain": 2 }),
            json!({ "listen": "127.0.0.1:2", "server_tls": tls }),
        ),
    ] {
        let (is_fine, text) = said(group.clone(), more);
        assert!(is_fine, "{group}: {text}");
    }
}
