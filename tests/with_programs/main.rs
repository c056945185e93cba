//! The proxy between programs that people use: curl, Python's web server, Redis, PostgreSQL, MariaDB, nginx, HAProxy,
//! openssl, lnav, halog, logrotate, iperf3, Prometheus, Go's pprof, minisign, and the HTTP clients of Go, Java, Python and Node; Chromium looks
//! at the dashboard.
//!
//! `cargo test` leaves this out, because it needs more than Rust. Run it by name, with
//! `cargo test --test with_programs`; it fails, and never skips, where a program is missing.

#[allow(dead_code, unused_imports, reason = "the harness of the other tests, of which this one needs a part")]
#[path = "../it/support/mod.rs"]
mod support;
#[cfg(feature = "tls")]
#[allow(dead_code, reason = "a part of it is needed")]
#[path = "../it/tls_kit.rs"]
mod tls_kit;

mod access_log;
mod browser;
mod checks;
mod expanded;
mod migrate;
mod minisign;
mod prometheus;
mod proxy_protocol;
mod routes;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "top")]
mod top;
mod vanished;
mod walkthrough;
mod workers;

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use support::{Http, TestProxy, Visitor, eventually, named_echo, ports, wait_for};

/// A program in the background, ended with its test.
struct Background(Child);

impl Background {
    fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{name} is needed and does not start: {error}")))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end; what it said.
#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed and does not start: {error}"));
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{said}\n{complained}", output.status);
    said.into_owned()
}

fn config(admin: u16, group: u16) -> String {
    format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [
            {{ "listen": "127.0.0.1:{group}", "policy": "round_robin", "heartbeat_timeout": "1h" }} ] }}"#
    )
}

/// A proxy with one server, which is up.
fn proxy_for(admin: u16, group: u16, server: u16) -> TestProxy {
    let proxy = TestProxy::with_file(admin, &config(admin, group));
    register(&proxy, group, server);
    proxy
}

fn register(proxy: &TestProxy, group: u16, server: u16) {
    eventually("the server is up", || TcpStream::connect(("127.0.0.1", server)).is_ok());
    let target =
        format!("http://localhost:{}/worker-keepalive.do?group={group}&server=localhost:{server}", proxy.admin.port());
    let said = run("curl", &["-sS", "--fail-with-body", "-X", "POST", &target]);
    assert!(said.starts_with("{\"ok\":true"), "{said}");
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    walkthrough::follow("README.md");
}

#[test]
fn the_commands_of_the_tutorial_do_what_it_says() {
    walkthrough::follow("docs/tutorial.md");
}

#[test]
fn the_commands_of_the_policy_lab_do_what_it_says() {
    walkthrough::follow("docs/policies/lab.md");
}

#[test]
fn curl_gets_files_from_two_python_servers_in_turn() {
    let [admin, group, first, second] = ports();
    let home = tempfile::tempdir().unwrap();
    let mut servers = Vec::new();
    for port in [first, second] {
        let folder = home.path().join(port.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("name"), port.to_string()).unwrap();
        fs::write(folder.join("large"), vec![b'x'; 8 << 20]).unwrap();
        let mut python = Command::new("python3");
        python.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(&folder);
        servers.push(Background::start(&mut python));
    }
    let proxy = proxy_for(admin, group, first);
    register(&proxy, group, second);
    let url = |name: &str| format!("http://127.0.0.1:{group}/{name}");
    let names: Vec<String> = (0..4).map(|_| run("curl", &["-sS", "-f", &url("name")])).collect();
    let expected = [first, second, first, second].map(|port| port.to_string());
    assert_eq!(names, expected);
    for _ in 0..2 {
        assert_eq!(run("curl", &["-sS", "-f", &url("large")]).len(), 8 << 20);
    }
    // A server that dies is no client's business.
    drop(servers.pop());
    for _ in 0..4 {
        assert_eq!(run("curl", &["-sS", "-f", &url("name")]), first.to_string());
    }
}

#[test]
fn redis_works_through_a_group() {
    let [admin, group, server] = ports();
    let home = tempfile::tempdir().unwrap();
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &server.to_string()]);
    let _redis = Background::start(redis.current_dir(home.path()));
    let proxy = proxy_for(admin, group, server);
    let port = group.to_string();
    let cli = |args: &[&str]| run("redis-cli", &[&["-p", port.as_str()], args].concat());
    assert_eq!(cli(&["PING"]).trim(), "PONG");
    let large = "v".repeat(100_000);
    assert_eq!(cli(&["SET", "key", &large]).trim(), "OK");
    assert_eq!(cli(&["GET", "key"]).trim(), large);
    let said = run(
        "redis-benchmark",
        &["-p", &port, "-q", "-n", "20000", "-c", "50", "-P", "8", "-t", "set,get,lpush,lrange_100"],
    );
    assert_eq!(said.matches("requests per second").count(), 5, "{said}");
    assert!(!said.to_lowercase().contains("error"), "{said}");
    eventually("no session is left", || proxy.ok("/session-list.do")["total"] == 0);
}

#[test]
fn iperf3_works_through_a_group_in_both_directions() {
    let [admin, group, server] = ports();
    let _iperf = Background::start(Command::new("iperf3").args(["-s", "-B", "127.0.0.1", "-p", &server.to_string()]));
    let proxy = proxy_for(admin, group, server);
    for direction in [&[][..], &["-R"], &["-P", "4"]] {
        let port = group.to_string();
        let args = [&["-c", "127.0.0.1", "-p", port.as_str(), "-t", "1", "-J"], direction].concat();
        // Its server takes one client at a time, and the one before may not be done there.
        let said = wait_for("the server of iperf3 has time", || {
            let output = Command::new("iperf3").args(&args).output().expect("iperf3 is needed, and was there before");
            let said: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            (said["error"].is_null() && said["end"]["sum_received"].is_object()).then_some(said)
        });
        let received = &said["end"]["sum_received"]["bytes"];
        assert!(received.as_f64().is_some_and(|bytes| bytes > 10e6), "{direction:?}: {}", said["end"]);
        eventually("no session is left", || proxy.ok("/session-list.do")["total"] == 0);
    }
}

