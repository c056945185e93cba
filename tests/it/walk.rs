//! A random walk over the whole proxy.
//!
//! Servers refuse, reset, stall and return; clients of every habit come and go; operators and edits of the file change
//! things; checks, probes, ejections and limits act. After each step and at the end the promises hold that hold always.
//! A seed that fails is printed; `WALK_SEED=7 cargo test --test it walk` walks it alone.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Client, FakeServer, Group, TestProxy, eventually, free_port, own_ip, replace, spawn, wait_for_instead_of,
};

/// Walks of one run, and steps of one walk.
const SEEDS: u64 = 100;
const STEPS: usize = 30;

/// Walks at a time.
const THREADS: u64 = 4;

/// Servers that misbehave; one more always serves.
const SERVERS: usize = 4;

/// Sessions that one of the servers may have at a time.
const SESSIONS_MAX: usize = 3;

/// How a server treats those who connect, besides refusing them.
const GOOD: u8 = 0;
const RESETTING: u8 = 1;
const STALLING: u8 = 2;

/// A server whose habits change.
struct Moody {
    server: FakeServer,
    habit: Arc<AtomicU8>,
    sessions: Arc<AtomicUsize>,
    sessions_most: Arc<AtomicUsize>,
    refuses: bool,
    /// What an operator wants of it.
    state: &'static str,
}

impl Moody {
    fn new() -> Self {
        let (habit, sessions, sessions_most) = (Arc::default(), Arc::default(), Arc::default());
        // A port of its own choice is what a socket keeps when it ceases to listen.
        let server = FakeServer::start_at(free_port(own_ip()), behaviour(&habit, &sessions, &sessions_most));
        Self { server, habit, sessions, sessions_most, refuses: false, state: "ready" }
    }

    fn set_refusing(&mut self, refuses: bool) {
        if refuses && !self.refuses {
            self.server.refuses_from_now_on();
        } else if !refuses && self.refuses {
            self.server.listens_from_now_on(behaviour(&self.habit, &self.sessions, &self.sessions_most));
        }
        self.refuses = refuses;
    }

    fn name(&self) -> String {
        self.server.addr.to_string()
    }
}

/// Says who it is and sends back what it gets, unless it has another habit now.
fn behaviour(
    habit: &Arc<AtomicU8>,
    sessions: &Arc<AtomicUsize>,
    most: &Arc<AtomicUsize>,
) -> impl Fn(Client, usize) + Send + Sync + 'static {
    let (habit, sessions, most) = (Arc::clone(habit), Arc::clone(sessions), Arc::clone(most));
    move |mut client, _| {
        let mut first = [0];
        match habit.load(SeqCst) {
            RESETTING => return client.reset(),
            STALLING => {
                // Until the other side gives up.
                while let Ok(1..) = client.stream.read(&mut [0; 1_024]) {}
                return;
            }
            _ => {}
        }
        // A probe or a check says nothing, and is no session.
        let Ok(1..) = client.stream.read(&mut first) else { return };
        most.fetch_max(sessions.fetch_add(1, SeqCst) + 1, SeqCst);
        let addr = client.stream.local_addr().map(|addr| addr.to_string()).unwrap_or_default();
        let mut serve = || -> std::io::Result<()> {
            write!(client.stream, "{addr:<24}")?;
            let mut buffer = [0; 16 << 10];
            loop {
                match client.stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => client.stream.write_all(&buffer[..read])?,
                }
            }
        };
        // The client may end as it likes.
        let _ = serve();
        sessions.fetch_sub(1, SeqCst);
    }
}

/// A client that has been served.
struct Served {
    client: Client,
    server: String,
}

struct Walk {
    random: fastrand::Rng,
    proxy: TestProxy,
    steady: FakeServer,
    moody: Vec<Moody>,
    kept: Vec<Served>,
    /// For the file.
    settings: BTreeMap<&'static str, Value>,
    trace: Vec<String>,
}

impl Walk {
    fn start(seed: u64) -> Self {
        let moody: Vec<Moody> = (0..SERVERS).map(|_| Moody::new()).collect();
        let (sessions, most) = (Arc::default(), Arc::default());
        let steady = FakeServer::start(behaviour(&Arc::default(), &sessions, &most));
        // Each client may try everybody.
        let mut group = Group::new("round_robin", &[&steady]).with("connect_attempts", SERVERS + 1);
        for (index, server) in moody.iter().enumerate() {
            let limit = if index == 0 { SESSIONS_MAX } else { 0 };
            group = group.server(&server.server, json!({ "max_sessions": limit }));
        }
        let proxy = TestProxy::start(group);
        let random = fastrand::Rng::with_seed(seed);
        Self { random, proxy, steady, moody, kept: Vec::new(), settings: BTreeMap::new(), trace: Vec::new() }
    }

