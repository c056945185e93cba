//! `/events`: what happens is told to whoever watches, and a viewer that was away learns what it has missed.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;

use crate::support::{FakeServer, Group, Setup, TestProxy, Told, Watching, eventually, is_refusal, replace, wait_for};

/// As many as may watch.
const VIEWERS_MAX: usize = 32;

fn with_two_servers() -> (TestProxy, [FakeServer; 2]) {
    let servers = [FakeServer::echo(), FakeServer::echo()];
    let proxy = TestProxy::start(Group::new("ha", &[&servers[0], &servers[1]]));
    (proxy, servers)
}

fn names(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.event.as_str()).collect()
}

/// What has happened so far.
fn happened(proxy: &TestProxy, query: &str) -> Vec<Told> {
    let reply = proxy.get(&format!("/events?follow=no{query}"));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")), "{}", reply.text());
    Told::all(&reply.text())
}

fn is_of(server: SocketAddr) -> impl Fn(&Told) -> bool {
    move |told| told.data["server.addr"] == server.to_string()
}

#[test]
fn a_viewer_is_told_what_happens_with_the_fields_of_the_log() {
    let (proxy, [first, _second]) = with_two_servers();
    let mut watching = Watching::open(proxy.admin, "/events", "");
    proxy.set_state(first.addr, "drain");
    let offline = watching.wait_for("the server is offline", is_of(first.addr));
    assert_eq!(offline.event, "server_offline");
    assert_eq!(offline.data["cause"], "drained by an operator");
    assert_eq!(offline.data["group"], proxy.addr().port());
    let line = proxy.log.wait_for("the log says it too", |line| line["message"] == "server offline");
    for field in ["level", "message", "group", "server.addr", "cause"] {
        assert_eq!(offline.data[field], line[field], "{field}");
    }
    assert_eq!(offline.data["at"], line["timestamp"]);
    let change = watching.wait_for("who has done it", |told| told.event == "admin_change");
    assert_eq!((&change.data["path"], &change.data["code"]), (&"/worker-state.do".into(), &"ok".into()));
    assert!(change.id > offline.id, "{change:?} {offline:?}");
}

