//! Conversations with servers that behave, and with servers that do not.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::health::connect::end_with;
use crate::health::wire::Wire;

const PING: &str = r#"{ "kind": "exchange", "send": "PING\r\n", "expect": "+PONG" }"#;
const PAGE: &str = r#"{ "kind": "http", "path": "/health" }"#;
const REDIS: &str = r#"{ "kind": "redis" }"#;
const POSTGRESQL: &str = r#"{ "kind": "postgresql" }"#;
const MYSQL: &str = r#"{ "kind": "mysql", "user": "goproxy" }"#;

/// One of each kind that talks.
const KINDS: [&str; 5] = [PING, PAGE, REDIS, POSTGRESQL, MYSQL];

fn settings(check: &str) -> Arc<CheckSettings> {
    let text = format!("{{ \"groups\": [ {{ \"listen\": \"0.0.0.0:1\", \"check\": {check} }} ] }}");
    let config =
        crate::config::parse(Path::new("/proxy.json"), &text).unwrap_or_else(|problems| panic!("{problems:?}"));
    Arc::clone(config.groups[0].settings.check.as_ref().unwrap())
}

/// Holds a conversation within a time with a server that does this, and ends it in order.
async fn outcome_within<F>(timeout: Duration, check: &str, serve: impl FnOnce(TcpStream) -> F) -> Result<(), String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut wire = Wire::from(TcpStream::connect(addr).await.unwrap());
    let serving = tokio::spawn(serve(listener.accept().await.unwrap().0));
    let settings = settings(check);
    let mut talk = Talk::new(&mut wire, tokio::time::Instant::now() + timeout, timeout);
    let held = hold(&mut talk, &settings, &addr.to_string().parse().unwrap()).await;
    assert!(talk.seen().len() <= talk::ANSWER_MAX);
    match held {
        Ok(goodbye) => {
            end_with(wire, goodbye).await;
            serving.await.unwrap();
            Ok(())
        }
        Err(failure) => {
            drop(wire);
            serving.await.unwrap();
            Err(failure.why)
        }
    }
}

async fn outcome<F>(check: &str, serve: impl FnOnce(TcpStream) -> F) -> Result<(), String>
where
    F: Future<Output = ()> + Send + 'static,
{
    outcome_within(Duration::from_secs(60), check, serve).await
}

/// A server that, for each pair, waits for these bytes and sends those; then what else it hears is its last word.
async fn scripted(mut stream: TcpStream, script: Vec<(Vec<u8>, Vec<u8>)>, last: Option<&'static [u8]>) {
    for (heard, said) in script {
        let mut got = vec![0; heard.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&heard));
        stream.write_all(&said).await.unwrap();
    }
    if last.is_none() {
        let _ = stream.shutdown().await;
    }
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest).await;
    if let Some(last) = last {
        end.unwrap_or_else(|error| panic!("an end and no reset: {error}"));
        assert_eq!(rest, last);
    }
}

/// What comes of a check whose server answers so, and hears this last word when it passes.
async fn answered(check: &str, script: &[(&[u8], &[u8])], last: &'static [u8]) -> Result<(), String> {
    let script = script.iter().map(|(heard, said)| (heard.to_vec(), said.to_vec())).collect();
    outcome(check, |stream| async move { scripted(stream, script, Some(last)).await }).await
}

/// The same for one that fails: how it ends is left to others.
async fn refused(check: &str, script: &[(&[u8], &[u8])]) -> String {
    let script = script.iter().map(|(heard, said)| (heard.to_vec(), said.to_vec())).collect();
    let outcome = outcome(check, |stream| async move { scripted(stream, script, None).await }).await;
    outcome.expect_err("it fails")
}

