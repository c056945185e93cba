//! Hours of mixed traffic with faults, and what grows meanwhile.
//!
//! Short sessions, sessions that last and bulk go through a proxy whose servers refuse, reset, stall and return, while
//! an operator and edits of the file change things. Memory, descriptors and tasks (of the kernel: threads) are sampled;
//! their slopes over the second half of the time are printed. At the end nothing may be left of any session.
//!
//! `cargo test` leaves this out, because it takes as long as it is told:
//!
//! ```text
//! SOAK_SECONDS=14400 cargo test --release --test soak -- --nocapture
//! ```

#[allow(dead_code, unused_imports, reason = "the harness of the other tests, of which this one needs a part")]
#[path = "../it/support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the servers of the random walk, of which this needs a part")]
#[path = "../it/walk/moody.rs"]
mod moody;

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moody::{BANNER, Moody};
use serde_json::{Value, json};
use support::{Client, Group, TestProxy, eventually, let_pass, pattern, replace, sha256, spawn};

/// How long it takes unless the environment says otherwise.
const SECONDS: u64 = 1_800;

/// Servers that misbehave; one more always serves.
const SERVERS: usize = 4;
const SHORT_CLIENTS: usize = 4;
const LONG_CLIENTS: usize = 32;
const BULK_CLIENTS: usize = 2;
const BULK_BYTES: usize = 4 << 20;
const SAMPLES: u32 = 400;

/// Growth an hour that is no noise, over the second half of a run that is long enough to tell.
const MEMORY_GROWTH_MAX: f64 = 32.0 * 1_048_576.0;
const LONG_ENOUGH: Duration = Duration::from_secs(1_200);

/// What clients have met.
#[derive(Default)]
struct Met {
    is_over: AtomicBool,
    served: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    /// Answers that were not what was sent: there may be none.
    wrong: AtomicU64,
}

