//! Routes for clients of PostgreSQL, which ask for TLS in the clear before they send their hello.

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Ended, FakeServer, Group, Setup, TestProxy, echo, eventually, hello, let_pass};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
/// The beginning of a start-up packet.
const STARTUP: &[u8] = &[0, 0, 0, 41, 0, 3, 0, 0, b'u', b's', b'e', b'r', 0];

/// A server that answers SSLRequest so, says its name, and then sends back what it gets.
fn server(name: &'static str, answer: &'static [u8]) -> FakeServer {
    FakeServer::start(move |mut client, _| {
        let mut request = [0; 8];
        // Who is not asked ends at once.
        if client.stream.read_exact(&mut request).is_err() || request != SSL_REQUEST {
            return;
        }
        client.send(answer);
        if answer == b"S" {
            // It says nothing until TLS begins.
            let mut first = [0];
            if client.stream.read_exact(&mut first).is_ok() {
                client.send(name.as_bytes());
                client.send(&first);
                echo(client);
            }
        } else {
            // It waits for what the client does about it.
            client.receive_some(1);
        }
    })
}

/// A server that takes no request, says its name, and sends back what it gets.
fn plain(name: &'static str) -> FakeServer {
    FakeServer::start(move |mut client, _| {
        client.send(name.as_bytes());
        echo(client);
    })
}

fn target(name: &str, server: &FakeServer) -> Group {
    Group::new("round_robin", &[server]).with("name", name).with("open", false)
}

/// A group whose own server has a name of its own, and whose routes lead to `one`.
fn proxy(own: &FakeServer, one: &FakeServer, more: Value) -> TestProxy {
    let routes = json!([{ "sni": ["one.example"], "group": "one" }]);
    let mut group = Group::new("round_robin", &[own]).with("routes", routes).with("starttls", "postgresql");
    group = group.with("hello_timeout", "30s").with("route_plain", "plain");
    for (key, value) in more.as_object().unwrap() {
        group = group.with(key, value.clone());
    }
    let setup = Setup::default().group(group).group(target("one", one));
    setup.group(Group::new("round_robin", &[own]).with("name", "plain").with("open", false)).start()
}

/// Asks for TLS, which has to be granted.
#[track_caller]
fn asking(proxy: &TestProxy) -> Client {
    let mut client = proxy.connect();
    client.send(&SSL_REQUEST);
    assert_eq!(client.receive(1), b"S");
    client
}

#[track_caller]
fn is_served(mut client: Client, name: &str, sent: &[u8]) {
    assert_eq!(client.receive(4), name.as_bytes());
    assert_eq!(client.receive(sent.len()), sent);
    client.echo(b"and more");
    client.finish();
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
}

#[test]
fn the_request_is_granted_and_asked_again_of_the_server_that_the_name_leads_to() {
    let [own, one] = [server("self", b"S"), server("one!", b"S")];
    let proxy = proxy(&own, &one, json!({}));
    for (name, expected) in [(Some("one.example"), "one!"), (Some("x.example"), "self"), (None, "self")] {
        let hello = hello(name, &["postgresql"]);
        for cut in [0, 1, 300, hello.len() - 1] {
            let mut client = asking(&proxy);
            client.send(&hello[..cut]);
            let_pass(Duration::from_millis(if cut > 0 { 5 } else { 0 }), "the pace of the client");
            client.send(&hello[cut..]);
            is_served(client, expected, &hello);
        }
    }
    let line =
        proxy.log.wait_for("a session", |line| line["tls.sni"] == "one.example" && line["end"] == "client_closed");
    // Neither the request nor its answer is the client's.
    let sent = hello(Some("one.example"), &["postgresql"]).len() + 8;
    assert_eq!((&line["bytes.up"], &line["bytes.down"]), (&json!(sent), &json!(sent + 4)));
}

#[test]
fn the_request_may_come_in_pieces_and_after_one_for_kerberos() {
    let [own, one] = [server("self", b"S"), server("one!", b"S")];
    let proxy = proxy(&own, &one, json!({}));
    let hello = hello(Some("one.example"), &[]);
    for cut in 1..8 {
        let mut client = proxy.connect();
        client.send(&GSSENC_REQUEST[..cut]);
        let_pass(Duration::from_millis(5), "the pace of the client");
        client.send(&GSSENC_REQUEST[cut..]);
        assert_eq!(client.receive(1), b"N");
        client.send(&SSL_REQUEST[..cut]);
        let_pass(Duration::from_millis(5), "the pace of the client");
        client.send(&SSL_REQUEST[cut..]);
        assert_eq!(client.receive(1), b"S");
        client.send(&hello);
        is_served(client, "one!", &hello);
    }
}

