//! Servers are checked by what they answer, each kind in its own way.

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, FakeServer, Group, Setup, TestProxy, echo, eventually, replace, swallow, wait_for};

/// A check that counts at once, and has time on a busy machine.
fn check(keys: Value) -> Value {
    let mut check = json!({ "interval": "2s", "fast_interval": "100ms", "rise": 1, "fall": 1 });
    let all = check.as_object_mut().unwrap();
    all.extend(keys.as_object().unwrap().clone());
    check
}

/// A server with one answer while it is well and another while it is not, to whatever it is asked.
struct Patient {
    server: FakeServer,
    is_well: Arc<AtomicBool>,
    /// What it was asked last.
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Patient {
    /// `greeting` is said before anything is asked.
    fn new(greeting: &'static [u8], well: &'static [u8], unwell: &'static [u8]) -> Self {
        let (is_well, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is, noted) = (Arc::clone(&is_well), Arc::clone(&asked));
        let server = FakeServer::start(move |mut client, _| {
            let _ = client.stream.write_all(greeting);
            let mut question = vec![0; 4_096];
            let Ok(len @ 1..) = client.stream.read(&mut question) else { return };
            *noted.lock().unwrap() = question[..len].to_vec();
            let _ = client.stream.write_all(if is.load(SeqCst) { well } else { unwell });
            swallow(client);
        });
        Self { server, is_well, asked }
    }

    fn asked(&self) -> String {
        String::from_utf8_lossy(&self.asked.lock().unwrap()).into_owned()
    }
}

/// The server is offline with this reason while it is unwell, and online while it is well. The code in its answer, and in the
/// one that passes.
#[track_caller]
fn goes_by_its_answer(patient: &Patient, keys: Value, why: &str) -> [Value; 2] {
    let group = Group::new("ha", &[&patient.server]).with("check", check(keys.clone()));
    let proxy = TestProxy::start(group);
    let shown = || proxy.server(patient.server.addr);
    let cause = wait_for("it is down", || shown()["cause"].as_str().map(str::to_owned));
    assert!(cause.starts_with(&format!("check failed: {why} (")), "{cause}");
    let last = shown()["last_check"].clone();
    assert_eq!((&last["kind"], &last["error"], &last["ok"]), (&keys["kind"], &json!(why), &json!(false)));
    patient.is_well.store(true, SeqCst);
    eventually("it is up", || shown()["online"] == true);
    let passed = shown()["last_check"].clone();
    assert_eq!(passed["error"], Value::Null);
    patient.is_well.store(false, SeqCst);
    eventually("it is down again", || shown()["online"] == false);
    proxy.log.wait_for("the first failure is told", |line| {
        line["message"] == "check failed" && line["check.error"] == why && line["check.kind"] == keys["kind"]
    });
    [last["code"].clone(), passed["code"].clone()]
}

#[test]
fn an_exchange_fails_with_what_was_expected_and_what_was_answered() {
    let patient = Patient::new(b"", b"+PONG\r\n", b"-LOADING Redis is loading the dataset in memory\r\n");
    let keys = json!({ "kind": "exchange", "send": "PING\r\n", "expect": "+PONG" });
    let answered = r#"expected "+PONG", answered "-LOADING Redis is loading the dataset in memory\r\n""#;
    assert_eq!(goes_by_its_answer(&patient, keys, answered), [Value::Null, Value::Null]);
    assert_eq!(patient.asked(), "PING\r\n");
}

#[test]
fn a_page_fails_by_its_status_and_by_its_body() {
    let patient = Patient::new(b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let codes = goes_by_its_answer(&patient, json!({ "kind": "http", "path": "/health" }), "status 503");
    assert_eq!(codes, [json!(503), json!(200)]);
    let expected = format!("GET /health HTTP/1.1\r\nHost: {}\r\n", patient.server.addr);
    assert!(patient.asked().starts_with(&expected), "{}", patient.asked());
    let patient =
        Patient::new(b"", b"HTTP/1.0 200 OK\r\n\r\nall is well", b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\noops");
    let keys = json!({ "kind": "http", "body": { "contains": "well" } });
    goes_by_its_answer(&patient, keys, r#"body: expected "well" in it, answered "oops""#);
    let patient = Patient::new(b"", b"HTTP/1.0 200 OK\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n");
    goes_by_its_answer(&patient, json!({ "kind": "http" }), r#"no HTTP: answered "SSH-2.0-OpenSSH_9.2""#);
}

#[test]
fn redis_fails_while_it_loads() {
    let patient = Patient::new(b"", b"-NOAUTH Authentication required.\r\n", b"-LOADING Redis is loading\r\n");
    let codes = goes_by_its_answer(&patient, json!({ "kind": "redis" }), r#"answered "-LOADING Redis is loading""#);
    assert_eq!(codes, [json!("LOADING"), json!("NOAUTH")]);
}

#[test]
fn postgresql_fails_while_it_starts() {
    let asks = b"R\0\0\0\x0c\0\0\0\x05salt";
    let starts = b"E\0\0\0\x37SFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let patient = Patient::new(b"", asks, starts);
    let why = "FATAL 57P03 the database system is starting up";
    let codes = goes_by_its_answer(&patient, json!({ "kind": "postgresql" }), why);
    assert_eq!(codes, [json!("57P03"), Value::Null]);
}

#[test]
fn mysql_fails_while_it_refuses_the_login() {
    let greeting = b"\x0a\0\0\0\x0a10.11.0\0\x01";
    let patient =
        Patient::new(greeting, b"\x07\0\0\x02\0\0\0\x02\0\0\0", b"\x17\0\0\x02\xff\x10\x04Too many connections");
    let keys = json!({ "kind": "mysql", "user": "me" });
    let codes = goes_by_its_answer(&patient, keys, "ERR 1040 Too many connections");
    assert_eq!(codes, [json!(1040), Value::Null]);
}

#[test]
fn a_server_that_hangs_fails_with_the_time_it_was_given_whatever_the_kind() {
    let server = FakeServer::silent();
    let mut setup = Setup::default();
    let kinds = [
        json!({ "kind": "exchange", "send": "x", "expect": "y" }),
        json!({ "kind": "http" }),
        json!({ "kind": "redis" }),
        json!({ "kind": "postgresql" }),
        json!({ "kind": "mysql", "user": "me" }),
    ];
    for (index, mut keys) in kinds.into_iter().enumerate() {
        keys["timeout"] = json!("150ms");
        setup = setup.group(Group::new("ha", &[&server]).with("check", check(keys)).with("name", format!("g{index}")));
    }
    let proxy = setup.start();
    for index in 0..5 {
        eventually("it is down", || {
            proxy.servers(proxy.addr_of(index).port())[0]["last_check"]["error"] == "no answer within 150ms"
        });
    }
}

/// Says a kind's first words and then sends without end.
fn gush(mut client: Client, words: &[u8]) {
    let _ = client.stream.write_all(words);
    let chunk = vec![b'x'; 64 << 10];
    while client.stream.write_all(&chunk).is_ok() {}
}

#[test]
fn servers_that_send_without_end_cost_no_memory() {
    let words: [&[u8]; 5] = [b"", b"HTTP/1.1 200 OK\r\nX: ", b"+", b"S\0\0\x3f\0", b"\0\x3f\0\0\x0a"];
    let kinds = [
        json!({ "kind": "exchange", "send": "x", "expect": { "contains": "y" } }),
        json!({ "kind": "http", "body": { "contains": "y" } }),
        json!({ "kind": "redis" }),
        json!({ "kind": "postgresql" }),
        json!({ "kind": "mysql", "user": "me" }),
    ];
    let servers: Vec<FakeServer> =
        words.into_iter().map(|words| FakeServer::start(move |client, _| gush(client, words))).collect();
    let mut setup = Setup::default();
    for (index, (server, mut keys)) in servers.iter().zip(kinds).enumerate() {
        keys["interval"] = json!("100ms");
        setup = setup.group(Group::new("ha", &[server]).with("check", check(keys)).with("name", format!("g{index}")));
    }
    let proxy = setup.start();
    let wait_for_checks = |count: usize| {
        eventually("there were so many checks", || servers.iter().all(|server| server.accepted() >= count));
    };
    wait_for_checks(5);
    let before = proxy.resident_bytes();
    wait_for_checks(25);
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
    for index in 0..5 {
        assert_eq!(proxy.servers(proxy.addr_of(index).port())[0]["last_check"]["ok"], false);
    }
}

#[test]
fn a_password_in_a_file_is_looked_up_again_when_the_file_changes() {
    let server = FakeServer::start(|mut client, _| {
        let mut said = vec![0; 4_096];
        while let Ok(len @ 1..) = client.stream.read(&mut said) {
            let said = String::from_utf8_lossy(&said[..len]).into_owned();
            let answer: &[u8] = match said.contains("AUTH") {
                true if said.contains("the new one") => b"+OK\r\n",
                true => b"-WRONGPASS invalid\r\n",
                false => b"+PONG\r\n",
            };
            let _ = client.stream.write_all(answer);
        }
    });
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("redis");
    fs::write(&file, "the old one\n").unwrap();
    let keys = json!({ "kind": "redis", "password": format!("file:{}", file.display()) });
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("check", check(keys)));
    let error = || proxy.server(server.addr)["last_check"]["error"].clone();
    eventually("the old one is wrong", || error() == r#"answered "-WRONGPASS invalid""#);
    replace(&file, "the new one\n");
    eventually("the new one is right", || proxy.server(server.addr)["online"] == true);
    assert_eq!(proxy.log.count("the new one") + proxy.log.count("the old one"), 0);
}

#[test]
fn another_kind_decides_with_its_first_result_and_a_mistake_in_it_changes_nothing() {
    let server = FakeServer::start(|client, _| echo(client));
    let keys = json!({ "kind": "exchange", "send": "a", "expect": "a", "fall": 100 });
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("check", check(keys)));
    eventually("it passes", || proxy.server(server.addr)["last_check"]["ok"] == true);
    let change = |keys: Value| {
        let mut file: Value = serde_json::from_str(&proxy.file()).unwrap();
        file["groups"][0]["check"] = check(keys);
        replace(proxy.path(), &file.to_string());
    };
    change(json!({ "kind": "exchange", "expect": { "regex": "(" } }));
    proxy.log.wait_for("the mistake is told", |line| line.to_string().contains("unclosed group, at 1"));
    assert_eq!(proxy.server(server.addr)["online"], true);
    change(json!({ "kind": "exchange", "send": "a", "expect": "b", "fall": 100 }));
    eventually("it fails, and it takes a hundred of that", || proxy.server(server.addr)["last_check"]["ok"] == false);
    assert_eq!(proxy.server(server.addr)["online"], true);
    change(json!({ "kind": "http", "fall": 100 }));
    eventually("the first result of another kind decides", || proxy.server(server.addr)["online"] == false);
    eventually("who gets its own words back hears no HTTP", || {
        proxy.server(server.addr)["last_check"]["error"]
            .as_str()
            .is_some_and(|why| why.starts_with("no HTTP: answered \"GET /"))
    });
}

#[test]
fn a_client_is_never_sent_to_a_server_that_answers_wrongly() {
    let patient = Patient::new(b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 Busy\r\n\r\n");
    let other = FakeServer::echo();
    let group = Group::new("ha", &[]).server(&patient.server, json!({})).server(&other, json!({ "check": false }));
    let proxy = TestProxy::start(group.with("check", check(json!({ "kind": "http", "start": "checked" }))));
    for _ in 0..20 {
        proxy.connect().echo(b"of the other");
    }
    patient.is_well.store(true, SeqCst);
    eventually("it is up", || proxy.server(patient.server.addr)["online"] == true);
    let mut client = proxy.connect();
    client.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.send(b"x");
    assert_eq!(client.receive(8), b"HTTP/1.1");
}

#[test]
fn a_check_begins_with_the_header_that_sessions_begin_with() {
    for (of_group, of_check, expected) in [
        ("none", Value::Null, "*1\r\n"),
        ("v2", Value::Null, "\r\n\r\n\0\r\nQUIT\n \0\0\0*1\r\n"),
        ("v2", json!("v1"), "PROXY TCP4 "),
        ("v1", json!("none"), "*1\r\n"),
    ] {
        let said = Arc::new(Mutex::new(String::new()));
        let noted = Arc::clone(&said);
        let server = FakeServer::start(move |mut client, _| {
            let (mut all, mut chunk) = (Vec::new(), [0; 512]);
            while !all.ends_with(b"PING\r\n") {
                let Ok(len @ 1..) = client.stream.read(&mut chunk) else { return };
                all.extend_from_slice(&chunk[..len]);
            }
            *noted.lock().unwrap() = String::from_utf8_lossy(&all).into_owned();
            client.send(b"+PONG\r\n");
            swallow(client);
        });
        let keys = json!({ "kind": "redis", "send_proxy": of_check });
        let group = Group::new("ha", &[&server]).with("send_proxy", of_group).with("check", check(keys));
        let proxy = TestProxy::start(group);
        eventually("it passes", || proxy.server(server.addr)["last_check"]["ok"] == true);
        let said = said.lock().unwrap().clone();
        assert!(said.starts_with(expected), "{said:?}");
    }
}
