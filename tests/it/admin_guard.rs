//! The admin port and those who mean it no good: other sites, no token, garbage, patience, numbers.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admin_requests::{CHANGES, READS, config};
use crate::support::{Http, TestProxy, eventually, is_refusal, let_pass, ports, spawn};

#[test]
fn a_web_page_of_another_site_reaches_no_endpoint() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", ""));
    let before = proxy.state();
    let own = format!("127.0.0.1:{admin}");
    let heads = [
        ("Host: evil.example\r\n".to_owned(), 403, "foreign_host"),
        (format!("Host: evil.example:{admin}\r\n"), 403, "foreign_host"),
        ("Host: 127.0.0.1.evil.example\r\n".to_owned(), 403, "foreign_host"),
        ("Host: localhost.evil.example\r\n".to_owned(), 403, "foreign_host"),
        (format!("Host: {own}\r\nHost: {own}\r\n"), 400, "bad_host"),
        ("Host: \r\n".to_owned(), 403, "foreign_host"),
        (format!("Host: {own}\r\nOrigin: http://evil.example\r\n"), 403, "cross_site"),
        (format!("Host: {own}\r\nOrigin: null\r\n"), 403, "cross_site"),
        (format!("Host: {own}\r\nOrigin: http://127.0.0.1:1\r\n"), 403, "cross_site"),
        (format!("Host: {own}\r\nSec-Fetch-Site: cross-site\r\n"), 403, "cross_site"),
        (format!("Host: {own}\r\nSec-Fetch-Site: same-site\r\n"), 403, "cross_site"),
    ];
    for path in READS.iter().chain(&CHANGES) {
        for (head, status, code) in &heads {
            let target = format!("{path}?group={group}&server=127.0.0.1:7");
            let reply = proxy.request("POST", &target, head, b"");
            is_refusal(&reply, *status, code, &format!("{path} {head}"));
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
    }
    is_refusal(
        &proxy.request("GET", "http://evil.example/group-list.do", "", b""),
        403,
        "foreign_host",
        "absolute form",
    );
    let mut http = Http::connect(admin);
    http.send(b"GET /group-list.do HTTP/1.1\r\n\r\n").unwrap();
    is_refusal(&http.reply(false).unwrap(), 400, "bad_host", "no Host");
    assert_eq!(proxy.state(), before);
    for head in [
        format!("Host: {own}\r\nOrigin: http://{own}\r\nSec-Fetch-Site: same-origin\r\n"),
        format!("Host: localhost:{admin}\r\nSec-Fetch-Site: none\r\n"),
        format!("Host: [::1]:{admin}\r\n"),
    ] {
        assert_eq!(proxy.request("GET", "/group-list.do", &head, b"").status, 200, "{head}");
    }
}

