//! The dashboard in a headless Chromium, driven by `clients/browser.mjs`: playwright-core and axe-core, which `.ci/run setup`
//! installs by npm.
//!
//! What is promised holds on a quiet machine: with `BROWSER_STRICT=1` the limits are those, and the process stands still for
//! 30 s. Without it they leave room for compilers beside. The long run takes half a minute; `BROWSER_SECONDS=600` makes it ten.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{FakeServer, Group, TestProxy, Watching, let_pass, named_echo, ports, spawn};

/// What the dashboard promises to show well.
const SERVERS: usize = 1_000;

/// New sessions a second, so that the figures of nearly all servers change every second.
const RATE: u64 = 1_500;

fn is_strict() -> bool {
    std::env::var_os("BROWSER_STRICT").is_some()
}

fn seconds() -> u64 {
    std::env::var("BROWSER_SECONDS").map_or(30, |text| text.parse().expect("BROWSER_SECONDS: expected a number"))
}

/// Runs a scenario of `browser.mjs` to its end, which has to be a good one.
#[track_caller]
fn browse(scenario: &str, admin: u16, mut options: Value) {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("ci-tools").join("browser");
    assert!(tools.join("node_modules").exists(), "{} is needed; `.ci/run setup` installs it", tools.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/with_programs/clients/browser.mjs");
    options["url"] = json!(format!("http://127.0.0.1:{admin}"));
    options["strict"] = json!(is_strict());
    let output = Command::new("node").arg(script).arg(tools).args([scenario, &options.to_string()]).output();
    let output = output.unwrap_or_else(|error| panic!("node is needed and does not start: {error}"));
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{scenario}: {said}\n{complained}");
    print!("{scenario}: {said}");
}

fn start(admin: u16, group: u16, keys: &str, servers: &[String]) -> TestProxy {
    let servers = serde_json::to_string(servers).expect("strings are JSON");
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "log": {{ "format": "json" }}, "groups": [
            {{ "listen": "127.0.0.1:{group}", {keys} "servers": {servers} }} ] }}"#
    );
    TestProxy::with_file(admin, &text)
}

/// A server at many addresses of this machine that ends each session at once, and its clients.
struct Traffic {
    servers: Vec<String>,
    is_over: Arc<AtomicBool>,
}

impl Traffic {
    fn servers() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let port = listener.local_addr().expect("a socket").port();
        spawn(move || listener.incoming().for_each(drop));
        let addr = |number: usize| format!("127.77.{}.{}:{port}", number / 250, number % 250 + 1);
        Self { servers: (0..SERVERS).map(addr).collect(), is_over: Arc::default() }
    }

    /// Begins to connect, until this is dropped.
    fn begin(&self, group: u16) {
        let is_over = Arc::clone(&self.is_over);
        spawn(move || {
            let begun = Instant::now();
            for number in 0.. {
                if is_over.load(Relaxed) {
                    return;
                }
                drop(TcpStream::connect((Ipv4Addr::LOCALHOST, group)));
                let due = begun + Duration::from_micros(1_000_000 * number / RATE);
                let_pass(due.saturating_duration_since(Instant::now()), "clients come one after the other");
            }
        });
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
    }
}

