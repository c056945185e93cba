//! What becomes of the sessions of a server that goes, and how an operator waits for them.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Client, Ended, FakeServer, Group, Http, TestProxy, eventually, let_pass, pattern, ports, replace, sha256, size,
    spawn,
};

/// `PATH?group=…&server=…` for the first group.
fn target(proxy: &TestProxy, path: &str, server: SocketAddr, more: &str) -> String {
    format!("/{path}?group={}&server={server}{more}", proxy.addr().port())
}

fn checked(on_down: Value) -> Group {
    let check = json!({ "kind": "tcp", "interval": "100ms", "fall": 2, "rise": 1, "traffic_counts": false });
    Group::new("ha", &[]).with("check", check).with("on_down", on_down)
}

/// Clients that have reached a server, each with a word that came back.
fn clients(proxy: &TestProxy, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let mut client = proxy.connect();
            client.echo(b"hello");
            client
        })
        .collect()
}

/// Server of one's own that goes on with its sessions when it no longer listens.
fn echo_that_goes_on() -> FakeServer {
    FakeServer::start(|client, _| {
        client.stream.set_read_timeout(None).expect("a stream takes options");
        crate::support::echo(client);
    })
}

#[test]
fn the_sessions_of_one_server_are_listed_and_ended_together() {
    let (first, second) = (FakeServer::echo(), FakeServer::echo());
    let proxy = TestProxy::start(Group::new("round_robin", &[&first, &second]));
    let mut clients = clients(&proxy, 6);
    let list = |server: SocketAddr| proxy.ok(&target(&proxy, "session-list.do", server, ""));
    let listed = list(first.addr);
    assert_eq!((&listed["total"], listed["sessions"].as_array().unwrap().len()), (&json!(3), 3));
    assert!(listed["sessions"].as_array().unwrap().iter().all(|it| it["server"] == first.addr.to_string()));
    assert_eq!(proxy.ok(&format!("/session-list.do?server={}", second.addr))["total"], 3);
    let closed = proxy.ok(&target(&proxy, "session-close.do", first.addr, ""));
    assert_eq!(closed["sessions"], 3);
    eventually("they end", || list(first.addr)["total"] == 0);
    assert_eq!((proxy.ended("killed"), proxy.sessions()), (3, 3));
    let ended = clients.iter_mut().filter_map(|client| client.stream.write(b"x").err()).count();
    assert_eq!(ended, 0, "the other end tells with the next read");
    let group = proxy.addr().port();
    for (target, code) in [
        ("/session-close.do".to_owned(), "missing_parameter"),
        (format!("/session-close.do?group={group}"), "missing_parameter"),
        (format!("/session-close.do?server={}", first.addr), "missing_parameter"),
        (format!("/session-close.do?id=1&group={group}"), "bad_parameter"),
    ] {
        proxy.refused(&target, 400, code);
    }
    proxy.refused(&format!("/session-close.do?group={group}&server=10.0.0.1:1"), 404, "server_not_found");
}

#[test]
fn who_drains_a_server_hears_at_once_when_its_last_session_has_ended() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]));
    let mut clients = clients(&proxy, 3);
    let (admin, wanted) = (proxy.admin, target(&proxy, "worker-state.do", server.addr, "&state=drain&wait=10m"));
    let waiting = spawn(move || (Http::connect_to(admin).unwrap().get(&wanted).json(), Instant::now()));
    eventually("it is drained", || proxy.server(server.addr)["state"] == "drain");
    drop(clients.split_off(1));
    eventually("one is left", || proxy.sessions() == 1);
    clients[0].echo(b"still served");
    assert!(!waiting.is_finished());
    let end = Instant::now();
    drop(clients);
    let (answer, at) = waiting.join().unwrap();
    assert_eq!((&answer["ok"], &answer["sessions"]), (&json!(true), &json!(0)));
    let took = at - end;
    eprintln!("answered {took:?} after the client had ended");
    assert!(took < Duration::from_millis(size("GOPROXY_TEST_WAIT_MS", 2_000) as u64), "{took:?}");
}

