//! `goproxy events`: what happens, on a terminal or in a pipe, and what is said when there is nobody to ask.

use std::process::{Child, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{FakeServer, Group, LogLines, Setup, TestProxy, free_port, goproxy, own_ip, run};

fn with_two_servers() -> (TestProxy, [FakeServer; 2]) {
    let servers = [FakeServer::echo(), FakeServer::echo()];
    let proxy = TestProxy::start(Group::new("ha", &[&servers[0], &servers[1]]));
    (proxy, servers)
}

/// What `goproxy events` prints for this proxy.
#[track_caller]
fn events(proxy: &TestProxy, args: &[&str]) -> String {
    let admin = proxy.admin.to_string();
    let output = run(&[&["events", "--admin", &admin], args].concat());
    let (said, complaint) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {complaint}");
    assert_eq!(complaint, "");
    said
}

fn as_json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// `goproxy events --follow`, ended with its test.
struct Following {
    child: Child,
    lines: LogLines,
    complaints: LogLines,
}

impl Following {
    fn start(proxy: &TestProxy, args: &[&str]) -> Self {
        let mut command = goproxy();
        command.args(["events", "--follow", "--admin", &proxy.admin.to_string()]).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = LogLines::gather(child.stdout.take().unwrap());
        let complaints = LogLines::gather(child.stderr.take().unwrap());
        Self { child, lines, complaints }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_has_happened_is_printed_as_lines_of_the_log_or_as_json() {
    let (proxy, [first, _second]) = with_two_servers();
    proxy.set_state(first.addr, "drain");
    let text = events(&proxy, &[]);
    let expected = format!(
        "INFO server offline event=server_offline group={} server.addr={} cause=\"drained by an operator\"",
        proxy.addr().port(),
        first.addr
    );
    assert!(text.lines().any(|line| line.contains(&expected)), "{text}");
    assert!(!text.contains('\x1b'), "a pipe gets no colours");
    let told = as_json(&events(&proxy, &["--json"]));
    assert_eq!(told.len(), text.lines().count());
    let offline = told.iter().find(|event| event["event"] == "server_offline").expect("it is told");
    assert_eq!(offline["server.addr"], first.addr.to_string());
    let since = offline["id"].to_string();
    let later = as_json(&events(&proxy, &["--json", "--since", &since]));
    assert_eq!(later.iter().map(|event| event["event"].as_str().unwrap()).collect::<Vec<_>>(), ["admin_change"]);
}

#[test]
fn only_one_group_may_be_looked_at() {
    let servers = [FakeServer::echo(), FakeServer::echo()];
    let named = Group::new("ha", &[&servers[1]]).with("name", "web");
    let proxy = Setup::default().group(Group::new("ha", &[&servers[0]])).group(named).start();
    let told = as_json(&events(&proxy, &["--json", "--group", "web"]));
    assert!(!told.is_empty() && told.iter().all(|event| event["group.name"] == "web"), "{told:?}");
}

#[test]
fn whoever_follows_is_told_what_comes_also_after_a_restart() {
    let (mut proxy, [first, second]) = with_two_servers();
    proxy.set_state(first.addr, "drain");
    let following = Following::start(&proxy, &["--json"]);
    // Those of before, so that it is known where one stands.
    following.lines.wait_for("the last ones", |event| event["server.addr"] == first.addr.to_string());
    proxy.set_state(second.addr, "drain");
    following.lines.wait_for("a new one", |event| event["server.addr"] == second.addr.to_string());
    proxy.signal(Signal::TERM);
    proxy.wait();
    following.complaints.wait_for("that it is gone", |line| {
        line.as_str().is_some_and(|line| line.ends_with("; trying to connect again"))
    });
    let again = proxy.again();
    following.complaints.wait_for("that it is back", |line| *line == "goproxy: connected again");
    following.lines.wait_for("that it is another one", |event| event["event"] == "gap" && event["restarted"] == true);
    again.set_state(second.addr, "ready");
    following.lines.wait_for("what the other one does", |event| {
        event["event"] == "server_online" && event["server.addr"] == second.addr.to_string()
    });
    let ids: Vec<u64> = as_json(&following.lines.text()).iter().filter_map(|event| event["id"].as_u64()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "nothing is told twice: {ids:?}");
}

#[test]
fn a_reader_that_leaves_ends_it() {
    let (proxy, [first, _second]) = with_two_servers();
    let mut command = goproxy();
    command.args(["events", "--follow", "--admin", &proxy.admin.to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let status = crate::support::wait_for("it ends", || {
        proxy.set_state(first.addr, "drain");
        proxy.set_state(first.addr, "ready");
        child.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_token_is_taken_from_a_flag_a_file_the_environment_or_the_configuration() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]));
    // The harness asks without a token, so it comes later.
    let mut file: Value = serde_json::from_str(&proxy.file()).unwrap();
    file["admin"]["token"] = "secret".into();
    crate::support::replace(proxy.path(), &file.to_string());
    proxy.log.wait_for("it is reloaded", |line| line["message"] == "proxy.json reloaded");
    let path = proxy.home().join("token");
    std::fs::write(&path, "secret\n").unwrap();
    let (admin, path) = (proxy.admin.to_string(), format!("file:{}", path.display()));
    for (args, variable, is_granted) in [
        (&["--token", "secret"][..], "", true),
        (&["--token", &path], "", true),
        (&[], "secret", true),
        (&[], &path, true),
        (&["--config", proxy.path().to_str().unwrap()], "", true),
        (&["--token", "wrong"], "", false),
        (&[], "", false),
    ] {
        let mut command = goproxy();
        command.args(["events", "--admin", &admin]).args(args);
        match variable {
            "" => command.env_remove("GOPROXY_TOKEN"),
            token => command.env("GOPROXY_TOKEN", token),
        };
        let output = crate::support::output(command, crate::support::DEADLINE);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), is_granted, "{args:?} {variable}: {complaint}");
        if !is_granted {
            assert!(complaint.starts_with(&format!("goproxy: {admin}: refused: Authorization: ")), "{complaint}");
            assert!(complaint.ends_with(" (see --token)\n"), "{complaint}");
        }
    }
    file["admin"]["token"].take();
    crate::support::replace(proxy.path(), &file.to_string());
    crate::support::eventually("no token is needed any more", || {
        proxy.try_get("/group-list.do").is_some_and(|(status, _)| status == 200)
    });
}

#[test]
fn who_cannot_be_asked_is_told() {
    let nobody = free_port(own_ip()).to_string();
    let other = FakeServer::banner("220 mail.example.org ESMTP\r\n");
    let (proxy, _servers) = with_two_servers();
    let (admin, other) = (proxy.admin.to_string(), other.addr.to_string());
    for (args, what) in [
        (&["--admin", &nobody][..], "cannot connect: connection refused; expected the admin port of a running goproxy"),
        (&["--admin", &other], "this is not the admin port of a goproxy: it does not speak HTTP"),
        (&["--admin", "unix:/nowhere/admin.sock"], "unix:/nowhere/admin.sock: cannot connect: "),
        (&["--admin", &admin, "--group", "nobody"], "refused: "),
        (&["--admin", &admin, "--follow", "--group", "nobody"], "refused: "),
    ] {
        let output = run(&[&["events"], args].concat());
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{args:?}: {complaint}");
        assert!(complaint.contains(what) && complaint.lines().count() == 1, "{args:?}: {complaint}");
    }
    for args in [["--admin", "nowhere"], ["--since", "x"], ["--token", "two words"]] {
        assert_eq!(run(&[&["events"], &args[..]].concat()).status.code(), Some(2), "{args:?}");
    }
}
