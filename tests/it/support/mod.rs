//! The harness: a proxy of one's own, fakes that misbehave, and waiting without sleeping.
//!
//! Everything speaks to the built binary as an operator would: bytes on a socket, bytes in a file, signals. Blocking
//! on purpose, so that nothing here shares a runtime or a clock with what is tested.
//!
//! Two ways lead to a proxy. [`Setup`] (or [`TestProxy::start`]) writes the file and gives every proxy a loopback
//! address of its own, so tests run side by side without meeting on a port: take it unless the test is about the
//! file. [`TestProxy::with_file`] takes the file's text from the test, with ports of 127.0.0.1 that [`ports`] found.
//! A proxy that goes out of scope is checked: no session may be left and nothing of the kind that somebody must act
//! on may be in its log.

mod client;
mod fake_server;
mod group;
mod hello;
mod http;
mod log_lines;
mod proxy;
mod stream;

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use client::{Client, Ended, Visitor, pattern, sha256};
pub(crate) use fake_server::{FakeServer, echo, named_echo, swallow};
pub(crate) use group::Group;
pub(crate) use hello::{hello, in_records};
pub(crate) use http::{Http, Reply, is_refusal};
pub(crate) use log_lines::LogLines;
pub(crate) use proxy::{Setup, TestProxy, check, goproxy, output, replace, run};
pub(crate) use stream::{Told, Watching};

/// How long anything may take that should happen soon, on a machine that is busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `is_so`.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Waits until there is a value.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    wait_for_instead_of(what, || value().ok_or("nothing"))
}

/// Waits until there is a value; when that is in vain, what was there instead is told.
#[track_caller]
pub(crate) fn wait_for_instead_of<T, E: Debug>(what: &str, value: impl FnMut() -> Result<T, E>) -> T {
    wait_within(DEADLINE, what, value)
}

/// The same within another time.
#[track_caller]
pub(crate) fn wait_within<T, E: Debug>(time_max: Duration, what: &str, mut value: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match value() {
            Ok(value) => return value,
            Err(instead) => assert!(start.elapsed() < time_max, "waited in vain: {what}; found {instead:?}"),
        }
        let_pass(Duration::from_millis(5), "the pause between two looks, not a guess at how long something takes");
    }
}

/// Lets time pass that is part of the test: a time that is measured, or the pace of somebody. `_why` says which.
///
/// Nothing else in the tests sleeps: whoever waits for something waits until it is there.
#[allow(clippy::disallowed_methods, reason = "the one place for it")]
pub(crate) fn let_pass(time: Duration, _why: &str) {
    std::thread::sleep(time);
}

/// Starts a thread beside the test, which joins it or has it end with what it serves.
#[allow(clippy::disallowed_methods, reason = "the one place for it")]
pub(crate) fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(run)
}

/// `name` of the environment as a number: some tests are made smaller than the promise, and can be run at full size.
pub(crate) fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
}

/// A loopback address that no other test of this run uses.
pub(crate) fn own_ip() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    // Runs beside this one have another process id; 127.0.0.1 itself is left to everybody.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let hosts = 2 + number;
    assert!(hosts < 255 << 4, "more addresses than one run should need");
    IpAddr::V4(Ipv4Addr::new(127, 16 + (high & 0x0f) + ((hosts >> 8) as u8) * 16, low, hosts as u8))
}

/// A port that is free on `ip`, which is nobody else's.
pub(crate) fn free_port(ip: IpAddr) -> SocketAddr {
    TcpListener::bind((ip, 0)).and_then(|listener| listener.local_addr()).expect("loopback has a free port")
}

/// Ports that nobody uses, outside the range from which the system takes those of clients.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    let start = (std::process::id() as u16).wrapping_mul(97) % COUNT;
    std::array::from_fn(|_| {
        (0..COUNT)
            .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Relaxed)) % COUNT)
            .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
            .expect("some port is free")
    })
}
