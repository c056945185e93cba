//! A module that is dropped into the folder places the next client, and whatever is wrong with it costs none.

use std::fs;

use serde_json::{Value, json};

use crate::policy_kit::guests::{Parts, policy};
use crate::policy_kit::{
    Folder, connect, counted, group_of, hex, is_refused, listed, nth, patient, served_by, takes_over, three,
};
use crate::support::{Group, TestProxy, eventually};

/// The policy of the first group as it runs.
fn in_force(proxy: &TestProxy) -> Value {
    proxy.ok("/group-list.do")["groups"][0]["policy"].clone()
}

/// The line of the log with this message: there has to be one, and no other.
fn told(proxy: &TestProxy, message: &str) -> Value {
    let line = proxy.log.wait_for(message, |line| line["message"] == message);
    assert_eq!(proxy.log.with_message(message).len(), 1);
    line
}

/// Saves `proxy.json` with this policy in the first group.
fn edit(proxy: &TestProxy, policy: &str) {
    let text = fs::read_to_string(proxy.path()).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    file["groups"][0]["policy"] = policy.into();
    fs::write(proxy.path(), file.to_string()).unwrap();
}

#[test]
fn a_module_is_used_by_the_next_client_after_one_request_and_no_session_is_touched() {
    let folder = Folder::new();
    let [a, b, c] = three();
    let proxy = folder.setup().group(Group::new("ha", &[&a, &b, &c])).start();
    let (mut early, server) = connect(proxy.addr());
    assert_eq!(server, 'A');
    let set = |policy: &str| {
        let path = format!("/group-policy.do?group={}&policy={policy}", proxy.addr().port());
        let (status, body) = proxy.try_get(&path).unwrap();
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };

    let before = fs::read(proxy.path()).unwrap();
    let (status, answer) = set("wasm:my");
    assert_eq!((status, &answer["code"]), (400, &json!("policy_refused")), "{answer}");
    let says = answer["msg"].as_str().unwrap();
    assert!(says.contains("my.wasm: there is no such file, nor my.wat; expected a policy module"), "{says}");
    assert_eq!(set("wasm:..%2Fmy").0, 400, "a name never leads out of the folder");
    assert_eq!((fs::read(proxy.path()).unwrap(), in_force(&proxy)), (before, json!("ha")));
    assert_eq!(served_by(proxy.addr()), 'A');

    let text = nth(2);
    folder.drop_in("my.wat", &text);
    assert_eq!(listed(&proxy, "wasm:my")["state"], "available");
    assert_eq!(set("wasm:my").0, 200);
    assert_eq!([(); 3].map(|()| served_by(proxy.addr())), ['C'; 3]);
    early.echo(b"still there");
    let file: Value = serde_json::from_slice(&fs::read(proxy.path()).unwrap()).unwrap();
    assert_eq!((&file["groups"][0]["policy"], in_force(&proxy)), (&json!("wasm:my"), json!("wasm:my")));
    let module = listed(&proxy, "wasm:my");
    let expected = json!({ "name": "wasm:my", "kind": "wasm", "file": "my.wat", "version": "1.0.0",
        "sha256": hex(text.as_bytes()), "state": "loaded", "error": null, "faults": 0, "fallbacks": 0,
        "groups": [proxy.addr().port()] });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&module[key], value, "{key} of {module}");
    }
    assert!(module["calls"].as_u64().unwrap() >= 3, "{module}");
    assert_eq!(proxy.metric("goproxy_policy_info", &["policy=\"wasm:my\"", "version=\"1.0.0\""]), 1.0);
    assert_eq!(set("ha").0, 200);
    assert_eq!(served_by(proxy.addr()), 'A');
    eventually("nobody uses it", || listed(&proxy, "wasm:my")["state"] == "available");
    early.echo(b"still there");
}

#[test]
fn a_module_that_the_file_names_may_come_before_or_after_the_edit() {
    let folder = Folder::with("early.wat", nth(1));
    let [a, b, c] = three();
    let proxy = folder.setup().group(Group::new("ha", &[&a, &b, &c])).start();
    let (mut session, server) = connect(proxy.addr());
    assert_eq!(server, 'A');
    edit(&proxy, "wasm:early");
    eventually("the module is in force", || in_force(&proxy) == "wasm:early");
    assert_eq!(served_by(proxy.addr()), 'B');

    edit(&proxy, "wasm:late");
    let refused =
        proxy.log.wait_for("a refusal", |line| line["message"] == "proxy.json refused: what runs stays as it is");
    assert!(refused["error"].as_str().unwrap().contains("late.wasm: there is no such file"), "{refused}");
    assert_eq!((in_force(&proxy), served_by(proxy.addr())), (json!("wasm:early"), 'B'));
    folder.drop_in("late.wat", nth(2));
    eventually("the edit is in force by itself", || in_force(&proxy) == "wasm:late");
    assert_eq!(served_by(proxy.addr()), 'C');
    session.echo(b"still there");
}

