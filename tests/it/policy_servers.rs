//! What a module is told of its servers and of its picks, from outside: by whom clients are served.

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::policy_kit::guests::{Parts, STRICT_FEEDBACK, policy, turns};
use crate::policy_kit::{
    Folder, LOOP, connect, counted, group_of, later, listed, named, nth, patient, served_by, takes_over, three,
};
use crate::support::{Client, FakeServer, Group, TestProxy, eventually, wait_for};

fn start(text: &str, group: Group) -> (Folder, TestProxy) {
    let folder = Folder::with("x.wat", text);
    let proxy = folder.setup().group(group.with("policy", patient())).start();
    (folder, proxy)
}

fn explain(proxy: &TestProxy) -> Value {
    proxy.ok(&format!("/policy-explain.do?group={}&client=127.0.0.1", proxy.addr().port()))
}

#[test]
fn a_module_hears_what_became_of_each_of_its_picks() {
    // Picks the server whose place in the list is the number of its sessions now and of its failures so far.
    let counting = policy(Parts {
        fields: r#"(global $open (mut i32) (i32.const 0)) (global $failed (mut i32) (i32.const 0))
            (global $moved (mut i64) (i64.const 0)) (global $count (mut i32) (i32.const 0))
            (func (export "goproxy:balance/feedback@1.0.0#on-connected") (param i32 i32)
              (global.set $open (i32.add (global.get $open) (i32.const 1))))
            (func (export "goproxy:balance/feedback@1.0.0#on-failed") (param i32)
              (global.set $failed (i32.add (global.get $failed) (i32.const 1))))
            (func (export "goproxy:balance/feedback@1.0.0#on-closed") (param i32 i64 i64)
              (global.set $moved (i64.add (global.get $moved) (local.get 2)))
              (global.set $open (i32.sub (global.get $open) (i32.const 1))))"#,
        set_servers: "(global.set $count (local.get $len))
            (block $done
              (loop $each
                (br_if $done (i32.eqz (local.get $len)))
                (local.set $len (i32.sub (local.get $len) (i32.const 1)))
                (i32.store offset=4096 (i32.shl (local.get $len) (i32.const 2))
                  (i32.load (i32.add (local.get $ptr) (i32.mul (local.get $len) (i32.const 36)))))
                (br $each)))
            (global.set $heap (i32.const 65536))",
        // Once a thousand bytes have been moved: the last one.
        pick: "(local $place i32)
            (local.set $place (i32.add (global.get $open) (global.get $failed)))
            (if (i64.gt_u (global.get $moved) (i64.const 1000))
              (then (local.set $place (i32.sub (global.get $count) (i32.const 1)))))
            (i32.store8 (i32.const 32) (i32.lt_u (local.get $place) (global.get $count)))
            (i32.store (i32.const 36) (i32.load offset=4096 (i32.shl (local.get $place) (i32.const 2))))
            (i32.const 32)",
        ..Parts::default()
    });
    let refusing = FakeServer::refusing();
    let [a, b, c] = three();
    let last = named('Z');
    let (_folder, proxy) = start(&counting, Group::new("", &[&refusing, &a, &b, &c, &last]));
    let served = || connect(proxy.addr());
    let (first, server) = served();
    assert_eq!(server, 'A', "told that the one in front failed");
    let (second, server) = served();
    assert_eq!(server, 'B', "told that the first session is open");
    let (third, server) = served();
    assert_eq!(server, 'C');
    drop((first, second));
    // Each try is open for a moment, so each waits for the one before.
    eventually("told that sessions are over", || {
        eventually("only the third is left", || proxy.sessions() == 1);
        served().1 == 'B'
    });
    let mut talking = third;
    talking.echo(&[7; 600]);
    drop(talking);
    eventually("told how much was moved", || served().1 == 'Z');
    let module = listed(&proxy, "wasm:x");
    assert_eq!((&module["faults"], &module["fallbacks"]), (&json!(0), &json!(0)), "{module}");
}

