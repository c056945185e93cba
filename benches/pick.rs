//! What a pick costs, and what it costs to prepare a policy for a new set of servers.
//!
//! `pick/POLICY/SERVERS` asks with all servers open, equal weights and a new client each time;
//! `pick_weighted` does so with weights 1 to 256, where that makes a difference. `for_servers` prepares for
//! 10,000 servers of such weights. Run it with `cargo bench --bench pick`.
//!
//! `pick_module/NAME/SERVERS` asks the modules of `policies/`, as the proxy does: behind the group's lock, with the
//! answer checked.
//!
//! `pick_cold/POLICY` is a pick as a session sees it: between two of them the thread has sent and received packets and
//! walked over memory, so that what the pick needs has left the nearest caches. `alone` asks from one thread, `shared`
//! while another thread does the same with the same group. `nothing` is what looking at the clock costs, to be taken
//! off the others; `component` is the same module as a component. Figures are medians.
//!
//! With very many servers part of the time is the processor fetching the picked server's facts from
//! farther caches, which a session needs in any case. `look/SERVERS` is that part alone: is one server,
//! chosen without any policy, open?

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use goproxy::policy::built_in::{self, BUILT_IN};
use goproxy::policy::spec::ModuleSpec;
use goproxy::policy::wasm::trial::Trial;
use goproxy::policy::{IBalancePolicy, PickRequest, ServerSet};
use goproxy::server::{Avoided, Live, Origin, Server, ServerId, ServerSettings};

/// The samples and what they are configured with.
const MODULES: [(&str, &str); 3] = [("round_robin.wat", "{}"), ("client_hash.wat", "{}"), ("two_choices.wat", "{}")];

fn set(count: u32, weight: impl Fn(u32) -> u32) -> Arc<ServerSet> {
    let server = |index: u32| {
        let addr = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + index), 9_000));
        let settings =
            ServerSettings { weight: weight(index) as u16, ..ServerSettings::new(addr.into(), Origin::File) };
        Arc::new(Server { id: ServerId(index), settings, live: Arc::new(Live::new(vec![addr])) })
    };
    Arc::new(ServerSet { generation: 1, backup: false, servers: (0..count).map(server).collect() })
}

fn policy(name: &str) -> Arc<dyn IBalancePolicy> {
    built_in::make(name).expect("a listed name is known")
}

/// Memory that a thread walks over between two picks: more than the second cache of most processors has.
const WALK_BYTES: usize = 3 << 20;

/// Packets there and back between two picks: about as many as a short connection takes.
const ROUND_TRIPS: usize = 5;

/// Measures `answer` for one request after the other, each of a new client.
fn ask<A>(bencher: &mut Bencher<'_>, servers: &ServerSet, answer: impl Fn(&PickRequest<'_>) -> A) {
    let mut random = 0_u64;
    bencher.iter(|| {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        answer(black_box(&request(servers, random)))
    });
}

fn request(servers: &ServerSet, random: u64) -> PickRequest<'_> {
    let client = SocketAddr::from((Ipv4Addr::from((random >> 32) as u32), 40_000));
    PickRequest {
        client,
        group: 8_081,
        attempt: 0,
        servers,
        tried: &[],
        avoided: Avoided::DOUBTFUL,
        now_ms: 1_000,
        random,
    }
}

/// What a thread does besides picking.
struct Work {
    near: TcpStream,
    far: TcpStream,
    memory: Vec<u64>,
    random: u64,
}

impl Work {
    fn new(random: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let near = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let far = listener.accept().expect("it was connected").0;
        near.set_nodelay(true).expect("it is TCP");
        far.set_nodelay(true).expect("it is TCP");
        Self { near, far, memory: vec![1; WALK_BYTES / 8], random }
    }

    fn go(&mut self) {
        let mut message = [0; 64];
        for _ in 0..ROUND_TRIPS {
            for (mut from, mut to) in [(&self.near, &self.far), (&self.far, &self.near)] {
                from.write_all(&message).expect("both are open");
                to.read_exact(&mut message).expect("both are open");
            }
        }
        self.memory.chunks_mut(8).for_each(|line| line[0] = line[0].wrapping_add(1));
    }