#[test]
fn a_new_version_takes_over_and_a_bad_one_is_refused_and_told_everywhere() {
    let folder = Folder::with("x.wat", nth(1));
    let servers = three();
    let proxy = folder.setup().group(group_of(patient(), &servers)).start();
    let (mut session, server) = connect(proxy.addr());
    assert_eq!(server, 'B');
    fs::write(folder.path("x.wat"), nth(2)).unwrap();
    takes_over(&proxy, nth(2));
    assert_eq!(served_by(proxy.addr()), 'C');
    told(&proxy, "policy swapped");

    let no_pick = nth(0).replace("#pick\"", "#pack\"");
    folder.drop_in("x.wat", &no_pick);
    let says = is_refused(&proxy, "does not export goproxy:balance/policy@1.0.0#pick; found ");
    let module = listed(&proxy, "wasm:x");
    assert_eq!((&module["state"], &module["sha256"]), (&json!("loaded"), &json!(hex(nth(2).as_bytes()))));
    assert_eq!([(); 3].map(|()| served_by(proxy.addr())), ['C'; 3], "the old one stays");
    assert_eq!(told(&proxy, "policy file refused: the loaded version stays")["error"], says);
    assert_eq!((counted(&proxy, "swaps_total"), counted(&proxy, "refused_versions_total")), (1, 1));

    folder.drop_in("x.wat", nth(0));
    takes_over(&proxy, nth(0));
    assert_eq!(served_by(proxy.addr()), 'A');
    assert_eq!((counted(&proxy, "swaps_total"), counted(&proxy, "fallbacks_total")), (2, 0));
    session.echo(b"still there");
}

#[test]
fn a_version_that_refuses_the_configuration_of_one_group_takes_over_in_none() {
    let folder = Folder::with("x.wat", nth(1));
    let servers = three();
    let told = json!({ "wasm": "x", "fallback": "ha", "deadline": "1s", "config": { "zone": 1 } });
    let proxy = folder.setup().group(group_of(patient(), &servers)).group(group_of(told, &servers)).start();
    // Refuses whatever has more than two bytes.
    let strict = policy(Parts {
        configure: "(i32.store8 (i32.const 16) (i32.ne (local.get $params_len) (i32.const 2)))
            (i32.store (i32.const 20) (i32.const 64)) (i32.store (i32.const 24) (i32.const 5)) (i32.const 16)",
        ..Parts::default()
    });
    folder.drop_in("x.wat", &strict);
    is_refused(&proxy, "x.wat: configure refused {\"zone\":1}: guest");
    assert_eq!([0, 1].map(|group| served_by(proxy.addr_of(group))), ['B', 'B']);
    assert_eq!(counted(&proxy, "fallbacks_total"), 0);
}

#[test]
fn a_proxy_whose_module_is_missing_or_bad_starts_with_the_fallback_until_the_file_is_good() {
    let folder = Folder::with("x.wat", "this is no policy");
    let servers = three();
    for (content, says, level) in [
        (Some("this is no policy"), "x.wat: is not WebAssembly (begins with \"this\")", "there"),
        (None, "x.wasm: there is no such file, nor x.wat", "missing"),
    ] {
        match content {
            Some(content) => folder.drop_in("x.wat", content),
            None => fs::remove_file(folder.path("x.wat")).unwrap(),
        }
        let mut proxy = folder.setup().group(group_of(patient(), &servers)).start();
        proxy.may_alarm("policy cannot be used: its fallback serves");
        assert_eq!([(); 3].map(|()| served_by(proxy.addr())), ['A'; 3], "{level}");
        let module = listed(&proxy, "wasm:x");
        assert_eq!((&module["state"], &module["sha256"]), (&json!("refused"), &Value::Null), "{module}");
        assert!(module["error"].as_str().unwrap().contains(says), "{module}");
        let line = told(&proxy, "policy cannot be used: its fallback serves");
        assert!(line["error"].as_str().unwrap().contains(says), "{line}");
        assert!(counted(&proxy, "fallbacks_total") >= 3);

        folder.drop_in("x.wat", nth(2));
        let module = takes_over(&proxy, nth(2));
        assert_eq!((&module["state"], served_by(proxy.addr())), (&json!("loaded"), 'C'));
        assert_eq!(proxy.metric("goproxy_policy_info", &["policy=\"wasm:x\""]), 1.0);
    }
}
