//! The admin port: what each endpoint answers and does, and what becomes of requests that are wrong.

use serde_json::{Value, json};

use crate::support::{Http, TestProxy, Visitor, eventually, is_refusal, named_echo, ports};

/// Every endpoint that only looks, and every one that changes something.
pub(crate) const READS: [&str; 8] = [
    "/worker-list.do",
    "/group-list.do",
    "/session-list.do",
    "/policy-list.do",
    "/policy-explain.do",
    "/live",
    "/ready",
    "/metrics",
];
pub(crate) const CHANGES: [&str; 8] = [
    "/worker-keepalive.do",
    "/worker-remove.do",
    "/worker-state.do",
    "/group-open.do",
    "/group-close.do",
    "/group-policy.do",
    "/session-close.do",
    "/config-reload.do",
];

pub(crate) fn config(admin: u16, group: u16, more_admin: &str, servers: &str) -> String {
    format!(
        r#"{{
  "admin": {{ "listen": "127.0.0.1:{admin}"{more_admin} }},
  "groups": [ // the only one
    {{ "listen": "127.0.0.1:{group}", "policy": "round_robin", "heartbeat_timeout": "1m", "servers": [{servers}] }}
  ]
}}
"#
    )
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[track_caller]
fn has_names(value: &Value, wanted: &str) {
    for name in wanted.split(' ') {
        assert!(names(value).contains(&name), "no {name} in {value}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a list of cases")]
fn every_endpoint_answers_with_the_documented_names() {
    let [admin, group, new, nobody] = ports();
    let echo = named_echo();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", &format!("\"{}\"", echo.addr)));

    let beat = proxy.ok(&format!(
        "/worker-keepalive.do?group={group}&server=127.0.0.1:{nobody}&weight=3&state=drain&zone=a%20b&load=7"
    ));
    assert_eq!(beat["server"], format!("127.0.0.1:{nobody}"));
    assert_eq!((&beat["state"], &beat["sessions"]), (&json!("drain"), &json!(0)));
    assert!(beat["ttl_ms"].as_u64().is_some_and(|ttl| (50_000..=60_000).contains(&ttl)), "{beat}");
    let beat = proxy.ok(&format!("/worker-keepalive.do?group={group}&server={}", echo.addr));
    assert_eq!(
        (&beat["state"], &beat["ttl_ms"]),
        (&json!("ready"), &json!(60_000)),
        "a server of the file has no lease"
    );

    let list = proxy.ok(&format!("/worker-list.do?group={group}"));
    assert_eq!(list["list"], json!([echo.addr.to_string()]));
    let [ours, theirs] = &list["servers"].as_array().unwrap()[..] else { panic!("{list}") };
    for server in [ours, theirs] {
        has_names(
            server,
            "addr state online cause origin weight backup max_sessions labels sessions suspect last_check",
        );
    }
    assert_eq!((&ours["origin"], &ours["online"], &ours["cause"]), (&json!("file"), &json!(true), &Value::Null));
    assert_eq!(ours.get("lease_ms"), None);
    assert_eq!((&theirs["origin"], &theirs["online"]), (&json!("heartbeat"), &json!(false)));
    assert_eq!((&theirs["weight"], &theirs["labels"]["zone"], &theirs["load"]), (&json!(3), &json!("a b"), &json!(7)));
    assert!(theirs["cause"].as_str().unwrap().contains("drain") && theirs["lease_ms"].as_u64().unwrap() > 50_000);

    let mut client = Visitor::connect(group);
    client.round_trip(b"12345");
    let banner = echo.addr.to_string().len() as u64 + 1;
    let list_sessions = || proxy.ok(&format!("/session-list.do?group={group}"));
    eventually("the bytes are counted", || list_sessions()["sessions"][0]["bytes_down"] == 5 + banner);
    let sessions = list_sessions();
    assert_eq!(sessions["total"], 1);
    let session = &sessions["sessions"][0];
    has_names(session, "id group client server age_ms idle_ms bytes_up bytes_down");
    assert_eq!((&session["group"], &session["server"]), (&json!(group), &json!(echo.addr.to_string())));
    assert_eq!(session["bytes_up"], 5);

    let state = proxy.ok(&format!("/worker-state.do?group={group}&server={}&state=maint", echo.addr));
    assert_eq!(state["sessions"], 1);
    proxy.ok(&format!("/session-close.do?id={}", session["id"]));
    assert!(client.try_round_trip(b"x").is_err(), "an operator ended it");
    eventually("the session is gone", || proxy.ok("/session-list.do")["total"] == 0);
    proxy.refused(&format!("/session-close.do?id={}", session["id"]), 404, "session_not_found");

    let opened = proxy.ok(&format!("/group-open.do?group={new}&policy=ha"));
    assert_eq!((&opened["group"], &opened["open"], &opened["policy"]), (&json!(new), &json!(true), &json!("ha")));
    let policy = proxy.ok(&format!("/group-policy.do?group={new}&policy=maglev"));
    assert_eq!(policy["policy"], "maglev");
    let groups = proxy.ok("/group-list.do")["groups"].clone();
    let shown = groups.as_array().unwrap().iter().find(|shown| shown["group"] == new).unwrap();
    has_names(shown, "group listen open policy sessions servers_online servers_total");
    assert_eq!((&shown["listen"], &shown["policy"]), (&json!(format!("0.0.0.0:{new}")), &json!("maglev")));
    let closed = proxy.ok(&format!("/group-close.do?group={new}&sessions=close"));
    assert_eq!(closed["sessions"], 0);
    assert!(std::net::TcpStream::connect(("127.0.0.1", new)).is_err(), "a closed group does not listen");
    proxy.ok(&format!("/worker-remove.do?group={group}&server=127.0.0.1:{nobody}"));
    assert_eq!(proxy.servers(group).len(), 1);

    let policies = proxy.ok("/policy-list.do")["policies"].clone();
    let built_in: Vec<&str> =
        policies.as_array().unwrap().iter().map(|policy| policy["name"].as_str().unwrap()).collect();
    for name in ["ha", "round_robin", "ip_hash", "least_sessions", "random", "p2c", "maglev"] {
        assert!(built_in.contains(&name), "{name}");
    }
    for policy in policies.as_array().unwrap() {
        has_names(policy, "name kind version sha256 state error calls faults fallbacks groups");
        let users = match policy["name"].as_str().unwrap() {
            "round_robin" => json!([group]),
            "maglev" => json!([new]),
            _ => json!([]),
        };
        assert_eq!(
            (&policy["kind"], &policy["state"], &policy["groups"]),
            (&json!("built_in"), &json!("loaded"), &users)
        );
    }
    has_names(&proxy.ok("/config-reload.do"), "opened closed changed");
    proxy.ok("/live");
    proxy.ok("/ready");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a list of cases")]
