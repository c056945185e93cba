//! Workers that keep their connections, with the HTTP clients that come with Go, Java, Python and Node.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Http, TestProxy, let_pass, ports};

/// Between two heartbeats of one worker, in seconds.
const INTERVAL: usize = 5;

/// What an operator asks every second.
const LOOKS: &[&str] = &["/live", "/ready", "/metrics", "/group-list.do", "/worker-list.do?group="];

fn configured(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: expected a number")))
}

/// The programs, each with what starts it.
fn programs(home: &Path) -> Vec<(&'static str, Command)> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/with_programs/clients");
    let built = home.join("workers");
    let mut go = Command::new("go");
    go.arg("build").arg("-o").arg(&built).arg(sources.join("workers.go"));
    succeeded("go", go.output());
    let with = |program: &str, source: &str| {
        let mut command = Command::new(program);
        command.arg(sources.join(source));
        command
    };
    vec![
        ("go", Command::new(built)),
        ("java", with("java", "Workers.java")),
        ("python3", with("python3", "workers.py")),
        ("node", with("node", "workers.mjs")),
    ]
}

/// What a program said.
#[track_caller]
fn succeeded(program: &str, ran: std::io::Result<Output>) -> String {
    let output = ran.unwrap_or_else(|error| panic!("{program} is needed and does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Asks as an operator does, on a connection for each look and on one that is kept. What failed.
fn look(admin: u16, group: u16, kept: &mut Option<Http>) -> Vec<String> {
    let mut failed = Vec::new();
    for target in LOOKS {
        let target = if target.ends_with('=') { format!("{target}{group}") } else { (*target).to_owned() };
        let ask = |http: Option<Http>| {
            let mut http = http.map_or_else(|| Http::try_connect(admin), Ok).ok()?;
            let reply = http.try_get(&target).ok().filter(|reply| reply.status == 200)?;
            Some((reply.header("connection") != Some("close")).then_some(http))
        };
        let looked = ask(None).is_some();
        let again = ask(kept.take());
        if !looked || again.is_none() {
            failed.push(target.clone());
        }
        *kept = again.flatten();
    }
    failed
}

/// 100 of each language for half a minute, or as many and as long as `WORKERS` and `SECONDS` say.
#[test]
fn workers_with_the_default_clients_of_four_languages_and_an_operator_fail_not_once() {
    let (workers, seconds) = (configured("WORKERS", 400), configured("SECONDS", 30));
    let [admin, group] = ports();
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [
            {{ "listen": "127.0.0.1:{group}", "heartbeat_timeout": "30s" }} ] }}"#
    );
    let proxy = TestProxy::with_file(admin, &text);
    let mut programs = programs(home.path());
    let of_each = workers / programs.len();
    let mut running: Vec<(&str, Child)> = Vec::new();
    for (number, (name, command)) in programs.iter_mut().enumerate() {
        command.args([format!("127.0.0.1:{admin}"), group.to_string(), format!("10.{}", number + 1)]);
        command.args([of_each, seconds, INTERVAL].map(|number| number.to_string()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        running.push((name, child.unwrap_or_else(|error| panic!("{name} is needed and does not start: {error}"))));
    }
    let started = Instant::now();
    let (mut kept, mut looks, mut failed, mut slowest) = (None, 0, Vec::new(), Duration::ZERO);
    let mut connections = 0;
    while running.iter_mut().any(|(_, child)| child.try_wait().expect("it is our child").is_none()) {
        let looked = Instant::now();
        failed.extend(look(admin, group, &mut kept));
        slowest = slowest.max(looked.elapsed());
        (looks, connections) = (looks + 1, connections.max(proxy.descriptors()));
        assert!(started.elapsed() < Duration::from_secs(seconds as u64 + 120), "the programs do not end");
        let_pass(Duration::from_secs(1), "an operator looks once a second");
    }
    let online = proxy.online(group).len();
    let mut sent_in_all = 0;
    for (name, child) in running {
        let said = succeeded(name, child.wait_with_output());
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{name}: {error}: {said}"));
        println!("{name}: {said}");
        assert_eq!(said["failed"], 0, "{name}: {said}");
        let sent = said["sent"].as_u64().expect("a number");
        // On a busy machine a program may be slow by itself.
        assert!(sent as usize >= of_each * (seconds / INTERVAL) / 2, "{name}: {said}");
        sent_in_all += sent;
    }
    println!(
        "{sent_in_all} heartbeats of {workers} workers; {looks} looks of {} requests, the slowest {slowest:?}; {connections} descriptors; {} s of processor time",
        2 * LOOKS.len(),
        proxy.cpu_seconds()
    );
    assert!(failed.is_empty(), "the operator's requests: {failed:?}");
    assert_eq!(online, of_each * 4);
    assert_eq!(proxy.log.count("server offline"), 0, "{}", proxy.log.text());
}
