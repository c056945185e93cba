//! Private keys are read from files and are never said, whatever goes well or wrong.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::support::{FakeServer, Group, TestProxy, eventually, replace, run};
use crate::tls_kit::{Authority, TlsClient, echo_with, speaking};

const NAME: &str = "db.example.com";

/// So much of a key would be a find, in letters.
const PART: usize = 16;

/// The parts of a key in each way in which they might be said: as they stand in the file, and as lists of numbers.
fn parts(key: &str) -> Vec<String> {
    let lines = key.lines().filter(|line| !line.starts_with("-----") && line.len() >= PART);
    let parts: Vec<&str> = lines.flat_map(|line| (0..=line.len() - PART).map(|at| &line[at..at + PART])).collect();
    let numbers = parts.iter().map(|part| {
        let numbers: Vec<String> = part.bytes().map(|byte| byte.to_string()).collect();
        numbers.join(", ")
    });
    numbers.chain(parts.iter().map(|part| (*part).to_owned())).collect()
}

/// A key as it is spoilt: of another certificate, without its end, in one line, with its beginning in the same line, and so on.
fn spoilt(good: &str, foreign: &str) -> [String; 7] {
    [
        foreign.to_owned(),
        good.lines().take(2).collect::<Vec<_>>().join("\n"),
        good.replace('\n', ""),
        good.replace("KEY-----\n", "KEY-----"),
        good.replace("-----BEGIN PRIVATE KEY-----\n", ""),
        good.replacen('M', "!", 1),
        good.replace("PRIVATE KEY", "CERTIFICATE"),
    ]
}

#[test]
fn a_key_is_never_said_by_the_log_the_admin_port_a_check_or_a_dump() {
    let (authority, ours, other) = (Authority::new(), Authority::new(), Authority::new());
    let site = authority.issue("site", &[NAME]);
    let mine = ours.issue("proxy", &["proxy.example.com"]);
    let (cert, key) = (authority.path("site.pem"), authority.path("site.key"));
    let mut secrets: Vec<String> = [&key, &ours.path("proxy.key")].map(|path| fs::read_to_string(path).unwrap()).into();
    let servers =
        [echo_with(speaking(&authority, &[NAME], Some(&ours)), |_| {}), FakeServer::banner("no TLS is spoken here")];
    let server_tls = json!({ "ca": authority.path("ca.pem"), "name": NAME, "cert": mine["cert"], "key": mine["key"] });
    let tls = json!({ "certificates": [site], "client_auth": "request", "client_ca": ours.path("ca.pem") });
    let check = json!({ "kind": "tls", "interval": "100ms" });
    let group = Group::new("round_robin", &[&servers[0], &servers[1]]).with("check", check);
    let proxy = TestProxy::start(group.with("tls", tls).with("server_tls", server_tls).with("send_proxy", "none"));

    // What goes well, and what does not.
    for version in [&TLS12, &TLS13] {
        let bare = || authority.trusting(&[version]);
        for config in [bare(), ours.showing(bare, "alice"), other.showing(bare, "mallory"), other.trusting(&[version])]
        {
            if let Ok(mut client) = TlsClient::try_connect(proxy.addr(), &Arc::new(config), NAME) {
                let _ = client.try_echo(b"hello");
            }
        }
    }
    let mut client = proxy.connect();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    client.receive_all();

    let good = fs::read_to_string(&key).unwrap();
    let (_, foreign) = authority.sign(&[NAME]);
    let spoilt = spoilt(&good, &foreign);
    secrets.push(foreign);
    let mut said = String::new();
    let dump = |path: &Path, flags: &[&str]| {
        let output = run(&[&["check", "--strict"], flags, &["-c", path.to_str().unwrap()]].concat());
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for text in &spoilt {
        replace(&key, text);
        said += proxy.request("POST", "/config-reload.do", "", b"").json().to_string().as_str();
        said += &dump(proxy.path(), &[]);
        // The file with the certificate may be the one that is wrong.
        let file = authority.path("other.json");
        let tls =
            json!({ "certificates": [{ "cert": key, "key": key }, { "cert": cert, "key": cert }, { "cert": key }] });
        let trusts = json!({ "ca": key });
        let text = json!({ "groups": [{ "listen": "127.0.0.1:1", "tls": tls, "server_tls": trusts }] });
        fs::write(&file, text.to_string()).unwrap();
        said += &dump(&file, &[]);
    }
    replace(&key, &good);
    eventually("it is in order again", || proxy.log.text().contains("certificates can be used again"));
    for flags in [&[][..], &["--dump"], &["--dump", "--secrets"]] {
        said += &dump(proxy.path(), flags);
    }
    let group = proxy.addr().port();
    for target in [
        "/group-list.do",
        &format!("/worker-list.do?group={group}"),
        "/session-list.do",
        "/policy-list.do",
        "/state-list.do",
        "/metrics",
        "/",
    ] {
        let (_, body) = proxy.try_get(target).expect("it answers");
        said += &body;
    }
    said += &proxy.log.text();
    assert!(said.contains("site.key") && said.contains("tls_failed"), "what is looked through says something: {said}");
    for part in secrets.iter().flat_map(|key| parts(key)) {
        assert!(!said.contains(&part), "a part of a key was said: {part}");
    }
}
