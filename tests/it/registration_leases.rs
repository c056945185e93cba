//! A server that registers itself is online for as long as its heartbeats come, and a little longer.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{FakeServer, Http, TestProxy, Visitor, eventually, let_pass, named_echo, ports, replace, spawn};

pub(crate) fn config(admin: u16, group: u16, timeout: &str) -> String {
    format!(
        r#"{{
  "admin": {{ "listen": "127.0.0.1:{admin}" }},
  "groups": [
    {{ "listen": "127.0.0.1:{group}", "policy": "round_robin", "heartbeat_timeout": "{timeout}", "servers": [] }}
  ]
}}
"#
    )
}

pub(crate) fn beat(group: u16, server: impl std::fmt::Display) -> String {
    format!("/worker-keepalive.do?group={group}&server={server}")
}

/// Sends heartbeats of its servers, often enough, until it is dropped.
pub(crate) struct Heart {
    stop: Arc<AtomicBool>,
}

impl Heart {
    pub(crate) fn start(admin: u16, group: u16, servers: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        spawn(move || {
            while !stopped.load(Relaxed) {
                for server in &servers {
                    // The proxy may be restarting.
                    let _ = Http::try_connect(admin).and_then(|mut http| http.try_get(&beat(group, server)));
                }
                let_pass(Duration::from_millis(50), "the interval of the heartbeats");
            }
        });
        Self { stop }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

#[test]
fn a_heartbeat_registers_keeps_alive_and_runs_out_and_the_old_place_is_kept() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "1500ms"));
    let echoes: Vec<FakeServer> = (0..3).map(|_| named_echo()).collect();
    let all: Vec<String> = echoes.iter().map(|echo| echo.addr.to_string()).collect();
    for server in &all {
        proxy.ok(&beat(group, server));
    }
    assert_eq!(proxy.file().matches("\"origin\": \"heartbeat\"").count(), 3);
    let _others = Heart::start(admin, group, vec![all[0].clone(), all[2].clone()]);
    let heart = Heart::start(admin, group, vec![all[1].clone()]);
    let kept = Instant::now();
    while kept.elapsed() < Duration::from_secs(3) {
        assert_eq!(proxy.online(group), all, "heartbeats keep them online");
    }
    drop(heart);
    let silent = Instant::now();
    eventually("the lease runs out", || proxy.online(group).len() == 2);
    let lasted = silent.elapsed();
    assert!(lasted > Duration::from_secs(1) && lasted < Duration::from_secs(8), "{lasted:?}");
    assert_eq!(proxy.online(group), [all[0].clone(), all[2].clone()]);
    let server = proxy.server_of(group, &all[1]);
    assert_eq!((&server["online"], &server["state"], &server["lease_ms"]), (&json!(false), &json!("ready"), &json!(0)));
    assert!(server["cause"].as_str().unwrap().contains("heartbeat"), "{server}");
    eventually("the log tells why", || {
        let log = proxy.log.text();
        log.lines()
            .any(|line| line.contains("server offline") && line.contains(&all[1]) && line.contains("heartbeat_timeout"))
    });
    assert!(proxy.file().contains(&all[1]), "its place is kept");
    for _ in 0..4 {
        assert_ne!(Visitor::connect(group).server, all[1]);
    }
    assert_eq!(proxy.ok(&beat(group, &all[1]))["msg"], "online");
    assert_eq!(proxy.online(group), all, "it is back in its old place");
}

#[test]
fn after_a_restart_everybody_has_one_whole_heartbeat_timeout() {
    let [admin, group] = ports();
    let mut proxy = TestProxy::with_file(admin, &config(admin, group, "2s"));
    let all: Vec<String> = (1..=2).map(|number| format!("127.0.0.1:{number}")).collect();
    for server in &all {
        proxy.ok(&beat(group, server));
    }
    proxy.kill();
    let_pass(Duration::from_secs(2), "longer than the lease had left when the process ended");
    let proxy = proxy.again();
    let started = Instant::now();
    assert_eq!(proxy.online(group), all);
    let left = proxy.server_of(group, &all[0])["lease_ms"].as_u64().unwrap();
    assert!((1..=2_000).contains(&left), "{left}");
    eventually("nobody has been heard of", || proxy.online(group).is_empty());
    assert!(started.elapsed() > Duration::from_millis(1_000), "{:?}", started.elapsed());
    proxy.ok(&beat(group, &all[1]));
    assert_eq!(proxy.online(group), [all[1].as_str()]);
}