    fn step(&mut self) {
        let at = self.random.usize(..SERVERS);
        match self.random.u32(..100) {
            0..10 => self.change_habit(at),
            10..18 => self.set_state(at),
            18..60 => self.client_comes(),
            60..75 => self.client_goes(),
            75..85 => self.edit_the_file(),
            85..90 => self.set_policy(),
            90..94 => self.register(),
            _ => self.look(at),
        }
        self.check_promises();
    }

    fn note(&mut self, what: String) {
        self.trace.push(what);
    }

    fn change_habit(&mut self, at: usize) {
        let habit = self.random.u8(..4);
        self.note(format!("server {at} has habit {habit}"));
        self.moody[at].set_refusing(habit == 3);
        self.moody[at].habit.store(if habit == 3 { GOOD } else { habit }, SeqCst);
    }

    fn set_state(&mut self, at: usize) {
        let state = self.random.choice(["ready", "drain", "maint"]).expect("there are some");
        self.note(format!("server {at} is {state}"));
        self.proxy.set_state(self.moody[at].server.addr, state);
        self.moody[at].state = state;
    }

    fn client_comes(&mut self) {
        let waits = if self.moody.iter().any(|server| server.habit.load(SeqCst) == STALLING) { 1 } else { 30 };
        let come = || -> std::io::Result<Served> {
            // A server may reset its client before this has noticed that it is connected.
            let mut client = Client::try_connect(self.proxy.addr())?;
            client.stream.set_read_timeout(Some(Duration::from_secs(waits)))?;
            client.stream.write_all(b"x")?;
            let mut banner = [0; 24];
            client.stream.read_exact(&mut banner)?;
            Ok(Served { client, server: String::from_utf8_lossy(&banner).trim().to_owned() })
        };
        match come() {
            Ok(mut served) => {
                self.note(format!("a client of {}", served.server));
                let state = self.moody.iter().find(|server| server.name() == served.server).map(|server| server.state);
                assert!(state.is_none_or(|state| state == "ready"), "{} is not ready", served.server);
                served.client.stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a stream takes options");
                served.client.echo(&[7; 3_000]);
                self.kept.push(served);
            }
            Err(_) => {
                self.note("a client that was served badly".to_owned());
                let is_bad = |server: &Moody| server.habit.load(SeqCst) != GOOD && server.state == "ready";
                assert!(self.moody.iter().any(is_bad), "nobody is left who would do that");
            }
        }
    }

    fn client_goes(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let Served { mut client, server } = self.kept.swap_remove(self.random.usize(..self.kept.len()));
        let how = self.random.u8(..4);
        self.note(format!("a client of {server} goes, way {how}"));
        match how {
            0 => client.reset(),
            1 => {
                client.send(b"last words");
                client.finish();
                assert_eq!(client.receive_all().0, b"last words");
            }
            2 => {
                let sessions = self.proxy.ok("/session-list.do");
                let addr = client.stream.local_addr().expect("it is connected").to_string();
                let mut all = sessions["sessions"].as_array().expect("a list").iter();
                if let Some(session) = all.find(|session| session["client"] == addr) {
                    self.proxy.ok(&format!("/session-close.do?id={}", session["id"]));
                    client.receive_all();
                }
            }
            _ => drop(client),
        }
    }

    fn edit_the_file(&mut self) {
        let random = &mut self.random;
        let check = json!({ "kind": "tcp", "interval": "200ms", "start": random.choice(["up", "down"]) });
        let (key, value) = match random.u8(..6) {
            0 => ("check", if random.bool() { check } else { Value::Null }),
            1 => ("eject", if random.bool() { json!({ "failures": 2, "time": "300ms" }) } else { Value::Null }),
            2 => ("fail_open", random.bool().into()),
            3 => ("recheck_max", random.choice(["250ms", "2s"]).into()),
            4 => ("connect_timeout", random.choice(["300ms", "2s"]).into()),
            _ => ("idle_timeout", random.choice(["10m", "1h"]).into()),
        };
        self.note(format!("{key} is {value}"));
        self.settings.insert(key, value);
        let mut file: Value = serde_json::from_str(&self.proxy.file()).expect("the proxy writes JSON as it found it");
        for (key, value) in &self.settings {
            file["groups"][0][*key] = value.clone();
        }
        replace(self.proxy.path(), &serde_json::to_string_pretty(&file).expect("JSON"));
        self.proxy.ok("/config-reload.do");
    }

