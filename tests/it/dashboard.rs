//! The dashboard: its files, its table as text, and what it is shown by `/events?view=ui`.
//!
//! What a browser makes of it is tried by `tests/with_programs/browser.rs`.

use std::collections::HashSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{FakeServer, Group, TestProxy, Told, Watching, eventually, is_refusal, ports};

const UI: &str = "/events?view=ui";

fn with_two_servers() -> (TestProxy, [FakeServer; 2]) {
    let servers = [FakeServer::echo(), FakeServer::echo()];
    let proxy = TestProxy::start(Group::new("ha", &[&servers[0], &servers[1]]));
    (proxy, servers)
}

/// The server's object in a frame that has one.
fn server<'a>(told: &'a Told, addr: &str) -> Option<&'a Value> {
    told.data["servers"].as_array()?.iter().find(|server| server["addr"] == addr)
}

#[test]
fn a_viewer_gets_everything_and_then_every_second_what_has_changed() {
    let (proxy, [first, second]) = with_two_servers();
    let mut watching = Watching::open(proxy.admin, UI, "");
    let state = watching.next().expect("a state");
    assert_eq!((state.event.as_str(), &state.data["n"]), ("state", &json!(1)));
    let list = proxy.ok(&format!("/worker-list.do?group={}", proxy.addr().port()));
    for listed in list["servers"].as_array().expect("a list") {
        let shown = server(&state, listed["addr"].as_str().expect("an address")).expect("it is shown");
        for field in ["addr", "state", "online", "cause", "weight", "origin"] {
            assert_eq!(shown[field], listed[field], "{field}");
        }
    }
    let i = |addr: &str| server(&state, addr).expect("it is shown")["i"].clone();
    let (first_i, second_i) = (i(&first.addr.to_string()), i(&second.addr.to_string()));

    let mut client = proxy.connect();
    client.echo(b"hello");
    let row = |told: &Told, i: &Value| told.data["s"].as_array()?.iter().find(|row| row[0] == *i).cloned();
    let told = watching.wait_for("its session", |told| row(told, &first_i).is_some_and(|row| row[1] == 1));
    assert_eq!((told.event.as_str(), &told.data["p"][0]), ("change", &json!(1)), "{told:?}");
    assert!(row(&told, &second_i).is_none_or(|row| row[1].as_u64().unwrap_or(0) == 0), "{told:?}");

    proxy.set_state(first.addr, "drain");
    let told = watching.wait_for("the drain", |told| server(told, &first.addr.to_string()).is_some());
    assert_eq!(server(&told, &first.addr.to_string()).expect("it is told")["cause"], "drained by an operator");
    assert!(server(&told, &second.addr.to_string()).is_none(), "{told:?}");
    let next = watching.next().expect("another second");
    assert_eq!(next.data["n"].as_u64(), told.data["n"].as_u64().map(|n| n + 1));
}

#[test]
fn a_server_whose_check_fails_is_more_than_suspect() {
    let (first, second) = (FakeServer::refusing(), FakeServer::echo());
    let check = json!({ "kind": "tcp", "interval": "1h", "fast_interval": "100ms" });
    let proxy = TestProxy::start(Group::new("ha", &[&first, &second]).with("check", check));
    proxy.connect().echo(b"of the second");
    eventually("a client and a check have failed", || {
        let listed = proxy.server(first.addr);
        listed["suspect"] == true && listed["last_check"]["ok"] == false
    });
    let state = Watching::open(proxy.admin, UI, "").next().expect("a state");
    let shown = server(&state, &first.addr.to_string()).expect("it is shown");
    assert_eq!(
        (&shown["online"], &shown["suspect"], &shown["check"]["ok"]),
        (&json!(false), &json!(false), &json!(false))
    );
}