#[test]
fn reads_refusals_and_heartbeats_are_no_changes() {
    let (proxy, [first, _second]) = with_two_servers();
    let group = proxy.addr().port();
    proxy.refused(&format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"), 404, "server_not_found");
    proxy.ok(&format!("/worker-keepalive.do?group={group}&server={}", first.addr));
    proxy.ok("/group-list.do");
    proxy.set_state(first.addr, "maint");
    let changes = happened(&proxy, "");
    let changes: Vec<_> = changes.iter().filter(|told| told.event == "admin_change").collect();
    assert_eq!(changes.len(), 1, "{changes:?}");
}

#[test]
fn a_viewer_that_comes_back_gets_what_it_has_missed_and_nothing_twice() {
    let (proxy, [first, second]) = with_two_servers();
    let mut watching = Watching::open(proxy.admin, "/events?since=0", "");
    proxy.set_state(first.addr, "drain");
    let seen = watching.wait_for("offline", |told| told.event == "server_offline");
    drop(watching);
    proxy.set_state(second.addr, "drain");
    proxy.set_state(first.addr, "ready");
    let id = seen.id.expect("an event has an id");
    // The header counts: a browser sends it with the address that it was given at first.
    let mut back = Watching::open(proxy.admin, "/events?since=0", &format!("Last-Event-ID: {id}\r\n"));
    let told: Vec<Told> = (0..5).map(|_| back.next().expect("it goes on")).collect();
    let expected = ["admin_change", "server_offline", "admin_change", "server_online", "admin_change"];
    assert_eq!(names(&told), expected, "{told:?}");
    let ids: Vec<u64> = told.iter().filter_map(|told| told.id).collect();
    assert_eq!(ids, (id + 1..=id + 5).collect::<Vec<_>>());
    assert_eq!(names(&happened(&proxy, &format!("&since={id}"))), expected);
}

#[test]
fn a_viewer_that_was_away_too_long_is_told_how_much_it_has_missed() {
    let (proxy, [first, _second]) = with_two_servers();
    let seen = happened(&proxy, "").last().and_then(|told| told.id).expect("something has happened");
    // Two events each.
    for _ in 0..255 {
        proxy.set_state(first.addr, "drain");
        proxy.set_state(first.addr, "ready");
    }
    let told = happened(&proxy, &format!("&since={seen}"));
    assert_eq!((told[0].event.as_str(), told.len()), ("gap", 1_001));
    assert_eq!(told[0].data["missed"], 20);
    assert_eq!(told[1].id, Some(seen + 21));
    assert_eq!(happened(&proxy, "").len(), 1_000);
}

#[test]
fn an_id_of_a_former_process_is_recognised() {
    let (mut proxy, _servers) = with_two_servers();
    let seen = happened(&proxy, "").last().and_then(|told| told.id).expect("something has happened");
    proxy.signal(Signal::TERM);
    proxy.wait();
    let again = proxy.again();
    let told = happened(&again, &format!("&since={seen}"));
    assert_eq!((told[0].event.as_str(), &told[0].data["restarted"]), ("gap", &true.into()));
    assert!(told[1].id.expect("an id") > seen, "ids grow from one process to the next: {told:?}");
}

#[test]
fn a_viewer_may_look_at_one_group_only() {
    let servers = [FakeServer::echo(), FakeServer::echo()];
    let named = Group::new("ha", &[&servers[1]]).with("name", "web");
    let proxy = Setup::default().group(Group::new("ha", &[&servers[0]])).group(named).start();
    proxy.set_state(servers[0].addr, "drain");
    let told = happened(&proxy, "&group=web");
    assert!(!told.is_empty() && told.iter().all(|told| told.data["group.name"] == "web"), "{told:?}");
    let told = happened(&proxy, &format!("&group={}", proxy.addr().port()));
    assert!(told.iter().any(|told| told.event == "admin_change"), "{told:?}");
    assert!(told.iter().all(|told| told.data["group.name"].is_null()), "{told:?}");
    proxy.refused("/events?group=nobody", 404, "group_not_found");
    proxy.refused("/events?since=x", 400, "bad_parameter");
    proxy.refused("/events?follow=maybe", 400, "bad_parameter");
    let reply = proxy.request("GET", "/events", "Last-Event-ID: 1.5\r\n", b"");
    let json = is_refusal(&reply, 400, "bad_parameter", "Last-Event-ID");
    assert!(json["msg"].as_str().is_some_and(|msg| msg.starts_with("Last-Event-ID: ")), "{json}");
}

#[test]
fn a_reload_and_a_mistake_are_told() {
    let (proxy, _servers) = with_two_servers();
    let mut watching = Watching::open(proxy.admin, "/events", "");
    let good = proxy.file();
    replace(proxy.path(), &good.replace("\"ha\"", "\"round_robbin\""));
    let mistake = watching.wait_for("the mistake", |told| told.data["message"] == "mistake in proxy.json");
    assert_eq!(mistake.event, "reload_failed");
    assert!(mistake.data["problem"].as_str().is_some_and(|problem| problem.contains("round_robbin")), "{mistake:?}");
    replace(proxy.path(), &good.replace("\"ha\"", "\"round_robin\""));
    watching.wait_for("the reload", |told| told.data["message"] == "proxy.json reloaded" && told.event == "reload");
}

#[test]
fn as_many_may_watch_as_there_are_places_and_whoever_leaves_makes_room() {
    let (proxy, [first, _second]) = with_two_servers();
    let mut viewers: Vec<_> = (0..VIEWERS_MAX).map(|_| Watching::open(proxy.admin, "/events", "")).collect();
    proxy.refused("/events", 503, "too_many_viewers");
    assert!(!happened(&proxy, "").is_empty(), "who does not stay needs no place");
    proxy.ok("/group-list.do");
    viewers.pop();
    eventually("the place is free", || {
        // That a viewer is gone shows when something is written to it.
        proxy.set_state(first.addr, "drain");
        proxy.request("HEAD", "/events", "", b"").status == 200
    });
}

#[test]
fn streams_end_when_the_drain_begins_and_nobody_waits_for_them() {
    let (mut proxy, _servers) = with_two_servers();
    let mut client = proxy.connect();
    client.echo(b"before");
    let mut watching = Watching::open(proxy.admin, "/events", "");
    proxy.signal(Signal::TERM);
    let last = std::iter::from_fn(|| watching.next()).last().expect("the end is told");
    assert_eq!((last.event.as_str(), &last.data["message"]), ("shutdown", &"draining".into()));
    proxy.refused("/events", 503, "stopping");
    assert!(proxy.runs(), "it waits for its session");
    client.finish();
    client.receive_all();
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_viewer_that_reads_nothing_delays_neither_others_nor_changes() {
    let (proxy, [first, _second]) = with_two_servers();
    let mut stalled = TcpStream::connect(proxy.admin).expect("the admin port answers");
    rustix::net::sockopt::set_socket_recv_buffer_size(&stalled, 4_096).expect("a socket");
    stalled.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut reading = Watching::open(proxy.admin, "/events", "");
    for state in ["drain", "ready"].into_iter().cycle().take(100) {
        proxy.set_state(first.addr, state);
        reading.wait_for("it is told", |told| told.event == "admin_change");
    }
    drop(stalled);
    wait_for("it is over", || proxy.try_get("/live"));
}
