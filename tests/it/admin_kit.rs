//! What the tests of the admin port, of the file and of registration share beyond the common harness.
//!
//! Everything speaks to the built binary as an operator would: bytes on a socket, bytes in a file, signals.
//! Blocking on purpose, so that nothing here shares a runtime or a clock with what is tested.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{DEADLINE, FakeServer, eventually, goproxy, wait_for};

/// Ports that nobody uses, outside the range from which the system takes those of clients.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    let start = (std::process::id() as u16).wrapping_mul(97) % COUNT;
    std::array::from_fn(|_| {
        (0..COUNT)
            .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Relaxed)) % COUNT)
            .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
            .expect("some port is free")
    })
}

/// One HTTP answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let shown = || format!("{}{}", self.head, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", shown()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// A keep-alive connection to an admin port.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    port: u16,
}

impl Http {
    pub(crate) fn connect(port: u16) -> Self {
        Self::try_connect(port).expect("the admin port answers")
    }

    pub(crate) fn try_connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), port })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub(crate) fn try_get(&mut self, target: &str) -> std::io::Result<Reply> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port);
        self.send(request.as_bytes())?;
        self.reply(false)
    }

    pub(crate) fn get(&mut self, target: &str) -> Reply {
        self.try_get(target).unwrap_or_else(|error| panic!("{target}: {error}"))
    }

    /// Reads one answer; `is_head` when it has no body whatever its length says.
    pub(crate) fn reply(&mut self, is_head: bool) -> std::io::Result<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        let mut reply = Reply { status, head, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |length| length.parse().expect("a length is a number"));
        if !is_head {
            reply.body.resize(length, 0);
            self.stream.read_exact(&mut reply.body)?;
        }
        Ok(reply)
    }

    /// Reads to the end of the connection; what came before a reset counts.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return all,
                Ok(len) => all.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
                Err(error) => panic!("the connection was not closed: {error}"),
            }
        }
    }

    pub(crate) fn shutdown_write(&self) {
        // Whoever is at the other end may have closed already.
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }
}

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    log: Arc<Mutex<String>>,
    pub(crate) home: Arc<TempDir>,
    pub(crate) path: PathBuf,
    pub(crate) admin: u16,
}

impl Proxy {
    /// Starts with `text` as its file in a folder of its own.
    #[track_caller]
    pub(crate) fn start(admin: u16, text: &str) -> Self {
        let home = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let path = home.path().join("proxy.json");
        std::fs::write(&path, text).expect("the folder is ours");
        Self::start_at(home, path, admin)
    }

    #[track_caller]
    pub(crate) fn start_at(home: Arc<TempDir>, path: PathBuf, admin: u16) -> Self {
        let mut command = goproxy();
        command.arg("--config").arg(&path);
        Self::start_with(command, home, path, admin)
    }

