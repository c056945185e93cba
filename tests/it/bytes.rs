//! Every byte arrives, in order, exactly once.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Client, Ended, FakeServer, Group, Setup, TestProxy, pattern, sha256, wait_for};

const KIB: usize = 1 << 10;

/// Sessions of the test with many of them, and how many run at a time.
const SESSIONS: u64 = 10_000;
const AT_A_TIME: u64 = 16;

/// Sizes at which something changes on the way: the first read (16 KiB), a pipe's smallest size (64 KiB), the
/// scratch buffer (256 KiB), two of them (bulk from here on), a pipe (1 MiB).
const BOUNDARIES: [usize; 5] = [16 * KIB, 64 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB];

/// Answers a whole request with its hash and as many bytes of its own as the request wants.
fn hashing() -> FakeServer {
    FakeServer::start(|mut client, _| {
        let (request, ended) = client.receive_all();
        assert_eq!(ended, Ended::InOrder);
        let number = |at: usize| u64::from_be_bytes(request[at..at + 8].try_into().expect("eight bytes"));
        client.send(&sha256(&request));
        send_in_slices(&mut client, &pattern(number(0), number(8) as usize), number(0));
    })
}

fn send_in_slices(client: &mut Client, mut bytes: &[u8], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !bytes.is_empty() {
        let length = [1, 100, 1_460, 16 * KIB, bytes.len()][random.usize(..5)].min(bytes.len());
        client.send(&bytes[..length]);
        bytes = &bytes[length..];
    }
}

/// One request of `up` bytes, answered with `down`; both are checked by their hashes.
fn exchange(proxy: &TestProxy, seed: u64, up: usize, down: usize) {
    let mut request = pattern(!seed, 16 + up);
    request[..8].copy_from_slice(&seed.to_be_bytes());
    request[8..16].copy_from_slice(&(down as u64).to_be_bytes());
    let mut client = proxy.connect();
    send_in_slices(&mut client, &request, seed);
    client.finish();
    let (answer, ended) = client.receive_all();
    assert_eq!(ended, Ended::InOrder);
    assert_eq!(answer.len(), 32 + down);
    assert_eq!(answer[..32], sha256(&request), "{} bytes up", request.len());
    assert_eq!(sha256(&answer[32..]), sha256(&pattern(seed, down)), "{down} bytes down");
}

/// Sends and receives at the same time.
fn echo_at_once(proxy: &TestProxy, bytes: &[u8]) {
    let mut client = proxy.connect();
    let mut sender = client.twin();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            sender.send(bytes);
            sender.finish();
        });
        let (answer, ended) = client.receive_all();
        assert_eq!((answer.len(), ended), (bytes.len(), Ended::InOrder));
        assert_eq!(sha256(&answer), sha256(bytes));
    });
}

/// A read stops at urgent data although more has arrived behind it. The byte itself is not relayed: it is out of band.
#[test]
fn what_comes_behind_urgent_data_is_not_held_up() {
    let server = FakeServer::echo();
    let proxy = Setup::default().group(Group::new("round_robin", &[&server])).start();
    let mut client = proxy.connect();
    for _ in 0..200 {
        rustix::net::send(&client.stream, b"abc", rustix::net::SendFlags::OOB).unwrap();
        client.send(b"def");
        assert_eq!(client.receive_some(5), b"abdef");
    }
}

#[test]
fn thousands_of_sessions_of_random_sizes_and_slices_lose_and_mix_up_nothing() {
    let server = hashing();
    // The lines of so many sessions are not what is asked for here.
    let log = serde_json::json!({ "format": "json", "level": "warn" });
    let proxy = Setup::default().group(Group::new("round_robin", &[&server])).with("log", log).start();
    let (next, sent, received) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= SESSIONS {
                        return;
                    }
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut size = || random.usize(..[2, 2 * KIB, 40 * KIB, 400 * KIB][(seed % 16).min(3) as usize]);
                    let (up, down) = (size(), size());
                    exchange(&proxy, seed, up, down);
                    sent.fetch_add(16 + up as u64, Relaxed);
                    received.fetch_add(32 + down as u64, Relaxed);
                }
            });
        }
    });
    crate::support::eventually("every session is over", || proxy.sessions() == 0);
    assert_eq!(proxy.ended("client_closed"), SESSIONS);
    assert_eq!(proxy.metric("goproxy_bytes_up_total", &[]) as u64, sent.into_inner());
    assert_eq!(proxy.metric("goproxy_bytes_down_total", &[]) as u64, received.into_inner());
}

#[test]
fn sizes_around_every_buffer_arrive_whole_in_either_direction() {
    let server = hashing();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let around = BOUNDARIES.into_iter().flat_map(|size| [size - 1, size, size + 1]);
    for (seed, size) in [0, 1].into_iter().chain(around).chain([3 << 20]).enumerate() {
        // The server reads 16 bytes more than `up`.
        exchange(&proxy, seed as u64, size.saturating_sub(16), 0);
        exchange(&proxy, seed as u64, 0, size);
    }
}

#[test]
fn sizes_around_every_buffer_arrive_whole_in_both_directions_at_once() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let around = BOUNDARIES.into_iter().flat_map(|size| [size - 1, size, size + 1]);
    for (seed, size) in [0, 1].into_iter().chain(around).chain([3 << 20]).enumerate() {
        echo_at_once(&proxy, &pattern(seed as u64, size));
    }
}

