//! A client, and a server, whose machine is gone: nothing of theirs arrives any more, and nobody says so.
//!
//! Three network namespaces, client, proxy and server, each with a link to the next; a packet filter of the link drops
//! everything. Needs root, and `ip` and `tc`.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{LogLines, let_pass, wait_for};
use crate::{Background, run};

/// How long a session may last after its peer has vanished.
const GONE_WITHIN: Duration = Duration::from_secs(12);

/// Namespaces of a test, which go with it.
struct Net {
    names: [String; 3],
}

/// Where the client and the server are, as the proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Net {
    fn new(name: &str) -> Self {
        let names = ["c", "p", "s"].map(|side| format!("gp{}{name}{side}", std::process::id()));
        let net = Self { names };
        net.names.iter().for_each(|name| _ = run("ip", &["netns", "add", name]));
        let [client, proxy, server] = net.names.each_ref();
        for (near, far, subnet) in [(proxy, client, "10.99.1"), (proxy, server, "10.99.2")] {
            let (ours, theirs) = (format!("to{}", &subnet[6..]), "eth0");
            run("ip", &["-n", near, "link", "add", &ours, "type", "veth", "peer", "name", theirs, "netns", far]);
            for (name, device, host) in [(near, &*ours, 1), (far, theirs, 2)] {
                run("ip", &["-n", name, "addr", "add", &format!("{subnet}.{host}/24"), "dev", device]);
                run("ip", &["-n", name, "link", "set", device, "up"]);
                run("ip", &["-n", name, "link", "set", "lo", "up"]);
            }
        }
        net
    }

    /// Nothing leaves this side any more, not even an acknowledgement. What the proxy sends leaves the proxy, as it would on
    /// a real network: a packet that is dropped by its own machine is another matter for TCP.
    fn drop_packets(&self, side: Side) {
        let far = match side {
            Side::Client => &self.names[0],
            Side::Server => &self.names[2],
        };
        let nothing_fits = ["tbf", "rate", "8bit", "burst", "1", "limit", "1"];
        run("tc", &[&["-n", far, "qdisc", "add", "dev", "eth0", "root"], &nothing_fits[..]].concat());
    }

    /// A program in one of the namespaces.
    fn command(&self, namespace: usize, program: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[namespace]]).args(program);
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            // It may be that not all were made.
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

/// A proxy whose admin port only programs of its namespace reach.
struct Proxy(Child, LogLines);

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a byte in so many seconds, or never, and takes what comes.
fn talk(pause: Option<&str>) -> String {
    let send = pause.map_or_else(String::new, |pause| {
        format!(
            "\nimport threading\ndef send():\n  while True:\n    s.sendall(b'x' * SIZE)\n    time.sleep({pause})\n\
             threading.Thread(target=send, daemon=True).start()"
        )
    });
    format!("{send}\ntry:\n  while s.recv(65536): pass\nexcept OSError: pass\n")
}

/// How the session ends whose peer at `side` vanishes while the other one sends `size` bytes every `pause` seconds: both
/// connections are probed.
#[track_caller]
fn vanish(name: &str, side: Side, pause: Option<&str>, size: usize) {
    let line = vanish_from(
        name,
        side,
        pause,
        size,
        r#""client_tcp": { "keepalive": "5s" }, "server_tcp": { "keepalive": "5s" }"#,
    );
    let end = if side == Side::Client { "client_reset" } else { "server_reset" };
    assert_eq!((line["end"].as_str(), line["error"].as_str()), (Some(end), Some("timed out")), "{line}");
}

/// The same where nothing is probed and all that tells is that nothing arrives.
#[track_caller]
fn vanish_unprobed(name: &str, side: Side) {
    let keys = r#""idle_timeout": "8s", "client_tcp": { "keepalive": null }, "server_tcp": { "keepalive": null }"#;
    let line = vanish_from(name, side, Some("0.1"), 100, keys);
    assert_eq!(line["end"], "idle_timeout", "{line}");
}

/// The line of a session whose peer vanishes, in a group with these keys.
#[track_caller]
fn vanish_from(name: &str, side: Side, pause: Option<&str>, size: usize, keys: &str) -> serde_json::Value {
    let net = Net::new(name);
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("proxy.json");
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:8080" }}, "log": {{ "format": "json", "status_interval": "0s" }}, "groups": [
            {{ "listen": "10.99.1.1:9000", "servers": ["10.99.2.2:9000"], {keys} }} ] }}"#
    );
    std::fs::write(&config, text).unwrap();
    let script = |body: String| body.replace("SIZE", &size.to_string());
    let pause_of = |this: Side| if this == side { None } else { pause };
    let server = format!(
        "import socket,time\nl = socket.create_server(('10.99.2.2', 9000))\ns, _ = l.accept()\n{}",
        talk(pause_of(Side::Server))
    );
    let client = format!(
        "import socket,time\ns = socket.create_connection(('10.99.1.1', 9000))\ns.sendall(b'hello')\n{}",
        talk(pause_of(Side::Client))
    );
    let _server = Background::start(&mut net.command(2, &["python3", "-c", &script(server)]));
    let binary = env!("CARGO_BIN_EXE_goproxy");
    let mut command = net.command(1, &[binary, "-c", config.to_str().expect("a plain path")]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = LogLines::gather(child.stderr.take().expect("stderr is a pipe"));
    let proxy = Proxy(child, log);
    proxy.1.wait_for("it listens", |line| line["message"] == "group open");
    let_pass(Duration::from_millis(500), "the server starts to listen, which only its namespace can see");
    let _client = Background::start(&mut net.command(0, &["python3", "-c", &script(client)]));
    proxy.1.wait_for("a session", |line| line["message"] == "server connected");
    let_pass(Duration::from_secs(6), "a session that is no short one");
    assert!(proxy.1.with_message("session closed").is_empty());
    net.drop_packets(side);
    let start = Instant::now();
    let line = wait_for("the session ends", || proxy.1.with_message("session closed").pop());
    let took = start.elapsed();
    eprintln!("{side:?} gone, the other one sends {pause:?}: {} after {took:?}, {}", line["end"], line["error"]);
    assert!(took < GONE_WITHIN, "{took:?}");
    line
}

#[test]
fn a_client_that_vanished_is_found_out_while_nobody_says_anything() {
    vanish("a", Side::Client, None, 1);
}

#[test]
fn a_client_that_vanished_is_found_out_while_the_server_goes_on_sending() {
    vanish("b", Side::Client, Some("0.1"), 100);
}

#[test]
fn a_client_that_vanished_is_found_out_while_the_server_sends_all_it_can() {
    vanish("c", Side::Client, Some("0.001"), 1 << 20);
}

#[test]
fn a_server_that_vanished_is_found_out_while_nobody_says_anything() {
    vanish("d", Side::Server, None, 1);
}

#[test]
fn a_server_that_vanished_is_found_out_while_the_client_goes_on_sending() {
    vanish("e", Side::Server, Some("0.1"), 100);
}

#[test]
fn a_client_that_vanished_makes_a_session_silent_while_the_server_goes_on_sending() {
    vanish_unprobed("f", Side::Client);
}

#[test]
fn a_server_that_vanished_makes_a_session_silent_while_the_client_goes_on_sending() {
    vanish_unprobed("g", Side::Server);
}
