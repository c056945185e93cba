//! `goproxy policy shadow`: a policy is tried beside the one that serves, and nobody notices.

use serde_json::{Value, json};

use crate::policy_kit::guests::{self, Parts};
use crate::policy_kit::{Folder, LOOP};
use crate::support::{Client, FakeServer, Group, TestProxy, eventually, run};

/// A proxy with three servers, and its group as requests name it.
fn start(policies: &Folder, policy: &str) -> (TestProxy, String, [FakeServer; 3]) {
    let servers = [FakeServer::echo(), FakeServer::echo(), FakeServer::echo()];
    let group = Group::new(policy, &[&servers[0], &servers[1], &servers[2]]);
    let proxy = policies.setup().with("record_dir", "picks").group(group).start();
    let group = proxy.addr().port().to_string();
    (proxy, group, servers)
}

fn shadow(proxy: &TestProxy, args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(&[&["policy", "shadow", "--admin", &proxy.admin.to_string()], args].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn last(proxy: &TestProxy) -> Value {
    proxy.ok("/shadow-list.do")["shadows"][0].clone()
}

/// Clients that stay.
fn clients(proxy: &TestProxy, count: usize) -> Vec<Client> {
    let connect = |_| {
        let mut client = proxy.connect();
        client.echo(b"hello");
        client
    };
    (0..count).map(connect).collect()
}

#[test]
fn a_policy_is_tried_beside_the_one_that_serves_by_the_load_that_it_would_have_made() {
    let (proxy, group, _servers) = start(&Folder::new(), "round_robin");
    let (code, stdout, stderr) = shadow(&proxy, &["ha", "--group", &group]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "ha is tried beside round_robin\n", ""));
    assert_eq!(proxy.ok("/group-list.do")["groups"][0]["shadow"], "ha");
    let held = clients(&proxy, 30);
    eventually("all sessions were compared", || last(&proxy)["sessions"] == 30);
    eventually("they were counted where they are", || last(&proxy)["shadow"]["busiest_over_mean"]["max"] == 3.0);
    let seen = last(&proxy);
    assert_eq!((&seen["picks"], &seen["dropped"], &seen["faults"]), (&json!(30), &json!(0), &json!(0)));
    assert_eq!((&seen["differ"], &seen["nobody"], &seen["warming"]), (&json!(20), &json!(0), &json!(true)));
    assert!(seen["live"]["busiest_over_mean"]["mean"].as_f64().unwrap() < 2.0, "{seen}");
    // The clients are where round_robin has put them.
    let sessions: Vec<u64> =
        proxy.servers(proxy.addr().port()).iter().map(|server| server["sessions"].as_u64().unwrap()).collect();
    assert_eq!(sessions, [10, 10, 10]);
    let labels = format!("group=\"{group}\"");
    assert_eq!(proxy.metric("goproxy_shadow_picks_total", &[&labels]), 30.0);
    assert_eq!(proxy.metric("goproxy_shadow_differ_total", &[&labels]), 20.0);
    let (_, stdout, _) = shadow(&proxy, &["--list"]);
    assert!(stdout.starts_with(&format!("group {group}, ha beside round_robin for ")), "{stdout}");
    assert!(stdout.contains("66.7 %") && stdout.contains("servers that fill up"), "{stdout}");

    let (code, stdout, _) = shadow(&proxy, &["--group", &group, "--stop"]);
    assert!(code == Some(0) && stdout.contains("30 picks, 0 not looked at, ended"), "{stdout}");
    assert_eq!((&last(&proxy)["active"], proxy.ok("/group-list.do")["groups"][0].get("shadow")), (&json!(false), None));
    let said = |message: &str| proxy.log.wait_for(message, |line| line["message"] == message);
    assert_eq!(said("policy is tried beside another")["candidate"], "ha");
    assert_eq!(said("policy is not tried any more")["picks"], 30);
    drop(held);
    // The policy that serves has missed nothing.
    drop(clients(&proxy, 3));
}

#[test]
fn a_candidate_that_loops_or_traps_harms_nobody() {
    for (body, how) in [(LOOP, "took longer than"), ("(unreachable)", "wasm `unreachable` instruction executed")] {
        // It passes the trial, and fails in a later pick.
        let pick = format!(
            "(global.set $asked (i32.add (global.get $asked) (i32.const 1)))
             (if (i32.gt_s (global.get $asked) (i32.const 2)) (then {body}))
             (i32.store8 (i32.const 32) (global.get $some))
             (i32.store (i32.const 36) (global.get $first))
             (i32.const 32)"
        );
        let parts = Parts { fields: "(global $asked (mut i32) (i32.const 0))", pick: &pick, ..Parts::default() };
        let policies = Folder::with("bad.wat", guests::policy(parts));
        let (proxy, group, _servers) = start(&policies, "round_robin");
        proxy.ok(&format!("/shadow-start.do?group={group}&policy=wasm:bad"));
        drop(clients(&proxy, 20));
        eventually("it has failed", || last(&proxy)["faults"] == 1 && last(&proxy)["picks"] == 20);
        let seen = last(&proxy);
        assert!(seen["last_fault"].as_str().unwrap().contains(how), "{seen}");
        assert_eq!((&seen["active"], &seen["dropped"], &seen["sessions"]), (&json!(true), &json!(0), &json!(20)));
        // Its faults are its own: no module serves.
        assert_eq!(proxy.ended("policy_failed"), 0);
        proxy.ok(&format!("/shadow-stop.do?group={group}"));
    }
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let (proxy, group, _servers) = start(&Folder::new(), "round_robin");
    let refused = |target: &str, status, code| {
        proxy.refused(
            &format!("{target}?group={group}{}", if target.contains("start") { "&policy=ha" } else { "" }),
            status,
            code,
        )
    };
    refused("/shadow-stop.do", 409, "not_shadowed");
    proxy.refused(&format!("/shadow-start.do?group={group}&policy=round_robin"), 400, "same_policy");
    proxy.refused(&format!("/shadow-start.do?group={group}&policy=wasm:none"), 400, "policy_refused");
    proxy.refused(&format!("/shadow-start.do?group={group}&policy=x"), 400, "unknown_policy");
    proxy.ok(&format!("/record-start.do?group={group}"));
    refused("/shadow-start.do", 409, "recording");
    proxy.ok(&format!("/record-stop.do?group={group}"));
    proxy.ok(&format!("/shadow-start.do?group={group}&policy=ha"));
    refused("/shadow-start.do", 409, "shadowed");
    proxy.refused(&format!("/record-start.do?group={group}"), 409, "shadowed");
    // Another policy for the group ends it.
    proxy.ok(&format!("/group-policy.do?group={group}&policy=p2c"));
    eventually("it has ended", || last(&proxy)["active"] == false);
    drop(clients(&proxy, 1));
}