    /// How long `answer` takes after other work.
    fn ask<A>(&mut self, servers: &ServerSet, answer: &impl Fn(&PickRequest<'_>) -> A) -> Duration {
        self.go();
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let request = request(servers, self.random);
        black_box(Instant::now()); // the clock itself is not to be cold
        let began = Instant::now();
        black_box(answer(black_box(&request)));
        began.elapsed()
    }
}

/// Measures `answer` after other work; with another thread that does the same when it is `shared`.
fn ask_cold<A>(
    bencher: &mut Bencher<'_>,
    servers: &ServerSet,
    answer: impl Fn(&PickRequest<'_>) -> A + Sync,
    shared: bool,
) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let other = || {
            let mut work = Work::new(1);
            while !is_over.load(Relaxed) {
                work.ask(servers, &answer);
            }
        };
        if shared {
            scope.spawn(other);
        }
        let mut work = Work::new(0);
        bencher.iter_custom(|times| {
            let mut took: Vec<Duration> = (0..times).map(|_| work.ask(servers, &answer)).collect();
            took.sort_unstable();
            took[took.len() / 2] * times as u32
        });
        is_over.store(true, Relaxed);
    });
}

fn picks(c: &mut Criterion, group: &str, names: &[&str], sizes: &[u32], weight: fn(u32) -> u32) {
    let mut group = c.benchmark_group(group);
    for name in names {
        for &size in sizes {
            let servers = set(size, weight);
            let policy = policy(name).for_servers(&servers);
            group.bench_function(BenchmarkId::new(*name, size), |bencher| {
                ask(bencher, &servers, |request| policy.pick(request));
            });
        }
    }
    group.finish();
}

fn pick_module(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick_module");
    for (name, config) in MODULES {
        let file = format!("{}/policies/{name}", env!("CARGO_MANIFEST_DIR"));
        let trial = Trial::load(file.as_ref(), 8 << 20).expect("a sample loads");
        let spec = ModuleSpec { config: config.to_owned(), ..ModuleSpec::new("sample") };
        for size in [10, 1_000] {
            let servers = set(size, |_| 1);
            let trial = trial.policy(&spec, 8_081).expect("a sample works");
            let policy = trial.policy.for_servers(&servers);
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                ask(bencher, &servers, |request| policy.pick(request));
            });
            assert_eq!(trial.last_fault(), None, "{name}");
        }
    }
    group.finish();
}

fn pick_cold(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick_cold");
    group.measurement_time(Duration::from_secs(3));
    let servers = set(10, |_| 1);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/round_robin.wat");
    let module = Trial::load(file.as_ref(), 8 << 20).expect("a sample loads");
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("round_robin.wasm");
    std::fs::write(&path, &module.file().component).expect("there is room");
    let component = Trial::load(&path, 8 << 20).expect("a sample loads");
    for (name, shared) in [("alone", false), ("shared", true)] {
        let id = |policy: &str| BenchmarkId::new(policy, name);
        group.bench_function(id("nothing"), |bencher| ask_cold(bencher, &servers, |_| (), shared));
        let built_in = policy("round_robin").for_servers(&servers);
        group.bench_function(id("round_robin"), |bencher| {
            ask_cold(bencher, &servers, |request| built_in.pick(request), shared);
        });
        for (name, trial) in [("round_robin.wat", &module), ("component", &component)] {
            let trial = trial.policy(&ModuleSpec::new("sample"), 8_081).expect("a sample works");
            let policy = trial.policy.for_servers(&servers);
            group.bench_function(id(name), |bencher| {
                ask_cold(bencher, &servers, |request| policy.pick(request), shared);
            });
            assert_eq!(trial.last_fault(), None, "{name}");
        }
    }
    group.finish();
}

fn look(c: &mut Criterion) {
    let mut group = c.benchmark_group("look");
    for size in [10, 1_000, 10_000] {
        let servers = set(size, |_| 1);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            ask(bencher, &servers, |request| request.is_open((request.random >> 32) as usize % servers.servers.len()));
        });
    }
    group.finish();
}

fn pick(c: &mut Criterion) {
    picks(c, "pick", &BUILT_IN, &[10, 1_000, 10_000], |_| 1);
    picks(c, "pick_weighted", &["round_robin", "random", "p2c", "maglev"], &[10, 10_000], |index| 1 + index * 7 % 256);
}

fn for_servers(c: &mut Criterion) {
    let mut group = c.benchmark_group("for_servers");
    let servers = set(10_000, |index| 1 + index * 7 % 256);
    for name in BUILT_IN {
        let policy = policy(name);
        group.bench_function(BenchmarkId::new(name, 10_000), |bencher| bencher.iter(|| policy.for_servers(&servers)));
    }
    group.finish();
}

criterion_group!(benches, look, pick, pick_module, pick_cold, for_servers);
criterion_main!(benches);
