//! Leases are kept when heartbeats are lost, not when servers are.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::registration_leases::{Heart, beat, config};
use crate::support::{FakeServer, TestProxy, Visitor, eventually, let_pass, named_echo, ports, replace, spawn};

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

/// Milliseconds of the day at which a line says this.
fn said_at_ms(proxy: &TestProxy, message: &str, server: &str) -> u64 {
    let text = proxy.log.text();
    let line = text.lines().rfind(|line| line.contains(message) && line.contains(server)).expect("it was said");
    let (_, time) = line.split_once('T').expect("a line begins with the time");
    let fields: Vec<u64> = time[..12].split([':', '.']).map(|field| field.parse().expect("digits")).collect();
    ((fields[0] * 60 + fields[1]) * 60 + fields[2]) * 1_000 + fields[3]
}

/// With a lease as long as here, all leases are looked at once a second, and each kept server is tried once an hour.
#[test]
fn a_server_whose_lease_is_kept_is_offline_at_once_when_a_client_cannot_connect_to_it() {
    let [admin, group] = ports();
    let text = config(admin, group, "2s");
    let proxy = TestProxy::with_file(admin, &text);
    let (mut echoes, all) = echoes(6);
    register(&proxy, admin, group, &all);
    eventually("the leases are kept", || is_preserving(&proxy, group));
    replace(proxy.path(), &proxy.file().replace("\"2s\"", "\"1h\""));
    proxy.ok("/config-reload.do");
    let_pass(Duration::from_millis(2_500), "until the proxy has tried each of them for the last time within an hour");
    let mut waited_ms = 0;
    for count in (2..6).rev() {
        drop(echoes.pop());
        let gone = &all[count];
        eventually("a client finds it gone", || {
            // Another server serves it.
            assert_ne!(Visitor::connect(group).server, *gone);
            proxy.online(group) == all[..count]
        });
        eventually("the log says so", || {
            proxy.log.text().lines().any(|line| line.contains("server offline") && line.contains(gone))
        });
        waited_ms += said_at_ms(&proxy, "server offline", gone) - said_at_ms(&proxy, "server suspect", gone);
        let cause = proxy.server_of(group, gone)["cause"].to_string();
        assert!(cause.contains("no answer: connection refused"), "{cause}");
    }
    assert!(is_preserving(&proxy, group), "the others are still kept");
    assert!(waited_ms < 1_000, "four of them in {waited_ms} ms: each waited for the next look at all leases");
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
    assert_eq!(proxy.log.count("server untried"), 1, "{}", proxy.log.text());
    proxy.ok(&beat(group, &all[1]));
    assert_eq!(proxy.online(group), all, "its first heartbeat brings it back");
    eventually("the note is taken back", || !proxy.file().contains("silent"));
    // An orderly stop notes what no write has noted yet.
    eventually("it is offline again", || proxy.online(group) == all[..1]);
    drop(heart);
    proxy.stop();
    assert_eq!(proxy.file().matches("\"silent\": true").count(), 1, "{}", proxy.file());
}

/// The note in the file is some seconds old when the group gets another name, and with that begins anew.
#[test]
fn a_server_that_has_just_returned_stays_online_when_its_group_gets_another_name() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "4s"));
    let (_echoes, all) = echoes(2);
    for server in &all {
        proxy.ok(&beat(group, server));
    }
    let heart = Heart::start(admin, group, vec![all[0].clone()]);
    eventually("the file says that the other is silent", || proxy.file().contains("\"silent\": true"));
    let file = proxy.file();
    proxy.ok(&beat(group, &all[1]));
    assert_eq!(proxy.online(group), all);
    let named = file.replacen("\"policy\"", "\"name\": \"other\", \"policy\"", 1);
    replace(proxy.path(), &named);
    proxy.ok("/config-reload.do");
    assert_eq!(proxy.online(group), all);
    assert_eq!(proxy.ok("/group-list.do")["groups"][0]["name"], "other");
    let also = Heart::start(admin, group, vec![all[1].clone()]);
    eventually("the note is taken back", || !proxy.file().contains("silent"));
    drop((heart, also));
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
        let waiting: Vec<_> = (0..8).map(|_| spawn(move || Visitor::try_connect(group).is_ok())).collect();
        proxy.signal(Signal::CONT);
        assert!(waiting.into_iter().all(|client| client.join().unwrap()), "{}", proxy.log.text());
    }
    assert_eq!(proxy.log.count("server offline"), 0, "{}", proxy.log.text());
    drop(hearts);
}