#[test]
fn sixteen_mebibytes_flow_in_both_directions_at_once() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    echo_at_once(&proxy, &pattern(1, 16 << 20));
    let line = proxy.log.wait_for_end("client_closed");
    assert_eq!((line["bytes.up"].as_u64(), line["bytes.down"].as_u64()), (Some(16 << 20), Some(16 << 20)));
}

#[test]
fn bulk_arrives_whole_when_no_descriptor_is_left_for_pipes() {
    let server = FakeServer::echo();
    let group = Group::new("round_robin", &[&server]);
    let proxy = TestProxy::start(group);
    // Ten sessions take what is left, but for one: a pipe needs two. The proxy may hold a file for a moment, and turns the last one away.
    proxy.leave_descriptors(21);
    let connected = || {
        let mut client = proxy.connect();
        let has_sent = client.stream.write_all(b"here").is_ok();
        (has_sent && client.receive_some(4) == b"here").then_some(client)
    };
    let mut clients: Vec<Client> = (0..10).map(|_| wait_for("a session", connected)).collect();
    std::thread::scope(|scope| {
        for (seed, client) in clients.iter_mut().enumerate() {
            let bytes = pattern(seed as u64, 5 << 20);
            let (mut sender, sent) = (client.twin(), sha256(&bytes));
            scope.spawn(move || sender.send(&bytes));
            scope.spawn(move || assert_eq!(sha256(&client.receive(5 << 20)), sent));
        }
    });
}

#[test]
fn a_server_may_speak_first() {
    let server = FakeServer::banner("220 ready\r\n");
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    assert_eq!(client.receive(11), b"220 ready\r\n");
}

#[test]
fn single_bytes_are_passed_on_at_once() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    let rounds = 200;
    let start = Instant::now();
    for round in 0..rounds {
        client.echo(&[round as u8]);
    }
    // A delayed acknowledgement that meets Nagle's algorithm costs 40 ms each time.
    assert!(start.elapsed() < Duration::from_millis(40) * rounds / 2, "{:?}", start.elapsed());
}

#[test]
fn endless_streams_leave_room_for_others_on_the_same_thread() {
    let (bulk, server) = (FakeServer::huge_sender(), FakeServer::echo());
    let groups = Setup::default().group(Group::new("ha", &[&server])).group(Group::new("ha", &[&bulk]));
    let proxy = groups.with("threads", 1).start();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = Client::connect(proxy.addr_of(1));
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Relaxed) {
                    client.receive(1 << 20);
                }
                client.reset();
            });
        }
        let mut client = proxy.connect();
        for _ in 0..50 {
            client.echo(b"let me through");
        }
        is_over.store(true, Relaxed);
    });
}

#[test]
fn two_small_writes_in_a_row_are_passed_on_at_once() {
    let server = FakeServer::start(|mut client, _| {
        while client.stream.peek(&mut [0]).is_ok_and(|seen| seen > 0) {
            let request = client.receive(2);
            client.send(&request[..1]);
            client.send(&request[1..]);
        }
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    let rounds = 200;
    let start = Instant::now();
    for _ in 0..rounds {
        client.send(b"a");
        client.send(b"b");
        assert_eq!(client.receive(2), b"ab");
    }
    assert!(start.elapsed() < Duration::from_millis(40) * rounds / 2, "{:?}", start.elapsed());
}

#[test]
fn ipv6_clients_and_servers_are_served() {
    let server = FakeServer::echo_on_ipv6();
    let group = Group::new("round_robin", &[&server]).on(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let proxy = TestProxy::start(group);
    let mut client = proxy.connect();
    client.echo(b"six");
    let local = client.stream.local_addr().unwrap();
    let connected = proxy.log.wait_for("the server is reached", |line| line["message"] == "server connected");
    assert_eq!(connected["client.addr"], local.to_string());
    assert_eq!(connected["server.addr"], server.addr.to_string());
    echo_at_once(&proxy, &pattern(6, 1 << 20));
}

#[test]
fn an_ipv4_client_of_a_listener_for_both_is_known_by_its_ipv4_address() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ip_hash", &[&server]).on(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, proxy.addr().port()).into());
    client.echo(b"four");
    let local = client.stream.local_addr().unwrap();
    let list = proxy.ok("/session-list.do");
    assert_eq!(list["sessions"][0]["client"], local.to_string());
}

#[test]
fn what_was_sent_before_a_server_is_found_is_delivered_once_to_the_one_that_is() {
    for size in [1, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 60 * KIB] {
        let (refusing, blackholed, server) = (FakeServer::refusing(), FakeServer::blackholed(), FakeServer::echo());
        let group = Group::new("ha", &[&refusing, &blackholed, &server]).with("connect_timeout", "300ms");
        let proxy = TestProxy::start(group);
        // While the proxy stands still the kernel takes the client and its bytes, so they are there first.
        proxy.signal(Signal::STOP);
        let mut client = proxy.connect();
        client.send(&pattern(1, size));
        client.finish();
        proxy.signal(Signal::CONT);
        let (answer, ended) = client.receive_all();
        assert_eq!((answer.len(), ended), (size, Ended::InOrder));
        assert_eq!(sha256(&answer), sha256(&pattern(1, size)));
        assert_eq!(proxy.log.wait_for_end("client_closed")["attempts"], 3);
    }
}