impl Met {
    fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    fn take(&self, outcome: io::Result<u64>) {
        match outcome {
            Ok(bytes) => {
                self.served.fetch_add(1, Relaxed);
                self.bytes.fetch_add(bytes, Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => _ = self.wrong.fetch_add(1, Relaxed),
            // Its server may be one that misbehaves.
            Err(_) => {
                self.failed.fetch_add(1, Relaxed);
                let_pass(Duration::from_millis(10), "a client that was served badly comes back later");
            }
        }
    }
}

/// What the process holds at one moment.
#[derive(Clone, Copy)]
struct Sample {
    at: f64,
    memory: f64,
    descriptors: f64,
    tasks: f64,
}

impl Sample {
    fn take(proxy: &TestProxy, at: Duration) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("it runs").count();
        Self {
            at: at.as_secs_f64(),
            memory: proxy.resident_bytes() as f64,
            descriptors: proxy.descriptors() as f64,
            tasks: tasks as f64,
        }
    }
}

/// The slope of a straight line through these, per hour (least squares).
fn slope(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (at, level) = (mean(&|sample| sample.at), mean(&|sample| value(sample)));
    let (mut both, mut squares) = (0.0, 0.0);
    for sample in samples {
        both += (sample.at - at) * (value(sample) - level);
        squares += (sample.at - at).powi(2);
    }
    if squares > 0.0 { both / squares * 3_600.0 } else { 0.0 }
}

fn come(to: SocketAddr) -> io::Result<Client> {
    let mut client = Client::try_connect(to)?;
    client.stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    client.stream.write_all(b"x")?;
    client.stream.read_exact(&mut [0; BANNER])?;
    Ok(client)
}

fn round_trip(client: &mut Client, bytes: &[u8]) -> io::Result<u64> {
    client.stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    client.stream.read_exact(&mut back)?;
    if back == bytes { Ok(bytes.len() as u64) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Comes, says something and goes, again and again.
fn short_client(to: SocketAddr, met: &Met) {
    let mut number = 0;
    while !met.is_over() {
        number += 1;
        met.take(come(to).and_then(|mut client| {
            let bytes = round_trip(&mut client, &pattern(number, 64 + number as usize % 8_000))?;
            match number % 3 {
                0 => client.reset(),
                1 => client.finish(),
                _ => drop(client),
            }
            Ok(bytes)
        }));
    }
}

/// Says something now and then, for as long as its session lasts.
fn long_client(to: SocketAddr, met: &Met) {
    while !met.is_over() {
        let Ok(mut client) = come(to) else {
            met.take(Err(io::ErrorKind::NotConnected.into()));
            continue;
        };
        while !met.is_over() {
            let outcome = round_trip(&mut client, b"are you there?");
            let is_over = outcome.is_err();
            met.take(outcome);
            if is_over {
                break;
            }
            let_pass(Duration::from_millis(200), "the pace of the client");
        }
    }
}

/// Sends much and gets it back.
fn bulk_client(to: SocketAddr, met: &Met) {
    let bytes = pattern(1, BULK_BYTES);
    let expected = sha256(&bytes);
    while !met.is_over() {
        met.take(come(to).and_then(|mut client| {
            let (mut sender, bytes) = (client.twin(), bytes.clone());
            let sending = spawn(move || sender.stream.write_all(&bytes));
            let mut back = vec![0; BULK_BYTES];
            let received = client.stream.read_exact(&mut back);
            if received.is_err() {
                // Else the sender might wait for ever.
                let _ = client.stream.shutdown(std::net::Shutdown::Both);
            }
            let sent = sending.join().expect("it does not panic");
            received.and(sent)?;
            if sha256(&back) == expected { Ok(BULK_BYTES as u64) } else { Err(io::ErrorKind::InvalidData.into()) }
        }));
    }
}

/// Lets something go wrong, or somebody change something.
fn disturb(proxy: &TestProxy, moody: &mut [Moody], random: &mut fastrand::Rng) {
    let (at, group) = (random.usize(..moody.len()), proxy.addr().port());
    match random.u8(..10) {
        0..4 => {
            let habit = random.u8(..4);
            moody[at].set_refusing(habit == 3);
            moody[at].habit.store(habit % 3, Relaxed);
        }
        4..6 => {
            let state = random.choice(["ready", "drain", "maint"]).expect("there are some");
            proxy.set_state(moody[at].server.addr, state);
        }
        6 => {
            let policy = random.choice(["ha", "round_robin", "least_sessions", "p2c", "maglev"]).expect("some");
            proxy.ok(&format!("/group-policy.do?group={group}&policy={policy}"));
        }
        7 => {
            proxy.ok(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:1&state=drain"));
            proxy.ok(&format!("/worker-remove.do?group={group}&server=127.0.0.1:1"));
        }
        _ => {
            let mut file: Value = serde_json::from_str(&proxy.file()).expect("the proxy writes JSON as it found it");
            let ways = [
                ("check", json!({ "kind": "tcp", "interval": "500ms" })),
                ("check", Value::Null),
                ("eject", json!({ "failures": 3, "time": "1s" })),
                ("eject", Value::Null),
                ("send_proxy", json!("v2")),
                ("send_proxy", json!("none")),
                ("client", json!({ "sessions": 1_000 })),
                ("client", Value::Null),
                ("on_down", json!({ "maint": "close" })),
                ("on_down", json!("keep")),
                ("max_session_age", json!("10s")),
                ("max_session_age", json!("0s")),
            ];
            let (key, value) = random.choice(ways).expect("there are some");
            file["groups"][0][key] = value;
            replace(proxy.path(), &serde_json::to_string_pretty(&file).expect("JSON"));
            proxy.ok("/config-reload.do");
        }
    }
}

#[test]
fn nothing_grows_that_should_not() {
    let seconds =
        std::env::var("SOAK_SECONDS").ok().map_or(SECONDS, |text| text.parse().expect("SOAK_SECONDS is a number"));
    let length = Duration::from_secs(seconds);
    let mut moody: Vec<Moody> = (0..SERVERS).map(|_| Moody::new()).collect();
    // One always serves, so that there is traffic whatever happens to the others.
    let steady = Moody::new();
    let mut group = Group::new("round_robin", &[&steady.server]).with("connect_attempts", SERVERS + 1);
    for server in &moody {
        group = group.server(&server.server, json!({}));
    }
    let proxy = TestProxy::start(group);
    let (to, met) = (proxy.addr(), Arc::new(Met::default()));
    let start_of = |count: usize, run: fn(SocketAddr, &Met)| -> Vec<JoinHandle<()>> {
        let one = |_| {
            let met = Arc::clone(&met);
            spawn(move || run(to, &met))
        };
        (0..count).map(one).collect()
    };
    let before = Sample::take(&proxy, Duration::ZERO);
    let (short, long) = (start_of(SHORT_CLIENTS, short_client), start_of(LONG_CLIENTS, long_client));
    let bulk = start_of(BULK_CLIENTS, bulk_client);

    let (start, mut random, mut samples) = (Instant::now(), fastrand::Rng::with_seed(1), Vec::new());
    while start.elapsed() < length {
        disturb(&proxy, &mut moody, &mut random);
        let_pass((length / SAMPLES).max(Duration::from_millis(100)), "the traffic goes on");
        samples.push(Sample::take(&proxy, start.elapsed()));
    }

    met.is_over.store(true, Relaxed);
    for server in &mut moody {
        server.set_refusing(false);
        server.habit.store(moody::GOOD, Relaxed);
    }
    [short, long, bulk].into_iter().flatten().for_each(|client| client.join().expect("a client does not panic"));
    eventually("every session has ended", || proxy.sessions() == 0);
    eventually("no descriptor is left", || proxy.descriptors() as f64 <= before.descriptors + 16.0);

    let counts = [&met.served, &met.failed, &met.bytes, &met.wrong].map(|count| count.load(Relaxed));
    let [served, failed, bytes, wrong] = counts;
    println!("{seconds} s: {served} exchanges, {failed} failed, {} MiB each way, {wrong} wrong", bytes >> 20);
    let second_half = &samples[samples.len() / 2..];
    let slopes: [(&str, f64, fn(&Sample) -> f64); 3] = [
        ("memory (MiB)", 1_048_576.0, |sample| sample.memory),
        ("descriptors", 1.0, |sample| sample.descriptors),
        ("tasks", 1.0, |sample| sample.tasks),
    ];
    for (name, unit, value) in slopes {
        let last = samples.last().expect("there is one");
        println!(
            "{name}: {:.1} at first, {:.1} at last, {:+.2} an hour in the second half",
            value(&before) / unit,
            value(last) / unit,
            slope(second_half, value) / unit
        );
    }
    assert_eq!(wrong, 0, "answers that were not what was sent");
    assert!(served > 0);
    if length >= LONG_ENOUGH {
        let growth = slope(second_half, |sample| sample.memory);
        assert!(growth < MEMORY_GROWTH_MAX, "memory grows by {growth:.0} bytes an hour");
    }
}