#[test]
fn a_thousand_servers_are_shown_at_once_and_cost_little_while_all_change() {
    let [admin, group] = ports();
    let traffic = Traffic::servers();
    let mut proxy = start(admin, group, r#""policy": "random","#, &traffic.servers);
    proxy.may_leave_sessions();
    traffic.begin(group);
    browse("thousand", admin, json!({ "seconds": seconds() }));
}

#[test]
fn what_is_shown_is_what_the_lists_say_also_after_the_process_stood_still() {
    let [admin, group] = ports();
    let servers = [named_echo(), named_echo(), FakeServer::refusing()];
    let addrs = servers.each_ref().map(|server| server.addr.to_string());
    let proxy = start(admin, group, r#""policy": "round_robin","#, &addrs);
    let clients: Vec<_> = (0..7).map(|_| TcpStream::connect(("127.0.0.1", group)).expect("it accepts")).collect();
    proxy.ok(&format!("/worker-state.do?group={group}&server={}&state=drain", addrs[1]));
    browse("values", admin, json!({ "group": group, "pid": proxy.pid() }));
    drop(clients);
}

#[test]
fn whatever_a_name_holds_stays_text() {
    let [admin, group] = ports();
    let _proxy = start(admin, group, "", &["127.0.0.1:1".to_owned()]);
    browse("names", admin, json!({}));
}

#[test]
fn without_scripts_the_page_names_the_endpoints() {
    let [admin, group] = ports();
    let _proxy = start(admin, group, "", &[]);
    browse("noscript", admin, json!({}));
}

#[test]
fn phones_both_themes_and_screen_readers_are_served() {
    let [admin, group] = ports();
    let server = named_echo();
    let addrs = ["127.0.0.1:1".to_owned(), server.addr.to_string(), format!("{}.example.com:9000", "a".repeat(60))];
    let _proxy = start(admin, group, r#""check": { "kind": "tcp", "interval": "1h" },"#, &addrs);
    browse("small", admin, json!({}));
}

#[test]
fn an_operator_drains_and_finds_servers_and_changes_a_policy() {
    let [admin, group] = ports();
    let servers = [named_echo(), named_echo()];
    let addrs = servers.each_ref().map(|server| server.addr.to_string());
    let _proxy = start(admin, group, r#""policy": "ha","#, &addrs);
    let client = TcpStream::connect(("127.0.0.1", group)).expect("it accepts");
    browse("operate", admin, json!({ "group": group, "servers": addrs }));
    drop(client);
}

#[test]
fn the_token_is_asked_for_once() {
    let [admin, group] = ports();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}", "token": "secret" }},
             "groups": [ {{ "listen": "127.0.0.1:{group}", "servers": ["127.0.0.1:1"] }} ] }}"#
    );
    let mut proxy = TestProxy::with_file(admin, &text);
    proxy.may_leave_sessions();
    browse("token", admin, json!({}));
}

/// As much as the management thread has worked, in seconds.
fn managed(proxy: &TestProxy) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{0}/task/{0}/stat", proxy.pid())).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap()).collect();
    (ticks[0] + ticks[1]) / 100.0
}

/// The build of the tests is some ten times as slow as one for use, for which 5 % of a core are promised.
#[test]
fn as_many_viewers_as_may_look_at_a_thousand_servers_and_cost_little() {
    let [admin, group] = ports();
    let traffic = Traffic::servers();
    let mut proxy = start(admin, group, r#""policy": "random","#, &traffic.servers);
    proxy.may_leave_sessions();
    traffic.begin(group);
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, admin));
    let viewers: Vec<_> = (0..32)
        .map(|_| {
            spawn(move || {
                let mut watching = Watching::open(addr, "/events?view=ui", "");
                let frames = (0..12).map(|_| watching.wait_for("a frame", |told| told.data["n"].is_u64()));
                frames.filter_map(|told| told.data["s"].as_array().map(Vec::len)).collect::<Vec<_>>()
            })
        })
        .collect();
    let (from, before) = (Instant::now(), managed(&proxy));
    let rows: Vec<_> = viewers.into_iter().map(|viewer| viewer.join().unwrap()).collect();
    let percent = 100.0 * (managed(&proxy) - before) / from.elapsed().as_secs_f64();
    println!("32 viewers: {percent:.1} % of a core; rows of the frames: {:?}", rows[0]);
    assert!(rows.iter().all(|rows| rows.iter().any(|rows| (SERVERS / 3..SERVERS).contains(rows))), "{rows:?}");
    assert!(percent < if is_strict() { 5.0 } else { 50.0 }, "{percent} % of a core");
}

#[test]
fn viewers_that_read_nothing_cost_little_memory() {
    let group = (0..SERVERS).fold(Group::new("random", &[]), |group, number| {
        let addr = Ipv4Addr::new(127, 77, (number / 250) as u8, (number % 250 + 1) as u8);
        group.server_at((addr, 9).into(), json!({}))
    });
    let proxy = TestProxy::start(group);
    let mut reading = Watching::open(proxy.admin, "/events?view=ui", "");
    reading.next().expect("a state");
    let before = proxy.resident_bytes();
    let stalled: Vec<_> = (0..31)
        .map(|_| {
            let mut stream = TcpStream::connect(proxy.admin).expect("the admin port answers");
            rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4_096).expect("a socket");
            std::io::Write::write_all(&mut stream, b"GET /events?view=ui HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let n = reading.next().expect("a frame").data["n"].as_u64();
    reading.wait_for("five seconds", |told| told.data["n"].as_u64() >= n.map(|n| n + 5));
    let each = proxy.resident_bytes().saturating_sub(before) / stalled.len() as u64;
    println!("a viewer that reads nothing: {each} bytes");
    // Two frames that all share, and what else a process does in five seconds, are part of it.
    assert!(each < 128 * 1024, "{each} bytes each");
}