#[test]
fn a_module_does_not_hear_the_end_of_a_session_that_began_before_anybody_listened() {
    // Picks the server whose place in the list is the number of ends it has heard of.
    let hearing = policy(Parts {
        fields: r#"(global $ends (mut i32) (i32.const 0))
            (func (export "goproxy:balance/feedback@1.0.0#on-connected") (param i32 i32))
            (func (export "goproxy:balance/feedback@1.0.0#on-failed") (param i32))
            (func (export "goproxy:balance/feedback@1.0.0#on-closed") (param i32 i64 i64)
              (global.set $ends (i32.add (global.get $ends) (i32.const 1))))"#,
        set_servers: "(i32.store offset=4096 (i32.const 0) (i32.load (local.get $ptr)))
            (i32.store offset=4100 (i32.const 0) (i32.load offset=36 (local.get $ptr)))
            (i32.store offset=4104 (i32.const 0) (i32.load offset=72 (local.get $ptr)))
            (global.set $heap (i32.const 65536))",
        pick: "(i32.store8 (i32.const 32) (i32.const 1))
            (i32.store (i32.const 36) (i32.load offset=4096 (i32.shl (global.get $ends) (i32.const 2))))
            (i32.const 32)",
        ..Parts::default()
    });
    let servers = three();
    let (folder, proxy) = start(&nth(2), group_of(patient(), &servers));
    let (early, server) = connect(proxy.addr());
    assert_eq!(server, 'C');
    folder.drop_in("x.wat", &hearing);
    takes_over(&proxy, &hearing);
    let (late, server) = connect(proxy.addr());
    assert_eq!(server, 'A');
    drop(early);
    eventually("the early session is over", || proxy.sessions() == 1);
    let (later, server) = connect(proxy.addr());
    assert_eq!(server, 'A', "told of an end whose beginning it was not told");
    drop(late);
    eventually("told of an end", || connect(proxy.addr()).1 != 'A');
    drop(later);
}

/// Names the first server once, and then nobody.
fn once() -> String {
    policy(Parts {
        fields: "(global $asked (mut i32) (i32.const 0))",
        // The trial is not a client.
        pick: "(if (i64.ne (local.get $ip_high) (i64.const 0xc0000201)) (then
              (global.set $some (i32.eqz (global.get $asked)))
              (global.set $asked (i32.const 1))))
            (i32.store8 (i32.const 32) (global.get $some))
            (i32.store (i32.const 36) (global.get $first))
            (i32.const 32)",
        ..Parts::default()
    })
}

#[test]
fn a_policy_that_names_nobody_though_a_server_is_open_has_failed() {
    let [a, b] = ['A', 'B'].map(named);
    let group = Group::new("", &[]).server(&a, json!({ "max_sessions": 1 })).server(&b, json!({ "max_sessions": 1 }));
    let (_folder, proxy) = start(&once(), group);
    let (first, server) = connect(proxy.addr());
    assert_eq!(server, 'A');
    assert_eq!(Client::connect(proxy.addr()).receive_all().0, b"", "B is open and was not named");
    let line = proxy.log.wait_for_end("policy_failed");
    assert!(line["server.addr"].is_null(), "{line}");
    assert_eq!((proxy.ended("policy_failed"), proxy.ended("no_server")), (1, 0));
    drop(first);
}

#[test]
fn a_policy_that_has_no_open_server_to_name_has_not_failed() {
    let a = named('A');
    let (_folder, proxy) =
        start(&policy(Parts::default()), Group::new("", &[]).server(&a, json!({ "max_sessions": 1 })));
    let (first, _) = connect(proxy.addr());
    assert_eq!(Client::connect(proxy.addr()).receive_all().0, b"");
    proxy.log.wait_for_end("no_server");
    assert_eq!((proxy.ended("policy_failed"), proxy.ended("no_server")), (0, 1));
    drop(first);
}

/// Whichever way another instance comes to work for the group, it is not told of sessions that it knows nothing of.
#[test]
fn no_module_hears_the_end_of_a_session_whose_connect_it_did_not_hear() {
    let strict =
        |version: &str| policy(Parts { fields: &format!("{STRICT_FEEDBACK} ;; {version}\n"), ..Parts::default() });
    let servers = three();
    let folder = Folder::with("x.wat", strict("1"));
    folder.drop_in("y.wat", strict("1"));
    let proxy = folder.setup().group(group_of(patient(), &servers)).start();
    let (first, _) = connect(proxy.addr());
    folder.drop_in("x.wat", strict("2"));
    takes_over(&proxy, strict("2"));
    let (second, _) = connect(proxy.addr());
    drop(first);
    eventually("the first session is over", || proxy.sessions() == 1);
    assert_eq!(listed(&proxy, "wasm:x")["faults"], 0, "another version");
    proxy.ok(&format!("/group-policy.do?group={}&policy=wasm:y", proxy.addr().port()));
    drop(second);
    eventually("the second session is over", || proxy.sessions() == 0);
    assert_eq!(listed(&proxy, "wasm:y")["faults"], 0, "another module");
    // It does hear of those that it picked.
    served_by(proxy.addr());
    eventually("the third session is over", || proxy.sessions() == 0);
    assert_eq!(listed(&proxy, "wasm:y")["faults"], 0);
}