#[test]
fn all_viewers_see_the_same_frames_and_without_viewers_none_are_made() {
    let (proxy, _servers) = with_two_servers();
    let mut viewers: Vec<_> = (0..3).map(|_| Watching::open(proxy.admin, UI, "")).collect();
    let mut seen: HashSet<String> = HashSet::new();
    for viewer in &mut viewers {
        let told = viewer.wait_for("the third frame", |told| told.data["n"] == 3);
        seen.insert(told.data.to_string());
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    drop(viewers);
    // Numbers begin anew when nobody has looked for a while.
    eventually("the last viewer is gone", || {
        let reply = proxy.get("/events?view=ui&follow=no");
        let told = Told::all(&reply.text());
        assert_eq!((reply.status, told[0].event.as_str()), (200, "state"), "{}", reply.text());
        told[0].data["n"] == 1
    });
}

#[test]
fn what_happens_is_told_between_the_frames() {
    let (proxy, [first, _second]) = with_two_servers();
    let is_frame = |told: &Told| told.event == "state" || told.event == "change";
    proxy.set_state(first.addr, "drain");
    let mut watching = Watching::open(proxy.admin, UI, "");
    assert_eq!(watching.next().expect("a state").event, "state");
    watching.wait_for("what has happened before", |told| !is_frame(told) && told.event != "admin_change");
    let change = watching.wait_for("the drain", |told| told.event == "admin_change");
    proxy.set_state(first.addr, "ready");
    watching.wait_for("the end of the drain", |told| told.event == "server_online" && told.id > change.id);
    let seen = change.id.expect("an event has an id");
    let back = Told::all(&proxy.get(&format!("{UI}&follow=no&since={seen}")).text());
    assert_eq!(back[0].event, "state");
    assert_eq!(back[1].id, Some(seen + 1), "{back:?}");
}

#[test]
fn frames_end_with_the_drain_and_one_can_still_be_had() {
    let (mut proxy, _servers) = with_two_servers();
    let mut client = proxy.connect();
    client.echo(b"before");
    let mut watching = Watching::open(proxy.admin, UI, "");
    watching.next().expect("a state");
    proxy.signal(Signal::TERM);
    while watching.next().is_some() {}
    proxy.refused(UI, 503, "stopping");
    eventually("a frame says that it stops", || {
        let told = Told::all(&proxy.get("/events?view=ui&follow=no").text());
        told[0].data["process"]["ready"] == false
    });
    client.finish();
    client.receive_all();
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn frames_show_everything_or_are_refused() {
    let (proxy, _servers) = with_two_servers();
    proxy.refused(&format!("{UI}&group={}", proxy.addr().port()), 400, "bad_parameter");
    proxy.refused(&format!("{UI}&since=x"), 400, "bad_parameter");
    proxy.refused("/events?view=top", 400, "bad_parameter");
}

#[test]
fn a_browser_gets_the_page_without_the_token_and_nothing_else_runs_in_it() {
    let server = FakeServer::echo();
    let [admin, group] = ports();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}", "token": "secret" }},
             "groups": [{{ "listen": "127.0.0.1:{group}", "servers": ["{}"] }}] }}"#,
        server.addr
    );
    let mut proxy = TestProxy::with_file(admin, &text);
    // It does not list them without the token.
    proxy.may_leave_sessions();
    for (target, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
    ] {
        let browser = "Accept: text/html,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\n";
        let reply = proxy.request("GET", target, browser, b"");
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(kind)), "{target}");
        assert_eq!(reply.header("cache-control"), Some("no-cache"), "{target}");
        let policy = reply.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; ") && !policy.contains("unsafe"),
            "{policy}"
        );
        let tag = reply.header("etag").expect("a tag");
        let again = proxy.request("GET", target, &format!("{browser}If-None-Match: {tag}\r\n"), b"");
        assert_eq!((again.status, again.body.len()), (304, 0), "{target}");
        assert_eq!(proxy.request("GET", target, "Sec-Fetch-Site: cross-site\r\n", b"").status, 403, "{target}");
    }
    is_refusal(&proxy.request("GET", "/events?view=ui", "", b""), 401, "unauthorized", "frames");
    let text = "Accept: text/plain\r\n";
    is_refusal(&proxy.request("GET", "/", text, b""), 401, "unauthorized", "the page as text");
    let reply = proxy.request("GET", "/", &format!("{text}Authorization: Bearer secret\r\n"), b"");
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")));
    assert!(reply.text().contains(&format!("{}  online ", server.addr)), "{}", reply.text());
}