#[test]
fn a_wait_that_is_over_tells_what_is_left_and_a_caller_who_hangs_up_changes_nothing() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]));
    let mut clients = clients(&proxy, 2);
    let answer = proxy.ok(&target(&proxy, "worker-state.do", server.addr, "&state=drain&wait=200ms"));
    assert_eq!((&answer["msg"], &answer["sessions"]), (&json!("state is drain"), &json!(2)));
    let wait = |state: &str| target(&proxy, "worker-state.do", server.addr, &format!("&state={state}&wait=10m"));
    let mut http = Http::connect_to(proxy.admin).unwrap();
    http.send(format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", wait("maint")).as_bytes()).unwrap();
    eventually("it is set", || proxy.server(server.addr)["state"] == "maint");
    drop(http);
    clients[0].echo(b"still there");
    assert_eq!(proxy.server(server.addr)["state"], "maint");
    proxy.refused(&target(&proxy, "worker-state.do", server.addr, "&state=ready&wait=11m"), 400, "bad_parameter");
    proxy.refused(&target(&proxy, "worker-state.do", server.addr, "&state=ready&wait=5"), 400, "bad_parameter");
    assert_eq!(proxy.server(server.addr)["state"], "maint", "a refused change changes nothing");
}

#[test]
fn a_server_that_is_taken_out_keeps_or_closes_its_sessions_as_the_operator_says() {
    let servers: Vec<_> = (0..3).map(|_| FakeServer::echo()).collect();
    let all: Vec<_> = servers.iter().collect();
    let proxy = TestProxy::start(Group::new("round_robin", &all).with("on_down", json!({ "removed": "close" })));
    let mut clients = clients(&proxy, 3);
    let kept = proxy.ok(&target(&proxy, "worker-remove.do", servers[0].addr, "&sessions=keep&wait=100ms"));
    assert_eq!(kept["sessions"], 1);
    clients[0].echo(b"goes on");
    let closed = proxy.ok(&target(&proxy, "worker-remove.do", servers[1].addr, "&sessions=close&wait=1m"));
    assert_eq!(closed["sessions"], 0);
    assert_eq!(clients[1].receive_all(), (Vec::new(), Ended::InOrder));
    proxy.ok(&target(&proxy, "worker-remove.do", servers[2].addr, ""));
    assert_eq!(clients[2].receive_all(), (Vec::new(), Ended::InOrder));
    eventually("both are counted", || proxy.ended("server_down") == 2);
    clients[0].echo(b"goes on");
    assert_eq!(proxy.sessions(), 1);
}

#[test]
fn a_server_that_leaves_the_file_closes_its_sessions_where_the_group_wants_it_and_a_drained_one_too() {
    let (first, second) = (FakeServer::echo(), FakeServer::echo());
    let proxy = TestProxy::start(Group::new("round_robin", &[&first, &second]).with("on_down", "close"));
    let mut clients = clients(&proxy, 2);
    proxy.set_state(first.addr, "drain");
    let_pass(Duration::from_millis(300), "a drain ends nothing, however long it lasts");
    clients[0].echo(b"drained");
    let text = proxy.file();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    file["groups"][0]["servers"].as_array_mut().unwrap().remove(0);
    replace(proxy.path(), &file.to_string());
    proxy.ok("/config-reload.do");
    assert_eq!(clients[0].receive_all(), (Vec::new(), Ended::InOrder));
    proxy.log.wait_for_end("server_down");
    clients[1].echo(b"another server's");
}

#[test]
fn many_sessions_of_a_server_that_is_down_end_evenly_and_nobody_elses() {
    let count = size("GOPROXY_TEST_SESSIONS", 200);
    let spread = Duration::from_secs(size("GOPROXY_TEST_SPREAD_S", 2) as u64);
    let (server, other) = (echo_that_goes_on(), FakeServer::echo());
    let group = checked(json!({ "check": "close" })).with("close_spread", format!("{}s", spread.as_secs()));
    let proxy = TestProxy::start(group.server(&server, json!({})).server(&other, json!({})));
    let mut mine = clients(&proxy, count);
    proxy.set_state(server.addr, "drain");
    let mut others = clients(&proxy, 20);
    proxy.set_state(server.addr, "ready");
    let addr = server.addr;
    drop(server);
    proxy.log.wait_for("it is offline", |line| {
        line["message"] == "server offline" && line["cause"].as_str().is_some_and(|it| it.contains("check failed"))
    });
    let down = Instant::now();
    let mut ends = Vec::new();
    for client in &mine {
        client.stream.set_nonblocking(true).unwrap();
    }
    eventually("all of them end", || {
        mine.retain_mut(|client| match client.stream.read(&mut [0; 8]) {
            Ok(0) => {
                ends.push(down.elapsed());
                false
            }
            Ok(_) => panic!("nothing was sent"),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                true
            }
        });
        mine.is_empty()
    });
    let seconds = spread.as_secs() as usize;
    let in_second = |at: usize| ends.iter().filter(|end| end.as_secs() as usize == at).count();
    let counts: Vec<usize> = (0..=seconds).map(in_second).collect();
    eprintln!("{count} sessions, by second {counts:?}, the last after {:?}", ends.last());
    let max = count as f64 / seconds as f64 * 1.5;
    assert!(counts.iter().all(|in_one| *in_one as f64 <= max), "{counts:?}");
    assert!(*ends.last().unwrap() < spread + Duration::from_millis(1_500), "{:?}", ends.last());
    others.iter_mut().for_each(|client| client.echo(b"untouched"));
    eventually("each has its line", || proxy.log.ends().iter().filter(|end| *end == "server_down").count() == count);
    let offline = proxy.log.with_message("server offline");
    let lines = offline.iter().filter(|line| {
        line["server.addr"] == addr.to_string() && line["cause"].as_str().unwrap().contains("check failed")
    });
    assert_eq!(lines.count(), 1);
}

