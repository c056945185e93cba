//! A thousand changes of every kind while clients talk: nobody notices, and nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::support::{TestProxy, Visitor, eventually, named_echo, ports, replace, spawn};

/// How many changes are made.
const CHANGES: usize = 1_000;

/// Clients that never stop.
const CLIENTS: usize = 3;

/// Memory that caches of the allocator may add, however long this runs.
const GROWTH_MAX: u64 = 48 << 20;

/// Each client keeps one session for the whole time and opens a new one for every round trip.
fn talk(group: u16, stop: &AtomicBool, trips: &AtomicU64) {
    let mut long = Visitor::connect(group);
    while !stop.load(Relaxed) {
        long.round_trip(b"a session that must live");
        let mut short = Visitor::connect(group);
        short.round_trip(b"a client that must be served");
        trips.fetch_add(1, Relaxed);
    }
    long.round_trip(b"until the end");
}

struct Churn {
    proxy: TestProxy,
    group: u16,
    other: u16,
    file_servers: [String; 2],
    comers: [String; 3],
}

impl Churn {
    /// The next of the changes. Whatever it is, one server of the file is always up.
    fn step(&self, number: usize) {
        let Self { proxy, group, other, file_servers, comers } = self;
        let round = number / 10;
        let comer = &comers[round % comers.len()];
        match number % 10 {
            0 => proxy.ok(&format!("/worker-keepalive.do?group={group}&server={comer}&weight={}", 1 + round % 5)),
            1 => proxy.ok(&format!("/group-close.do?group={other}")),
            2 => {
                let policies = ["ha", "ip_hash", "least_sessions", "random", "p2c", "maglev", "round_robin"];
                proxy.ok(&format!("/group-policy.do?group={group}&policy={}", policies[round % policies.len()]))
            }
            3 => self.edit(&format!("// edited {round}\n"), ""),
            4 => proxy.ok(&format!("/worker-state.do?group={group}&server={}&state=drain", file_servers[round % 2])),
            5 => proxy.ok(&format!("/group-open.do?group={other}")),
            6 => self.edit("", &format!("\"max_sessions\": {}, ", 10_000 + round)),
            7 => proxy.ok(&format!("/worker-state.do?group={group}&server={}&state=ready", file_servers[round % 2])),
            8 => proxy.ok(&format!("/worker-remove.do?group={group}&server={comer}")),
            _ => self.edit("", ""),
        };
    }

    /// Edits the file as a user would, and asks for a reload.
    fn edit(&self, comment: &str, setting: &str) -> serde_json::Value {
        let old = self.proxy.file();
        let (_, rest) = old.split_once("/* begin */").expect("the mark stays");
        let (before, behind) = rest.split_once("/* setting */").expect("the mark stays");
        let (_, behind) = behind.split_once("/* end of setting */").expect("the mark stays");
        let new = format!("{comment}/* begin */{before}/* setting */{setting}/* end of setting */{behind}");
        replace(self.proxy.path(), &new);
        self.proxy.ok("/config-reload.do")
    }
}

#[test]
fn a_thousand_changes_under_traffic_cut_refuse_and_leave_nothing() {
    let [admin, group, other] = ports();
    let echoes: Vec<_> = (0..4).map(|_| named_echo()).collect();
    let addr = |index: usize| echoes[index].addr.to_string();
    let text = format!(
        r#"/* begin */{{
  "admin": {{ "listen": "127.0.0.1:{admin}" }},
  "log": {{ "level": "warn", "status_interval": "0s" }},
  "groups": [
    {{ "listen": "127.0.0.1:{group}", /* setting *//* end of setting */
      "heartbeat_timeout": "1h", "servers": ["{}", "{}"] }},
    {{ "listen": "127.0.0.1:{other}", "servers": ["{}"] }}
  ]
}}
"#,
        addr(0),
        addr(1),
        addr(0)
    );
    let proxy = TestProxy::with_file(admin, &text);
    // Two that answer and one that nobody listens for: its failures must cost no client anything.
    let comers = [addr(2), "127.0.0.1:1".to_owned(), addr(3)];
    let churn = Churn { proxy, group, other, file_servers: [addr(0), addr(1)], comers };
    let mut survivor = Visitor::connect(other);
    // Once round and once through traffic, so that what is made only once is there.
    Visitor::connect(group).round_trip(b"first");
    (0..50).for_each(|number| churn.step(number));
    let proxy = &churn.proxy;
    eventually("one session is left", || proxy.ok("/session-list.do")["total"] == 1);
    let (descriptors, resident) = (proxy.descriptors(), proxy.resident_bytes());

    let (stop, trips) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (stop, trips) = (Arc::clone(&stop), Arc::clone(&trips));
            spawn(move || talk(group, &stop, &trips))
        })
        .collect();
    let started = Instant::now();
    for number in 0..CHANGES {
        churn.step(number);
        assert!(clients.iter().all(|client| !client.is_finished()), "a client was cut or refused at change {number}");
    }
    let elapsed = started.elapsed();
    stop.store(true, Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("no session was cut and none refused"));
    survivor.round_trip(b"a session of a group that was closed a hundred times");

    eventually("one session is left", || proxy.ok("/session-list.do")["total"] == 1);
    eventually("no descriptor is left behind", || proxy.descriptors() <= descriptors);
    let grown = proxy.resident_bytes().saturating_sub(resident);
    println!("{CHANGES} changes in {elapsed:?} beside {} sessions; {grown} bytes more resident", trips.load(Relaxed));
    assert!(grown < GROWTH_MAX, "{grown} bytes");
    let refused = proxy.get("/metrics").text();
    let refused = refused.lines().filter(|line| line.starts_with("goproxy_sessions_refused_total"));
    assert!(
        refused.clone().count() > 0 && refused.clone().all(|line| line.ends_with(" 0")),
        "{:?}",
        refused.collect::<Vec<_>>()
    );
    assert!(trips.load(Relaxed) > 100, "{trips:?}");
}
