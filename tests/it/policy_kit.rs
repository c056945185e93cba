//! Modules for the proxy: a folder to drop them into, guests, and what the proxy says of them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use goproxy::base::text;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Client, FakeServer, Group, Setup, TestProxy, echo, let_pass, sha256, spawn, wait_for, wait_for_instead_of,
};

#[path = "../../src/policy/wasm/guests.rs"]
pub(crate) mod guests;

use guests::{Parts, policy};

/// A body that never ends.
pub(crate) const LOOP: &str = "(loop $for_ever (br $for_ever))";

/// What other groups may be delayed by at most. Promised is one deadline; the machine that tests may be busy.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(2);

/// A `policies_dir`.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn with(file: &str, content: impl AsRef<[u8]>) -> Self {
        let folder = Self::new();
        folder.drop_in(file, content);
        folder
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Puts a whole file there at once, as the manual advises.
    pub(crate) fn drop_in(&self, file: &str, content: impl AsRef<[u8]>) {
        let new = self.path(&format!(".{file}.new"));
        fs::write(&new, content).expect("the folder is ours");
        fs::rename(new, self.path(file)).expect("the folder is ours");
    }

    /// What a proxy is started with that looks for its modules here.
    pub(crate) fn setup(&self) -> Setup {
        Setup::default().with("policies_dir", self.0.path().to_str().expect("a plain path"))
    }
}

/// A server that says its name, one letter, and then sends back what it gets.
pub(crate) fn named(name: char) -> FakeServer {
    FakeServer::start(move |mut client, _| {
        // The client may be gone already.
        if std::io::Write::write_all(&mut client.stream, &[name as u8]).is_ok() {
            echo(client);
        }
    })
}

/// The servers A, B and C.
pub(crate) fn three() -> [FakeServer; 3] {
    ['A', 'B', 'C'].map(named)
}

/// A group of the module `x`; these keys of the policy and none else.
pub(crate) fn group_of(policy: Value, servers: &[FakeServer]) -> Group {
    let group = Group::new("", &servers.iter().collect::<Vec<_>>());
    group.with("policy", policy)
}

/// The module `x`, given so much time that a busy machine is no fault of it; `ha` when it fails.
pub(crate) fn patient() -> Value {
    json!({ "wasm": "x", "fallback": "ha", "deadline": "1s" })
}

/// A new client, and the name of the server it got.
#[track_caller]
pub(crate) fn connect(addr: SocketAddr) -> (Client, char) {
    let mut client = Client::connect(addr);
    let name = client.receive(1)[0] as char;
    (client, name)
}

/// The name of the server that a new client gets; the session works, and is over then.
#[track_caller]
pub(crate) fn served_by(addr: SocketAddr) -> char {
    let (mut client, name) = connect(addr);
    client.echo(b"ping");
    name
}

/// What `policy-list.do` shows of a policy.
#[track_caller]
pub(crate) fn listed(proxy: &TestProxy, name: &str) -> Value {
    let list = proxy.ok("/policy-list.do");
    let policies = list["policies"].as_array().expect("a list of policies");
    policies.iter().find(|policy| policy["name"] == name).unwrap_or_else(|| panic!("{name} is in {list}")).clone()
}

/// Waits until this content of the module `x` is in use, and nothing is wrong with it.
#[track_caller]
pub(crate) fn takes_over(proxy: &TestProxy, content: impl AsRef<[u8]>) -> Value {
    let hash = hex(content.as_ref());
    wait_for(&format!("version {hash} is in use"), || {
        let module = listed(proxy, "wasm:x");
        (module["sha256"] == *hash && (module["error"].is_null() || module["state"] == "quarantined")).then_some(module)
    })
}

/// Waits until the file of the module `x` is refused for a reason that says this; the whole reason.
#[track_caller]
pub(crate) fn is_refused(proxy: &TestProxy, says: &str) -> String {
    wait_for_instead_of(&format!("a refusal with {says:?}"), || {
        let error = listed(proxy, "wasm:x")["error"].take();
        error.as_str().filter(|text| text.contains(says)).map(str::to_owned).ok_or(error)
    })
}

/// A hash as `policy-list.do` shows it.
pub(crate) fn hex(content: &[u8]) -> String {
    text::hex(&sha256(content))
}

/// The value of a module's counter.
#[track_caller]
pub(crate) fn counted(proxy: &TestProxy, metric: &str) -> u64 {
    proxy.metric(&format!("goproxy_policy_{metric}"), &["policy=\"wasm:x\""]) as u64
}

/// Picks the server at this place of the list, whether it is available or not.
pub(crate) fn nth(place: u32) -> String {
    let set_servers = format!(
        "(global.set $heap (i32.const 65536))
        (global.set $some (i32.gt_u (local.get $len) (i32.const {place})))
        (if (global.get $some)
          (then (global.set $first (i32.load offset={} (local.get $ptr)))))",
        36 * place
    );
    policy(Parts { set_servers: &set_servers, ..Parts::default() })
}

/// Does well when it is tried, and this when a client comes.
pub(crate) fn later(pick: &str, parts: Parts<'_>) -> String {
    // 192.0.2.1 is the client of the trial.
    let good = parts.pick;
    let pick = format!("(if (i64.ne (local.get $ip_high) (i64.const 0xc0000201)) (then {pick})) {good}");
    policy(Parts { pick: &pick, ..parts })
}

/// Somebody who uses another group all the while: one long session, and one new session after the other.
pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
}

impl Bystander {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = spawn(move || {
            let (mut long, _) = connect(addr);
            let (mut rounds, mut slowest) = (0, Duration::ZERO);
            while !is_over.load(Relaxed) {
                let start = Instant::now();
                long.echo(b"ping");
                slowest = slowest.max(start.elapsed());
                let start = Instant::now();
                served_by(addr);
                slowest = slowest.max(start.elapsed());
                rounds += 1;
                let_pass(Duration::from_millis(2), "the pace of the clients");
            }
            (rounds, slowest)
        });
        Self { stop, thread }
    }

    /// Ends, and expects that it was served without long waits. Tells the longest.
    #[track_caller]
    pub(crate) fn was_served(self) -> Duration {
        self.stop.store(true, Relaxed);
        let (rounds, slowest) = self.thread.join().expect("every session of the other group works");
        assert!(rounds > 0 && slowest < DELAY_MAX, "{rounds} rounds, the slowest step took {slowest:?}");
        slowest
    }
}

/// Everything below a folder's path is ours to change: a link instead of a file.
pub(crate) fn link(target: &Path, at: &Path) {
    let new = at.with_extension("link");
    std::os::unix::fs::symlink(target, &new).expect("the folder is ours");
    fs::rename(new, at).expect("the folder is ours");
}