#[test]
fn a_server_that_is_back_before_their_turn_keeps_the_sessions_that_are_left() {
    let server = FakeServer::echo();
    let group = Group::new("ha", &[&server]).with("on_down", json!({ "maint": "close" })).with("close_spread", "1h");
    let proxy = TestProxy::start(group);
    let mut clients = clients(&proxy, 10);
    proxy.set_state(server.addr, "maint");
    eventually("the first has ended", || proxy.sessions() == 9);
    proxy.set_state(server.addr, "ready");
    replace(proxy.path(), &proxy.file().replace("\"1h\"", "\"0s\""));
    proxy.ok("/config-reload.do");
    let_pass(Duration::from_millis(500), "nothing happens to them any more");
    let served = clients.iter_mut().filter_map(|client| {
        client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.stream.write_all(b"x").ok()?;
        client.stream.read(&mut [0]).ok().filter(|read| *read == 1)
    });
    assert_eq!(served.count(), 9);
    // Down again, they all go.
    proxy.set_state(server.addr, "maint");
    eventually("all have ended", || proxy.ended("server_down") == 10);
}

#[test]
fn a_transfer_from_a_server_in_maintenance_arrives_whole_where_maint_keeps() {
    let length = size("GOPROXY_TEST_MIB", 16) << 20;
    let server = FakeServer::start(move |mut client, _| client.send(&pattern(1, length)));
    let group = Group::new("ha", &[&server]);
    let on_down = json!({ "check": "close", "lease": "close", "maint": "keep", "removed": "close" });
    let proxy = TestProxy::start(group.with("on_down", on_down));
    let mut client = proxy.connect();
    let mut all = client.receive(1 << 20);
    proxy.set_state(server.addr, "maint");
    let (rest, ended) = client.receive_all();
    client.finish();
    all.extend(rest);
    assert_eq!((all.len(), ended), (length, Ended::InOrder));
    assert_eq!(sha256(&all), sha256(&pattern(1, length)));
    proxy.log.wait_for_end("server_closed");
}

#[test]
fn what_is_on_its_way_to_the_client_goes_out_before_its_session_is_closed() {
    const LENGTH: usize = 300 << 10;
    let server = FakeServer::start(|mut client, _| {
        client.send(&pattern(2, LENGTH));
        crate::support::swallow(client);
    });
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("on_down", "close"));
    for round in 0..20 {
        let mut client = proxy.connect();
        client.send(b"a word that nobody reads");
        let first = client.receive(1);
        proxy.set_state(server.addr, "maint");
        let (rest, ended) = client.receive_all();
        assert_eq!(first[0], pattern(2, 1)[0]);
        assert_eq!(ended, Ended::InOrder, "round {round}, after {} bytes", rest.len());
        assert_eq!(rest[..], pattern(2, LENGTH)[1..=rest.len()]);
        proxy.set_state(server.addr, "ready");
    }
    eventually("each is counted", || proxy.ended("server_down") == 20);
}

