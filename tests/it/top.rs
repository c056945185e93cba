//! `goproxy top` without a terminal: one table, one object, and what is said when it cannot show a picture.

use serde_json::Value;

use crate::support::{FakeServer, Group, TestProxy, free_port, own_ip, run};

/// What it prints; it has to end well.
#[track_caller]
fn top(proxy: &TestProxy, arg: &str) -> String {
    let output = run(&["top", "--admin", &proxy.admin.to_string(), arg]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaint.is_empty(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_table_and_an_object_show_what_the_lists_say() {
    let (first, second) = (FakeServer::echo(), FakeServer::echo());
    let proxy = TestProxy::start(Group::new("ha", &[&first, &second]).with("name", "web"));
    let mut client = proxy.connect();
    client.echo(b"hello");
    proxy.set_state(second.addr, "drain");
    let json: Value = serde_json::from_str(&top(&proxy, "--json")).unwrap();
    assert_eq!((&json["sessions"], &json["process"]["ready"]), (&1.into(), &true.into()), "{json}");
    assert!(json["rate"].is_u64(), "rates are known: {json}");
    let group = &json["groups"][0];
    assert_eq!((&group["group"], &group["policy"]), (&"web".into(), &"ha".into()));
    let servers = group["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 2);
    for server in servers {
        let listed = proxy.server(server["addr"].as_str().unwrap().parse().unwrap());
        for field in ["addr", "state", "online", "cause", "weight", "origin", "sessions", "since_ms"] {
            assert_eq!(server[field], listed[field], "{field}");
        }
    }
    let table = top(&proxy, "--once");
    let line =
        |what: String| table.lines().find(|line| line.contains(&what)).unwrap_or_else(|| panic!("{table}")).to_owned();
    assert!(line(second.addr.to_string()).ends_with("drained by an operator"), "{table}");
    assert!(line(first.addr.to_string()).contains("  online"), "{table}");
    assert!(line("GROUP".to_owned()).contains(" web "), "{table}");
    client.finish();
    client.receive_all();
}

#[test]
fn it_says_why_it_shows_nothing() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]));
    let (admin, nobody) = (proxy.admin.to_string(), free_port(own_ip()).to_string());
    for (args, what) in [
        (&["--admin", &admin][..], "not a terminal; expected a terminal, --once, --json, or curl"),
        (&["--admin", &nobody, "--once"], "cannot connect: connection refused"),
    ] {
        let output = run(&[&["top"], args].concat());
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{args:?}: {complaint}");
        assert!(complaint.contains(what) && complaint.lines().count() == 1, "{complaint}");
    }
    assert_eq!(run(&["top", "--once", "--json"]).status.code(), Some(2));
}