fn a_request_that_is_wrong_is_refused_by_name_and_changes_nothing() {
    let [admin, group, nobody] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", "\"127.0.0.1:1\""));
    let before = proxy.state();
    let (g, server) = (format!("group={group}"), "server=127.0.0.1:1");
    let long = "x".repeat(8_000);
    let mut refused = 0;
    let mut check = |target: String, status: u16, code: &str| {
        refused += 1;
        let json = proxy.refused(&target, status, code);
        assert!(!json.to_string().contains(&long[..100]), "long input is not repeated: {json}");
    };
    for path in ["worker-keepalive.do", "worker-remove.do", "worker-state.do"] {
        let rest = if path == "worker-state.do" { "&state=drain" } else { "" };
        check(format!("/{path}?{server}{rest}"), 400, "missing_parameter");
        check(format!("/{path}?{g}{rest}"), 400, "missing_parameter");
        check(format!("/{path}?group={nobody}&{server}{rest}"), 404, "group_not_found");
        check(format!("/{path}?{g}&{server}{rest}&servers=1"), 400, "unknown_parameter");
        check(format!("/{path}?{g}&{server}{rest}&{g}"), 400, "repeated_parameter");
        check(format!("/{path}?{g}&{server}{rest}&server="), 400, "repeated_parameter");
        check(format!("/{path}?{g}&server={rest}"), 400, "empty_parameter");
        check(format!("/{path}?{g}&server=%ff%fe:1{rest}"), 400, "bad_encoding");
        check(format!("/{path}?{g}&server=%zz{rest}"), 400, "bad_encoding");
        for bad in
            ["nonsense", ":1", "a:0", "a:65536", "a:-1", "a:b", "::1:80", "[::1]", "1.2.3.4.5:1", "a%20b:1", "a/b:1"]
        {
            check(format!("/{path}?{g}&server={bad}{rest}"), 400, "bad_parameter");
        }
        check(format!("/{path}?{g}&server={long}:1{rest}"), 400, "bad_parameter");
        check(format!("/{path}?{g}&server={}:1{rest}", "a.".repeat(200)), 400, "bad_parameter");
    }
    for bad in
        ["0", "%2B1", "65536", "99999999999999999999", "80.0", "%D9%A3", "A", "%00", "1%0d%0a", "127.0.0.1", "a:1"]
    {
        for path in ["worker-list.do", "group-open.do", "group-close.do", "session-list.do"] {
            check(format!("/{path}?group={bad}"), 400, "bad_parameter");
        }
    }
    for path in ["worker-list.do", "group-close.do", "session-list.do"] {
        check(format!("/{path}?group={nobody}"), 404, "group_not_found");
    }
    for path in ["worker-list.do", "group-open.do", "group-close.do", "session-list.do"] {
        for stranger in ["nobody", "-1", "0x50", "127.0.0.1:1", &format!("127.0.0.2:{group}")] {
            check(format!("/{path}?group={stranger}"), 404, "group_not_found");
        }
    }
    for path in ["worker-list.do", "group-open.do", "group-close.do"] {
        check(format!("/{path}"), 400, "missing_parameter");
    }
    check(format!("/group-policy.do?{g}"), 400, "missing_parameter");
    check(format!("/group-policy.do?{g}&policy=round_robbin"), 400, "unknown_policy");
    check(format!("/group-policy.do?{g}&policy={long}"), 400, "unknown_policy");
    check(format!("/group-policy.do?group={nobody}&policy=ha"), 404, "group_not_found");
    check(format!("/group-open.do?{g}&policy=nope"), 400, "unknown_policy");
    check(format!("/group-open.do?group={admin}"), 400, "not_accepted");
    check(format!("/group-close.do?{g}&sessions=kill"), 400, "bad_parameter");
    for bad in ["", "&state=up", "&state=READY", "&state="] {
        let code = [("", "missing_parameter"), ("&state=", "empty_parameter")];
        let code = code.iter().find(|(text, _)| *text == bad).map_or("bad_parameter", |(_, code)| code);
        check(format!("/worker-state.do?{g}&{server}{bad}"), 400, code);
    }
    check(format!("/worker-state.do?{g}&server=127.0.0.1:2&state=drain"), 404, "server_not_found");
    check(format!("/worker-remove.do?{g}&server=127.0.0.1:2"), 404, "server_not_found");
    for bad in ["weight=0", "weight=257", "weight=-1", "weight=1.5", "load=101", "load=-1", "state=up", "zone=%00"] {
        check(format!("/worker-keepalive.do?{g}&server=127.0.0.1:9&{bad}"), 400, "bad_parameter");
    }
    check(format!("/worker-keepalive.do?{g}&server=127.0.0.1:9&zone={}", "z".repeat(65)), 400, "bad_parameter");
    for bad in ["id=-1", "id=18446744073709551616", "id=x"] {
        check(format!("/session-close.do?{bad}"), 400, "bad_parameter");
    }
    check("/session-close.do".to_owned(), 400, "missing_parameter");
    check("/session-close.do?id=18446744073709551615".to_owned(), 404, "session_not_found");
    for path in ["/group-list.do", "/policy-list.do", "/config-reload.do", "/live", "/ready", "/metrics"] {
        check(format!("{path}?colour=red"), 400, "unknown_parameter");
        check(format!("{path}?{long}"), 400, "unknown_parameter");
    }
    for path in ["/nowhere", "/GROUP-LIST.DO", "//group-list.do", "/live/x", "/%2e%2e/etc/passwd", "/../live"] {
        check(path.to_owned(), 404, "unknown_path");
    }
    check(format!("/{long}"), 404, "unknown_path");
    assert!(refused > 150, "{refused}");
    assert_eq!(proxy.state(), before);
}

