//! The proxies that are compared: where they are, how they are configured, when they are ready.
//!
//! Each gets an address of its own with one listening port, or as many as it has groups, two or more servers in turn,
//! one thread or process per core, no logs unless they are wanted, and a private folder. All are started in the
//! foreground as guarded children.

use std::{
    fmt, fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::{
    admin,
    children::{self, Guarded},
    configs::{self, Settings, Speaks, Splice},
    exchange::{self, Exchanges},
    faults::Faults,
    measure, namespace, tools,
    wire::Op,
};

const FIRST_PORT: u16 = 10_000;
const ADMIN_PORT: u16 = 9_000;

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Goproxy,
    /// Another build of goproxy, from `--before`.
    GoproxyBefore,
    /// goproxy with the policy `policies/round_robin.wat` in place of the built-in one.
    GoproxyModule,
    Haproxy,
    /// HAProxy that splices always: its best at bulk, not at the rest.
    HaproxySplice,
    Nginx,
}

impl Kind {
    pub(crate) fn is_goproxy(self) -> bool {
        matches!(self, Self::Goproxy | Self::GoproxyBefore | Self::GoproxyModule)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Goproxy => "goproxy",
            Kind::GoproxyBefore => "goproxy before",
            Kind::GoproxyModule => "goproxy (WebAssembly)",
            Kind::Haproxy => "HAProxy",
            Kind::HaproxySplice => "HAProxy (splice always)",
            Kind::Nginx => "nginx",
        })
    }
}

/// What all proxies have in common.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) cores: usize,
    /// The program to measure.
    pub(crate) goproxy: &'a Path,
    /// Another build of it.
    pub(crate) before: Option<&'a Path>,
    /// The HAProxy to measure, unless it is the one that is installed.
    pub(crate) haproxy: Option<&'a Path>,
    /// The nginx to measure, unless it is the one that is installed.
    pub(crate) nginx: Option<&'a Path>,
    /// Every session is logged, into a file.
    pub(crate) has_logs: bool,
    /// What they make of their clients' bytes.
    pub(crate) speaks: Speaks<'a>,
}

/// One proxy, running or not.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) version: String,
    /// Where its clients connect: one address for each group.
    pub(crate) targets: Vec<SocketAddr>,
    /// Only goproxy has one.
    pub(crate) admin: Option<SocketAddr>,
    /// Its configuration.
    pub(crate) file: PathBuf,
    folder: TempDir,
    program: PathBuf,
    args: Vec<String>,
    running: Option<Guarded>,
    /// An exchange of plain bytes goes through it.
    is_plain: bool,
}

impl Peer {
    /// Finds the program and writes its configuration. `index` is nobody else's.
    pub(crate) fn new(
        kind: Kind,
        index: usize,
        groups: u16,
        servers: &[SocketAddr],
        means: Means<'_>,
    ) -> anyhow::Result<Peer> {
        let ip = Ipv4Addr::new(127, 1, 0, 1 + index as u8);
        let targets: Vec<SocketAddr> = (0..groups).map(|group| SocketAddr::from((ip, FIRST_PORT + group))).collect();
        let admin = SocketAddr::from((ip, ADMIN_PORT));
        let folder = TempDir::with_prefix("goproxy-peers-")?;
        children::remove_on_signal(folder.path().to_owned());
        let Means { cores, goproxy, before, haproxy, nginx, has_logs, speaks } = means;
        let descriptors = namespace::descriptors();
        let settings = Settings { targets: &targets, admin, servers, cores, descriptors, has_logs, speaks };
        let (program, name, config) = match kind {
            Kind::Goproxy => (goproxy.to_owned(), "proxy.json", configs::goproxy(&settings, "round_robin")),
            Kind::GoproxyBefore => {
                let before = before.context("goproxy-before needs --before PATH")?;
                (before.to_owned(), "proxy.json", configs::goproxy(&settings, "round_robin"))
            }
            Kind::GoproxyModule => (goproxy.to_owned(), "proxy.json", configs::goproxy(&settings, "wasm:round_robin")),
            Kind::Haproxy => {
                (given_or_installed(haproxy, "haproxy")?, "haproxy.cfg", configs::haproxy(&settings, Splice::Auto))
            }
            Kind::HaproxySplice => {
                (given_or_installed(haproxy, "haproxy")?, "haproxy.cfg", configs::haproxy(&settings, Splice::Always))
            }
            Kind::Nginx => {
                let program = given_or_installed(nginx, "nginx")?;
                let module = stream_module(&program)?;
                (program, "nginx.conf", configs::nginx(&settings, module.as_deref()))
            }
        };
        let path = folder.path().join(name);
        fs::write(&path, config)?;
        let file = path.display().to_string();
        let prefix = folder.path().display().to_string();
        let args: Vec<String> = match kind {
            Kind::Goproxy | Kind::GoproxyBefore | Kind::GoproxyModule => vec!["--config".into(), file],
            Kind::Haproxy | Kind::HaproxySplice => vec!["-db".into(), "-f".into(), file],
            Kind::Nginx => vec!["-c".into(), file, "-p".into(), prefix, "-e".into(), "stderr".into()],
        };
        let version = version(kind, &program)?;
        let admin = kind.is_goproxy().then_some(admin);
        Ok(Peer {
            kind,
            version,
            targets,
            admin,
            file: path,
            folder,
            program,
            args,
            running: None,
            is_plain: matches!(speaks, Speaks::Tcp),
        })
    }

