//! What is said about a file: everything at once, each in one form, with what to do.

use std::fs;
use std::sync::Arc;

use serde_json::json;

use crate::support::{TestProxy, check, eventually, ports, replace, run};

/// A folder with this file, and the file's path.
fn file(text: impl AsRef<[u8]>) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.json");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// What `check` says about a file that is refused.
#[track_caller]
fn refused(text: impl AsRef<[u8]>) -> String {
    let (_folder, path) = file(text);
    let (ok, said) = check(&path);
    assert!(!ok, "{said}");
    said.replace(&path.display().to_string(), "FILE")
}

#[test]
fn a_dump_hides_secrets_unless_asked_and_is_a_file_itself() {
    let (folder, path) = file(r#"{ "admin": { "token": "hunter2", "register_token": "hunter3" } }"#);
    let path = path.to_str().unwrap();
    let dump = |args: &[&str]| {
        let output = run(&[&["check", "-c", path, "--dump"], args].concat());
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let hidden = dump(&[]);
    assert!(!hidden.contains("hunter") && hidden.matches("\"***\"").count() == 2, "{hidden}");
    let shown = dump(&["--secrets"]);
    assert!(shown.contains("\"hunter2\"") && shown.contains("\"hunter3\""), "{shown}");
    for text in [hidden, shown] {
        let copy = folder.path().join("copy.json");
        fs::write(&copy, text).unwrap();
        assert!(check(&copy).0, "{}", check(&copy).1);
    }
    assert_eq!(run(&["check", "-c", path, "--secrets"]).status.code(), Some(2), "without --dump it means nothing");
}

#[test]
fn bytes_that_are_no_text_are_told_at_their_place() {
    let said = refused(b"{\n  \"threads\": 1 // all\xe9\n}");
    assert!(said.starts_with("FILE:2:22: the byte 0xe9 is not UTF-8; expected UTF-8 text\n"), "{said}");
    let said = refused("{ \"threads\": 1 }".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    // Without a mark in front it is text of a kind, and no JSON.
    assert!(said.starts_with("FILE:1:"), "{said}");

    let [admin] = ports();
    let proxy = TestProxy::with_file(admin, &format!(r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }} }}"#));
    fs::write(proxy.path(), b"{}\n\n\xff").unwrap();
    eventually("the log has the place", || proxy.log.count(":3:1: the byte 0xff is not UTF-8") > 0);
}

#[test]
fn modules_are_tried_beside_other_mistakes() {
    let said = refused(
        r#"{ "threads": "x", "defaults": { "policy": "wasm:gone" },
             "groups": [ { "listen": "nowhere", "policy": "wasm:lost" }, { "listen": "127.0.0.1:1" },
                         { "listen": "127.0.0.1:2", "policy": "wasm:missing" }, { "listen": "127.0.0.1:3" } ] }"#,
    );
    let starts: Vec<&str> = said.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(starts, ["FILE:1:14", "FILE:1:43", "FILE:2:38", "FILE:3:63", "goproxy"], "{said}");
    for (line, what) in said.lines().zip(["threads", "defaults.policy: ", "groups[0].listen", "groups[2].policy: "]) {
        assert!(line.contains(what), "{line}");
    }
    assert!(said.ends_with("has 4 mistakes\n"), "{said}");
}

