//! Metrics in a real Prometheus: its lint, the queries of the documents, the alerts and the dashboard that we ship.

#[allow(dead_code, reason = "the modules of other tests, of which this one needs a part")]
#[path = "../../src/policy/wasm/guests.rs"]
mod guests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::support::{
    FakeServer, Group, Setup, TestProxy, Visitor, eventually, let_pass, named_echo, ports, replace, spawn, wait_for,
};
use super::{Background, run};
use guests::{Parts, policy};

/// Provoked by rules of promtool only: a machine cannot be slow on purpose, nor a certificate new and about to end for ten
/// minutes.
const NOT_PROVOKED: [&str; 2] = ["GoproxyChecksLate", "GoproxyCertificateExpires"];

/// What stands for a policy that is as good as its word in its trial, and fails for every real client.
fn traps_later() -> String {
    let good = Parts::default();
    // 192.0.2.1 is the client of the trial.
    let pick = "(if (i64.ne (local.get $ip_high) (i64.const 0xc0000201)) (then (unreachable)))";
    policy(Parts { pick: &format!("{pick} {}", good.pick), ..good })
}

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The alerts that a file of rules has, in order.
fn alerts(rules: &str) -> Vec<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

struct Prometheus {
    port: u16,
    _process: Background,
    _home: TempDir,
}

impl Prometheus {
    /// One that looks at these proxies once a second, with alerts that fire at once.
    fn start(proxies: &[&TestProxy]) -> Self {
        let [port] = ports();
        let home = tempfile::tempdir().unwrap();
        let targets: Vec<String> = proxies.iter().map(|proxy| format!("'{}'", proxy.admin)).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [alerts.yml]\n\
             scrape_configs: [{{ job_name: goproxy, static_configs: [{{ targets: [{}] }}] }}]\n",
            targets.join(", ")
        );
        let rules = shipped("config/alerts.yml");
        let at_once: Vec<&str> = rules.lines().filter(|line| !line.trim().starts_with("for: ")).collect();
        fs::write(home.path().join("prometheus.yml"), config).unwrap();
        fs::write(home.path().join("alerts.yml"), at_once.join("\n") + "\n").unwrap();
        let mut command = Command::new("prometheus");
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).current_dir(home.path());
        let prometheus = Self { port, _process: Background::start(&mut command), _home: home };
        eventually("Prometheus sees every proxy", || {
            let up = prometheus.try_query("sum(up)");
            up.is_some_and(|up| up.first().is_some_and(|(_, value)| *value == proxies.len() as f64))
        });
        prometheus
    }

    /// What an expression is now, by the labels of each series; `None` while nobody answers.
    fn try_query(&self, expression: &str) -> Option<Vec<(BTreeMap<String, String>, f64)>> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let query = format!("query={expression}");
        let output = Command::new("curl").args(["-sS", "-G", "--data-urlencode", &query, &url]).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let series = answer["data"]["result"].as_array().expect("a vector").iter().map(|series| {
            let labels = serde_json::from_value(series["metric"].clone()).expect("labels");
            let value = series["value"][1].as_str().expect("a value").parse().expect("a number");
            (labels, value)
        });
        Some(series.collect())
    }

    fn query(&self, expression: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        self.try_query(expression).expect("Prometheus answers")
    }

    /// The names of the alerts that fire.
    fn firing(&self) -> BTreeSet<String> {
        let fire = self.query("ALERTS{alertstate=\"firing\"}");
        fire.into_iter().map(|(labels, _)| labels["alertname"].clone()).collect()
    }
}

/// Clients that come and go until this is dropped.
struct Clients(Arc<AtomicBool>);