#[test]
fn a_token_opens_what_it_is_for_and_nothing_is_open_without() {
    let [admin, group] = ports();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("token"), "s3cret\n").unwrap();
    let tokens = format!(r#", "token": "file:{}", "register_token": "beat-only""#, home.path().join("token").display());
    let text = config(admin, group, &tokens, "\"127.0.0.1:1\"");
    let mut proxy = TestProxy::with_file(admin, &text);
    // It does not list them without the token.
    proxy.may_leave_sessions();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let beat = format!("/worker-keepalive.do?group={group}&server=127.0.0.1:1");
    for path in READS.iter().chain(&CHANGES).filter(|path| !["/live", "/ready"].contains(path)) {
        let target = if *path == "/worker-keepalive.do" { &beat } else { *path };
        for head in ["", "Authorization: Basic czNjcmV0\r\n", "Authorization: Bearer\r\n", "Authorization: Bearer \r\n"]
        {
            let reply = proxy.request("POST", target, head, b"");
            is_refusal(&reply, 401, "unauthorized", &format!("{path} {head}"));
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
        for wrong in ["s3cre", "s3cret2", "S3CRET", &"s".repeat(4_000)] {
            is_refusal(&proxy.request("POST", target, &bearer(wrong), b""), 401, "unauthorized", path);
        }
        let twice = bearer("s3cret").repeat(2);
        is_refusal(&proxy.request("POST", target, &twice, b""), 401, "unauthorized", path);
        // Never from the address, which ends up in logs.
        let in_query = format!("{target}{}token=s3cret", if target.contains('?') { '&' } else { '?' });
        is_refusal(&proxy.request("POST", &in_query, "", b""), 401, "unauthorized", path);
        if !["/worker-keepalive.do", "/worker-remove.do"].contains(path) {
            is_refusal(&proxy.request("POST", target, &bearer("beat-only"), b""), 403, "token_not_enough", path);
        }
    }
    assert_eq!(proxy.file(), text);
    for path in ["/live", "/ready"] {
        assert_eq!(proxy.request("GET", path, "", b"").status, 200);
    }
    for token in ["s3cret", "beat-only"] {
        assert_eq!(proxy.request("GET", &beat, &bearer(token), b"").status, 200);
    }
    let own = format!("group={group}&server=127.0.0.1:7");
    let worker = |path: &str| proxy.request("POST", path, &bearer("beat-only"), b"");
    assert_eq!(worker(&format!("/worker-keepalive.do?{own}")).status, 200);
    assert_eq!(worker(&format!("/worker-remove.do?{own}")).status, 200, "a worker may leave");
    assert_eq!(proxy.file(), text);
    let theirs = format!("/worker-remove.do?group={group}&server=127.0.0.1:1");
    is_refusal(&worker(&theirs), 403, "token_not_enough", "a server of the file");
    is_refusal(&worker(&format!("/worker-remove.do?{own}")), 404, "server_not_found", "twice");
    let foreign = format!("Host: proxy.internal\r\n{}", bearer("s3cret"));
    assert_eq!(proxy.request("GET", "/group-list.do", &foreign, b"").status, 200, "a token may come by any name");
    assert!(!proxy.log.text().contains("s3cret"), "a token is never logged");
}

#[test]
fn the_read_token_shows_everything_and_changes_nothing() {
    let [admin, group] = ports();
    let tokens = r#", "token": "s3cret", "register_token": "beat-only", "read_token": "look-only""#;
    let text = config(admin, group, tokens, "\"127.0.0.1:1\"");
    let mut proxy = TestProxy::with_file(admin, &text);
    // It does not list them without the token.
    proxy.may_leave_sessions();
    let ask =
        |target: &str, token: &str| proxy.request("POST", target, &format!("Authorization: Bearer {token}\r\n"), b"");
    let query = format!("?group={group}&client=10.0.0.7&server=127.0.0.1:1&state=drain&follow=no");
    for path in READS.iter().chain(&["/events", "/client-list.do", "/debug/pprof"]) {
        let taken: &[&str] = match *path {
            "/policy-explain.do" => &["group", "client"],
            "/worker-list.do" | "/session-list.do" | "/client-list.do" => &["group"],
            "/events" => &["follow"],
            _ => &[],
        };
        let pairs: Vec<&str> =
            query[1..].split('&').filter(|pair| taken.iter().any(|it| pair.starts_with(it))).collect();
        let reply = ask(&format!("{path}?{}", pairs.join("&")), "look-only");
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    for path in CHANGES {
        is_refusal(&ask(&format!("{path}{query}"), "look-only"), 403, "token_not_enough", path);
    }
    assert_eq!(proxy.file(), text);
    for path in READS.iter().filter(|path| !["/live", "/ready"].contains(path)) {
        is_refusal(&ask(path, "look-only2"), 401, "unauthorized", path);
    }
    assert!(!proxy.log.text().contains("look-only"), "a token is never logged");
}

#[test]
fn the_metrics_port_answers_monitoring_without_a_token_and_nothing_else() {
    for (is_public, token) in [(false, "s3cret"), (true, "s3cret"), (false, "")] {
        let [admin, group, metrics] = ports();
        let token = if token.is_empty() { String::new() } else { format!(r#", "token": "{token}""#) };
        let more = format!(r#"{token}, "metrics_listen": "127.0.0.1:{metrics}", "metrics_public": {is_public}"#);
        let mut proxy = TestProxy::with_file(admin, &config(admin, group, &more, ""));
        proxy.may_leave_sessions();
        let ask = |target: &str, head: &str| {
            let mut http = Http::connect(metrics);
            http.send(format!("POST {target} HTTP/1.1\r\n{head}\r\n").as_bytes()).unwrap();
            http.reply(false).unwrap()
        };
        for path in ["/metrics", "/live", "/ready"] {
            assert_eq!(ask(path, "Host: 127.0.0.1\r\n").status, 200, "{path}");
            is_refusal(
                &ask(path, "Host: a\r\nOrigin: http://evil.example\r\n"),
                403,
                if token.is_empty() { "foreign_host" } else { "cross_site" },
                path,
            );
        }
        assert!(ask("/metrics", "Host: localhost\r\n").text().contains("goproxy_sessions_active"));
        for path in READS.iter().chain(&CHANGES).filter(|path| !["/metrics", "/live", "/ready"].contains(path)) {
            is_refusal(&ask(path, "Host: 127.0.0.1\r\nAuthorization: Bearer s3cret\r\n"), 404, "unknown_path", path);
        }
        // By whatever name Prometheus knows it.
        let status = ask("/metrics", "Host: proxy.internal\r\n").status;
        assert_eq!(status, if token.is_empty() { 403 } else { 200 });
        proxy.log.wait_for("it is said", |line| line.as_str().is_some_and(|line| line.contains("serves=metrics")));
    }
}

#[test]
fn a_metrics_port_that_others_can_reach_needs_the_token_unless_it_is_public() {
    let [admin, group, metrics] = ports();
    let text = |public: bool| {
        let more = format!(
            r#", "token": "s3cret", "read_token": "look-only", "metrics_listen": "0.0.0.0:{metrics}", "metrics_public": {public}"#
        );
        config(admin, group, &more, "")
    };
    let mut proxy = TestProxy::with_file(admin, &text(false));
    proxy.may_leave_sessions();
    let ask = |head: &str| {
        let mut http = Http::connect(metrics);
        http.send(format!("GET /metrics HTTP/1.1\r\nHost: proxy.internal\r\n{head}\r\n").as_bytes()).unwrap();
        http.reply(false).unwrap()
    };
    is_refusal(&ask(""), 401, "unauthorized", "without");
    for token in ["s3cret", "look-only"] {
        assert_eq!(ask(&format!("Authorization: Bearer {token}\r\n")).status, 200);
    }
    std::fs::write(proxy.path(), text(true)).unwrap();
    eventually("it is public at once", || ask("").status == 200);
}

#[test]
fn bytes_that_are_no_request_are_refused_and_harm_nobody() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", ""));
    let before = proxy.state();
    let mut random = Vec::new();
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        random.push((0..rng.usize(1..3_000)).map(|_| rng.u8(..)).collect::<Vec<u8>>());
    }
    let long_head = format!("GET /live HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET /live HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(500));
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(70_000));
    let known: [&[u8]; 14] = [
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  /live  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /config-reload.do HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /config-reload.do HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello TLS",
        long_head.as_bytes(),
        many.as_bytes(),
        long_target.as_bytes(),
    ];
    for bytes in known.into_iter().chain(random.iter().map(Vec::as_slice)) {
        let mut http = Http::connect(admin);
        let _ = http.send(bytes);
        http.shutdown_write();
        let answer = http.rest();
        let text = String::from_utf8_lossy(&answer);
        let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{sent:?}: {text}");
        // What is no HTTP has a bare status; what is, and is wrong, has the common form.
        if let Some((_, body)) = text.split_once("\r\n\r\n").filter(|(_, body)| !body.is_empty()) {
            let json: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {sent:?}: {text}"));
            assert_eq!(json["ok"], false, "{sent:?}");
        }
    }
    assert_eq!(proxy.state(), before);
}

#[test]
fn who_never_finishes_a_request_is_cut_off_and_a_half_sent_change_is_not_made() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", ""));
    let before = proxy.state();
    let target = format!("/worker-keepalive.do?group={group}&server=127.0.0.1:7");
    let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n");
    // Broken off at every byte.
    for end in 1..head.len() {
        let mut http = Http::connect(admin);
        http.send(&head.as_bytes()[..end]).unwrap();
        drop(http);
    }
    let slow: Vec<_> = ["GET", &head]
        .into_iter()
        .map(|start| {
            let mut http = Http::connect(admin);
            http.send(start.as_bytes()).unwrap();
            let started = Instant::now();
            // A little more now and then, which must not buy time.
            let start = start.to_owned();
            spawn(move || {
                while started.elapsed() < Duration::from_secs(20) {
                    let more = if start == "GET" { "T" } else { "X: y\r\n" };
                    if http.send(more.as_bytes()).is_err() {
                        break;
                    }
                    let_pass(Duration::from_millis(100), "the pace of the caller");
                }
                http.rest();
                started.elapsed()
            })
        })
        .collect();
    let mut body = Http::connect(admin);
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nzone";
    body.send(format!("{head}{form}").as_bytes()).unwrap();
    is_refusal(&body.reply(false).unwrap(), 408, "body_timeout", "a body that never ends");
    for thread in slow {
        let lasted = thread.join().unwrap();
        assert!(lasted > Duration::from_secs(3) && lasted < Duration::from_secs(15), "{lasted:?}");
    }
    assert_eq!(proxy.state(), before);
}

#[test]
fn three_hundred_connections_at_once_leave_the_port_alive() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", ""));
    let before = (proxy.state(), proxy.descriptors());
    let mut all: Vec<Http> = (0..300).map(|_| Http::connect(admin)).collect();
    for http in &mut all {
        assert_eq!(http.try_get("/live").map(|reply| reply.status).ok(), Some(200));
    }
    drop(all);
    eventually("the port answers again", || {
        Http::try_connect(admin).and_then(|mut http| http.try_get("/live")).is_ok_and(|reply| reply.status == 200)
    });
    eventually("no descriptor is left behind", || proxy.descriptors() <= before.1);
    assert_eq!(proxy.state(), before.0);
}