    /// Starts it and waits until an exchange goes through it.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let output = self.folder.path().join("output.txt");
        let log = fs::File::create(&output)?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = Guarded::spawn(&mut command).with_context(|| format!("{}: cannot run", self.program.display()))?;
        let child = self.running.insert(child);

        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let faults = Faults::default();
            // Otherwise the first round, which does not count, tells whether it works.
            let is_ready = self.admin.is_none_or(says_ready)
                && if !self.is_plain {
                    TcpStream::connect(self.targets[0]).is_ok()
                } else {
                    exchange::run(Exchanges { op: Op::Reply, total: 1, connections: 1 }, &self.targets, 1, &faults);
                    faults.take().is_none()
                };
            if is_ready {
                return Ok(());
            }
            if child.has_ended() || Instant::now() > deadline {
                let said = fs::read_to_string(&output).unwrap_or_default();
                bail!("{} {}: does not serve; it said: {}", self.kind, self.version, said.trim());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Its processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.running.as_ref().map(|child| measure::tree(child.pid())).unwrap_or_default()
    }

    /// A private folder for files about it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The program of a peer. A path that is given is made absolute, because each peer runs in a folder of its own.
fn given_or_installed(given: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    match given {
        Some(path) => fs::canonicalize(path).with_context(|| format!("--{name} {}: not found", path.display())),
        None => tools::find(name).with_context(|| {
            format!(
                "{name}: not found; install the package {name}, name a build with --{name}, or use --peers without it"
            )
        }),
    }
}

/// nginx's stream module, where it is a file of its own.
fn stream_module(nginx: &Path) -> anyhow::Result<Option<PathBuf>> {
    let output = Command::new(nginx).arg("-V").output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut flags = text.split_whitespace();
    if flags.clone().any(|flag| flag == "--with-stream") {
        return Ok(None);
    }
    let folder = flags.find_map(|flag| flag.strip_prefix("--modules-path=")).unwrap_or("/usr/lib/nginx/modules");
    let module = Path::new(folder).join("ngx_stream_module.so");
    ensure!(
        module.is_file(),
        "{}: has no stream module; build it with --with-stream, install the package libnginx-mod-stream, or use \
         --peers without it",
        nginx.display()
    );
    Ok(Some(module))
}

fn version(kind: Kind, program: &Path) -> anyhow::Result<String> {
    let flag = if kind.is_goproxy() { "--version" } else { "-v" };
    let output = Command::new(program)
        .arg(flag)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{}: cannot run", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let found = text.split([' ', '/', '\n']).find(is_version);
    Ok(found.with_context(|| format!("{}: {flag} prints no version", program.display()))?.to_owned())
}

fn says_ready(at: SocketAddr) -> bool {
    admin::ask(at, "GET", "ready").is_ok_and(|(status, _)| status == 200)
}