    /// Starts `command`, which is expected to become the proxy with the file at `path`.
    #[track_caller]
    pub(crate) fn start_with(mut command: Command, home: Arc<TempDir>, path: PathBuf, admin: u16) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        let mut proxy = Self { child, log, home, path, admin };
        eventually("the proxy is ready", || {
            if let Some(status) = proxy.child.try_wait().unwrap() {
                panic!("the proxy ended with {status}:\n{}", proxy.log());
            }
            Http::try_connect(admin).and_then(|mut http| http.try_get("/ready")).is_ok_and(|reply| reply.status == 200)
        });
        proxy
    }

    /// Starts again with the file as it is now.
    #[track_caller]
    pub(crate) fn again(&self) -> Self {
        Self::start_at(Arc::clone(&self.home), self.path.clone(), self.admin)
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        Http::connect(self.admin).get(target)
    }

    /// Any request: `head` are whole header lines, without the last empty one.
    pub(crate) fn request(&self, method: &str, target: &str, head: &str, body: &[u8]) -> Reply {
        let mut http = Http::connect(self.admin);
        let host = if head.to_ascii_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("{method} {target} HTTP/1.1\r\n{host}{head}{length}\r\n");
        // A refusal may come, and the connection be gone, before everything is sent.
        let _ = http.send(text.as_bytes()).and_then(|()| http.send(body));
        http.reply(method == "HEAD").unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// The answer to a request that is granted.
    #[track_caller]
    pub(crate) fn ok(&self, target: &str) -> Value {
        let reply = self.get(target);
        let json = reply.json();
        assert!(reply.status == 200 && json["ok"] == true, "{target}: {} {json}", reply.status);
        json
    }

    /// The answer to a request that is refused.
    #[track_caller]
    pub(crate) fn refused(&self, target: &str, status: u16, code: &str) -> Value {
        let reply = self.get(target);
        is_refusal(&reply, status, code, target)
    }

    pub(crate) fn file(&self) -> String {
        std::fs::read_to_string(&self.path).expect("the file is there")
    }

    /// Every server of a group as `worker-list.do` shows it.
    #[track_caller]
    pub(crate) fn servers(&self, group: u16) -> Vec<Value> {
        self.ok(&format!("/worker-list.do?group={group}"))["servers"].as_array().expect("a list").clone()
    }

    #[track_caller]
    pub(crate) fn server(&self, group: u16, addr: &str) -> Value {
        let servers = self.servers(group);
        servers.into_iter().find(|server| server["addr"] == addr).unwrap_or(Value::Null)
    }

    /// The addresses of the online servers, in order.
    #[track_caller]
    pub(crate) fn online(&self, group: u16) -> Vec<String> {
        let list = self.ok(&format!("/worker-list.do?group={group}"))["list"].clone();
        serde_json::from_value(list).expect("a list of addresses")
    }

    /// Everything that a refused request must leave as it was, the file included.
    #[track_caller]
    pub(crate) fn state(&self) -> (String, Value) {
        let mut groups = self.ok("/group-list.do")["groups"].clone();
        for group in groups.as_array_mut().expect("a list") {
            let mut servers = self.servers(group["group"].as_u64().expect("a port") as u16);
            for server in &mut servers {
                server.as_object_mut().expect("an object").remove("lease_ms");
            }
            group["servers"] = servers.into();
        }
        (self.file(), groups)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn log_lines(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = String::from_utf8(self.get("/metrics").body).expect("metrics are text");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().expect("a value is a number"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("it runs");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Tells it to stop and waits for the end.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let status = wait_for("the proxy stops", || self.child.try_wait().expect("it is our child"));
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{}", self.log());
        status
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the end of the proxy's log\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Checks that an answer is a refusal in the common form.
#[track_caller]
pub(crate) fn is_refusal(reply: &Reply, status: u16, code: &str, what: &str) -> Value {
    let json = reply.json();
    let found = (reply.status, &json["ok"], &json["code"]);
    assert_eq!(found, (status, &Value::Bool(false), &Value::from(code)), "{what}: {json}");
    assert!(json["msg"].as_str().is_some_and(|msg| !msg.is_empty() && msg.len() < 600), "{what}: {json}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{what}");
    json
}

/// A server that says its address in a line of its own and then sends back what it gets.
pub(crate) fn named_echo() -> FakeServer {
    FakeServer::start_at("127.0.0.1:0".parse().expect("an address"), |client, _| {
        let mut stream = client.stream;
        let Ok(addr) = stream.local_addr() else { return };
        let mut buffer = [0; 4096];
        // Idle for as long as the test likes.
        let _ = stream.set_read_timeout(None);
        let _ = writeln!(stream, "{addr}");
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..len]).is_err() {
                return;
            }
        }
    })
}

/// A client of a group whose servers are [`named_echo`]s.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    /// The server that took it.
    pub(crate) server: String,
}

impl Client {
    pub(crate) fn try_connect(group: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", group))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let mut server = String::new();
        if stream.read_line(&mut server)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { stream, server: server.trim().to_owned() })
    }

    #[track_caller]
    pub(crate) fn connect(group: u16) -> Self {
        Self::try_connect(group).unwrap_or_else(|error| panic!("group {group} serves no client: {error}"))
    }

    pub(crate) fn try_round_trip(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(text)?;
        let mut back = vec![0; text.len()];
        self.stream.read_exact(&mut back)?;
        if back == text { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    #[track_caller]
    pub(crate) fn round_trip(&mut self, text: &[u8]) {
        self.try_round_trip(text).expect("the session lives");
    }
}

/// Writes `text` beside the file and renames it over it, as most editors do.
pub(crate) fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("edited");
    std::fs::write(&beside, text).expect("the folder is ours");
    std::fs::rename(&beside, path).expect("the folder is ours");
}

/// `goproxy check` on a file.
pub(crate) fn check(path: &Path) -> (bool, String) {
    let output = goproxy().arg("check").arg("-c").arg(path).output().expect("the program was built");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