#[test]
fn a_form_body_is_read_as_the_query_is_and_any_other_body_is_refused() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", ""));
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let body = format!("group={group}&server=127.0.0.1%3A7");
    let reply = proxy.request("POST", "/worker-keepalive.do", form, body.as_bytes());
    assert_eq!((reply.status, &reply.json()["server"]), (200, &json!("127.0.0.1:7")));
    let before = proxy.state();
    let post = |head: &str, body: &[u8]| proxy.request("POST", "/worker-keepalive.do", head, body);
    is_refusal(&post("Content-Type: application/json\r\n", b"{}"), 415, "unsupported_media_type", "JSON");
    is_refusal(&post("", body.as_bytes()), 415, "unsupported_media_type", "no type");
    is_refusal(&post(form, b"\xff\xfe\x00="), 400, "bad_encoding", "not UTF-8");
    is_refusal(&post(form, &vec![b'a'; 64 * 1024 + 1]), 413, "body_too_large", "64 KiB and one byte");
    let chunked = format!("{form}Transfer-Encoding: chunked\r\n");
    let mut http = Http::connect(admin);
    let head = format!("POST /worker-keepalive.do HTTP/1.1\r\nHost: localhost\r\n{chunked}\r\n");
    http.send(head.as_bytes()).unwrap();
    for _ in 0..17 {
        // The refusal may come before the last of it.
        let _ = http.send(format!("1000\r\n{}\r\n", "a".repeat(4096)).as_bytes());
    }
    is_refusal(&http.reply(false).unwrap(), 413, "body_too_large", "a body that does not say how long it is");
    is_refusal(&post(&chunked, b"zz\r\n"), 400, "bad_body", "badly framed");
    let exact = post(form, &vec![b'a'; 64 * 1024]);
    is_refusal(&exact, 400, "unknown_parameter", "64 KiB are read");
    assert_eq!(proxy.state(), before);
}

