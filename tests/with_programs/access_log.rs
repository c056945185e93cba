//! Access logs with the programs that read them (lnav, halog), that write the same (HAProxy) and that rotate them, and on a
//! disk that is full.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::{Value, json};

use super::run;
use super::support::{Client, FakeServer, Group, Setup, TestProxy, eventually, own_ip, spawn};

/// What happens to sessions: how many of each kind.
const SESSIONS: [usize; 4] = [300, 40, 30, 20];

/// Sessions that end in order, by a reset of the client, by one of the server, and that find no server; of groups at these
/// addresses.
fn live_through(addrs: &[std::net::SocketAddr; 3]) {
    for (kind, count) in SESSIONS.into_iter().enumerate() {
        for _ in 0..count {
            let mut client = Client::connect(addrs[kind.saturating_sub(1)]);
            match kind {
                0 => {
                    client.echo(b"hello");
                    client.finish();
                    client.receive_all();
                }
                1 => {
                    client.echo(b"hello");
                    client.reset();
                }
                2 => {
                    client.send(b"hello");
                    client.receive_all();
                }
                _ => drop(client.receive_all()),
            }
        }
    }
}

/// Resets the connection when the client has said something: before that it would be a connect that failed, now and then.
fn resetting() -> FakeServer {
    FakeServer::start(|mut client, _| {
        client.receive(5);
        client.reset();
    })
}

/// A real HAProxy with three listeners, and the file into which its log goes.
struct Haproxy {
    child: std::process::Child,
    log: PathBuf,
}

impl Haproxy {
    fn start(home: &Path, addrs: &[std::net::SocketAddr; 3], servers: &[std::net::SocketAddr; 3]) -> Self {
        let mut config =
            "global\n  log stdout format rfc3164 local0\n  maxconn 1000\ndefaults\n  mode tcp\n  log global\n  \
             option tcplog\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  retries 0\n"
                .to_owned();
        for (addr, server) in addrs.iter().zip(servers) {
            let port = addr.port();
            config += &format!("frontend {port}\n  bind {addr}\n  default_backend {port}\n");
            config += &format!("backend {port}\n  server {server} {server}\n");
        }
        let (file, log) = (home.join("haproxy.cfg"), home.join("haproxy.log"));
        fs::write(&file, config).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&file).stdin(Stdio::null()).stdout(fs::File::create(&log).unwrap());
        let child = command.stderr(Stdio::null()).spawn().expect("haproxy is needed");
        eventually("HAProxy listens", || std::net::TcpStream::connect(addrs[2]).is_ok());
        Self { child, log }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What lnav makes of the lines: sessions, bytes and servers by how they ended.
fn seen_by_lnav(home: &Path, log: &Path) -> String {
    // It does not know days of one digit as syslog has them ("Dec  1"), in lines of HAProxy either.
    let (text, padded) = (fs::read_to_string(log).unwrap(), log.with_extension("padded"));
    let pad = |line: &str| match line.as_bytes().get(4) {
        Some(b' ') => format!("{}0{}\n", &line[..4], &line[5..]),
        _ => format!("{line}\n"),
    };
    fs::write(&padded, text.lines().map(pad).collect::<String>()).unwrap();
    let query = ";SELECT termination_state, count(*), sum(bytes_read), count(DISTINCT server_name), count(DISTINCT client_ip), \
                 sum(retries) FROM haproxy_log GROUP BY 1 ORDER BY 1";
    let output =
        Command::new("lnav").args(["-n", "-c", query]).arg(&padded).env("HOME", home).stdin(Stdio::null()).output();
    let output = output.expect("lnav is needed");
    String::from_utf8(output.stdout).unwrap()
}

fn seen_by_halog(mode: &str, log: &Path) -> String {
    let output = Command::new("halog").args(["-q", mode]).stdin(fs::File::open(log).unwrap()).output();
    let output = output.expect("halog is needed");
    assert!(output.stderr.is_empty(), "halog {mode}: {}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn lnav_and_halog_see_in_our_lines_what_they_see_in_those_of_haproxy() {
    let home = tempfile::tempdir().unwrap();
    let (echo, resets, refusing) = (FakeServer::echo(), resetting(), FakeServer::refusing());
    let servers = [echo.addr, resets.addr, refusing.addr];
    let group = |server: &FakeServer| Group::new("ha", &[server]).with("connect_wait", "0s");
    let proxy = Setup::default()
        .group(group(&echo))
        .group(group(&resets))
        .group(group(&refusing))
        .with("access_log", json!({ "format": "haproxy", "path": "access.log" }))
        .start();
    let ours = [proxy.addr(), proxy.addr_of(1), proxy.addr_of(2)];
    // At the same ports of another address, so that frontends and backends are called alike.
    let ip = own_ip();
    let theirs = ours.map(|addr| std::net::SocketAddr::new(ip, addr.port()));
    let haproxy = Haproxy::start(home.path(), &theirs, &servers);
    live_through(&ours);
    live_through(&theirs);
    let (our_log, their_log) = (proxy.home().join("access.log"), home.path().join("their.log"));
    // Without the priority that a syslog daemon takes off.
    let taken = || -> Vec<String> {
        let text = fs::read_to_string(&haproxy.log).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once('>').map(|(_, line)| line.to_owned()));
        lines.filter(|line| line.ends_with(" 0/0")).collect()
    };
    let total: usize = SESSIONS.iter().sum();
    eventually("HAProxy has written all", || taken().len() >= total);
    let mut theirs_lines = taken();
    // The connect that found HAProxy listening was one more to the server that refuses.
    let refused = theirs_lines.iter().position(|line| line.contains(" SC ")).expect("some were refused");
    if theirs_lines.len() > total {
        theirs_lines.remove(refused);
    }
    fs::write(&their_log, theirs_lines.join("\n") + "\n").unwrap();
    eventually("all our lines are there", || fs::read_to_string(&our_log).unwrap().lines().count() == total);
    let (ours, theirs) = (seen_by_lnav(home.path(), &our_log), seen_by_lnav(home.path(), &their_log));
    println!("{ours}");
    assert_eq!(ours, theirs, "lnav");
    assert!(ours.contains("300") && ours.contains("1500") && ours.contains("CD") && ours.contains("SD"), "{ours}");
    for mode in ["-c", "-srv"] {
        let (ours, theirs) = (seen_by_halog(mode, &our_log), seen_by_halog(mode, &their_log));
        assert_eq!(ours, theirs, "halog {mode}");
        println!("halog {mode}: {ours}");
    }
}

/// Clients that come one after the other until they are told to stop; how many came.
fn load(proxy: &TestProxy, is_over: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<usize>> {
    (0..2)
        .map(|_| {
            let (addr, is_over) = (proxy.addr(), Arc::clone(is_over));
            spawn(move || {
                let mut sessions = 0;
                while !is_over.load(Relaxed) {
                    Client::connect(addr).finish();
                    sessions += 1;
                }
                sessions
            })
        })
        .collect()
}

/// The sessions of all lines of these files; each line has to be whole.
fn ids(paths: impl Iterator<Item = PathBuf>) -> Vec<u64> {
    let texts = paths.filter_map(|path| fs::read_to_string(path).ok());
    let id = |line: &str| serde_json::from_str::<Value>(line).expect("a whole line")["session.id"].as_u64().unwrap();
    texts.flat_map(|text| text.lines().map(id).collect::<Vec<_>>()).collect()
}

#[test]
fn logrotate_rotates_under_load_and_no_line_is_lost_torn_or_there_twice() {
    const ROTATIONS: usize = 50;
    for is_copied in [false, true] {
        let server = FakeServer::echo();
        let setup = Setup::default().group(Group::new("ha", &[&server]));
        let mut proxy = setup.with("access_log", json!({ "path": "access.log" })).start();
        let (log, home) = (proxy.home().join("access.log"), proxy.home().to_owned());
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        let how = match is_copied {
            true => "copytruncate".to_owned(),
            false => format!("nocreate\n  postrotate\n    kill -USR1 {}\n  endscript", proxy.pid()),
        };
        let (config, state) = (home.join("logrotate.conf"), home.join("logrotate.state"));
        fs::write(&config, format!("{} {{\n  rotate 100\n  {how}\n}}\n", log.display())).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let clients = load(&proxy, &is_over);
        for _ in 0..ROTATIONS {
            eventually("the log is written to", || fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0));
            run("logrotate", &["-f", "-s", state.to_str().unwrap(), config.to_str().unwrap()]);
        }
        is_over.store(true, Relaxed);
        let sessions: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        // With its end everything is written.
        proxy.stop();
        let rotated = (1..=ROTATIONS).map(|number| PathBuf::from(format!("{}.{number}", log.display())));
        let all = ids(rotated.chain([log.clone()]));
        let (found, distinct) = (all.len(), all.into_iter().collect::<BTreeSet<_>>().len());
        println!("copytruncate: {is_copied}; {sessions} sessions, {} lines lost", sessions - distinct);
        assert_eq!(found, distinct, "none is there twice");
        // What is written between the copy and the cut is lost, which no program can help.
        assert!(is_copied || distinct == sessions, "{distinct} of {sessions}");
    }
}

/// A file system of one mebibyte, gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", folder.path().to_str().unwrap()]);
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the proxy may have its file open still.
        run("umount", &["-l", self.0.path().to_str().unwrap()]);
    }
}

