//! What the new process of an upgrade knows: everything that was observed of servers, and the sessions of the old one.

use serde_json::json;

use crate::support::{FakeServer, Group, Setup, eventually};

#[test]
fn limits_count_the_sessions_that_the_old_process_still_has() {
    let server = FakeServer::echo();
    let group = Group::new("ha", &[]).server(&server, json!({ "max_sessions": 2 }));
    let mut proxy = Setup::default().group(group).start();
    let mut held = proxy.connect();
    held.echo(b"x");
    let old = proxy.pid();
    proxy.upgrade();
    let seen = proxy.server(server.addr);
    assert_eq!(seen["sessions"], 1, "{seen}");
    let mut second = proxy.connect();
    second.echo(b"x");
    let (none, _) = proxy.connect().receive_all();
    assert!(none.is_empty(), "there are two, one in each process");
    held.echo(b"y");
    held.finish();
    proxy.wait_for_end_of(old);
    eventually("there is room again", || {
        let mut third = proxy.connect();
        third.try_echo(b"x").is_ok()
    });
    second.echo(b"y");
}

#[test]
fn leases_go_on_and_what_was_said_last_is_known() {
    let (server, silent) = (FakeServer::echo(), FakeServer::echo());
    let mut proxy = Setup::default().group(Group::new("ha", &[]).with("heartbeat_timeout", "1h")).start();
    let port = proxy.addr().port();
    let lease = |proxy: &crate::support::TestProxy, server: &FakeServer| {
        proxy.server(server.addr)["lease_ms"].as_u64().unwrap()
    };
    for server in [&server, &silent] {
        proxy.ok(&format!("/worker-keepalive.do?group={port}&server={}", server.addr));
    }
    eventually("a part of the lease is over", || lease(&proxy, &silent) < 3_600_000 - 50);
    proxy.ok(&format!("/worker-keepalive.do?group={port}&server={}&weight=7&load=30", server.addr));
    let before = lease(&proxy, &silent);
    let old = proxy.pid();
    proxy.upgrade();
    proxy.wait_for_end_of(old);
    assert!(lease(&proxy, &silent) <= before, "no new lease");
    let seen = proxy.server(server.addr);
    assert_eq!((&seen["weight"], &seen["load"], &seen["online"]), (&7.into(), &30.into(), &true.into()), "{seen}");
    assert!(proxy.log.with_message("server offline").is_empty());
}

#[test]
fn servers_that_were_known_to_fail_get_no_client() {
    let (good, bad, checked) =
        (FakeServer::echo(), FakeServer::refusing(), FakeServer::start(|client, _| drop(client)));
    let plain = Group::new("round_robin", &[&bad, &good]);
    let check =
        json!({ "kind": "http", "interval": "1h", "fast_interval": "50ms", "down_interval": "1h", "start": "checked" });
    let with_check = Group::new("ha", &[&checked, &good]).with("check", check);
    let mut proxy = Setup::default().group(plain).group(with_check).with("threads", 1).start();
    let second = proxy.addr_of(1).port();
    eventually("a client has met the bad one", || {
        proxy.connect().echo(b"x");
        proxy.server(bad.addr)["cause"].as_str().is_some_and(|cause| cause.contains("refused"))
    });
    // The good one speaks no HTTP either.
    let cause = |proxy: &crate::support::TestProxy| {
        let cause = proxy.server_of(second, &checked.addr.to_string())["cause"].as_str().unwrap_or_default().to_owned();
        cause.split(" (").next().unwrap_or_default().to_owned()
    };
    eventually("the check has failed often enough", || cause(&proxy).starts_with("check failed"));
    let before = cause(&proxy);
    let old = proxy.pid();
    proxy.upgrade();
    assert_eq!(cause(&proxy), before);
    let seen = proxy.server(bad.addr);
    assert_eq!(seen["online"], false, "{seen}");
    proxy.wait_for_end_of(old);
}
