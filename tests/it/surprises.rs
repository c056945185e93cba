//! A part of the process that ends by surprise: no proxy goes on that cannot be changed, logged, stopped.

use rustix::process::Signal;
use serde_json::json;

use crate::policy_kit::{Folder, group_of};
use crate::support::{FakeServer, Group, Setup, TestProxy, eventually};

/// What main says last.
const LAST_WORDS: &str = "a background task exited unexpectedly; the log names it";

/// A proxy whose panic at `place` is expected.
fn start(setup: Setup, place: &'static str) -> TestProxy {
    let mut proxy = setup.with_panic_at(place).spawn();
    let expected = ["thread panicked", "exited unexpectedly", "cannot serve", LAST_WORDS];
    // What the log's own thread says, without a log.
    let of_the_log = ["panicked at src/base/vital.rs", "a test wants a panic at log"];
    expected.into_iter().chain(of_the_log).for_each(|message| proxy.may_alarm(message));
    proxy
}

/// Waits until the process has ended as one that must be started again, and says where the panic was.
#[track_caller]
fn fails(mut proxy: TestProxy, place: &str) {
    assert_eq!(proxy.wait().code(), Some(1), "{place}");
    let text = proxy.log.text();
    assert!(text.contains(&format!("a test wants a panic at {place}")) && text.contains(LAST_WORDS), "{place}: {text}");
}

#[test]
fn every_task_and_thread_that_is_there_from_the_start_ends_the_process_with_it() {
    for place in ["leases", "names", "watch", "policies", "status", "admin", "data-0", "log"] {
        fails(start(Setup::default(), place), place);
    }
}

#[test]
fn a_proxy_that_cannot_be_changed_any_more_ends() {
    let mut proxy = start(Setup::default().group(Group::new("ha", &[])), "runner");
    proxy.wait_until_ready();
    // It may be over before the answer.
    let answer = proxy.try_get("/config-reload.do");
    assert!(answer.is_none_or(|(status, _)| status != 200));
    fails(proxy, "runner");
}

#[test]
fn a_drain_that_nobody_can_do_any_more_ends_at_once() {
    let server = FakeServer::echo();
    let setup = Setup::default().group(Group::new("ha", &[&server])).with("drain_timeout", "10m");
    let mut proxy = start(setup, "runner");
    proxy.wait_until_ready();
    let mut client = proxy.connect();
    client.echo(b"a session that lasts");
    proxy.signal(Signal::TERM);
    fails(proxy, "runner");
}

#[test]
fn the_thread_that_loads_modules_and_the_clock_that_stops_them_end_the_process() {
    for place in ["modules", "policy-clock"] {
        let folder = Folder::with("x.wat", crate::policy_kit::nth(0));
        let server = FakeServer::echo();
        let group = group_of(json!("wasm:x"), &[server]);
        let mut proxy = start(folder.setup().group(group), place);
        proxy.may_alarm("policy cannot be made: its fallback serves");
        fails(proxy, place);
    }
}

#[test]
fn a_watcher_that_ends_is_started_again() {
    let server = FakeServer::banner("2");
    let mut proxy = start(Setup::default().group(Group::new("ha", &[])), "watcher");
    proxy.wait_until_ready();
    let text = proxy.file();
    // The first edit makes it panic, and is noticed all the same; so is the second.
    for (number, servers) in [(1, "[]".to_owned()), (2, format!("[\"{}\"]", server.addr))] {
        let edited = text.replace("\"servers\": []", &format!("\"max_sessions\": {number}, \"servers\": {servers}"));
        assert_ne!(edited, text);
        std::fs::write(proxy.path(), edited).unwrap();
        eventually("the edit is noticed", || proxy.log.with_message("proxy.json reloaded").len() == number);
    }
    assert_eq!(proxy.connect().receive(1), b"2");
    proxy.stop();
    assert!(proxy.log.text().contains("a test wants a panic at watcher"));
}