#[test]
fn on_a_full_disk_no_client_notices_and_lines_come_again_when_there_is_room() {
    let disk = SmallDisk::mount();
    let path = disk.0.path().join("access.log");
    let server = FakeServer::echo();
    let setup = Setup::default().group(Group::new("ha", &[&server]));
    let proxy = setup.with("access_log", json!({ "path": path.to_str().unwrap() })).start();
    let dropped = || proxy.series("goproxy_log_dropped_total{log=\"access\"}").unwrap() as usize;
    // A few pages are left.
    let filler = disk.0.path().join("filler");
    fs::write(&filler, vec![0; (1 << 20) - 5 * 4096]).unwrap();
    let mut sessions = 0;
    eventually("the disk is full", || {
        let mut client = proxy.connect();
        client.echo(b"hello");
        client.finish();
        assert_eq!(client.receive_all().0, b"", "in order");
        sessions += 1;
        dropped() > 20
    });
    proxy.log.wait_for("it is said", |line| line["message"] == "access log lines dropped");
    let whole = |at_least: usize| ids([path.clone()].into_iter()).len() >= at_least;
    eventually("each session has its line or is counted", || whole(sessions - dropped()));
    assert_eq!(ids([path.clone()].into_iter()).len() + dropped(), sessions, "no line is torn");
    fs::remove_file(&filler).unwrap();
    let before = dropped();
    for _ in 0..50 {
        proxy.connect().finish();
        sessions += 1;
    }
    eventually("lines come again", || whole(sessions - before));
    assert_eq!(dropped(), before);
    assert_eq!(proxy.log.with_message("access log lines dropped").len(), 1, "once a minute");
}
