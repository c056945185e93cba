//! The built program as a process of the test's own.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{Client, DEADLINE, Group, LogLines, eventually, free_port, own_ip, wait_for};

/// The built program, ready to be given arguments.
pub(crate) fn goproxy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goproxy"));
    command.env_remove("PROXY_CONFIG_PATH").env_remove("NOTIFY_SOCKET");
    command
}

/// What a proxy shall be started with.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    groups: Vec<Group>,
    keys: Map<String, Value>,
    descriptors_max: Option<u32>,
    outputs_are_closed: bool,
}

impl Setup {
    pub(crate) fn group(mut self, group: Group) -> Self {
        self.groups.push(group);
        self
    }

    /// Sets a top-level key of the file.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.keys.insert(key.to_owned(), value.into());
        self
    }

    /// Lets the process have so few descriptors only.
    pub(crate) fn with_descriptors(mut self, max: u32) -> Self {
        self.descriptors_max = Some(max);
        self
    }

    /// Gives the process neither stdout nor stderr.
    pub(crate) fn with_closed_outputs(mut self) -> Self {
        self.outputs_are_closed = true;
        self
    }

    /// Starts a proxy and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> TestProxy {
        let proxy = self.spawn();
        proxy.wait_until_ready();
        proxy
    }

    /// Starts a proxy and waits for nothing.
    #[track_caller]
    pub(crate) fn spawn(self) -> TestProxy {
        let ip = own_ip();
        // A port that was free once is so again.
        let mut taken = BTreeSet::new();
        let mut own_port = |ip| {
            let mut ports = std::iter::repeat_with(|| free_port(ip));
            ports.find(|addr| taken.insert(addr.port())).expect("they never end")
        };
        let admin = own_port(ip);
        let listens: Vec<SocketAddr> = self.groups.iter().map(|group| own_port(group.ip.unwrap_or(ip))).collect();
        let mut file = json!({
            "admin": { "listen": admin.to_string() },
            "log": { "format": "json", "status_interval": "0s" },
        });
        let keys = file.as_object_mut().expect("made an object a line ago");
        keys.extend(self.keys.clone());
        let groups = self.groups.iter().zip(&listens).map(|(group, listen)| group.to_json(*listen));
        keys.insert("groups".to_owned(), groups.collect());
        let text = serde_json::to_string_pretty(&file).expect("a value is JSON");
        TestProxy::spawn(self.command(), &text, admin, listens)
    }

    fn command(&self) -> Command {
        let mut script = String::new();
        if let Some(max) = self.descriptors_max {
            script += &format!("ulimit -n {max}; ");
        }
        script += "exec \"$0\" \"$@\"";
        if self.outputs_are_closed {
            script += " 1>&- 2>&-";
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_goproxy")]);
        shell.env_remove("PROXY_CONFIG_PATH").env_remove("NOTIFY_SOCKET");
        shell
    }
}

