//! `policy-explain.do` tells which server a client would get, why not the others, and changes nothing.

use serde_json::{Value, json};

use crate::support::{TestProxy, Visitor, named_echo, ports};

fn config(admin: u16, group: u16, policy: &str, more: &str, servers: &[String]) -> String {
    format!(
        r#"{{
  "admin": {{ "listen": "127.0.0.1:{admin}" }},
  "groups": [
    {{ "listen": "127.0.0.1:{group}", "policy": "{policy}", "heartbeat_timeout": "1m"{more}, "servers": [{}] }}
  ]
}}
"#,
        servers.join(", ")
    )
}

fn quoted(addr: impl std::fmt::Display) -> String {
    format!("\"{addr}\"")
}

/// `eligible` and `why` of each candidate, in order.
fn whys(explained: &Value) -> Vec<(bool, &str)> {
    let candidates = explained["candidates"].as_array().expect("a list").iter();
    candidates.map(|it| (it["eligible"].as_bool().expect("a flag"), it["why"].as_str().expect("a text"))).collect()
}

#[test]
fn the_server_that_is_told_is_the_one_the_next_client_gets_and_asking_changes_nothing() {
    let [admin, group] = ports();
    let echoes = [named_echo(), named_echo(), named_echo()];
    let servers = echoes.each_ref().map(|echo| quoted(echo.addr));
    let proxy = TestProxy::with_file(admin, &config(admin, group, "round_robin", "", &servers));
    // They stay to the end: one that is about to be over would change what is compared.
    let mut sessions: Vec<Visitor> = Vec::new();
    for policy in ["ha", "round_robin", "ip_hash", "least_sessions", "maglev"] {
        proxy.ok(&format!("/group-policy.do?group={group}&policy={policy}"));
        for _ in 0..4 {
            let before = proxy.state();
            let explain = || proxy.ok(&format!("/policy-explain.do?group={group}&client=127.0.0.1"));
            let explained = explain();
            assert_eq!((explain(), proxy.state()), (explained.clone(), before));
            assert_eq!((&explained["policy"], &explained["note"]), (&json!(policy), &Value::Null));
            let client = Visitor::connect(group);
            assert_eq!(explained["server"], client.server, "{policy}");
            assert_eq!(explained["msg"], format!("127.0.0.1 would get {}", client.server));
            sessions.push(client);
        }
    }
}