#[test]
fn a_client_that_takes_nothing_delays_the_end_by_a_second_and_is_told_that_its_answer_is_cut() {
    let server = FakeServer::huge_sender();
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("on_down", "close"));
    let mut client = proxy.connect();
    client.hold_little();
    client.receive(1);
    let stuck = || {
        let before = proxy.ok("/session-list.do")["sessions"][0]["bytes_down"].clone();
        let_pass(Duration::from_millis(100), "a look at whether anything moves");
        proxy.ok("/session-list.do")["sessions"][0]["bytes_down"] == before
    };
    eventually("nothing moves", stuck);
    let start = Instant::now();
    let answer = proxy.ok(&target(&proxy, "worker-state.do", server.addr, "&state=maint&wait=1m"));
    let took = start.elapsed();
    assert_eq!(answer["sessions"], 0);
    assert!((Duration::from_millis(900)..Duration::from_secs(20)).contains(&took), "{took:?}");
    proxy.log.wait_for_end("server_down");
    assert_eq!(client.receive_all().1, Ended::Reset);
}

#[test]
fn neither_a_drain_nor_suspicion_nor_a_full_server_nor_a_check_of_a_drained_one_ends_a_session() {
    let (server, spare) = (echo_that_goes_on(), FakeServer::echo());
    let group = checked(json!("close")).server(&server, json!({ "max_sessions": 2 })).server(&spare, json!({}));
    let proxy = TestProxy::start(group);
    let mut clients = clients(&proxy, 3);
    proxy.set_state(server.addr, "drain");
    let addr = server.addr;
    drop(server);
    eventually("its checks fail", || proxy.server(addr)["last_check"]["fails"].as_u64() >= Some(4));
    clients.iter_mut().for_each(|client| client.echo(b"still served"));
    // It is not drained any more, and so it is down.
    proxy.set_state(addr, "ready");
    eventually("now its sessions end", || proxy.ended("server_down") == 2);
    clients[2].echo(b"another server's");
}

#[test]
fn a_server_that_falls_silent_closes_its_sessions_where_lease_closes() {
    let [admin, group] = ports();
    let server = crate::support::named_echo();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "log": {{ "format": "json" }}, "groups": [
            {{ "listen": "127.0.0.1:{group}", "heartbeat_timeout": "500ms", "on_down": {{ "lease": "close" }} }} ] }}"#
    );
    let proxy = TestProxy::with_file(admin, &text);
    let beat = format!("/worker-keepalive.do?group={group}&server={}", server.addr);
    proxy.ok(&beat);
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], group)));
    client.receive(1);
    for _ in 0..5 {
        let_pass(Duration::from_millis(200), "the pace of heartbeats");
        proxy.ok(&beat);
    }
    client.send(b".");
    client.receive_all_until(server.addr.to_string().len() as u64 + 1);
    assert_eq!(client.receive_all().1, Ended::InOrder);
    proxy.log.wait_for_end("server_down");
}

#[test]
fn a_mistake_in_on_down_is_told_at_its_place() {
    for (on_down, expected) in [
        (json!("closed"), "unknown on_down \"closed\"; expected keep, close"),
        (json!(true), "expected keep, close or an object, {…}, found true"),
        (json!({ "drain": "close" }), "unknown key \"drain\""),
        (json!({ "check": 1 }), "expected keep, close, found 1"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("proxy.json");
        let file = json!({ "groups": [{ "listen": "127.0.0.1:1", "on_down": on_down, "close_spread": "2h" }] });
        std::fs::write(&path, file.to_string()).unwrap();
        let (is_good, said) = crate::support::check(&path);
        assert!(!is_good && said.contains(expected), "{on_down}: {said}");
        assert!(said.contains("close_spread: \"2h\" is out of range; expected 0s, or 1ms to 1h"), "{said}");
    }
}

#[test]
fn a_client_that_comes_to_a_server_that_is_down_because_no_other_is_left_is_served() {
    let server = FakeServer::echo();
    let check = FakeServer::start_at(SocketAddr::new(server.addr.ip(), 0), |client, _| drop(client));
    let group = checked(json!("close")).server(&server, json!({ "check": { "port": check.addr.port() } }));
    let proxy = TestProxy::start(group);
    let mut before = proxy.connect();
    before.echo(b"x");
    drop(check);
    assert_eq!(before.receive_all(), (Vec::new(), Ended::InOrder));
    let_pass(Duration::from_millis(100), "a client that comes later, and not in the same moment");
    let mut after = proxy.connect();
    for _ in 0..40 {
        after.echo(b"it is down, and the last resort");
        let_pass(Duration::from_millis(100), "the time in which sessions of before are looked for");
    }
    assert_eq!(proxy.ended("server_down"), 1);
}
