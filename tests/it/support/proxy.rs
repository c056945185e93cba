//! The built program as a process of the test's own.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{
    Client, DEADLINE, Group, Http, LogLines, Reply, eventually, free_port, is_refusal, own_ip, wait_for, wait_within,
};

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
    /// As a shell writes them.
    redirections: String,
    panic_at: Option<&'static str>,
    program: Option<PathBuf>,
    variables: Vec<(&'static str, PathBuf)>,
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
        self.redirections = "1>&- 2>&-".to_owned();
        self
    }

    /// Gives the process this file as stderr.
    pub(crate) fn with_stderr(mut self, path: &Path) -> Self {
        self.redirections = format!("2>'{}'", path.display());
        self
    }

    /// Makes a part of the process panic, once; see `panic_at` of the library.
    pub(crate) fn with_panic_at(mut self, place: &'static str) -> Self {
        self.panic_at = Some(place);
        self
    }

    /// Starts the program by this path.
    pub(crate) fn with_program(mut self, path: &Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// Sets an environment variable to a path.
    pub(crate) fn with_variable(mut self, name: &'static str, path: &Path) -> Self {
        self.variables.push((name, path.to_owned()));
        self
    }

    /// Starts a proxy and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> TestProxy {
        let mut proxy = self.spawn();
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
        script += &format!("exec \"$0\" \"$@\" {}", self.redirections);
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).arg(self.program.as_deref().unwrap_or(Path::new(env!("CARGO_BIN_EXE_goproxy"))));
        shell.env_remove("PROXY_CONFIG_PATH").env_remove("NOTIFY_SOCKET");
        shell.envs(self.variables.iter().map(|(name, path)| (name, path)));
        shell.envs(self.panic_at.map(|place| ("GOPROXY_TEST_PANIC", place)));
        shell
    }
}

/// Runs the program to its end, which has to come by itself.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Output {
    let mut command = goproxy();
    command.args(args);
    output(command, DEADLINE)
}

/// Runs a command to its end, which has to come by itself within this time.
#[track_caller]
pub(crate) fn output(mut command: Command, time_max: Duration) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(Some(command.spawn().expect("the program is there")));
    wait_within(time_max, &format!("{command:?} ends"), || match child.0.as_mut().map(Child::try_wait) {
        Some(Ok(Some(_status))) => Ok(()),
        other => Err(other),
    });
    child.0.take().expect("it is taken once").wait_with_output().expect("it has ended")
}

