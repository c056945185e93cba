//! Leases are kept when heartbeats are lost, not when servers are.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::registration_leases::{Heart, beat, config};
use crate::support::{FakeServer, TestProxy, Visitor, eventually, named_echo, ports};

/// Servers, and their addresses.
fn echoes(count: usize) -> (Vec<FakeServer>, Vec<String>) {
    let echoes: Vec<FakeServer> = (0..count).map(|_| named_echo()).collect();
    let addrs = echoes.iter().map(|echo| echo.addr.to_string()).collect();
    (echoes, addrs)
}

fn is_preserving(proxy: &TestProxy, group: u16) -> bool {
    proxy.series(&format!("goproxy_self_preservation{{group=\"{group}\"}}")) == Some(1.0)
}

/// Has all of them heard until all are online.
fn register(proxy: &TestProxy, admin: u16, group: u16, servers: &[String]) {
    for server in servers {
        proxy.ok(&beat(group, server));
    }
    let _heart = Heart::start(admin, group, servers.to_vec());
    eventually("all are online", || proxy.online(group) == servers);
}

#[test]
fn servers_that_answer_are_kept_while_nobody_is_heard_of() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "2s"));
    let (mut echoes, all) = echoes(4);
    register(&proxy, admin, group, &all);
    eventually("the leases are kept", || is_preserving(&proxy, group));
    eventually("a warning tells so", || proxy.log.count("leases kept") == 1);
    let kept = Instant::now();
    while kept.elapsed() < Duration::from_secs(7) {
        assert_eq!(proxy.online(group), all, "for longer than three time-outs");
    }
    // One of them goes for good, and nobody but the proxy itself tries it.
    echoes.remove(1);
    eventually("it is offline", || proxy.online(group) == [&*all[0], &*all[2], &*all[3]]);
    let cause = proxy.server_of(group, &all[1])["cause"].to_string();
    assert!(cause.contains("no answer: connection refused"), "{cause}");
    assert!(is_preserving(&proxy, group), "the others are still kept");
    // With those two heard again, the other two are believed to be gone.
    let heart = Heart::start(admin, group, vec![all[0].clone(), all[2].clone()]);
    eventually("leases run out again", || !is_preserving(&proxy, group) && proxy.online(group) == [&*all[0], &*all[2]]);
    eventually("the log tells so", || proxy.log.count("leases run out again") == 1);
    drop(heart);
}

/// Five of eight stop for good, and the others go on with their heartbeats.
#[test]
fn servers_that_stop_for_good_turn_no_clients_away_however_many_they_are() {
    let [admin, group] = ports();
    let text = config(admin, group, "2s").replace("\"policy\"", "\"connect_timeout\": \"500ms\", \"policy\"");
    let proxy = TestProxy::with_file(admin, &text);
    let (_alive_echoes, alive) = echoes(3);
    let (dying, mut dead) = echoes(4);
    let blackholed = FakeServer::blackholed();
    dead.push(blackholed.addr.to_string());
    let everybody = [alive.clone(), dead.clone()].concat();
    let heart = Heart::start(admin, group, alive.clone());
    register(&proxy, admin, group, &everybody);
    drop(dying);
    eventually("those that do not answer are offline", || proxy.online(group) == alive);
    let looked = Instant::now();
    let mut served = 0;
    while looked.elapsed() < Duration::from_secs(4) {
        assert!(alive.contains(&Visitor::connect(group).server));
        served += 1;
    }
    assert!(served > 10, "{served}");
    eventually("heartbeats that arrive end it", || !is_preserving(&proxy, group));
    assert_eq!(proxy.online(group), alive);
    let cause = proxy.server_of(group, &dead[0])["cause"].to_string();
    assert_eq!(cause, "\"no heartbeat within heartbeat_timeout\"");
    drop(heart);
}

#[test]
fn after_a_restart_servers_that_are_long_dead_have_one_heartbeat_timeout_and_are_not_kept() {
    let [admin, group] = ports();
    let mut proxy = TestProxy::with_file(admin, &config(admin, group, "2s"));
    let (_echoes, alive) = echoes(3);
    // Nobody listens there, and more are dead than alive.
    let dead: Vec<String> = (1..=6).map(|port| format!("127.0.0.1:{port}")).collect();
    for server in alive.iter().chain(&dead) {
        proxy.ok(&beat(group, server));
    }
    proxy.kill();
    let proxy = proxy.again();
    let heart = Heart::start(admin, group, alive.clone());
    eventually("only those that are heard of are online", || proxy.online(group) == alive);
    assert_eq!(proxy.log.count("leases kept"), 0, "{}", proxy.log.text());
    drop(heart);
}

#[test]
fn a_server_that_was_silent_before_a_restart_is_offline_after_it_until_it_is_heard() {
    let [admin, group] = ports();
    let mut proxy = TestProxy::with_file(admin, &config(admin, group, "2s"));
    let (_echoes, all) = echoes(2);
    for server in &all {
        proxy.ok(&beat(group, server));
    }
    let heart = Heart::start(admin, group, vec![all[0].clone()]);
    eventually("the other is offline", || proxy.online(group) == all[..1]);
    eventually("the file says so", || proxy.file().matches("\"silent\": true").count() == 1);
    proxy.kill();
    let mut proxy = proxy.again();
    let server = proxy.server_of(group, &all[1]);
    assert_eq!((&server["online"], &server["cause"]), (&false.into(), &"no heartbeat within heartbeat_timeout".into()));
    eventually("the log has come to the admin port", || proxy.log.count("admin listens") == 1);
    assert_eq!(proxy.log.count("server online"), 1, "{}", proxy.log.text());
    proxy.ok(&beat(group, &all[1]));
    assert_eq!(proxy.online(group), all, "its first heartbeat brings it back");
    eventually("the note is taken back", || !proxy.file().contains("silent"));
    // An orderly stop notes what no write has noted yet.
    eventually("it is offline again", || proxy.online(group) == all[..1]);
    drop(heart);
    proxy.stop();
    assert_eq!(proxy.file().matches("\"silent\": true").count(), 1, "{}", proxy.file());
}

#[test]
fn a_process_that_was_stopped_ends_no_lease_while_heartbeats_wait_for_it() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "3s"));
    let (_echoes, all) = echoes(2);
    // Each server has a caller of its own, whose next heartbeat waits in the queue of the admin port.
    let hearts: Vec<Heart> = all.iter().map(|server| Heart::start(admin, group, vec![server.clone()])).collect();
    eventually("both are online", || proxy.servers(group).len() == 2 && proxy.online(group).len() == 2);
    for _ in 0..3 {
        proxy.signal(Signal::STOP);
        thread::park_timeout(Duration::from_millis(4_500));
        let waiting: Vec<_> = (0..8).map(|_| thread::spawn(move || Visitor::try_connect(group).is_ok())).collect();
        proxy.signal(Signal::CONT);
        assert!(waiting.into_iter().all(|client| client.join().unwrap()), "{}", proxy.log.text());
    }
    assert_eq!(proxy.log.count("server offline"), 0, "{}", proxy.log.text());
    drop(hearts);
}