#[test]
fn words_of_other_programs_get_a_hint() {
    for (text, hint) in [
        (r#"{"groups":[{"listen":"127.0.0.1:1","policy":"leastconn"}]}"#, "it is called least_sessions here"),
        (r#"{"groups":[{"listen":"127.0.0.1:1","policy":"least_conn"}]}"#, "it is called least_sessions here"),
        (r#"{"groups":[{"listen":"127.0.0.1:1","policy":"roundrobin"}]}"#, "it is called round_robin here"),
        (r#"{"groups":[{"listen":"127.0.0.1:1","policy":"source"}]}"#, "it is called ip_hash here"),
        (r#"{"groups":[{"bind":"127.0.0.1:1"}]}"#, "it is called listen here"),
        (r#"{"groups":[{"listen":"127.0.0.1:1","balance":"ha"}]}"#, "it is called policy here"),
        (r#"{"groups":[{"listen":"127.0.0.1:1","maxconn":5}]}"#, "it is called max_sessions here"),
        (r#"{"groups":[{"listen":"127.0.0.1:1","servers":[{"address":"10.0.0.1:1"}]}]}"#, "it is called addr here"),
        (r#"{"groups":[{"listen":"*:8081"}]}"#, "\"0.0.0.0:8081\" is every address"),
        (r#"{"groups":[{"listen":":5432"}]}"#, "\"0.0.0.0:5432\" is every address"),
        ("groups:\n  - listen: 127.0.0.1:1\n", "this looks like YAML"),
        ("global\n  maxconn 100\nfrontend web\n  bind *:80\n", "this looks like a file of HAProxy"),
        ("stream {\n  server { listen 80; }\n}\n", "this looks like a file of nginx"),
        ("# proxy\n{}\n", "comments begin with //"),
        ("{\n  # all of them\n  \"groups\": []\n}\n", "comments begin with //"),
    ] {
        let said = refused(text);
        assert!(said.contains(hint), "{text}: {said}");
        assert!(said.starts_with("FILE:"), "{text}: {said}");
    }
}

#[test]
fn a_circle_of_groups_is_refused_by_check_and_reload() {
    let [admin, first, second, third] = ports();
    let text = |last: u16| {
        json!({
            "admin": { "listen": format!("127.0.0.1:{admin}") },
            "groups": [
                { "listen": format!("0.0.0.0:{first}"), "servers": [format!("127.0.0.1:{second}")] },
                { "listen": format!("[::]:{second}"), "servers": [format!("127.9.9.9:{third}"), "127.0.0.1:9"] },
                { "listen": format!("0.0.0.0:{third}"), "servers": [format!("127.0.0.1:{last}")] },
            ],
        })
        .to_string()
    };
    // A chain is fine.
    let proxy = TestProxy::with_file(admin, &text(9));
    let said = refused(text(first));
    assert_eq!(said.matches("lead back to this group").count(), 3, "{said}");
    let before = proxy.ok("/group-list.do");
    replace(proxy.path(), &text(second));
    eventually("the log has the mistake", || proxy.log.count("lead back to this group") > 0);
    assert_eq!(proxy.ok("/group-list.do"), before);
}

#[test]
fn a_file_that_is_gone_is_told_once_and_changes_nothing() {
    let [admin, group] = ports();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [ {{ "listen": "127.0.0.1:{group}" }} ] }}"#
    );
    let proxy = TestProxy::with_file(admin, &text);
    fs::remove_file(proxy.path()).unwrap();
    let gone = || proxy.log.count("file gone; what was read from it stays in force");
    eventually("the log says so", || gone() == 1);
    fs::write(proxy.path().with_extension("other"), "an event").unwrap();
    assert_eq!(proxy.ok("/group-list.do")["groups"][0]["group"], group);
    fs::write(proxy.path(), text.replace("\"groups\"", "\"drain_timeout\": \"7s\", \"groups\"")).unwrap();
    eventually("what is there again is read", || proxy.log.count("drain_timeout") == 1);
    assert_eq!(gone(), 1);
}

#[test]
fn the_old_programs_file_is_kept_when_it_is_converted() {
    let [admin, group] = ports();
    let old = format!("{{\"httpport\":\"{admin}\",\"tcpport\":\"{group}\",\"lbpolicy\":1}}");
    let proxy = TestProxy::with_file(admin, &old);
    let kept = proxy.path().with_extension("json.old");
    assert!(!kept.exists());
    proxy.ok(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:1"));
    assert_eq!(fs::read_to_string(&kept).unwrap(), old);
    assert!(proxy.file().contains("\"heartbeat\""), "{}", proxy.file());
    proxy.ok(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:2"));
    eventually("the log says so, once", || proxy.log.count("a copy is kept") == 1);
    assert_eq!(fs::read_to_string(&kept).unwrap(), old);
    let entries = fs::read_dir(proxy.home()).unwrap().count();
    assert_eq!(entries, 2, "the file and its copy");
}

#[test]
fn a_cause_is_told_once_when_the_start_fails() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [admin] = ports();
    let listen = taken.local_addr().unwrap();
    for (admin, listen) in
        [(format!("127.0.0.1:{admin}"), listen.to_string()), (listen.to_string(), format!("127.0.0.1:{admin}"))]
    {
        let (_folder, path) =
            file(json!({ "admin": { "listen": admin }, "groups": [{ "listen": listen }] }).to_string());
        let output = run(&["-c", path.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        let last = said.lines().last().unwrap();
        assert_eq!(last.matches("in use").count(), 1, "{said}");
    }
}

#[test]
fn attributes_and_links_are_told_when_a_save_cannot_keep_them() {
    let [admin, group] = ports();
    let home = Arc::new(tempfile::tempdir().unwrap());
    let (path, other) = (home.path().join("proxy.json"), home.path().join("other.json"));
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [ {{ "listen": "127.0.0.1:{group}" }} ] }}"#
    );
    fs::write(&path, &text).unwrap();
    fs::hard_link(&path, &other).unwrap();
    let proxy = TestProxy::with_file_at(home, path, admin);
    for server in 1..4 {
        proxy.ok(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:{server}"));
    }
    eventually("the log says so, once", || proxy.log.count("its other hard links keep the old text") == 1);
    assert_eq!(fs::read_to_string(other).unwrap(), text);
}