#[test]
fn a_module_knows_which_servers_are_full() {
    let [a, b] = ['A', 'B'].map(named);
    let group = Group::new("", &[]).server(&a, json!({ "max_sessions": 1 })).server(&b, json!({}));
    let (_folder, proxy) = start(&policy(Parts::default()), group);
    for _ in 0..5 {
        // Told a moment after there is room again, as it is not told more often than that.
        let (first, _) =
            wait_for("the first server", || Some(connect(proxy.addr())).filter(|(_, server)| *server == 'A'));
        assert_eq!((served_by(proxy.addr()), served_by(proxy.addr())), ('B', 'B'));
        drop(first);
        eventually("there is room again", || proxy.sessions() == 0);
    }
    assert_eq!(counted(&proxy, "faults_total"), 0);
}

#[test]
fn a_module_that_names_full_servers_is_not_heeded() {
    let [a, b, c] = three();
    let group = Group::new("", &[&a]).server(&b, json!({ "max_sessions": 1 })).server(&c, json!({}));
    let (_folder, proxy) = start(&nth(1), group);
    let (mut first, server) = connect(proxy.addr());
    assert_eq!(server, 'B');
    let others: Vec<(Client, char)> = (0..10).map(|_| connect(proxy.addr())).collect();
    assert!(others.iter().all(|(_, server)| *server == 'A'), "as its fallback says");
    assert!(counted(&proxy, "fallbacks_total") >= 10);
    eventually("it was told and did not heed", || {
        assert_eq!(served_by(proxy.addr()), 'A');
        proxy.metric("goproxy_policy_faults_total", &["bad_answer"]) >= 1.0
    });
    first.echo(b"still there");
}

#[test]
fn a_server_that_refuses_is_passed_over_whatever_the_module_says() {
    let refusing = FakeServer::refusing();
    let [a, b, _] = three();
    // It names the refusing one again in the second try, and its place for ever.
    let (_folder, proxy) = start(&nth(0), Group::new("", &[&refusing, &a, &b]));
    for _ in 0..10 {
        assert_eq!(served_by(proxy.addr()), 'A');
    }
    assert!(proxy.metric("goproxy_policy_faults_total", &["bad_answer"]) >= 1.0);
    assert_eq!(proxy.ended("no_server") + proxy.ended("connect_failed"), 0);
    // One that heeds what it is told has the same clients and is not left alone.
    let refusing = FakeServer::refusing();
    let (_folder, proxy) = start(&policy(Parts::default()), Group::new("", &[&refusing, &b]));
    for _ in 0..10 {
        assert_eq!(served_by(proxy.addr()), 'B');
    }
    assert!(proxy.metric("goproxy_connect_errors_total", &[]) < 10.0, "suspects are kept out");
    let late = named('L');
    refusing.listens_from_now_on(|mut client, _| {
        client.send(b"R");
        crate::support::echo(client);
    });
    drop(late);
    eventually("it is asked again when it answers again", || served_by(proxy.addr()) == 'R');
}

#[test]
fn backups_are_the_module_s_when_no_other_server_is_left() {
    let [a, b, c] = three();
    let [k, l] = ['K', 'L'].map(named);
    let backup = json!({ "backup": true });
    let group = Group::new("", &[&a, &b, &c]).server(&k, backup.clone()).server(&l, backup);
    let (_folder, proxy) = start(&nth(1), group);
    assert_eq!(served_by(proxy.addr()), 'B');
    [&a, &b, &c].iter().for_each(|server| proxy.set_state(server.addr, "maint"));
    // Until its instance for the backups is there, the fallback says K.
    eventually("the module picks a backup", || served_by(proxy.addr()) == 'L');
    let fallbacks = counted(&proxy, "fallbacks_total");
    assert_eq!([(); 5].map(|()| served_by(proxy.addr())), ['L'; 5]);
    [&a, &b, &c].iter().for_each(|server| proxy.set_state(server.addr, "ready"));
    eventually("the servers are back", || served_by(proxy.addr()) == 'B');
    assert_eq!((counted(&proxy, "fallbacks_total"), counted(&proxy, "faults_total")), (fallbacks, 0));
}