/// TLS at once, as with `sslnegotiation=direct`, and no TLS at all: the server is asked nothing.
#[test]
fn clients_that_do_not_ask_are_routed_as_ever() {
    let [own, one] = [plain("self"), plain("one!")];
    let proxy = proxy(&own, &one, json!({}));
    let hello = hello(Some("one.example"), &["postgresql"]);
    let mut client = proxy.connect();
    client.send(&hello);
    is_served(client, "one!", &hello);
    for bytes in [STARTUP, &[0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2]] {
        let mut client = proxy.connect();
        client.send(bytes);
        is_served(client, "self", bytes);
        // Also after a request that was not granted.
        let mut client = proxy.connect();
        client.send(&GSSENC_REQUEST);
        assert_eq!(client.receive(1), b"N");
        client.send(bytes);
        is_served(client, "self", bytes);
    }
}

#[test]
fn bytes_before_the_answer_are_no_bytes_of_the_client() {
    let [own, one] = [server("self", b"S"), server("one!", b"S")];
    let proxy = proxy(&own, &one, json!({}));
    let hello = hello(Some("one.example"), &[]);
    for (bytes, error) in [
        ([&SSL_REQUEST[..], &hello].concat(), "SSLRequest: more came before it was answered"),
        ([&SSL_REQUEST[..], b"Q"].concat(), "SSLRequest: more came before it was answered"),
        ([GSSENC_REQUEST, SSL_REQUEST].concat(), "SSLRequest: more came before it was answered"),
    ] {
        let mut client = proxy.connect();
        client.send(&bytes);
        assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
        proxy.log.wait_for("it is told", |line| line["end"] == "bad_hello" && line["error"] == error);
    }
    for (bytes, error) in [
        (&GSSENC_REQUEST[..], "SSLRequest: asked for again"),
        (b"x", "SSLRequest: it was granted, and no TLS came"),
        (&SSL_REQUEST, "SSLRequest: it was granted, and no TLS came"),
    ] {
        let mut client = proxy.connect();
        let is_again = bytes == GSSENC_REQUEST;
        client.send(if is_again { &GSSENC_REQUEST } else { &SSL_REQUEST });
        assert_eq!(client.receive(1), if is_again { b"N" } else { b"S" });
        client.send(bytes);
        assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
        proxy.log.wait_for("it is told", |line| line["end"] == "bad_hello" && line["error"] == error);
    }
    eventually("they are counted", || proxy.ended("bad_hello") == 6);
    assert_eq!((own.accepted(), one.accepted()), (0, 0));
}

#[test]
fn a_server_that_does_not_grant_tls_ends_the_session_with_the_reason() {
    for (answer, error) in [
        (&b"N"[..], "the server does not take TLS"),
        (b"E", "the server answers SSLRequest with byte 69; expected S or N"),
        (b"Sx", "the server has sent more than its answer to SSLRequest"),
        (b"", "no answer to SSLRequest within 500 ms"),
    ] {
        let [own, one] = [server("self", b"S"), server("one!", answer)];
        let routes = json!([{ "sni": ["one.example"], "group": "one" }]);
        let group = Group::new("ha", &[&own]).with("routes", routes).with("starttls", "postgresql");
        let proxy = Setup::default().group(group).group(target("one", &one).with("connect_timeout", "500ms")).start();
        let mut client = asking(&proxy);
        client.send(&hello(Some("one.example"), &[]));
        // The end is in order: what the client has sent was read.
        assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder), "{error}");
        let line = proxy.log.wait_for_end("starttls_refused");
        assert_eq!((&line["error"], &line["server.addr"]), (&json!(error), &json!(one.addr.to_string())));
        assert_eq!((&line["bytes.up"], &line["group.name"]), (&json!(0), &json!("one")));
        eventually("it is counted", || proxy.ended("starttls_refused") == 1);
    }
    // One that hangs up.
    let [own, one] = [server("self", b"S"), FakeServer::start(|_, _| {})];
    let proxy = proxy(&own, &one, json!({}));
    let mut client = asking(&proxy);
    client.send(&hello(Some("one.example"), &[]));
    client.receive_all();
    proxy.log.wait_for_end("starttls_refused");
}

/// The next server is tried, as for any client.
#[test]
fn a_server_that_is_not_there_is_passed_over() {
    let [gone, one, own] = [FakeServer::refusing(), server("one!", b"S"), server("self", b"S")];
    let routes = json!([{ "sni": ["one.example"], "group": "one" }]);
    let group = Group::new("ha", &[&own]).with("routes", routes).with("starttls", "postgresql");
    let both = Group::new("ha", &[&gone, &one]).with("name", "one").with("open", false);
    let proxy = Setup::default().group(group).group(both).start();
    let mut client = asking(&proxy);
    let hello = hello(Some("one.example"), &[]);
    client.send(&hello);
    is_served(client, "one!", &hello);
    assert_eq!(proxy.log.wait_for_end("client_closed")["attempts"], 2);
}

#[test]
fn a_client_that_has_asked_and_is_silent_is_waited_for_no_longer_than_it_may_take() {
    let [own, one] = [server("self", b"S"), server("one!", b"S")];
    let proxy = proxy(&own, &one, json!({ "hello_timeout": "400ms" }));
    let mut client = asking(&proxy);
    assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
    assert_eq!(proxy.log.wait_for_end("hello_timeout")["error"], "TLS hello: incomplete after 400ms (0 bytes)");
}
