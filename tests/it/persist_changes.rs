//! A change is in the file and in effect when its caller hears of it; one that cannot be, is not made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{TestProxy, Visitor, check, eventually, goproxy, named_echo, ports, replace};

/// A file as a person would write it: comments, odd spacing, an order of its own.
fn handwritten(admin: u16, group: u16, other: u16) -> String {
    format!(
        "// my proxy\r\n{{\r\n\t\"log\": {{ \"status_interval\" : \"0s\" }}, /* quiet */\r\n\
         \t\"groups\": [\r\n\
         \t\t{{ \"listen\": \"127.0.0.1:{group}\",   // the databases\r\n\
         \t\t  \"servers\": [\r\n\
         \t\t\t\"127.0.0.1:1\", // old\r\n\
         \t\t\t{{ \"weight\": 2,\"addr\": \"127.0.0.1:2\" /* new */ }}, // trailing\r\n\
         \t\t  ],\r\n\
         \t\t  \"heartbeat_timeout\": \"1m\", }},\r\n\
         \t\t{{\"listen\":\"127.0.0.1:{other}\",\"open\":false}}\r\n\
         \t],\r\n\
         \t\"admin\" : {{\"listen\":\"127.0.0.1:{admin}\"}},\r\n}}\r\n// the end"
    )
}

/// What is to become of a text.
type Rewrite = Box<dyn Fn(&str) -> String>;

/// Every change in turn, with what it makes of the handwritten file.
fn changes(group: u16, other: u16) -> Vec<(String, Rewrite)> {
    let replaced = |from: &'static str, to: &'static str| -> Rewrite {
        Box::new(move |text| {
            assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
            text.replace(from, to)
        })
    };
    vec![
        (
            format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"),
            replaced("\"127.0.0.1:1\", // old", "{ \"addr\": \"127.0.0.1:1\", \"state\": \"drain\" }, // old"),
        ),
        (
            format!("/worker-keepalive.do?group={group}&server=127.0.0.1:2&weight=5"),
            replaced("{ \"weight\": 2,\"addr\"", "{ \"weight\": 5,\"addr\""),
        ),
        (
            format!("/worker-keepalive.do?group={group}&server=127.0.0.1:3&zone=b"),
            replaced(
                "// trailing\r\n",
                "// trailing\r\n\t\t\t{ \"addr\": \"127.0.0.1:3\", \"labels\": {\"zone\": \"b\"}, \"origin\": \"heartbeat\" },\r\n",
            ),
        ),
        (
            format!("/group-open.do?group={other}&policy=ip_hash"),
            replaced("\"open\":false}", "\"open\":true,\"policy\": \"ip_hash\"}"),
        ),
        (format!("/group-close.do?group={other}"), replaced("\"open\":true,", "\"open\":false,")),
        (
            format!("/group-policy.do?group={other}&policy=maglev"),
            replaced("\"policy\": \"ip_hash\"", "\"policy\": \"maglev\""),
        ),
        (
            format!("/worker-remove.do?group={group}&server=127.0.0.1:3"),
            replaced(
                "\t\t\t{ \"addr\": \"127.0.0.1:3\", \"labels\": {\"zone\": \"b\"}, \"origin\": \"heartbeat\" },\r\n",
                "",
            ),
        ),
    ]
}

