//! What a short connection, and a request and its reply on one that lasts, cost a data thread, counted: instructions,
//! system calls, allocations.
//!
//! Nothing here is timed, so no machine is too busy for it, and a change that costs something is seen at once and not
//! once the noise of a benchmark lets it through. The limits stand in `limits.txt`, which says how to raise them.
//! `cargo test` leaves this out, because the counts are those of the release build:
//!
//! ```text
//! cargo test --release --test guard              # compares
//! UPDATE=1 cargo test --release --test guard     # writes new limits
//! ```

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[allow(dead_code, unused_imports, reason = "the harness of the other tests, of which this one needs a part")]
#[path = "../it/support/mod.rs"]
mod support;

mod tracer;

use std::fmt::Write;
use std::fs;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Client, DEADLINE, FakeServer, Group, Setup, TestProxy, eventually};
use tracer::{Counts, Traced};

const LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guard/limits.txt");

const REQUEST: usize = 100;
const REPLY: usize = 1024;

/// Sessions that are there, silent, while others are counted.
const OTHERS: usize = 4;

/// Before counting, so that tables have grown and code is linked.
const WARM_UP: usize = 100;

/// Connections counted, of which the cheapest is taken: what happens to one now and then only adds to it, such as a
/// table that grows or a sample of the allocator.
const COUNTED: usize = 8;

/// Room for another compiler, C library and processor, whose ways to copy memory alone make 1 %. Calls and allocations
/// have none.
const INSTRUCTIONS_MARGIN: f64 = 1.03;

/// Looks in a row at which the thread must be found asleep.
const LOOKS: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closes {
    Client,
    Server,
}

/// With sessions logged, counted and listed, as they are in use.
const CASES: [(&str, Closes, &str); 3] = [
    ("client_closes", Closes::Client, "round_robin"),
    ("server_closes", Closes::Server, "round_robin"),
    ("client_closes_module", Closes::Client, "wasm:round_robin"),
];