    fn set_policy(&mut self) {
        let policies = ["ha", "round_robin", "ip_hash", "least_sessions", "random", "p2c", "maglev"];
        let policy = self.random.choice(policies).expect("there are some");
        self.note(format!("policy {policy}"));
        self.proxy.ok(&format!("/group-policy.do?group={}&policy={policy}", self.proxy.addr().port()));
    }

    /// A server registers itself, and goes at once.
    fn register(&mut self) {
        let group = self.proxy.addr().port();
        self.note("one registers".to_owned());
        self.proxy.ok(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:1&state=drain"));
        self.proxy.ok(&format!("/worker-remove.do?group={group}&server=127.0.0.1:1"));
    }

    fn look(&mut self, at: usize) {
        let group = self.proxy.addr().port();
        self.note(format!("somebody looks at server {at}"));
        let explained = self.proxy.ok(&format!("/policy-explain.do?group={group}&client=10.0.0.1"));
        assert!(explained["server"].is_string(), "{explained}");
        let reply = self.proxy.get(&format!("/worker-check.do?group={group}&server={}", self.moody[at].name()));
        assert!([200, 409].contains(&reply.status), "{}", reply.json());
    }

    fn check_promises(&mut self) {
        let most = self.moody[0].sessions_most.load(SeqCst);
        assert!(most <= SESSIONS_MAX, "{most} sessions on a server that takes {SESSIONS_MAX}");
        for reason in ["no_server", "connect_failed", "policy_failed", "limit"] {
            assert_eq!(self.proxy.ended(reason), 0, "{reason}, though one server always serves");
        }
        let steady = self.proxy.server(self.steady.addr);
        assert_eq!(steady["suspect"], false, "{steady}");
    }

    /// Everybody leaves: nothing may be left of them.
    fn end(mut self) {
        for Served { client, .. } in self.kept.drain(..) {
            drop(client);
        }
        for server in &mut self.moody {
            server.set_refusing(false);
            server.habit.store(GOOD, SeqCst);
            self.proxy.set_state(server.server.addr, "ready");
        }
        let proxy = &self.proxy;
        eventually("every session has ended", || proxy.sessions() == 0);
        let group = proxy.addr().port();
        eventually("no server has a session", || proxy.servers(group).iter().all(|server| server["sessions"] == 0));
        let ended: f64 =
            ["client_closed", "server_closed", "client_reset", "server_reset", "killed", "half_close_timeout"]
                .iter()
                .map(|reason| proxy.ended(reason) as f64)
                .sum();
        assert_eq!(proxy.metric("goproxy_sessions_total", &[]), ended, "each session ends once");
        // An ejection may last longer than the walk.
        let is_back = |server: &Value| server["online"] == true || server["ejected_ms"].is_u64();
        wait_for_instead_of("all servers are back", || {
            let servers = proxy.servers(group);
            if servers.iter().all(is_back) { Ok(()) } else { Err(servers) }
        });
        eventually("nothing is left open", || proxy.descriptors() < 64);
    }
}

fn walk(seed: u64) {
    let mut walk = Walk::start(seed);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        (0..STEPS).for_each(|_| walk.step());
    }));
    if let Err(panic) = result {
        eprintln!("WALK_SEED={seed}: {:#?}", walk.trace);
        walk.proxy.may_leave_sessions();
        std::panic::resume_unwind(panic);
    }
    let trace = walk.trace.clone();
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| walk.end())) {
        eprintln!("WALK_SEED={seed}, at the end of: {trace:#?}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn whatever_happens_what_always_holds_holds() {
    if let Some(seed) = std::env::var("WALK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return walk(seed);
    }
    let walks = (0..THREADS).map(|first| spawn(move || (first..SEEDS).step_by(THREADS as usize).for_each(walk)));
    let walks: Vec<_> = walks.collect();
    walks.into_iter().for_each(|walk| walk.join().expect("a walk failed; its seed is printed above"));
}
