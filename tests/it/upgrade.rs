//! An upgrade: a new process takes over, and no client notices.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Client, DEADLINE, FakeServer, Group, Http, Setup, TestProxy, eventually, free_port, output, own_ip, replace, run,
    spawn,
};

/// Clients that connect one after the other, as fast as they can.
struct Crowd {
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: Vec<JoinHandle<io::Result<Duration>>>,
}

impl Crowd {
    fn at(addr: SocketAddr, count: usize) -> Self {
        let (is_over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            spawn(move || {
                let mut longest = Duration::ZERO;
                while !is_over.load(SeqCst) {
                    let begun = Instant::now();
                    let mut client = Client::try_connect(addr)?;
                    client.try_echo(b"x")?;
                    longest = longest.max(begun.elapsed());
                    served.fetch_add(1, SeqCst);
                    // Without a reset, the ports would soon be used up.
                    client.reset();
                }
                Ok(longest)
            })
        };
        let clients = (0..count).map(client).collect();
        Self { is_over, served, clients }
    }

    /// Waits until so many more were served.
    #[track_caller]
    fn goes_on(&self, more: u64) {
        let before = self.served.load(SeqCst);
        eventually("clients are served", || {
            assert!(!self.clients.iter().any(JoinHandle::is_finished), "a client has failed");
            self.served.load(SeqCst) >= before + more
        });
    }

    /// How long the slowest took; nobody failed.
    #[track_caller]
    fn end(self) -> Duration {
        self.is_over.store(true, SeqCst);
        let longest = self.clients.into_iter().map(|client| {
            client.join().expect("it does not panic").unwrap_or_else(|error| panic!("a client was refused: {error}"))
        });
        longest.max().unwrap_or_default()
    }
}

fn two_threads() -> (Setup, FakeServer) {
    let server = FakeServer::echo();
    (Setup::default().with("threads", 2).group(Group::new("round_robin", &[&server])), server)
}

#[test]
fn no_client_is_refused_or_cut_however_often() {
    let (setup, _server) = two_threads();
    let mut proxy = setup.start();
    let crowd = Crowd::at(proxy.addr(), 6);
    let first = proxy.pid();
    for round in 1..=10_u64 {
        let mut held: Vec<Client> = (0..10).map(|_| proxy.connect()).collect();
        held.iter_mut().for_each(|client| client.echo(b"before"));
        crowd.goes_on(20);
        let old = proxy.pid();
        let answer = proxy.upgrade();
        assert_ne!(answer["pid"], old);
        assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
        assert!(answer["sessions_left"].as_u64().unwrap() >= 10, "{answer}");
        crowd.goes_on(20);
        held.iter_mut().for_each(|client| client.echo(b"after"));
        assert_eq!(proxy.metric("goproxy_process_generation", &[]), round as f64 + 1.0);
        drop(held);
        proxy.wait_for_end_of(old);
    }
    let longest = crowd.end();
    assert!(longest < Duration::from_secs(30), "the slowest client took {longest:?}");
    assert_eq!(proxy.log.with_message("upgraded: a new process serves").len(), 10);
    assert_eq!(proxy.log.with_message("goproxy stopped").len(), 10);
    assert!(first != proxy.pid() && proxy.log.with_message("server offline").is_empty());
    proxy.signal(Signal::TERM);
    let last = proxy.pid();
    proxy.wait_for_end_of(last);
}

#[test]
fn an_idle_old_process_uses_no_processor_while_others_are_served() {
    let (setup, _server) = two_threads();
    let mut proxy = setup.start();
    let mut held = proxy.connect();
    held.echo(b"x");
    let old = proxy.pid();
    proxy.upgrade();
    let ticks = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|it| it.parse().ok()).collect();
        // The state before them is no number.
        fields[10] + fields[11]
    };
    let before = ticks(old);
    let crowd = Crowd::at(proxy.addr(), 2);
    crowd.goes_on(2_000);
    crowd.end();
    let spent = ticks(old) - before;
    // It is told of none of them; what it has told the new process in that time is nearly nothing.
    assert!(spent <= 20, "{spent} ticks");
    held.echo(b"y");
    held.finish();
    proxy.wait_for_end_of(old);
}

