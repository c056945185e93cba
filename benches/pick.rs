//! What a pick costs, and what it costs to prepare a policy for a new set of servers.
//!
//! `pick/POLICY/SERVERS` asks with all servers open, equal weights and a new client each time;
//! `pick_weighted` does so with weights 1 to 256, where that makes a difference. `for_servers` prepares for
//! 10,000 servers of such weights. Run it with `cargo bench --bench pick`.
//!
//! `pick_module/NAME/SERVERS` asks the modules of `policies/`, as the proxy does: behind the group's lock, with the
//! answer checked.
//!
//! With very many servers part of the time is the processor fetching the picked server's facts from
//! farther caches, which a session needs in any case. `look/SERVERS` is that part alone: is one server,
//! chosen without any policy, open?

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use goproxy::policy::factory::{BUILT_IN, built_in};
use goproxy::policy::spec::ModuleSpec;
use goproxy::policy::wasm::trial::Trial;
use goproxy::policy::{IBalancePolicy, PickRequest, ServerSet};
use goproxy::server::{Live, Origin, Server, ServerSettings};

/// The samples and what they are configured with.
const MODULES: [(&str, &str); 3] = [("round_robin.wat", "{}"), ("client_hash.wat", "{}"), ("two_choices.wat", "{}")];

fn set(count: u32, weight: impl Fn(u32) -> u32) -> Arc<ServerSet> {
    let server = |index: u32| {
        let addr = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + index), 9_000));
        let settings = ServerSettings { weight: weight(index), ..ServerSettings::new(addr.into(), Origin::File) };
        Arc::new(Server { id: index, settings, live: Arc::new(Live::new(vec![addr])) })
    };
    Arc::new(ServerSet { generation: 1, backup: false, servers: (0..count).map(server).collect() })
}

fn policy(name: &str) -> Arc<dyn IBalancePolicy> {
    built_in(name).expect("a listed name is known")
}

/// Measures `answer` for one request after the other, each of a new client.
fn ask<A>(bencher: &mut Bencher<'_>, servers: &ServerSet, answer: impl Fn(&PickRequest<'_>) -> A) {
    let mut random = 0_u64;
    bencher.iter(|| {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let client = SocketAddr::from((Ipv4Addr::from((random >> 32) as u32), 40_000));
        answer(black_box(&PickRequest {
            client,
            group: 8_081,
            attempt: 0,
            servers,
            tried: &[],
            avoid_suspects: true,
            now_ms: 1_000,
            random,
        }))
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

criterion_group!(benches, look, pick, pick_module, for_servers);
criterion_main!(benches);