#[test]
fn a_short_connection_and_a_message_cost_no_more_than_they_did() {
    if cfg!(debug_assertions) {
        panic!("the limits are those of the release build; run with --release");
    }
    let mut measured: Vec<(&str, Counts)> = CASES.map(|(name, closes, policy)| (name, count(closes, policy))).into();
    measured.push(("request_and_reply", count_message()));
    println!("{}", table(&measured));
    let text = fs::read_to_string(LIMITS).expect("limits.txt is beside this file");
    if std::env::var_os("UPDATE").is_some() {
        let head: String =
            text.lines().take_while(|line| line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
        fs::write(LIMITS, head + &table(&measured)).expect("limits.txt can be written");
        return;
    }
    let exceeded: Vec<String> =
        measured.iter().flat_map(|(name, counts)| exceeded(name, *counts, limits(&text, name))).collect();
    assert!(
        exceeded.is_empty(),
        "it costs more than limits.txt allows, which says how to raise it knowingly:\n{}",
        exceeded.join("\n")
    );
}

/// What one connection costs the data thread of a proxy of its own.
fn count(closes: Closes, policy: &str) -> Counts {
    let traced: Arc<Mutex<Option<Arc<Traced>>>> = Arc::default();
    let (server, closed) = server(closes, &traced);
    let mut proxy = Setup::default()
        .with("threads", 1)
        .with("policies_dir", concat!(env!("CARGO_MANIFEST_DIR"), "/policies"))
        .group(Group::new(policy, &[&server]))
        .start();
    // Others are there, as they always are. A lone session lies at the start of a page, where the allocator has to ask whether
    // its profiler has sampled it, or does not, by chance: that is a hundred instructions for each of its two pieces.
    proxy.may_leave_sessions();
    let _others: Vec<Client> = (0..OTHERS).map(|_| proxy.connect()).collect();
    eventually("the others are there", || proxy.sessions() == OTHERS as u64);
    for _ in 0..WARM_UP {
        connect_once(&proxy, closes, &closed, || {});
    }
    let thread = Arc::new(Traced::attach(proxy.pid(), "data-0"));
    *traced.lock().expect("nobody panics with it") = Some(Arc::clone(&thread));
    let counted: Vec<Counts> = (0..=COUNTED)
        .map(|_| {
            wait_until_asleep(&thread);
            let before = thread.counts();
            connect_once(&proxy, closes, &closed, || wait_until_asleep(&thread));
            wait_until_asleep(&thread);
            thread.counts() - before
        })
        .collect();
    *traced.lock().expect("nobody panics with it") = None;
    let thread = Arc::into_inner(thread).expect("the server's threads have ended");
    thread.end(|| connect_once(&proxy, closes, &closed, || {}));
    // The first one found the tracer's arrival.
    least(&counted[1..])
}

fn least(counted: &[Counts]) -> Counts {
    let least = |count: fn(&Counts) -> u64| counted.iter().map(count).min().expect("some were counted");
    Counts {
        instructions: least(|counts| counts.instructions),
        system_calls: least(|counts| counts.system_calls),
        allocations: least(|counts| counts.allocations),
    }
}

/// What a request and its reply cost the data thread, on a connection that is there.
fn count_message() -> Counts {
    let server = FakeServer::start(|mut client, _| {
        loop {
            client.receive(REQUEST);
            client.send(&[b'x'; REQUEST]);
        }
    });
    let proxy = Setup::default().with("threads", 1).group(Group::new("round_robin", &[&server])).start();
    let mut client: Client = proxy.connect();
    let mut exchange = || {
        client.send(&[b'x'; REQUEST]);
        client.receive(REQUEST);
    };
    (0..WARM_UP).for_each(|_| exchange());
    let thread = Traced::attach(proxy.pid(), "data-0");
    let counted: Vec<Counts> = (0..=COUNTED)
        .map(|_| {
            wait_until_asleep(&thread);
            let before = thread.counts();
            exchange();
            wait_until_asleep(&thread);
            thread.counts() - before
        })
        .collect();
    thread.end(exchange);
    least(&counted[1..])
}

/// A server that answers a request once the proxy has nothing else to do, as a server on a network would; tells
/// when it has closed.
fn server(closes: Closes, traced: &Arc<Mutex<Option<Arc<Traced>>>>) -> (FakeServer, Receiver<()>) {
    let (sender, closed) = mpsc::channel();
    let traced = Arc::clone(traced);
    let server = FakeServer::start(move |mut client, _| {
        let thread = traced.lock().expect("nobody panics with it").clone();
        let wait = || thread.iter().for_each(|thread| wait_until_asleep(thread));
        client.receive(REQUEST);
        wait();
        client.send(&[b'x'; REPLY]);
        if closes == Closes::Client {
            client.receive_all();
            wait();
        }
        drop((client, thread));
        // The test may have failed already.
        let _ = sender.send(());
    });
    (server, closed)
}

fn connect_once(proxy: &TestProxy, closes: Closes, closed: &Receiver<()>, wait: impl Fn()) {
    let mut client: Client = proxy.connect();
    client.send(&[b'x'; REQUEST]);
    client.receive(REPLY);
    if closes == Closes::Server {
        client.receive_all();
    }
    wait();
    drop(client);
    closed.recv_timeout(DEADLINE).expect("the server's side is closed too");
}

fn wait_until_asleep(thread: &Traced) {
    let mut looks = 0;
    eventually("the data thread has nothing to do", || {
        while thread.is_asleep() {
            looks += 1;
            if looks == LOOKS {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        looks = 0;
        false
    });
}

fn exceeded(name: &str, found: Counts, limit: Counts) -> Vec<String> {
    let instructions_max = (limit.instructions as f64 * INSTRUCTIONS_MARGIN) as u64;
    [
        ("instructions", found.instructions, instructions_max),
        ("system calls", found.system_calls, limit.system_calls),
        ("allocations", found.allocations, limit.allocations),
    ]
    .into_iter()
    .filter(|(_, found, max)| found > max)
    .map(|(what, found, max)| format!("{name}: {found} {what}, {max} allowed"))
    .collect()
}

fn table(measured: &[(&str, Counts)]) -> String {
    let mut text =
        format!("{:<22} {:>12} {:>12} {:>11}\n", "connection", "instructions", "system_calls", "allocations");
    for (name, Counts { instructions, system_calls, allocations }) in measured {
        let _infallible = writeln!(text, "{name:<22} {instructions:>12} {system_calls:>12} {allocations:>11}");
    }
    text
}

fn limits(text: &str, name: &str) -> Counts {
    let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.first() == Some(&name));
    let found = found.unwrap_or_else(|| panic!("limits.txt: has no line {name}"));
    let number = |index: usize| {
        let field = found.get(index).and_then(|field| field.parse().ok());
        field.unwrap_or_else(|| panic!("limits.txt: {name}: column {index} is no number"))
    };
    Counts { instructions: number(1), system_calls: number(2), allocations: number(3) }
}