#[test]
fn an_old_copy_of_the_file_cannot_drop_a_server_that_is_alive() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "1500ms"));
    let old = proxy.file();
    let echo = named_echo();
    let alive = echo.addr.to_string();
    proxy.ok(&beat(group, &alive));
    let heart = Heart::start(admin, group, vec![alive.clone()]);
    replace(proxy.path(), &old.replace("round_robin", "ha"));
    eventually("the file is read", || proxy.ok("/group-list.do")["groups"][0]["policy"] == "ha");
    assert_eq!(proxy.online(group), [alive.as_str()]);
    Visitor::connect(group).round_trip(b"still served");
    // It is written again with the next change.
    assert!(!proxy.file().contains(&alive));
    proxy.ok(&beat(group, "127.0.0.1:1"));
    assert!(proxy.file().contains(&alive));

    // Once more, and this time it falls silent: a server that neither lives nor is in the file is no server.
    replace(proxy.path(), &old);
    eventually("the file is read", || proxy.ok("/group-list.do")["groups"][0]["policy"] == "round_robin");
    drop(heart);
    eventually("it is forgotten", || proxy.servers(group).is_empty());
    proxy.refused(&format!("/worker-remove.do?group={group}&server={alive}"), 404, "server_not_found");
    // What comes back is a new server, and persisted like one.
    proxy.ok(&beat(group, &alive));
    assert!(proxy.file().contains(&alive));
    assert_eq!(proxy.online(group), [alive.as_str()]);
}

#[test]
fn a_server_that_is_removed_is_gone_at_once_and_from_the_file_too() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "1m"));
    let empty = proxy.file();
    let echo = named_echo();
    proxy.ok(&beat(group, echo.addr));
    let mut session = Visitor::connect(group);
    proxy.ok(&format!("/worker-remove.do?group={group}&server={}", echo.addr));
    assert_eq!(proxy.file(), empty);
    assert!(proxy.servers(group).is_empty());
    assert!(Visitor::try_connect(group).is_err(), "no server is left");
    session.round_trip(b"its sessions go on");
    proxy.ok("/config-reload.do");
    assert!(proxy.servers(group).is_empty());
}

#[test]
fn the_state_of_a_server_is_persisted_and_survives_a_restart() {
    let [admin, group] = ports();
    let mut proxy = TestProxy::with_file(admin, &config(admin, group, "1m"));
    let echo = named_echo();
    proxy.ok(&beat(group, echo.addr));
    let mut session = Visitor::connect(group);
    for (state, cause) in [("drain", "drain"), ("maint", "maint")] {
        let answer = proxy.ok(&format!("/worker-state.do?group={group}&server={}&state={state}", echo.addr));
        assert_eq!(answer["sessions"], 1);
        assert!(proxy.file().contains(&format!("\"state\": \"{state}\"")));
        for _ in 0..2 {
            let server = proxy.server_of(group, &echo.addr.to_string());
            assert_eq!((&server["state"], &server["online"]), (&json!(state), &json!(false)));
            assert!(server["cause"].as_str().unwrap().contains(cause), "{server}");
            assert!(Visitor::try_connect(group).is_err());
            // A heartbeat is no reason to give it clients.
            assert_eq!(proxy.ok(&beat(group, echo.addr))["state"], state);
        }
        session.round_trip(b"sessions go on");
    }
    proxy.kill();
    let proxy = proxy.again();
    assert_eq!(proxy.server_of(group, &echo.addr.to_string())["state"], "maint");
    proxy.ok(&format!("/worker-state.do?group={group}&server={}&state=ready", echo.addr));
    assert!(!proxy.file().contains("maint"));
    Visitor::connect(group).round_trip(b"back");
}