/// What comes of a check whose server says this, whatever it is asked, and ends.
async fn said(check: &str, said: &[u8]) -> Result<(), String> {
    let said = said.to_vec();
    outcome(check, |mut stream| async move {
        // The other side may not want all of it.
        let _ = stream.write_all(&said).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

#[tokio::test]
async fn a_server_that_says_nothing_fails_at_the_time_out() {
    for check in KINDS {
        let silent = |mut stream: TcpStream| async move { _ = stream.read_to_end(&mut Vec::new()).await };
        let outcome = outcome_within(Duration::from_millis(50), check, silent).await;
        assert_eq!(outcome.unwrap_err(), "no answer within 50ms", "{check}");
    }
}

#[tokio::test]
async fn a_server_that_dribbles_fails_at_the_time_out_and_its_words_are_told() {
    let starts = ["+PO", "HTTP/1.1 2", "+PO", "R\0\0\0", "\x05\0\0"];
    let shown = [
        "expected \"+PONG\", answered \"+PO\"",
        "only \"HTTP/1.1 2\"",
        "only \"+PO\"",
        r#"only "R\x00\x00\x00""#,
        r#"only "\x05\x00\x00""#,
    ];
    for ((check, start), shown) in KINDS.into_iter().zip(starts).zip(shown) {
        let started = Instant::now();
        let dribble = move |mut stream: TcpStream| async move {
            for byte in start.as_bytes() {
                let _ = stream.write_all(&[*byte]).await;
            }
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let why = outcome_within(Duration::from_millis(200), check, dribble).await.unwrap_err();
        assert!(why.ends_with(shown), "{check}: {why}");
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}

#[tokio::test]
async fn a_server_that_sends_without_end_fails_soon_and_little_of_it_is_kept() {
    let starts = ["", "HTTP/1.1 200 OK\r\nA: ", "+", "R\0\0\x7f\0", "\x7f\x7f\0\0"];
    for (check, start) in KINDS.into_iter().zip(starts) {
        let huge = move |mut stream: TcpStream| async move {
            let _ = stream.write_all(start.as_bytes()).await;
            while stream.write_all(&[b'x'; 64 << 10]).await.is_ok() {}
        };
        let why = outcome(check, huge).await.unwrap_err();
        assert!(why.len() < 200 && !why.contains("within 60s"), "{check}: {why}");
    }
}

#[tokio::test]
async fn a_server_that_closes_or_resets_early_is_told() {
    for check in KINDS {
        assert_eq!(said(check, b"").await.unwrap_err(), "closed without an answer", "{check}");
    }
    assert_eq!(said(PING, b"+PON").await.unwrap_err(), "closed after 4 bytes of the answer");
    assert_eq!(said(PAGE, b"HTTP/1.1 200 OK\r\nA: b\r\n").await.unwrap_err(), "closed after 23 bytes of the answer");
    assert_eq!(said(REDIS, b"+").await.unwrap_err(), "closed after 1 byte of the answer");
    assert_eq!(said(POSTGRESQL, b"R\0\0\0\x08").await.unwrap_err(), "closed after 5 bytes of the answer");
    assert_eq!(said(MYSQL, b"\x05\0\0\0\x0a").await.unwrap_err(), "closed after 5 bytes of the answer");
    for check in KINDS {
        let reset = |stream: TcpStream| async move {
            let _ = stream.readable().await;
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        };
        // MySQL speaks first; what is reset before we have said anything is the same.
        let check_of = if check == MYSQL { PING } else { check };
        assert_eq!(outcome(check_of, reset).await.unwrap_err(), "connection reset", "{check}");
    }
}

#[tokio::test]
async fn a_server_of_another_protocol_is_told_by_what_it_says() {
    let other = b"SSH-2.0-OpenSSH_9.2\r\n";
    assert_eq!(said(PING, other).await.unwrap_err(), "expected \"+PONG\", answered \"SSH-2.0-OpenSSH_9.2\\r\\n\"");
    for (check, protocol) in [(PAGE, "HTTP"), (REDIS, "Redis"), (POSTGRESQL, "PostgreSQL"), (MYSQL, "MySQL")] {
        let expected = format!("no {protocol}: answered \"SSH-2.0-OpenSSH_9.2\"");
        assert!(said(check, other).await.unwrap_err().starts_with(&expected[..expected.len() - 1]), "{check}");
    }
}

/// Whatever comes, a conversation ends with an answer of its own, and soon.
#[test]
fn no_answer_makes_a_check_panic_or_hang() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let starts: [&[u8]; 8] = [
        b"",
        b"+",
        b"$",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"R\0\0",
        b"E\0\0\0",
        b"\x08\0\0\0\x0a",
        b"\x01\0\0\0\xff",
    ];
    let body = r#"{ "kind": "http", "body": { "contains": "never" } }"#;
    let role = r#"{ "kind": "redis", "role": "master", "password": "x" }"#;
    let checks = [PING, PAGE, REDIS, POSTGRESQL, MYSQL, body, role];
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let cases = (0..starts.len(), 0..checks.len(), proptest::collection::vec(proptest::num::u8::ANY, 0..60));
    let tried = runner.run(&cases, |(start, check, bytes)| {
        let answer = [starts[start], &bytes].concat();
        // To pass would be a find, too, but no mistake.
        let _ = runtime.block_on(said(checks[check], &answer));
        Ok(())
    });
    tried.unwrap();
}

#[tokio::test]
async fn an_exchange_takes_its_steps_and_each_expect_sees_what_came_since_the_last_send() {
    let mail = r#"{ "kind": "exchange", "steps": [ { "expect": "220 " }, { "send": "HELO x\r\n" },
        { "expect": { "regex": "^250" } }, { "expect": { "contains": "hi" } }, { "send": "QUIT\r\n", "expect": "221" } ] }"#;
    let script: [(&[u8], &[u8]); 3] =
        [(b"", b"220 ready\r\n"), (b"HELO x\r\n", b"250 hi\r\n"), (b"QUIT\r\n", b"221 bye\r\n")];
    assert_eq!(answered(mail, &script, b"").await, Ok(()));
    let why = refused(mail, &[(b"", b"220 ready\r\n"), (b"HELO x\r\n", b"500 no\r\n")]).await;
    assert_eq!(why, r#"expected a match of "^250", answered "500 no\r\n""#);
    let sent = r#"{ "kind": "exchange", "send": { "hex": "00 ff" } }"#;
    assert_eq!(answered(sent, &[(b"\0\xff", b"")], b"").await, Ok(()), "a send alone passes when it was sent");
}

#[tokio::test]
async fn an_answer_that_must_not_be_so_is_judged_at_the_end_or_at_the_time_out() {
    let not = r#"{ "kind": "exchange", "send": "x", "expect": { "contains": "ERR", "not": true } }"#;
    assert_eq!(said(not, b"+OK\r\n").await, Ok(()));
    assert_eq!(said(not, b"-ERR").await.unwrap_err(), "expected not \"ERR\" in it, answered \"-ERR\"");
    let open = |mut stream: TcpStream| async move {
        stream.write_all(b"+OK").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    };
    assert_eq!(outcome_within(Duration::from_millis(100), not, open).await, Ok(()), "it costs the time-out");
    let prefix = r#"{ "kind": "exchange", "send": "x", "expect": { "prefix": "-", "not": true } }"#;
    assert_eq!(outcome(prefix, open).await, Ok(()), "but not where the first byte decides");
}

#[tokio::test]
async fn a_page_is_asked_for_as_configured() {
    let check = r#"{ "kind": "http", "method": "POST", "path": "/a?b=c", "host": "example.org", "status": "201",
        "headers": { "X-Is": "so", "user-agent": "me" } }"#;
    let request = b"POST /a?b=c HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\nContent-Length: 0\r\nX-Is: so\r\nuser-agent: me\r\n\r\n";
    assert_eq!(answered(check, &[(request, b"HTTP/1.1 201 Made\r\n\r\n")], b"").await, Ok(()));
    let mut listener = None;
    let asked = outcome(PAGE, |mut stream| {
        listener = Some(stream.local_addr().unwrap());
        async move {
            let mut request = vec![0; 1_024];
            let len = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8(request[..len].to_vec()).unwrap();
            let expected = format!("Host: {}\r\n", stream.local_addr().unwrap());
            assert!(request.starts_with("GET /health HTTP/1.1\r\n") && request.contains(&expected), "{request}");
            assert!(request.contains(concat!("User-Agent: goproxy/", env!("CARGO_PKG_VERSION"), "\r\n")), "{request}");
            stream.write_all(b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /\r\n\r\n").await.unwrap();
        }
    });
    assert_eq!(asked.await, Ok(()));
}

#[tokio::test]
async fn a_page_passes_by_its_status_and_its_body() {
    assert_eq!(said(PAGE, b"HTTP/1.1 503 No\r\n\r\n").await.unwrap_err(), "status 503");
    let body = r#"{ "kind": "http", "body": { "regex": "\"ok\": *true" } }"#;
    let good: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\":true}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"ok\r\n7\r\n\":true}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n{\"ok\":true}",
        b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{\"ok\":  true",
    ];
    for answer in good {
        assert_eq!(said(body, answer).await, Ok(()), "{}", String::from_utf8_lossy(answer));
    }
    let bad = said(body, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno!\"ok\":true").await.unwrap_err();
    assert_eq!(bad, r#"body: expected a match of "\"ok\": *true", answered "no!""#);
    let broken = said(body, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await.unwrap_err();
    assert_eq!(broken, "no chunks: answered \"zz\"");
    // What comes behind the first 16 KiB counts for nothing.
    let late = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 16 << 10], b"\"ok\":true".to_vec()].concat();
    assert!(said(body, &late).await.unwrap_err().starts_with("body: expected"));
}

/// Two commands of Redis as they are sent.
const PING_COMMAND: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const INFO_COMMAND: &[u8] = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";

#[tokio::test]
async fn redis_passes_when_it_serves_those_who_know() {
    let ping = async |answer: &'static [u8]| answered(REDIS, &[(PING_COMMAND, answer)], b"QUIT\r\n").await;
    assert_eq!(ping(b"+PONG\r\n").await, Ok(()));
    assert_eq!(ping(b"-NOAUTH Authentication required.\r\n").await, Ok(()));
    assert_eq!(ping(b"-NOPERM no permissions\r\n").await, Ok(()));
    let no = async |answer: &'static [u8]| refused(REDIS, &[(PING_COMMAND, answer)]).await;
    let loading = no(b"-LOADING Redis is loading the dataset in memory, please have a little patience\r\n").await;
    assert_eq!(loading, "answered \"-LOADING Redis is loading the dataset in memory, please have…\"");
    assert_eq!(
        no(b"-MASTERDOWN Link with MASTER is down\r\n").await,
        "answered \"-MASTERDOWN Link with MASTER is down\""
    );
    assert_eq!(no(b"+OK\r\n").await, "expected \"+PONG\", answered \"+OK\"");
}

#[tokio::test]
async fn redis_is_logged_in_to_and_asked_for_its_role() {
    let with = |more: &str| format!("{{ \"kind\": \"redis\", \"password\": \"two words\"{more} }}");
    let auth = b"*2\r\n$4\r\nAUTH\r\n$9\r\ntwo words\r\n";
    let auth_of_me = b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$9\r\ntwo words\r\n";
    let pong: (&[u8], &[u8]) = (PING_COMMAND, b"+PONG\r\n");
    assert_eq!(answered(&with(""), &[(auth, b"+OK\r\n"), pong], b"QUIT\r\n").await, Ok(()));
    assert_eq!(answered(&with(", \"user\": \"me\""), &[(auth_of_me, b"+OK\r\n"), pong], b"QUIT\r\n").await, Ok(()));
    let wrong = refused(&with(""), &[(auth, b"-WRONGPASS invalid username-password pair\r\n")]).await;
    assert_eq!(wrong, "answered \"-WRONGPASS invalid username-password pair\"");
    assert!(!wrong.contains("two words"));
    let denied = refused(&with(""), &[(auth, b"+OK\r\n"), (PING_COMMAND, b"-NOPERM no\r\n")]).await;
    assert_eq!(denied, "answered \"-NOPERM no\"", "who has a password should be allowed to ask");

    let info = |role: &str| {
        let text = format!("# Replication\r\nrole:{role}\r\nconnected_slaves:0\r\n");
        format!("${}\r\n{text}\r\n", text.len()).into_bytes()
    };
    for (wanted, role, expected) in [
        ("master", "master", Ok(())),
        ("replica", "slave", Ok(())),
        ("master", "slave", Err("role is slave, wanted master")),
        ("replica", "master", Err("role is master, wanted replica")),
    ] {
        let check = format!("{{ \"kind\": \"redis\", \"role\": \"{wanted}\" }}");
        let info = info(role);
        let script: [(&[u8], &[u8]); 2] = [pong, (INFO_COMMAND, &info)];
        match expected {
            Ok(()) => assert_eq!(answered(&check, &script, b"QUIT\r\n").await, Ok(())),
            Err(why) => assert_eq!(refused(&check, &script).await, why),
        }
    }
    let check = r#"{ "kind": "redis", "role": "master" }"#;
    let unknown = refused(check, &[(PING_COMMAND, b"-NOAUTH x\r\n"), (INFO_COMMAND, b"-NOAUTH x\r\n")]).await;
    assert_eq!(unknown, "answered \"-NOAUTH x\"");
    assert_eq!(refused(check, &[pong, (INFO_COMMAND, b"$4\r\nabcd\r\n")]).await, "no role in \"abcd\"");
}

#[tokio::test]
async fn postgresql_passes_when_it_asks_for_a_password_or_refuses_us() {
    let startup = b"\0\0\0\x42\0\x03\0\0user\0postgres\0database\0postgres\0application_name\0goproxy\0\0";
    let said =
        async |answer: &'static [u8], last: &'static [u8]| answered(POSTGRESQL, &[(startup, answer)], last).await;
    assert_eq!(
        said(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", b"").await,
        Ok(()),
        "no goodbye in the middle of a login"
    );
    let let_in = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0K\0\0\0\x0c12345678Z\0\0\0\x05I";
    assert_eq!(said(let_in, b"X\0\0\0\x04").await, Ok(()));
    assert_eq!(said(b"E\0\0\0\x15SFATAL\0C28P01\0M\0\0", b"").await, Ok(()));
    let no = async |answer: &'static [u8]| refused(POSTGRESQL, &[(startup, answer)]).await;
    assert_eq!(no(b"E\0\0\0\x1bSFATAL\0C57P03\0Mnot now\0\0").await, "FATAL 57P03 not now");
    let full = b"R\0\0\0\x08\0\0\0\0E\0\0\0\x18SFATAL\0C53300\0Mfull\0\0";
    assert_eq!(no(full).await, "FATAL 53300 full", "also when a login without password was let in");
    assert!(no(b"R\0\0\0\x03\0\0\0\0").await.starts_with("no PostgreSQL"));
}

#[tokio::test]
async fn mysql_is_logged_in_to_and_told_goodbye() {
    let greeting = b"\x0a\0\0\0\x0a10.11.0\0\x01";
    let login = b"\x3f\0\0\x01\x01\x82\x08\0\0\0\0\x01\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0goproxy\0\0mysql_native_password\0";
    let ok = b"\x07\0\0\x02\0\0\0\x02\0\0\0";
    let goodbye = b"\x01\0\0\0\x01";
    assert_eq!(answered(MYSQL, &[(b"", greeting), (login, ok)], goodbye).await, Ok(()));
    let switch = b"\x0a\0\0\x02\xfecaching\0a";
    assert_eq!(
        answered(
            MYSQL,
            &[(b"", greeting), (login, switch), (b"\0\0\0\x03", b"\x02\0\0\x04\x01\x03\x01\0\0\x05\0")],
            goodbye
        )
        .await,
        Ok(()),
        "another way to log in, which is content with no password"
    );
    let full = refused(MYSQL, &[(b"", b"\x17\0\0\0\xff\x10\x04Too many connections")]).await;
    assert_eq!(full, "ERR 1040 Too many connections");
    let denied = refused(MYSQL, &[(b"", greeting), (login, b"\x0c\0\0\x02\xff\x15\x04#28000No!")]).await;
    assert_eq!(denied, "ERR 1045 access denied: create the user \"goproxy\" without a password and rights");
    let asked = refused(MYSQL, &[(b"", greeting), (login, b"\x02\0\0\x02\x01\x04")]).await;
    assert_eq!(asked, "user \"goproxy\" is asked for a password; expected a user without one");
    let endless: Vec<(&[u8], &[u8])> = vec![
        (b"", greeting),
        (
            login,
            b"\x02\0\0\x02\x01\x03\x02\0\0\x02\x01\x03\x02\0\0\x02\x01\x03\x02\0\0\x02\x01\x03\x02\0\0\x02\x01\x03",
        ),
    ];
    assert!(refused(MYSQL, &endless).await.starts_with("no MySQL"));
}