/// A child that does not outlive a test that fails.
struct Killed(Option<Child>);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `goproxy check` on a file: whether it is in order, and what is said.
#[track_caller]
pub(crate) fn check(path: &Path) -> (bool, String) {
    let output = run(&["check", "-c", path.to_str().expect("a plain path")]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Writes `text` beside the file and renames it over it, as most editors do.
pub(crate) fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("edited");
    fs::write(&beside, text).expect("the folder is ours");
    fs::rename(&beside, path).expect("the folder is ours");
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
    /// The processes that have taken over from each other.
    successors: Vec<Pid>,
    /// Its folder, gone with the last proxy that was started there.
    home: Arc<TempDir>,
}

impl TestProxy {
    /// A proxy with one group.
    #[track_caller]
    pub(crate) fn start(group: Group) -> Self {
        Setup::default().group(group).start()
    }

    /// A proxy with this file, which says that the admin port is at this port of 127.0.0.1; waits until it is ready.
    #[track_caller]
    pub(crate) fn with_file(admin: u16, text: &str) -> Self {
        let home = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let path = home.path().join("proxy.json");
        fs::write(&path, text).expect("the folder is ours");
        Self::with_file_at(home, path, admin)
    }

    /// The same with a file that is there.
    #[track_caller]
    pub(crate) fn with_file_at(home: Arc<TempDir>, path: PathBuf, admin: u16) -> Self {
        Self::with_command(goproxy(), home, path, admin)
    }

    /// The same with a command that becomes the proxy when it gets the proxy's flags.
    #[track_caller]
    pub(crate) fn with_command(command: Command, home: Arc<TempDir>, path: PathBuf, admin: u16) -> Self {
        let mut proxy = Self::spawn_at(command, home, path, (Ipv4Addr::LOCALHOST, admin).into(), Vec::new());
        proxy.wait_until_ready();
        proxy
    }

    /// Starts again with the file as it is now, and waits until it is ready.
    #[track_caller]
    pub(crate) fn again(&self) -> Self {
        let (home, path) = (Arc::clone(&self.home), self.path.clone());
        let mut proxy = Self::spawn_at(goproxy(), home, path, self.admin, self.listens.clone());
        proxy.wait_until_ready();
        proxy
    }

    /// A proxy with this file, which says that the admin port is at `admin` and the groups at `listens`.
    #[track_caller]
    pub(crate) fn spawn(command: Command, text: &str, admin: SocketAddr, listens: Vec<SocketAddr>) -> Self {
        let home = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let path = home.path().join("proxy.json");
        fs::write(&path, text).expect("the folder is ours");
        Self::spawn_at(command, home, path, admin, listens)
    }

    #[track_caller]
    fn spawn_at(
        mut command: Command,
        home: Arc<TempDir>,
        path: PathBuf,
        admin: SocketAddr,
        listens: Vec<SocketAddr>,
    ) -> Self {
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
            successors: Vec::new(),
            home,
        }
    }

    /// Waits until it serves.
    #[track_caller]
    pub(crate) fn wait_until_ready(&mut self) {
        eventually("the proxy is ready", || {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                panic!("the proxy ended with {status}: {}", self.log.text());
            }
            self.try_get("/ready").is_some_and(|(status, _)| status == 200)
        });
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

    /// The folder that was made for it.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The text of its `proxy.json`.
    #[track_caller]
    pub(crate) fn file(&self) -> String {
        fs::read_to_string(&self.path).expect("the file is there")
    }

    /// Its `proxy.json`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// At the end sessions may be left that nobody ended.
    pub(crate) fn may_leave_sessions(&mut self) {
        self.may_leave_sessions = true;
    }

    /// Errors whose message begins like this may be in its log.
    pub(crate) fn may_alarm(&mut self, message: &'static str) {
        self.alarms.push(message);
    }

    /// An admin request that has to be granted.
    #[track_caller]
    pub(crate) fn ok(&self, target: &str) -> Value {
        let reply = self.get(target);
        let json = reply.json();
        assert!(reply.status == 200 && json["ok"] == true, "{target}: {} {json}", reply.status);
        json
    }

    /// The answer to an admin request that has to be refused.
    #[track_caller]
    pub(crate) fn refused(&self, target: &str, status: u16, code: &str) -> Value {
        is_refusal(&self.get(target), status, code, target)
    }

    /// An admin request, whatever is answered.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.http().get(target)
    }

    /// Any admin request: `head` are whole header lines, without the last empty one.
    #[track_caller]
    pub(crate) fn request(&self, method: &str, target: &str, head: &str, body: &[u8]) -> Reply {
        let mut http = self.http();
        let host = if head.to_ascii_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("{method} {target} HTTP/1.1\r\n{host}{head}{length}\r\n");
        // A refusal may come, and the connection be gone, before everything is sent.
        let _ = http.send(text.as_bytes()).and_then(|()| http.send(body));
        http.reply(method == "HEAD").unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// An admin request: status and body; `None` when nobody answers.
    pub(crate) fn try_get(&self, target: &str) -> Option<(u16, String)> {
        let reply = Http::connect_to(self.admin).and_then(|mut http| http.try_get(target)).ok()?;
        Some((reply.status, reply.text()))
    }

    #[track_caller]
    fn http(&self) -> Http {
        Http::connect_to(self.admin).expect("the admin port answers")
    }

    /// Changes a server of the first group: `ready`, `drain` or `maint`.
    #[track_caller]
    pub(crate) fn set_state(&self, server: SocketAddr, state: &str) {
        self.ok(&format!("/worker-state.do?group={}&server={server}&state={state}", self.addr().port()));
    }

    /// A server of the first group as `worker-list.do` shows it.
    #[track_caller]
    pub(crate) fn server(&self, server: SocketAddr) -> Value {
        let found = self.server_of(self.addr().port(), &server.to_string());
        assert!(!found.is_null(), "{server} is listed");
        found
    }

    /// A server of a group as `worker-list.do` shows it, null when it is not there.
    #[track_caller]
    pub(crate) fn server_of(&self, group: u16, addr: &str) -> Value {
        self.servers(group).into_iter().find(|server| server["addr"] == addr).unwrap_or(Value::Null)
    }

    /// Every server of a group as `worker-list.do` shows it.
    #[track_caller]
    pub(crate) fn servers(&self, group: u16) -> Vec<Value> {
        self.ok(&format!("/worker-list.do?group={group}"))["servers"].as_array().expect("a list").clone()
    }

    /// The addresses of a group's online servers, in order.
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
                let server = server.as_object_mut().expect("an object");
                // They change by themselves.
                ["lease_ms", "bytes_up", "bytes_down", "down_ms"].iter().for_each(|field| _ = server.remove(*field));
            }
            group["servers"] = servers.into();
        }
        (self.file(), groups)
    }

    /// The value of one series of the metrics, given as it stands there; `None` when it does not.
    #[track_caller]
    pub(crate) fn series(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().expect("a value is a number"))
    }

    /// The sum of all series of a metric whose line holds each of `labels`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.metric_if_shown(name, labels).unwrap_or_else(|| panic!("no metric {name} with {labels:?}"))
    }

    /// The same; `None` when there is no such series.
    #[track_caller]
    pub(crate) fn metric_if_shown(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.get("/metrics").text();
        let is_wanted = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let values: Vec<f64> = text.lines().filter(is_wanted).filter_map(value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// How many sessions ended for `reason`, in all groups.
    #[track_caller]
    pub(crate) fn ended(&self, reason: &str) -> u64 {
        let refusals = [
            "no_server",
            "connect_failed",
            "policy_failed",
            "limit",
            "denied",
            "loop",
            "bad_header",
            "header_timeout",
            "bad_hello",
            "hello_timeout",
            "no_route",
            "starttls_refused",
            "tls_failed",
            "handshake_timeout",
            "server_tls_failed",
        ];
        let is_refusal = refusals.contains(&reason);
        let name = if is_refusal { "goproxy_sessions_refused_total" } else { "goproxy_sessions_ended_total" };
        // What the settings rule out is shown when it has happened all the same.
        self.metric_if_shown(name, &[&format!("reason=\"{reason}\"")]).unwrap_or_default() as u64
    }

    /// Sessions now.
    #[track_caller]
    pub(crate) fn sessions(&self) -> u64 {
        self.ok("/session-list.do")["total"].as_u64().expect("a number")
    }

    /// The id of its process; after an upgrade, of the new one.
    pub(crate) fn pid(&self) -> u32 {
        self.successors.last().map_or(self.child.id(), |pid| pid.as_raw_nonzero().get().cast_unsigned())
    }

    /// Has a new process take over. What was answered.
    #[track_caller]
    pub(crate) fn upgrade(&mut self) -> Value {
        let reply = self.request("POST", "/upgrade.do", "", b"");
        let json = reply.json();
        assert!(reply.status == 200 && json["ok"] == true, "upgrade.do: {} {json}\n{}", reply.status, self.log.text());
        self.has_successor(json["pid"].as_u64().expect("a number") as u32);
        json
    }

    /// Another process has taken over.
    pub(crate) fn has_successor(&mut self, pid: u32) {
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "process {pid} runs");
        self.successors.push(i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process has an id"));
    }

    /// Waits until one of its processes has ended.
    #[track_caller]
    pub(crate) fn wait_for_end_of(&mut self, pid: u32) {
        if pid == self.child.id() {
            wait_for("the first process ends", || self.child.try_wait().expect("it is our child"));
        }
        eventually("the process ends", || has_ended(pid));
        self.is_over |= pid == self.pid();
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
        for pid in &self.successors {
            let _ = rustix::process::kill_process(*pid, Signal::KILL);
        }
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.wait_for_the_rest();
    }

    /// True while the process runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for the process to end by itself; its log is then complete.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.is_over = true;
        let status = wait_for("the proxy ends", || self.child.try_wait().expect("it is our child"));
        self.log.wait_for_the_rest();
        status
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
        let message = |line: &Value| line.as_str().or(line["message"].as_str()).unwrap_or_default().to_owned();
        alarming.retain(|line| !self.alarms.iter().any(|expected| message(line).starts_with(expected)));
        assert!(alarming.is_empty(), "in the log: {alarming:#?}");
    }
}

/// True for a process that is not there any more, or that only its parent has not noticed yet.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with(['Z', 'X']))
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill();
            let text = self.log.text();
            let lines: Vec<&str> = text.lines().rev().take(40).collect();
            eprintln!("--- the end of the proxy's log");
            return lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.check()));
        self.kill();
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    }
}
