//! A random walk over the whole proxy.
//!
//! Servers refuse, reset, stall and return; clients of every habit come and go, some with a PROXY header and some over a
//! limit; operators and edits of the file change things; checks, probes, ejections, limits and `on_down` act. After each
//! step and at the end the promises hold that hold always.
//! A seed that fails is printed; `WALK_SEED=7 cargo test --test it walk` walks it alone.

mod moody;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, FakeServer, Group, TestProxy, eventually, replace, spawn, wait_for_instead_of};
use moody::{BANNER, GOOD, Moody, STALLING, behaviour};
use rules::{Coming, Rules};

/// Walks of one run, and steps of one walk.
const SEEDS: u64 = 100;
const STEPS: usize = 30;

/// Walks at a time.
const THREADS: u64 = 4;

/// Servers that misbehave; one more always serves.
const SERVERS: usize = 4;

/// Sessions that one of the servers may have at a time.
const SESSIONS_MAX: usize = 3;

/// Reasons for which clients may be turned away, when the file says so.
const REFUSALS: [&str; 3] = ["limit", "denied", "bad_header"];

/// A client that has been served.
struct Served {
    client: Client,
    server: String,
    /// Its address, as the proxy has to know it.
    addr: SocketAddr,
    /// It was counted for its client's limit.
    is_counted: bool,
}

struct Walk {
    random: fastrand::Rng,
    proxy: TestProxy,
    steady: FakeServer,
    moody: Vec<Moody>,
    kept: Vec<Served>,
    rules: Rules,
    /// A server that checks find down may lose its sessions.
    may_lose: bool,
    /// How many clients have to be turned away by now, by reason.
    refused: BTreeMap<&'static str, u64>,
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
        let (random, rules) = (fastrand::Rng::with_seed(seed), Rules::default());
        let (kept, refused, trace) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { random, proxy, steady, moody, kept, rules, may_lose: false, refused, trace }
    }

    fn step(&mut self) {
        let at = self.random.usize(..SERVERS);
        match self.random.u32(..100) {
            0..10 => self.change_habit(at),
            10..18 => self.set_state(at),
            18..58 => self.client_comes(),
            58..70 => self.client_goes(),
            70..85 => self.edit_the_file(),
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
        let before = std::mem::replace(&mut self.moody[at].state, state);
        if state == "maint" && before != "maint" && self.rules.closes("maint") {
            let name = self.moody[at].name();
            for mut lost in self.kept.extract_if(.., |served| served.server == name) {
                // Whatever it had sent has come back; there is an end.
                lost.client.receive_all();
            }
        }
    }

    /// The proxy knows of the sessions that are kept and of no others.
    fn settle(&mut self) {
        let Self { proxy, kept, moody, may_lose, .. } = self;
        let has_refused: BTreeSet<String> = moody.iter().filter(|it| it.has_refused).map(Moody::name).collect();
        eventually("nobody is left but those who are kept", || {
            let list = proxy.ok("/session-list.do")["sessions"].clone();
            let list = list.as_array().expect("a list").iter().map(|session| session["client"].clone());
            let list: Vec<Value> = list.collect();
            let is_there = |served: &Served| list.contains(&served.addr.to_string().into());
            kept.retain(|served| !(*may_lose && has_refused.contains(&served.server)) || is_there(served));
            list.len() == kept.len()
        });
    }

    fn client_comes(&mut self) {
        self.settle();
        let coming = self.rules.coming(&mut self.random);
        if let Some(reason) = self.rules.refusal(&coming, &self.kept) {
            self.note(format!("a client {:?} that has to be turned away: {reason}", coming.named));
            let served = self.come(&coming, 30);
            assert!(served.is_err(), "it was served by {}", served.map(|served| served.server).unwrap_or_default());
            let count = self.refused.entry(reason).or_insert(0);
            *count += 1;
            let (proxy, count) = (&self.proxy, *count);
            eventually("it is counted", || proxy.ended(reason) >= count);
            return;
        }
        let waits = if self.moody.iter().any(|server| server.habit.load(SeqCst) == STALLING) { 1 } else { 30 };
        match self.come(&coming, waits) {
            Ok(mut served) => {
                self.note(format!("a client {} of {}", served.addr, served.server));
                let state = self.moody.iter().find(|server| server.name() == served.server).map(|server| server.state);
                assert!(state.is_none_or(|state| state == "ready"), "{} is not ready", served.server);
                served.client.stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a stream takes options");
                served.client.echo(&[7; 3_000]);
                self.kept.push(served);
            }
            Err(error) => {
                self.note(format!("a client that was served badly: {error}"));
                let is_bad = |server: &Moody| server.habit.load(SeqCst) != GOOD && server.state == "ready";
                assert!(self.moody.iter().any(is_bad), "nobody is left who would do that: {error}");
            }
        }
    }

    fn come(&self, coming: &Coming, waits: u64) -> io::Result<Served> {
        // A server may reset its client before this has noticed that it is connected.
        let mut client = Client::try_connect(self.proxy.addr())?;
        let addr = coming.named.map_or_else(|| client.stream.local_addr(), Ok)?;
        client.stream.set_read_timeout(Some(Duration::from_secs(waits)))?;
        client.stream.write_all(&coming.header)?;
        client.stream.write_all(b"x")?;
        let mut banner = [0; BANNER];
        client.stream.read_exact(&mut banner)?;
        let banner = String::from_utf8_lossy(&banner).into_owned();
        let (server, told) = banner.split_at(BANNER / 2);
        let expected = if self.rules.tells_servers() { addr.to_string() } else { "-".to_owned() };
        assert_eq!(told.trim(), expected, "what {server} is told");
        Ok(Served { client, server: server.trim().to_owned(), addr, is_counted: self.rules.counts_clients() })
    }

    fn client_goes(&mut self) {
        self.settle();
        if self.kept.is_empty() {
            return;
        }
        let Served { mut client, server, addr, .. } = self.kept.swap_remove(self.random.usize(..self.kept.len()));
        // A session that may end at any moment keeps no promise.
        let is_unsure = self.may_lose && self.moody.iter().any(|it| it.has_refused && it.name() == server);
        let how = if is_unsure { 3 } else { self.random.u8(..4) };
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
                let mut all = sessions["sessions"].as_array().expect("a list").iter();
                let session = all.find(|session| session["client"] == addr.to_string()).expect("it is listed");
                self.proxy.ok(&format!("/session-close.do?id={}", session["id"]));
                client.receive_all();
            }
            _ => drop(client),
        }
    }

    fn edit_the_file(&mut self) {
        let (key, value) = self.rules.change(&mut self.random);
        self.note(format!("{key} is {value}"));
        replace(self.proxy.path(), &self.rules.written_into(&self.proxy.file()));
        self.proxy.ok("/config-reload.do");
        self.may_lose |= self.rules.closes("check");
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
        for reason in ["no_server", "connect_failed", "policy_failed", "header_timeout"] {
            assert_eq!(self.proxy.ended(reason), 0, "{reason}, though one server always serves");
        }
        for reason in REFUSALS {
            assert_eq!(self.proxy.ended(reason), self.refused.get(reason).copied().unwrap_or(0), "{reason}");
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
        let clients = || proxy.ok("/client-list.do")["clients"].as_array().expect("a list").clone();
        eventually("no client has a session", || clients().iter().all(|client| client["sessions"] == 0));
        let ways = ["client_closed", "server_closed", "client_reset", "server_reset", "killed", "half_close_timeout"];
        let ways = ways.into_iter().chain(["server_down"]).chain(REFUSALS);
        let ended: f64 = ways.map(|reason| proxy.ended(reason) as f64).sum();
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