#[test]
fn a_method_that_is_not_offered_is_refused_everywhere() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", "\"127.0.0.1:1\""));
    let before = proxy.state();
    let query = |path: &str| match path {
        "/worker-keepalive.do" | "/worker-remove.do" => format!("{path}?group={group}&server=127.0.0.1:1"),
        "/worker-state.do" => format!("{path}?group={group}&server=127.0.0.1:1&state=drain"),
        "/group-open.do" | "/group-close.do" | "/worker-list.do" => format!("{path}?group={group}"),
        "/group-policy.do" => format!("{path}?group={group}&policy=ha"),
        "/session-close.do" => format!("{path}?id=1"),
        "/policy-explain.do" => format!("{path}?group={group}&client=10.0.0.7"),
        _ => path.to_owned(),
    };
    for path in READS.iter().chain(&CHANGES) {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "G", &"M".repeat(300)] {
            let reply = proxy.request(method, &query(path), "", b"");
            let json = is_refusal(&reply, 405, "method_not_allowed", &format!("{method} {path}"));
            assert!(reply.header("allow").is_some_and(|allow| allow.contains("POST")), "{method} {path}: {json}");
        }
    }
    for path in CHANGES {
        assert_eq!(proxy.request("HEAD", &query(path), "", b"").status, 405, "{path}");
    }
    for path in READS {
        let (head, post) = (proxy.request("HEAD", &query(path), "", b""), proxy.request("POST", &query(path), "", b""));
        assert_eq!((head.status, post.status), (200, 200), "{path}");
    }
    assert_eq!(proxy.state(), before);
}

#[test]
fn changes_need_post_where_the_file_says_so() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, r#", "allow_get_changes": false"#, ""));
    let before = proxy.state();
    for path in CHANGES {
        let reply = proxy.get(&format!("{path}?group={group}"));
        is_refusal(&reply, 405, "method_not_allowed", path);
        assert_eq!(reply.header("allow"), Some("POST"));
    }
    for path in READS.iter().filter(|path| !["/worker-list.do", "/policy-explain.do"].contains(path)) {
        assert_eq!(proxy.get(path).status, 200, "{path}");
    }
    assert_eq!(proxy.state(), before);
    let reply = proxy.request("POST", &format!("/worker-keepalive.do?group={group}&server=127.0.0.1:7"), "", b"");
    assert_eq!(reply.status, 200);
}

#[test]
fn closing_a_group_keeps_its_sessions_unless_told() {
    let [admin, group] = ports();
    let echo = named_echo();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", &format!("\"{}\"", echo.addr)));
    let mut sessions: Vec<Visitor> = (0..3).map(|_| Visitor::connect(group)).collect();
    for query in ["", "&sessions=keep"] {
        let json = proxy.ok(&format!("/group-close.do?group={group}{query}"));
        assert_eq!(json["sessions"], 3);
        assert!(Visitor::try_connect(group).is_err());
        sessions.iter_mut().for_each(|session| session.round_trip(b"sessions live on"));
    }
    assert_eq!(proxy.ok("/group-list.do")["groups"][0]["open"], false);
    let json = proxy.ok(&format!("/group-close.do?group={group}&sessions=close"));
    assert_eq!(json["sessions"], 3);
    assert!(sessions.iter_mut().all(|session| session.try_round_trip(b"x").is_err()));
    eventually("each end is told", || proxy.log.count("end=killed") == 3);
    proxy.ok(&format!("/group-open.do?group={group}"));
    Visitor::connect(group).round_trip(b"open again");
}

#[test]
fn a_port_that_another_program_has_is_not_opened_and_nothing_changes() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", ""));
    let before = proxy.state();
    // A port of our own: one that the system picks may go to another test as soon as it is free.
    let [busy] = ports();
    let taken = std::net::TcpListener::bind(("127.0.0.1", busy)).unwrap();
    let json = proxy.refused(&format!("/group-open.do?group={busy}"), 409, "cannot_listen");
    assert!(json["msg"].as_str().unwrap().contains("in use"), "{json}");
    assert_eq!(proxy.state(), before);
    drop(taken);
    proxy.ok(&format!("/group-open.do?group={busy}"));
}
