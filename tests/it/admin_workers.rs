//! Many servers that register themselves, each with a connection that it keeps, and an operator beside them.

use std::thread;
use std::time::{Duration, Instant};

use crate::admin_requests::config;
use crate::support::{Http, TestProxy, let_pass, ports};

/// More than the 256 places that were there once.
const WORKERS: usize = 400;

/// Beats of each.
const BEATS: usize = 4;

#[test]
fn four_hundred_workers_that_keep_their_connections_and_an_operator_are_never_refused() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", ""));
    let mut workers: Vec<(String, Http)> = (0..WORKERS)
        .map(|n| {
            (
                format!("/worker-keepalive.do?group={group}&server=10.0.{}.{}:80", n / 200, n % 200 + 1),
                Http::connect(admin),
            )
        })
        .collect();
    let mut operator = Http::connect(admin);
    let mut failed = Vec::new();
    for beat in 0..BEATS {
        for chunk in workers.chunks_mut(WORKERS / 8) {
            thread::scope(|scope| {
                let beats: Vec<_> = chunk
                    .iter_mut()
                    .map(|(target, http)| scope.spawn(move || http.try_get(target).map(|reply| reply.status)))
                    .collect();
                let answers = beats.into_iter().map(|beat| beat.join().expect("no panic"));
                failed.extend(
                    answers.filter(|answer| !matches!(answer, Ok(200))).map(|answer| format!("{beat}: {answer:?}")),
                );
            });
        }
        assert_eq!(operator.get(&format!("/worker-list.do?group={group}")).status, 200);
        assert_eq!(operator.get("/ready").status, 200);
    }
    assert!(failed.is_empty(), "{} beats failed, the first: {:?}", failed.len(), failed.first());
    assert_eq!(proxy.servers(group).len(), WORKERS);
}

#[test]
fn a_connection_that_is_idle_for_longer_than_a_head_may_take_still_serves() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "", ""));
    let mut agent = Http::connect(admin);
    let beat = format!("/worker-keepalive.do?group={group}&server=10.0.0.1:80");
    assert_eq!(agent.get(&beat).header("keep-alive"), Some("timeout=75"));
    let idle_since = Instant::now();
    // As many requests on other connections as fit into the time for a head and a little more.
    while idle_since.elapsed() < Duration::from_millis(5_500) {
        assert_eq!(proxy.get("/live").status, 200);
        let_pass(Duration::from_millis(50), "an idle connection does nothing that could be waited for");
    }
    assert_eq!(agent.get(&beat).status, 200, "an agent that beats every five seconds is not cut off");
}