#[test]
fn go_reads_both_profiles_and_names_files_of_ours() {
    let [admin, group] = ports();
    let home = tempfile::tempdir().unwrap();
    let echo = named_echo();
    let _proxy = proxy_for(admin, group, echo.addr.port());
    let is_done = AtomicBool::new(false);
    let fetch = |what: &str, file: &Path| {
        let url = format!("http://127.0.0.1:{admin}/debug/pprof/{what}");
        run("curl", &["-sS", "--fail-with-body", "-o", file.to_str().unwrap(), &url]);
        let binary = env!("CARGO_BIN_EXE_goproxy");
        run("go", &["tool", "pprof", "-top", "-files", "-cum", binary, file.to_str().unwrap()])
    };
    let (cpu, heap) = std::thread::scope(|scope| {
        // Something to be seen in the profile.
        scope.spawn(|| {
            while !is_done.load(Relaxed) {
                Visitor::connect(group).round_trip(b"work");
            }
        });
        let cpu = fetch("profile?seconds=1", &home.path().join("cpu.pb.gz"));
        let heap = fetch("heap", &home.path().join("heap.pb.gz"));
        is_done.store(true, Relaxed);
        (cpu, heap)
    });
    assert!(cpu.contains("Type: cpu") && cpu.contains("src/data/threads.rs"), "{cpu}");
    assert!(heap.contains("Type: inuse_space") && heap.contains("src/main.rs"), "{heap}");
}

/// The system's own resolver, in a mount namespace where it asks a name server that is silent.
#[test]
fn names_whose_name_server_is_silent_hold_up_no_other() {
    let [admin, hanging, group] = ports();
    let _silent = std::net::UdpSocket::bind("127.53.0.1:53").expect("the right to bind port 53 is needed");
    let home = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let echo = named_echo();
    let known = format!("known.test:{}", echo.addr.port());
    // Longer than a test may wait.
    let resolver = "nameserver 127.53.0.1\noptions timeout:30 attempts:4\n";
    for (name, text) in [
        ("resolv.conf", resolver),
        ("hosts", "127.0.0.1 localhost known.test also.test\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
    ] {
        fs::write(home.path().join(name), text).unwrap();
    }
    let names: Vec<String> = (0..16).map(|number| format!("\"hang-{number}.test:1\"")).collect();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [
            {{ "listen": "127.0.0.1:{hanging}", "servers": [{}] }},
            {{ "listen": "127.0.0.1:{group}", "servers": ["{known}"] }} ] }}"#,
        names.join(", ")
    );
    let path = home.path().join("proxy.json");
    fs::write(&path, text).unwrap();
    let mounts =
        "for name in resolv.conf hosts nsswitch.conf; do mount --bind $0/$name /etc/$name || exit 1; done; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mounts]).arg(home.path()).arg(support::goproxy().get_program());
    let proxy = TestProxy::with_command(command, home, path, admin);

    eventually("the name of the hosts file is online", || proxy.online(group) == [known.as_str()]);
    assert_eq!(Visitor::connect(group).server, echo.addr.to_string());
    let registering: Vec<_> = (0..20)
        .map(|number| {
            let target = format!("/worker-keepalive.do?group={hanging}&server=also-hangs-{number}.test:1");
            support::spawn(move || Http::connect(admin).get(&target).status)
        })
        .collect();
    assert!(registering.into_iter().all(|status| status.join().unwrap() == 200), "they register all the same");
    let also = format!("also.test:{}", echo.addr.port());
    let answer = proxy.ok(&format!("/worker-keepalive.do?group={group}&server={also}"));
    assert_eq!(answer["msg"], "online", "its name was looked up at once: {answer}");
    assert!(proxy.online(hanging).is_empty());
}

/// Containers often mount the file alone; an edit in place is noticed all the same.
#[test]
fn a_file_that_is_mounted_alone_may_be_edited_in_place() {
    let [admin, group] = ports();
    let home = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let (source, folder) = (home.path().join("source.json"), home.path().join("etc"));
    fs::create_dir(&folder).unwrap();
    let path = folder.join("proxy.json");
    fs::write(&path, "").unwrap();
    fs::write(&source, config(admin, group)).unwrap();
    // In a mount namespace of its own, which goes with the process.
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.args([&source, &path]).arg(support::goproxy().get_program());
    let proxy = TestProxy::with_command(command, home, path, admin);
    eventually("the log says so", || proxy.log.count("the file is a mount point") == 1);
    let started = std::time::Instant::now();
    fs::write(&source, config(admin, group).replace("round_robin", "maglev")).unwrap();
    eventually("the edit is in force", || proxy.ok("/group-list.do")["groups"][0]["policy"] == "maglev");
    // Without an event it would be seen after half a minute.
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(proxy.log.count("the file is a mount point"), 1, "{}", proxy.log.text());

    // A save would have to rename over the mount point; the answer says what to do.
    let refused = proxy.get(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:1"));
    assert_eq!(refused.status, 503, "{}", refused.json());
    assert!(refused.json().to_string().contains("mount its folder instead"), "{}", refused.json());
}