#[test]
fn a_thousand_heartbeats_of_a_known_server_write_nothing() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "1m"));
    let target = beat(group, "127.0.0.1:1&weight=3&state=ready&zone=a");
    proxy.ok(&target);
    let stamp = || {
        let meta = std::fs::metadata(proxy.path()).unwrap();
        (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime_nsec())
    };
    let before = stamp();
    let mut http = Http::connect(admin);
    for number in 0..1_000 {
        // Load is told with every heartbeat and kept in memory.
        let reply = http.get(&format!("{target}&load={}", number % 100));
        assert_eq!(reply.status, 200);
    }
    assert_eq!(stamp(), before);
    assert_eq!(proxy.server_of(group, "127.0.0.1:1")["load"], 99);
    proxy.ok(&beat(group, "127.0.0.1:1&weight=4"));
    assert_ne!(stamp(), before, "a changed weight is persisted");
}

#[test]
fn two_callers_that_disagree_have_the_file_written_once_and_the_last_one_counts() {
    let [admin, group] = ports();
    let mut proxy = TestProxy::with_file(admin, &config(admin, group, "1m"));
    let server = "127.0.0.1:1";
    proxy.ok(&beat(group, server));
    let stamp = || {
        let meta = std::fs::metadata(proxy.path()).unwrap();
        (meta.ino(), meta.mtime(), meta.mtime_nsec())
    };
    let mut stamps = vec![stamp()];
    let mut callers = [Http::connect(admin), Http::connect(admin)];
    let said = |caller: usize| [(3, "a"), (5, "b")][caller];
    for _ in 0..50 {
        for (caller, http) in callers.iter_mut().enumerate() {
            let (weight, zone) = said(caller);
            let reply = http.get(&beat(group, format!("{server}&weight={weight}&zone={zone}")));
            assert_eq!(reply.status, 200, "{}", reply.json());
            let found = proxy.server_of(group, server);
            assert_eq!((&found["weight"], &found["labels"]["zone"]), (&json!(weight), &json!(zone)));
            stamps.push(stamp());
        }
    }
    stamps.dedup();
    assert_eq!(stamps.len(), 2, "written once since it registered");
    assert!(proxy.file().contains("\"weight\": 3"), "{}", proxy.file());
    eventually("the log says so", || proxy.log.count("heartbeats of two callers disagree") == 1);
    let log = proxy.log.text();
    let line = log.lines().find(|line| line.contains("disagree")).unwrap();
    assert!(line.contains("WARN") && line.contains(&format!("server.addr={server}")), "{line}");
    assert_eq!(line.matches("addr=127.0.0.1:").count(), 3, "it names the server and both callers: {line}");
    assert!(line.contains("weight 3 and not 5, zone a and not b"), "{line}");
    // Another change of the file does not bring back what the file said.
    proxy.ok(&beat(group, "127.0.0.1:2"));
    assert_eq!(proxy.server_of(group, server)["weight"], 5);
    // An operator's word counts until the next heartbeat says another.
    proxy.ok(&format!("/worker-state.do?group={group}&server={server}&state=drain"));
    assert_eq!(proxy.server_of(group, server)["state"], "drain");
    proxy.stop();
    assert!(proxy.file().contains("\"weight\": 5") && proxy.file().contains("\"zone\": \"b\""), "{}", proxy.file());
}