impl Clients {
    fn of(group: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let is_seen = Arc::clone(&is_over);
        spawn(move || {
            while !is_seen.load(Relaxed) {
                // The proxy may be gone before this is told.
                let _ = Visitor::try_connect(group).and_then(|mut client| client.try_round_trip(b"hello"));
                let_pass(Duration::from_millis(20), "the pace of the clients");
            }
        });
        Self(is_over)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn promtool_is_content_with_the_metrics_the_alerts_and_their_tests() {
    let [admin, group] = ports();
    let echo = named_echo();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "max_sessions": 100, "groups": [ {{ "listen": "127.0.0.1:{group}",
             "check": {{ "kind": "tcp" }}, "eject": {{ "failures": 5 }}, "client": {{ "sessions": 50, "rate": "100/s" }},
             "accept_proxy": {{ "from": ["10.0.0.0/8"] }}, "servers": ["{}"] }} ] }}"#,
        echo.addr
    );
    let proxy = TestProxy::with_file(admin, &text);
    Visitor::connect(group).round_trip(b"hello");
    eventually("something is counted", || proxy.metric("goproxy_session_duration_seconds_count", &[]) == 1.0);
    let lint = format!("curl -sS --fail http://127.0.0.1:{admin}/metrics | promtool check metrics 2>&1");
    assert_eq!(run("bash", &["-o", "pipefail", "-c", &lint]), "");

    let path = |name: &str| format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    run("promtool", &["check", "rules", "--lint=all", "--lint-fatal", &path("config/alerts.yml")]);
    run("promtool", &["test", "rules", &path("tests/with_programs/alerts_test.yml")]);
    let tests = shipped("tests/with_programs/alerts_test.yml");
    for alert in alerts(&shipped("config/alerts.yml")) {
        let (_, test) =
            tests.split_once(&format!("alertname: {alert}\n")).unwrap_or_else(|| panic!("no test of {alert}"));
        assert!(test.trim_start().starts_with("exp_alerts:\n"), "the first test of {alert} has it fire");
    }
}

#[test]
fn the_queries_of_the_documents_say_what_worker_list_says() {
    let [admin, group] = ports();
    let servers = [named_echo(), named_echo(), named_echo()];
    let [first, second, third] = servers.each_ref().map(|server| server.addr.to_string());
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [ {{ "name": "web", "listen": "127.0.0.1:{group}",
             "servers": ["{first}", "{second}", {{ "addr": "{third}", "state": "drain" }}] }} ] }}"#
    );
    let proxy = TestProxy::with_file(admin, &text);
    let prometheus = Prometheus::start(&[&proxy]);
    let mut visitors: Vec<Visitor> = (0..5).map(|_| Visitor::connect(group)).collect();
    visitors.iter_mut().for_each(|visitor| visitor.round_trip(&[b'x'; 1_000]));
    visitors.truncate(3);

    let page = shipped("docs/metrics.md");
    let (_, section) = page.split_once("## Queries to begin with").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let queries: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(query, _)| query)
        .collect();
    let [sessions, offline, bytes] = queries[..] else { panic!("three queries: {queries:?}") };
    let by_server = |query: &str| -> BTreeMap<String, f64> {
        let series = prometheus.query(query).into_iter();
        series.map(|(labels, value)| (labels["server"].clone(), value)).collect()
    };
    let listed = |value: &dyn Fn(&Value) -> Option<f64>| -> BTreeMap<String, f64> {
        let servers = proxy.ok("/worker-list.do?group=web")["servers"].as_array().expect("a list").clone();
        let values = servers.iter().filter_map(|server| Some((server["addr"].as_str()?.to_owned(), value(server)?)));
        values.collect()
    };
    eventually("the first visitors have left", || proxy.sessions() == 3);
    let field = |server: &Value, field: &str| server[field].as_f64().expect("a number");
    let of_sessions = listed(&|server| Some(field(server, "sessions")));
    assert_eq!(of_sessions.values().sum::<f64>(), 3.0);
    eventually("the sessions are the same", || by_server(sessions) == of_sessions);
    let of_offline = listed(&|server| (server["online"] == false).then_some(0.0));
    assert_eq!(of_offline.keys().collect::<Vec<_>>(), [&third]);
    eventually("the servers that are not up are the same", || by_server(offline) == of_offline);
    eventually("the bytes are the same", || {
        let listed = listed(&|server| Some(field(server, "bytes_up") + field(server, "bytes_down")));
        listed.values().sum::<f64>() > 10_000.0 && by_server(bytes) == listed
    });
}

/// Proxies of which everything that can go wrong has gone wrong. Their clients leave before they are checked.
struct Troubled {
    _visitors: Vec<Visitor>,
    _clients: Vec<Clients>,
    main: TestProxy,
    full: TestProxy,
    silent: TestProxy,
    _servers: Vec<FakeServer>,
    _home: TempDir,
}