#[test]
fn servers_that_come_and_go_are_told_to_the_module() {
    let [a, b, c] = three();
    let (_folder, proxy) = start(&turns(), Group::new("", &[&a]));
    let group = proxy.addr().port();
    for server in [&b, &c] {
        proxy.ok(&format!("/worker-keepalive.do?group={group}&server={}", server.addr));
    }
    let mut names: Vec<char> = (0..6).map(|_| served_by(proxy.addr())).collect();
    names.sort_unstable();
    assert_eq!(names, ['A', 'A', 'B', 'B', 'C', 'C']);
    proxy.set_state(b.addr, "drain");
    assert!((0..6).all(|_| served_by(proxy.addr()) != 'B'));
    assert_eq!((counted(&proxy, "fallbacks_total"), counted(&proxy, "faults_total")), (0, 0));
}

#[test]
fn explaining_asks_a_fresh_instance_and_changes_nothing() {
    let servers = three();
    let (_folder, proxy) = start(&turns(), Group::new("", &servers.each_ref()));
    assert_eq!(served_by(proxy.addr()), 'A');
    let before = listed(&proxy, "wasm:x");
    for _ in 0..3 {
        let explained = explain(&proxy);
        assert_eq!(explained["server"], servers[0].addr.to_string(), "it knows no earlier client: {explained}");
        assert_eq!(explained["policy"], "wasm:x");
        let note = explained["note"].as_str().unwrap();
        assert!(note.contains("a fresh instance of the module was asked"), "{note}");
    }
    assert_eq!(listed(&proxy, "wasm:x"), before);
    assert_eq!([(); 2].map(|()| served_by(proxy.addr())), ['B', 'C'], "as if nobody had asked");
}

#[test]
fn explaining_a_bad_module_tells_what_its_fallback_does_and_is_no_fault_of_it() {
    let servers = three();
    let text = later(LOOP, Parts::default());
    let folder = Folder::with("x.wat", nth(2));
    let policy = json!({ "wasm": "x", "fallback": "ha" });
    let proxy = folder.setup().group(group_of(policy, &servers)).start();
    folder.drop_in("x.wat", &text);
    takes_over(&proxy, &text);
    for _ in 0..8 {
        assert_eq!(explain(&proxy)["server"], servers[0].addr.to_string());
    }
    let module = listed(&proxy, "wasm:x");
    assert_eq!((&module["faults"], &module["state"]), (&json!(0), &json!("loaded")), "{module}");
    eventually("it is left alone", || {
        assert_eq!(served_by(proxy.addr()), 'A');
        let explained = explain(&proxy);
        assert_eq!(explained["server"], servers[0].addr.to_string());
        explained["note"] == "the module is not in use now: its fallback ha was asked"
    });
}

#[test]
fn what_cannot_be_rehearsed_is_told_as_such() {
    // Takes its configuration until a moment that comes soon.
    let now = clock_gettime(ClockId::Monotonic);
    let until = (now.tv_sec as u64 + 15) * 1_000_000_000;
    let configure = format!(
        "(i32.store8 (i32.const 16) (i64.gt_u (call $now) (i64.const {until})))
        (i32.store (i32.const 20) (i32.const 64)) (i32.store (i32.const 24) (i32.const 5)) (i32.const 16)"
    );
    let moody = policy(Parts {
        imports: r#"(import "goproxy:balance/host@1.0.0" "now-nanos" (func $now (result i64)))"#,
        configure: &configure,
        ..Parts::default()
    });
    let servers = three();
    let (_folder, proxy) = start(&moody, Group::new("", &servers.each_ref()));
    assert_eq!(served_by(proxy.addr()), 'A');
    let path = format!("/policy-explain.do?group={}&client=127.0.0.1", proxy.addr().port());
    let mut body = String::new();
    eventually("it cannot be rehearsed", || {
        let (status, said) = proxy.try_get(&path).unwrap();
        body = said;
        status == 503
    });
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["code"], "cannot_rehearse", "{answer}");
    let says = answer["msg"].as_str().unwrap();
    assert!(says.contains("cannot rehearse the policy: configure refused {}: guest"), "{says}");
    assert_eq!((served_by(proxy.addr()), counted(&proxy, "fallbacks_total")), ('A', 0), "clients are served as before");
}