/// Runs the program to its end, which has to come by itself.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Output {
    let mut child = goproxy()
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let start = Instant::now();
    while child.try_wait().expect("it is our child").is_none() {
        if start.elapsed() > DEADLINE {
            child.kill().expect("it is our child");
            panic!("goproxy {args:?} does not end");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child.wait_with_output().expect("it has ended")
}

/// A running proxy with an address, a folder and a file of its own.
#[derive(Debug)]
pub(crate) struct TestProxy {
    child: Child,
    pub(crate) admin: SocketAddr,
    listens: Vec<SocketAddr>,
    path: PathBuf,
    pub(crate) log: LogLines,
    may_leave_sessions: bool,
    /// Messages of errors that the test provokes.
    alarms: Vec<&'static str>,
    is_over: bool,
    _folder: TempDir,
}

impl TestProxy {
    /// A proxy with one group.
    #[track_caller]
    pub(crate) fn start(group: Group) -> Self {
        Setup::default().group(group).start()
    }

    /// A proxy with this file, which says that the admin port is at `admin` and the groups at `listens`.
    #[track_caller]
    pub(crate) fn spawn(mut command: Command, text: &str, admin: SocketAddr, listens: Vec<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("proxy.json");
        fs::write(&path, text).expect("the folder is ours");
        let mut child = command
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let log = LogLines::gather(child.stderr.take().expect("stderr is a pipe"));
        Self {
            child,
            admin,
            listens,
            path,
            log,
            may_leave_sessions: false,
            alarms: Vec::new(),
            is_over: false,
            _folder: folder,
        }
    }

    /// Waits until it serves.
    #[track_caller]
    pub(crate) fn wait_until_ready(&self) {
        eventually("the proxy is ready", || self.try_get("/ready").is_some_and(|(status, _)| status == 200));
    }

    /// Where the first group listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr_of(0)
    }

    /// Where a group listens, counted from 0.
    pub(crate) fn addr_of(&self, group: usize) -> SocketAddr {
        self.listens[group]
    }

    /// A new client of the first group.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    /// Its `proxy.json`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// At the end sessions may be left that nobody ended.
    pub(crate) fn may_leave_sessions(&mut self) {
        self.may_leave_sessions = true;
    }

    /// Errors with this message may be in its log.
    pub(crate) fn may_alarm(&mut self, message: &'static str) {
        self.alarms.push(message);
    }

    /// An admin request that has to be granted.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str) -> Value {
        let (status, body) = self.try_get(path).expect("the admin port answers");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or(Value::String(body))
    }

    /// An admin request: status and body; `None` when nobody answers.
    pub(crate) fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.admin, DEADLINE).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// Changes a server of the first group: `ready`, `drain` or `maint`.
    #[track_caller]
    pub(crate) fn set_state(&self, server: SocketAddr, state: &str) {
        self.admin(&format!("/worker-state.do?group={}&server={server}&state={state}", self.addr().port()));
    }

    /// A server of the first group as `worker-list.do` shows it.
    #[track_caller]
    pub(crate) fn server(&self, server: SocketAddr) -> Value {
        let list = self.admin(&format!("/worker-list.do?group={}", self.addr().port()));
        let servers = list["servers"].as_array().expect("a list of servers");
        let found = servers.iter().find(|entry| entry["addr"] == server.to_string());
        found.unwrap_or_else(|| panic!("{server} is in {list}")).clone()
    }

    /// The sum of all series of a metric whose line holds each of `labels`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.try_get("/metrics").expect("the admin port answers");
        let is_wanted = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let values: Vec<f64> = text.lines().filter(is_wanted).filter_map(value).collect();
        assert!(!values.is_empty(), "no metric {name} with {labels:?}");
        values.iter().sum()
    }

    /// How many sessions ended for `reason`, in all groups.
    #[track_caller]
    pub(crate) fn ended(&self, reason: &str) -> u64 {
        let is_refusal = matches!(reason, "no_server" | "connect_failed" | "policy_failed" | "limit");
        let name = if is_refusal { "goproxy_sessions_refused_total" } else { "goproxy_sessions_ended_total" };
        self.metric(name, &[&format!("reason=\"{reason}\"")]) as u64
    }

    /// Sessions now.
    #[track_caller]
    pub(crate) fn sessions(&self) -> u64 {
        self.admin("/session-list.do")["total"].as_u64().expect("a number")
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory the process has.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// Descriptors the process has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// Processor time the process has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.raw_pid(), signal).expect("it was not waited for yet");
    }

    /// From now on the process may open so many descriptors more. Nobody may be connected to it.
    pub(crate) fn leave_descriptors(&self, count: usize) {
        let proc = format!("/proc/{}", self.child.id());
        let mut open = BTreeSet::new();
        eventually("the connections to the admin port are closed", || {
            let links = fs::read_dir(format!("{proc}/fd")).expect("it runs").filter_map(|entry| {
                let path = entry.expect("it runs").path();
                Some((path.file_name()?.to_str()?.parse::<u64>().ok()?, fs::read_link(&path).ok()?))
            });
            let links: Vec<_> = links.map(|(number, link)| (number, link.display().to_string())).collect();
            open = links.iter().map(|(number, _)| *number).collect();
            // Of a connection: neither listening (0A) nor in TIME_WAIT, where no process has it.
            let connections = fs::read_to_string(format!("{proc}/net/tcp")).expect("it runs");
            let fields = connections.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
            let inodes: Vec<_> = fields.filter(|f| f[3] != "0A").map(|f| format!("socket:[{}]", f[9])).collect();
            !links.iter().any(|(_, link)| inodes.contains(link))
        });
        // The limit is on their numbers, of which the lowest that is free is taken.
        let limit = (0..).filter(|number| !open.contains(number)).nth(count);
        let limit = Rlimit { current: limit, maximum: limit };
        rustix::process::prlimit(Some(self.raw_pid()), Resource::Nofile, limit).expect("it is ours");
    }

    fn raw_pid(&self) -> Pid {
        i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process has an id")
    }

    /// Ends it the hard way, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.is_over = true;
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// True while the process runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for the process to end by itself; its log is then complete.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.is_over = true;
        wait_for("the proxy ends", || self.child.try_wait().expect("it is our child"))
    }

    /// Tells it to stop and expects that it does, cleanly.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0));
    }

    #[track_caller]
    fn check(&self) {
        if !self.may_leave_sessions && !self.is_over {
            eventually("no session is left over", || self.sessions() == 0);
        }
        let mut alarming = self.log.alarming();
        alarming.retain(|line| !self.alarms.iter().any(|message| line["message"] == *message));
        assert!(alarming.is_empty(), "in the log: {alarming:#?}");
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The last lines are on their way.
            std::thread::park_timeout(Duration::from_millis(300));
            for line in self.log.all().iter().rev().take(20).rev() {
                eprintln!("{line}");
            }
            return self.kill();
        }
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.check()));
        self.kill();
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    }
}