#[test]
fn a_change_is_in_the_file_before_the_answer_and_all_else_stays_byte_for_byte() {
    let [admin, group, other] = ports();
    let mut text = handwritten(admin, group, other);
    let proxy = TestProxy::with_file(admin, &text);
    for (target, edit) in changes(group, other) {
        proxy.ok(&target);
        let now = proxy.file();
        text = edit(&text);
        assert_eq!(now, text, "{target}");
        assert!(check(proxy.path()).0);
    }
    // Once more what is so already: not a byte, not even another file.
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(proxy.path());
    proxy.ok(&format!("/group-close.do?group={other}"));
    proxy.ok(&format!("/group-policy.do?group={other}&policy=maglev"));
    proxy.ok(&format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"));
    assert_eq!((proxy.file(), inode(proxy.path())), (text, before));
}

/// What is refused for want of a file leaves the old file and everything that runs as it was.
#[track_caller]
fn nothing_changes(proxy: &TestProxy, group: u16, other: u16, new: u16, status: u16, code: &str) {
    let shown = |proxy: &TestProxy| {
        let mut servers = proxy.servers(group);
        servers.iter_mut().for_each(|server| _ = server.as_object_mut().unwrap().remove("lease_ms"));
        (proxy.ok("/group-list.do")["groups"].clone(), servers)
    };
    let before = shown(proxy);
    let all = changes(group, other).into_iter().map(|(target, _)| target);
    // What is so already needs no file; and there is no third server to remove.
    for target in all.filter(|target| !target.contains("remove") && !target.contains("close")).chain([
        format!("/group-open.do?group={new}"),
        format!("/group-policy.do?group={other}&policy=random"),
        format!("/worker-remove.do?group={group}&server=127.0.0.1:1"),
    ]) {
        let json = proxy.refused(&target, status, code);
        assert!(json["msg"].as_str().unwrap().contains("nothing was changed"), "{json}");
    }
    assert_eq!(shown(proxy), before);
    assert!(std::net::TcpStream::connect(("127.0.0.1", new)).is_err());
}

#[test]
fn a_change_that_cannot_be_written_is_refused_and_not_made() {
    let [admin, group, other, new] = ports();
    let text = handwritten(admin, group, other);
    let home = Arc::new(tempfile::tempdir().unwrap());
    let folder = home.path().join("etc");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("proxy.json");
    fs::write(&path, &text).unwrap();
    // As a full disk does it: no file of this process may get longer than nothing.
    let mut command = std::process::Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" -c \"$1\"";
    command.args(["-c", script]).arg(goproxy().get_program()).arg(&path);
    let proxy = TestProxy::with_command(command, home, path.clone(), admin);
    nothing_changes(&proxy, group, other, new, 503, "cannot_persist");
    assert_eq!(proxy.file(), text);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
    drop(proxy);

    let proxy = TestProxy::with_file(admin, &text);
    fs::remove_file(proxy.path()).unwrap();
    nothing_changes(&proxy, group, other, new, 503, "cannot_persist");
    assert!(!proxy.path().exists(), "a file that somebody deleted is not made again");
    fs::create_dir(proxy.path()).unwrap();
    nothing_changes(&proxy, group, other, new, 503, "cannot_persist");
    fs::remove_dir(proxy.path()).unwrap();
    fs::write(proxy.path(), b"{\"groups\": \"\xff\"}").unwrap();
    nothing_changes(&proxy, group, other, new, 409, "file_invalid");
    replace(proxy.path(), &text);
    proxy.ok(&format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"));
}

#[test]
fn a_change_on_top_of_a_broken_file_is_refused_with_the_place_of_the_mistake() {
    let [admin, group, other, new] = ports();
    let text = handwritten(admin, group, other);
    let proxy = TestProxy::with_file(admin, &text);
    for (from, to, line, column, path) in [
        ("\"127.0.0.1:1\", // old", "\"127.0.0.1:0\", // old", 7, 4, "groups[0].servers[0]"),
        ("\"weight\": 2", "\"wait\": 2", 8, 6, "groups[0].servers[1].wait"),
        ("\t],\r\n", "\t,\r\n", 13, 10, ""),
    ] {
        let broken = text.replace(from, to);
        assert_ne!(broken, text);
        replace(proxy.path(), &broken);
        nothing_changes(&proxy, group, other, new, 409, "file_invalid");
        let json = proxy.refused(&format!("/group-open.do?group={other}"), 409, "file_invalid");
        let error = &json["errors"][0];
        assert_eq!(
            (&error["line"], &error["column"], &error["path"]),
            (&json!(line), &json!(column), &json!(path)),
            "{json}"
        );
        assert!(
            error["message"].as_str().is_some_and(|message| message.contains("expected")) || path.is_empty(),
            "{json}"
        );
        assert_eq!(proxy.file(), broken);
    }
}

#[test]
fn an_edit_of_a_user_and_a_change_over_http_at_the_same_time_both_survive() {
    let [admin, group, other] = ports();
    let proxy = TestProxy::with_file(admin, &handwritten(admin, group, other));
    for round in 0..20 {
        let old = proxy.file();
        let edited = old.replace("// the end", &format!("// edited {round}\r\n// the end"));
        let edited = edited.replace(
            "\"127.0.0.1:1\"",
            &format!("\"127.0.0.1:{}\", // {round}\r\n\t\t\t\"127.0.0.1:1\"", 1_000 + round),
        );
        replace(proxy.path(), &edited);
        // At once, so that the proxy may not have noticed the edit yet.
        proxy.ok(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:{}", 2_000 + round));
        let now = proxy.file();
        for text in [format!("// edited {round}\r\n"), format!("\"127.0.0.1:{}\", // {round}", 1_000 + round)] {
            assert!(now.contains(&text), "{text}: {now}");
        }
        assert!(now.contains(&format!("\"127.0.0.1:{}\"", 2_000 + round)), "{now}");
        let addrs: Vec<_> = proxy.servers(group).into_iter().map(|server| server["addr"].clone()).collect();
        assert!(addrs.contains(&json!(format!("127.0.0.1:{}", 1_000 + round))), "both are in effect");
    }
    assert_eq!(proxy.servers(group).len(), 2 + 20 + 20);
}

#[test]
fn a_symbolic_link_stays_one_and_the_mode_stays() {
    let [admin, group, other] = ports();
    let home = Arc::new(tempfile::tempdir().unwrap());
    let (data, etc) = (home.path().join("data"), home.path().join("etc"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&etc).unwrap();
    let real = data.join("real.json");
    fs::write(&real, handwritten(admin, group, other)).unwrap();
    fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let link = etc.join("proxy.json");
    symlink("../data/real.json", &link).unwrap();
    let proxy = TestProxy::with_file_at(home, link.clone(), admin);
    proxy.ok(&format!("/group-open.do?group={other}"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("\"open\":true"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&real).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o640);
    assert_eq!(fs::read_dir(&data).unwrap().count() + fs::read_dir(&etc).unwrap().count(), 2);
}

#[test]
fn the_file_of_the_old_program_and_its_curl_lines_work_as_they_are() {
    let [http, tcp, pprof, gone] = ports();
    let gone = format!("localhost:{gone}");
    let text = format!(
        r#"{{"httpport":"{http}","tcpport":"{tcp}","pprofport":"{pprof}","lbpolicy":1,"rwtimeout":"3s","printinterval":"5s","heartbeatkeepalive":"5s","alivecheckinterval":"2.5s","handlebuffer":1024}}"#
    );
    let mut proxy = TestProxy::with_file(http, &text);
    eventually("the old form is told", || proxy.log.count("flat form of the old program") == 1);
    let host = format!("Host: localhost:{http}\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n");
    let curl = |proxy: &TestProxy, method: &str, target: &str| {
        let reply = proxy.request(method, target, &host, b"");
        let json = reply.json();
        assert!(reply.status == 200 && json["ok"] == true, "{target}: {json}");
        json
    };
    assert_eq!(proxy.ok("/group-list.do")["groups"][0]["policy"], "ha");
    assert_eq!(proxy.file(), text, "only a change writes");
    curl(&proxy, "POST", &format!("/worker-keepalive.do?group={tcp}&server={gone}"));
    let new_form = proxy.file();
    for part in ["\"groups\"", "\"admin\"", "\"idle_timeout\": \"3s\"", gone.as_str(), "\"origin\": \"heartbeat\""] {
        assert!(new_form.contains(part), "{part}: {new_form}");
    }
    assert!(!new_form.contains("httpport") && check(proxy.path()).0);
    let list = curl(&proxy, "GET", &format!("/worker-list.do?group={tcp}"));
    assert_eq!(list["list"], json!([gone]));
    let echo = named_echo();
    curl(&proxy, "POST", &format!("/worker-keepalive.do?group={tcp}&server={}", echo.addr));
    // Nobody listens on the first: the client goes to the next without noticing.
    Visitor::connect(tcp).round_trip(b"hello");
    curl(&proxy, "POST", &format!("/group-close.do?group={tcp}"));
    assert!(std::net::TcpStream::connect(("127.0.0.1", tcp)).is_err());
    curl(&proxy, "POST", &format!("/group-open.do?group={tcp}"));
    Visitor::connect(tcp).round_trip(b"hello again");
    let pprof = crate::support::Http::connect(pprof).get("/debug/pprof/");
    assert_eq!(pprof.status, 200);
    proxy.signal(Signal::HUP);
    proxy.stop();
    let again = proxy.again();
    // The name is looked up anew.
    let both = [gone, echo.addr.to_string()];
    eventually(&format!("both are online: {:?}", again.servers(tcp)), || again.online(tcp) == both);
    assert_eq!(again.log.count("flat form"), 0, "the file has the new form now");
}