#[test]
fn heartbeats_as_fast_as_they_go_disturb_no_traffic() {
    const CONNECTIONS: usize = 8;
    const HEARTBEATS: usize = 20_000;
    const TRIPS_MIN: usize = 20;
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "1m"));
    let echo = named_echo();
    let servers: Vec<String> = (0..100).map(|number| format!("10.0.0.{number}:9000")).collect();
    for server in &servers {
        proxy.ok(&beat(group, format!("{server}&state=drain")));
    }
    proxy.ok(&beat(group, echo.addr));
    let mut long = Visitor::connect(group);
    let trips = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let callers: Vec<_> = (0..CONNECTIONS)
        .map(|caller| {
            let (servers, trips) = (servers.clone(), Arc::clone(&trips));
            spawn(move || {
                let mut http = Http::connect(admin);
                let mut sent = 0;
                while sent < HEARTBEATS / CONNECTIONS || trips.load(Relaxed) < TRIPS_MIN {
                    let server = &servers[(caller + sent * CONNECTIONS) % servers.len()];
                    let reply = http.get(&beat(group, server));
                    assert_eq!(reply.status, 200, "{}", reply.json());
                    sent += 1;
                }
                (sent, started.elapsed())
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    while callers.iter().any(|caller| !caller.is_finished()) {
        let trip = Instant::now();
        long.round_trip(b"the same session all the time");
        Visitor::connect(group).round_trip(b"and a new one each time");
        slowest = slowest.max(trip.elapsed());
        trips.fetch_add(1, Relaxed);
    }
    let callers: Vec<(usize, Duration)> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    let sent: usize = callers.iter().map(|(sent, _)| sent).sum();
    let elapsed = callers.iter().map(|(_, elapsed)| *elapsed).max().unwrap();
    println!(
        "{:.0} heartbeats/s beside {trips:?} round trips and as many sessions, the slowest {slowest:?}",
        sent as f64 / elapsed.as_secs_f64()
    );
    assert_eq!(proxy.online(group), [echo.addr.to_string()]);
}

#[test]
fn a_server_that_is_silent_for_forget_after_is_taken_out_of_list_and_file_unless_it_is_in_maintenance() {
    let [admin, group] = ports();
    let text = config(admin, group, "500ms");
    let proxy = TestProxy::with_file(admin, &text);
    let echoes: Vec<FakeServer> = (0..4).map(|_| named_echo()).collect();
    let all: Vec<String> = echoes.iter().map(|echo| echo.addr.to_string()).collect();
    for server in &all {
        proxy.ok(&beat(group, server));
    }
    let _heart = Heart::start(admin, group, vec![all[0].clone()]);
    proxy.ok(&format!("/worker-state.do?group={group}&server={}&state=maint", all[1]));
    proxy.ok(&format!("/worker-state.do?group={group}&server={}&state=drain", all[2]));
    eventually("the lease runs out", || proxy.online(group) == [all[0].clone()]);
    assert_eq!(proxy.file().matches("\"origin\": \"heartbeat\"").count(), 4, "without the key nobody is forgotten");
    let addr = |server: &FakeServer| proxy.server_of(group, &server.addr.to_string());
    // What the file says of the servers stays.
    let file = proxy.file().replace("\"servers\"", "\"forget_after\": \"1500ms\", \"servers\"");
    replace(proxy.path(), &file);
    eventually("two are taken out", || [2, 3].iter().all(|at| addr(&echoes[*at]).is_null()));
    assert!(!addr(&echoes[0]).is_null() && !addr(&echoes[1]).is_null());
    for (server, is_there) in all.iter().zip([true, true, false, false]) {
        assert_eq!(proxy.file().contains(server), is_there, "{server}");
    }
    let is_told = |line: &str| line.contains("server forgotten") && line.contains(&all[3]);
    eventually("it is told", || proxy.log.text().lines().any(is_told));
    // It may come back.
    proxy.ok(&beat(group, &all[3]));
    assert_eq!(proxy.server_of(group, &all[3])["online"], true);
}

#[test]
fn a_server_that_had_fallen_silent_before_a_restart_is_forgotten_after_it() {
    let [admin, group] = ports();
    let text = config(admin, group, "300ms").replace("\"servers\"", "\"forget_after\": \"6s\", \"servers\"");
    let mut proxy = TestProxy::with_file(admin, &text);
    let echo = named_echo();
    proxy.ok(&beat(group, echo.addr));
    eventually("it is silent", || proxy.online(group).is_empty());
    proxy.stop();
    let again = proxy.again();
    let started = Instant::now();
    assert!(again.file().contains("\"silent\": true"), "{}", again.file());
    eventually("it is forgotten", || again.server_of(group, &echo.addr.to_string()).is_null());
    assert!(started.elapsed() > Duration::from_secs(4), "the time begins anew");
    assert!(!again.file().contains(&echo.addr.to_string()));
}