#[test]
fn every_server_is_there_in_order_with_the_reason_it_is_passed_over() {
    let [admin, group, silent] = ports();
    let [first, second, backup] = [named_echo(), named_echo(), named_echo()];
    let servers = [
        format!(r#"{{ "addr": "{}", "max_sessions": 1 }}"#, first.addr),
        format!(r#"{{ "addr": "127.0.0.1:{silent}", "state": "drain" }}"#),
        quoted(second.addr),
        format!(r#"{{ "addr": "{}", "backup": true }}"#, backup.addr),
    ];
    let proxy = TestProxy::with_file(admin, &config(admin, group, "ha", "", &servers));
    let explain = |more: &str| proxy.ok(&format!("/policy-explain.do?group={group}&client=192.0.2.7{more}"));
    let drained = (false, "offline: drained by an operator");
    let spare = (false, "backup: only when no other server will do");
    let unwanted = (true, "not chosen: the policy preferred another");
    let explained = explain("");
    assert_eq!(whys(&explained), [(true, "chosen"), drained, unwanted, spare]);
    let addrs: Vec<&Value> =
        explained["candidates"].as_array().unwrap().iter().map(|candidate| &candidate["addr"]).collect();
    let silent_addr = format!("127.0.0.1:{silent}");
    assert_eq!(json!(addrs), json!([first.addr, silent_addr, second.addr, backup.addr]));

    let session = Visitor::connect(group);
    let full = (false, "full: holds max_sessions = 1 sessions");
    assert_eq!(whys(&explain("")), [full, drained, (true, "chosen"), spare]);
    let tried = (false, "tried: it did not answer this client");
    let retried = explain(&format!("&tried={}", second.addr));
    assert_eq!(whys(&retried), [full, drained, tried, (true, "chosen")]);
    let nobody = explain(&format!("&tried={},{}", second.addr, backup.addr));
    assert_eq!((&nobody["server"], whys(&nobody)), (&Value::Null, vec![full, drained, tried, tried]));
    assert!(nobody["msg"].as_str().unwrap().contains("no server"), "{nobody}");
    drop(session);
}

#[test]
fn a_server_that_has_just_refused_a_client_is_told_to_be_suspect() {
    let [admin, group, silent] = ports();
    let echo = named_echo();
    let servers = [quoted(format_args!("127.0.0.1:{silent}")), quoted(echo.addr)];
    let proxy = TestProxy::with_file(admin, &config(admin, group, "ha", "", &servers));
    let explain = || proxy.ok(&format!("/policy-explain.do?group={group}&client=192.0.2.7"));
    assert_eq!(explain()["server"], format!("127.0.0.1:{silent}"), "nobody knows yet that it does not answer");
    // Each failed connect renews the suspicion, however late this test gets to look.
    crate::support::eventually("it is suspect", || {
        assert_eq!(Visitor::connect(group).server, echo.addr.to_string());
        whys(&explain())
            == [(false, "suspect: the last connect failed, kept out while others are left"), (true, "chosen")]
    });
}

#[test]
fn what_the_answer_does_not_tell_is_noted() {
    let [admin, group] = ports();
    let echo = named_echo();
    let text = config(admin, group, "random", r#", "connect_attempts": 1"#, &[quoted(echo.addr)]);
    let proxy = TestProxy::with_file(admin, &text);
    let explain = |more: &str| proxy.ok(&format!("/policy-explain.do?group={group}&client=%3A%3A1{more}"));
    let note = |explained: &Value| explained["note"].as_str().expect("a note").to_owned();
    let explained = explain("");
    assert_eq!(explained["server"], echo.addr.to_string());
    assert!(note(&explained).contains("by chance"), "{explained}");
    proxy.ok(&format!("/group-close.do?group={group}"));
    let explained = explain(&format!("&tried={}", echo.addr));
    assert!(note(&explained).contains("closed") && note(&explained).contains("connect_attempts = 1"), "{explained}");
}

#[test]
fn a_question_that_is_wrong_is_refused_by_name() {
    let [admin, group, nobody] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "ha", "", &[quoted("127.0.0.1:1")]));
    let explain = |query: String, status, code| proxy.refused(&format!("/policy-explain.do?{query}"), status, code);
    explain(format!("group={group}"), 400, "missing_parameter");
    explain("client=10.0.0.7".to_owned(), 400, "missing_parameter");
    explain(format!("group={nobody}&client=10.0.0.7"), 404, "group_not_found");
    for bad in ["localhost", "10.0.0", "10.0.0.256", "10.0.0.0/8", "10.0.0.7:", "%00", "::1%25lo"] {
        let json = explain(format!("group={group}&client={bad}"), 400, "bad_parameter");
        assert!(json["msg"].as_str().unwrap().starts_with("client: "), "{json}");
    }
    for bad in ["127.0.0.1", "127.0.0.1:1,", ",", &vec!["127.0.0.1:1"; 101].join(",")] {
        let json = explain(format!("group={group}&client=::1&tried={bad}"), 400, "bad_parameter");
        assert!(json["msg"].as_str().unwrap().starts_with("tried: "), "{json}");
    }
    explain(format!("group={group}&client=::1&tried=127.0.0.1:2"), 404, "server_not_found");
    explain(format!("group={group}&client=::1&server=127.0.0.1:1"), 400, "unknown_parameter");
    proxy.ok(&format!("/policy-explain.do?group={group}&client=10.0.0.7:51234"));
    proxy.ok(&format!("/policy-explain.do?group={group}&client=%5B2001:db8::7%5D:80"));
}

#[test]
fn without_a_server_the_answer_is_what_it_will_be_when_that_is_gone() {
    let [admin, group] = ports();
    let servers = [named_echo(), named_echo(), named_echo()];
    let listed = servers.each_ref().map(|server| quoted(server.addr));
    let proxy = TestProxy::with_file(admin, &config(admin, group, "maglev", "", &listed));
    let explain =
        |client: u32, more: &str| proxy.ok(&format!("/policy-explain.do?group={group}&client=10.0.0.{client}{more}"));
    let all = |more: &str| -> Vec<Value> { (1..=60).map(|client| explain(client, more)["server"].take()).collect() };
    let gone = servers[1].addr;
    let without = format!("&without={gone}");
    let (now, then) = (all(""), all(&without));
    assert!(now.contains(&json!(gone.to_string())) && !then.contains(&json!(gone.to_string())));
    let moved = now.iter().zip(&then).filter(|(now, then)| **now != json!(gone.to_string()) && now != then).count();
    assert!(moved <= 3, "maglev moves next to nobody else: {moved}");
    assert_eq!(whys(&explain(1, &without))[1], (false, "without: thought away"));
    assert_eq!(all(""), now, "asking has changed nothing");
    proxy.ok(&format!("/worker-state.do?group={group}&server={gone}&state=drain"));
    assert_eq!(all(""), then);
    let nobody = explain(1, &format!("&without={},{},{gone}", servers[0].addr, servers[2].addr));
    assert_eq!(
        (&nobody["server"], &nobody["msg"]),
        (&Value::Null, &json!("10.0.0.1 would get no server: none will do"))
    );
    proxy.refused(
        &format!("/policy-explain.do?group={group}&client=10.0.0.1&without=127.0.0.1:1"),
        404,
        "server_not_found",
    );
}