#[test]
fn usr2_and_the_command_do_the_same() {
    let (setup, _server) = two_threads();
    let mut proxy = setup.start();
    let first = proxy.pid();
    proxy.signal(Signal::USR2);
    let told = proxy.log.wait_for("the new process", |line| line["message"] == "upgraded: a new process serves");
    proxy.has_successor(told["pid"].as_u64().unwrap() as u32);
    proxy.wait_for_end_of(first);
    let admin = proxy.admin.to_string();
    let said = run(&["upgrade", "--admin", &admin]);
    let text = String::from_utf8(said.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(said.status.code(), Some(0), "{text} {:?}", String::from_utf8(said.stderr));
    assert_eq!((words[0], words[2], words[6]), ("process", "version", "over;"), "{text}");
    let second = proxy.pid();
    proxy.has_successor(words[1].trim_end_matches(',').parse().unwrap());
    proxy.wait_for_end_of(second);
    proxy.connect().echo(b"x");
    // A page that is opened in passing must not do it.
    proxy.refused("/upgrade.do", 405, "method_not_allowed");
}

#[test]
fn the_file_decides_which_sockets_go_on_whatever_the_number_of_threads() {
    let (server, other) = (FakeServer::echo(), FakeServer::banner("other"));
    let kept = Group::new("ha", &[&server]).with("name", "kept");
    let gone = Group::new("ha", &[&server]).with("name", "gone");
    // Two processes write into one pipe, and a crowd's lines are many.
    let log = serde_json::json!({ "format": "json", "status_interval": "0s", "sessions": "none" });
    let mut proxy = Setup::default().with("log", log).with("threads", 4).group(kept).group(gone).start();
    let crowd = Crowd::at(proxy.addr(), 4);
    let added = free_port(own_ip());
    for threads in [1, 6, 2] {
        let mut file: Value = serde_json::from_str(&proxy.file()).unwrap();
        file["threads"] = threads.into();
        file["groups"].as_array_mut().unwrap().truncate(1);
        let more =
            serde_json::json!({ "name": "added", "listen": added.to_string(), "servers": [other.addr.to_string()] });
        file["groups"].as_array_mut().unwrap().push(more);
        replace(proxy.path(), &file.to_string());
        crowd.goes_on(20);
        let old = proxy.pid();
        proxy.upgrade();
        crowd.goes_on(20);
        proxy.wait_for_end_of(old);
        let pid = proxy.pid();
        let starts = proxy.log.wait_for("its first line", |it| it["message"] == "goproxy starts" && it["pid"] == pid);
        assert_eq!(starts["threads"], threads);
        assert_eq!(Client::connect(added).receive(5), b"other");
        assert!(Client::try_connect(proxy.addr_of(1)).is_err(), "nobody listens there any more");
        // All sockets are closed together when the group is.
    }
    crowd.end();
    let port = proxy.addr().port();
    proxy.ok(&format!("/group-close.do?group={port}"));
    eventually("nobody listens", || Client::try_connect(proxy.addr()).is_err());
    proxy.ok(&format!("/group-open.do?group={port}"));
    proxy.connect().echo(b"x");
}

#[test]
fn the_service_manager_is_told_which_process_is_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = || {
        let mut buffer = [0; 1_024];
        let length = socket.recv(&mut buffer).expect("a message within the time");
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
    };
    let (setup, _server) = two_threads();
    let mut proxy = setup.with_variable("NOTIFY_SOCKET", &path).start();
    assert_eq!(told(), "READY=1");
    for _ in 0..2 {
        let old = proxy.pid();
        let answer = proxy.upgrade();
        assert_eq!(told(), format!("MAINPID={}", answer["pid"]));
        assert_eq!(told(), "BARRIER=1");
        assert_eq!(told(), "READY=1", "the new one says so, and the old one nothing more");
        proxy.wait_for_end_of(old);
    }
    let last = proxy.pid();
    proxy.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    proxy.wait_for_end_of(last);
}

#[test]
fn the_old_process_ends_its_sessions_when_their_time_is_over() {
    let (setup, _server) = two_threads();
    let mut proxy = setup.with("upgrade_drain_timeout", "200ms").start();
    let mut held = proxy.connect();
    held.echo(b"x");
    let old = proxy.pid();
    proxy.upgrade();
    held.receive_all();
    proxy.wait_for_end_of(old);
    proxy.log.wait_for_end("drained");
}

#[test]
fn kept_connections_to_the_admin_port_are_closed_and_a_unix_socket_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let server = FakeServer::echo();
    let listen = free_port(own_ip());
    let text = format!(
        r#"{{ "admin": {{ "listen": "unix:{}" }}, "log": {{ "format": "json" }},
              "groups": [ {{ "listen": "{listen}", "servers": ["{}"] }} ] }}"#,
        path.display(),
        server.addr
    );
    let mut proxy = TestProxy::spawn(crate::support::goproxy(), &text, listen, vec![listen]);
    eventually("it serves", || Client::try_connect(listen).is_ok());
    let asked = |args: &[&str]| {
        let admin = format!("unix:{}", path.display());
        let mut command = crate::support::goproxy();
        command.args(args).args(["--admin", &admin]);
        output(command, DEADLINE)
    };
    eventually("the admin port answers", || asked(&["status", "--ready"]).status.success());
    for _ in 0..2 {
        let old = proxy.pid();
        let said = asked(&["upgrade"]);
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
        proxy.has_successor(text.split_whitespace().nth(1).unwrap().trim_end_matches(',').parse().unwrap());
        proxy.wait_for_end_of(old);
        assert!(path.exists());
        assert!(asked(&["status", "--ready"]).status.success());
        Client::connect(listen).echo(b"x");
    }
    let last = proxy.pid();
    proxy.signal(Signal::TERM);
    proxy.wait_for_end_of(last);
    assert!(!path.exists(), "the last one removes it");
    proxy.kill();

    let (setup, _server) = two_threads();
    let mut proxy = setup.start();
    let mut kept = Http::connect_to(proxy.admin).unwrap();
    assert_eq!(kept.get("/live").status, 200);
    let mut held = proxy.connect();
    held.echo(b"x");
    proxy.upgrade();
    eventually("the connection is closed", || kept.try_get("/live").is_err());
}