impl Troubled {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("bad.wat"), traps_later()).unwrap();
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        fs::copy(samples.join("round_robin.wat"), home.path().join("good.wat")).unwrap();
        let servers: Vec<FakeServer> = (0..4).map(|_| named_echo()).collect();
        let addr = |number: usize| servers[number].addr;
        let [admin, web, down, leased, strict, faulty, dead] = ports();
        let text = format!(
            r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "policies_dir": "{}", "groups": [
                {{ "name": "web", "listen": "127.0.0.1:{web}", "policy": {{ "wasm": "good" }}, "eject": {{ "failures": 5 }},
                   "check": {{ "kind": "tcp" }}, "servers": ["{}", {{ "addr": "{}", "state": "drain" }}] }},
                {{ "name": "down", "listen": "127.0.0.1:{down}", "check": {{ "kind": "tcp", "interval": "100ms" }},
                   "connect_wait": "0s", "servers": ["127.0.0.1:{dead}"] }},
                {{ "name": "leased", "listen": "127.0.0.1:{leased}", "heartbeat_timeout": "2s" }},
                {{ "name": "strict", "listen": "127.0.0.1:{strict}", "max_sessions": 1, "servers": ["{}"] }},
                {{ "name": "faulty", "listen": "127.0.0.1:{faulty}", "policy": {{ "wasm": "bad", "fallback": "ha" }},
                   "servers": ["{}", "{}"] }} ] }}"#,
            home.path().display(),
            addr(0),
            addr(1),
            addr(0),
            addr(0),
            addr(1)
        );
        let main = TestProxy::with_file(admin, &text);
        for server in &servers {
            main.ok(&format!("/worker-keepalive.do?group=leased&server={}", server.addr));
        }
        let [admin, group] = ports();
        let text = format!(
            r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "max_sessions": 2, "groups": [
                {{ "listen": "127.0.0.1:{group}", "servers": ["{}"] }} ] }}"#,
            addr(2)
        );
        let full = TestProxy::with_file(admin, &text);
        // Two sessions and the scraper leave less than a fifth of them.
        full.leave_descriptors(8);
        let silent =
            Setup::default().group(Group::new("ha", &[&servers[3]])).with_stderr(Path::new("/dev/full")).start();
        let _visitors = [strict, group, group].into_iter().map(Visitor::connect).collect();
        let _clients = [web, down, strict, faulty].into_iter().map(Clients::of).collect();
        Self { _visitors, _clients, main, full, silent, _servers: servers, _home: home }
    }
}

/// The expressions of the dashboard as it asks for all groups of all proxies.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&shipped("config/grafana.json")).expect("JSON");
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            let filled =
                expression.replace("$instance", ".+").replace("$group", ".+").replace("$__rate_interval", "10s");
            assert!(!filled.contains('$'), "{filled}");
            found.push((panel["title"].as_str().expect("a title").to_owned(), filled));
        }
    }
    found
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| word.starts_with("goproxy_")).collect()
}

#[test]
fn every_panel_of_the_dashboard_has_data_and_every_alert_fires() {
    let troubled = Troubled::start();
    let prometheus = Prometheus::start(&[&troubled.main, &troubled.full, &troubled.silent]);
    let expressions = expressions();
    assert!(expressions.len() > 50, "{}", expressions.len());
    for (title, expression) in &expressions {
        eventually(&format!("{title} has data: {expression}"), || !prometheus.query(expression).is_empty());
    }
    let all = expressions.iter().map(|(_, expression)| expression.as_str()).collect::<Vec<_>>().join("\n");
    let page = shipped("docs/metrics.md");
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .flat_map(|(name, _)| named(name))
        .collect();
    let unknown: Vec<_> = named(&all).into_iter().map(|name| name.trim_end_matches("_bucket")).collect();
    let unknown: Vec<_> = unknown.into_iter().filter(|name| !documented.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");

    // Last, as nothing of the file counts from now on.
    replace(troubled.main.path(), "{ \"groups\": [ ");
    let rules = shipped("config/alerts.yml");
    let expected: BTreeSet<&str> = alerts(&rules).into_iter().filter(|alert| !NOT_PROVOKED.contains(alert)).collect();
    assert!(expected.len() > 7, "{expected:?}");
    let mut fired = BTreeSet::new();
    wait_for("every alert fires", || {
        fired.extend(prometheus.firing());
        expected.iter().all(|alert| fired.contains(*alert)).then_some(())
    });
}
