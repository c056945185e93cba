//! What a session costs in memory while it is stalled or idle, and that it leaves nothing behind.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Client, FakeServer, Group, TestProxy, eventually, let_pass, pattern, swallow, wait_for};

/// Each costs the proxy less than this, however much the server has for it.
const STALLED_MAX: u64 = 1 << 20;

/// Of a build without optimizations; the benchmark measures the released one.
const IDLE_MAX: u64 = 6_000;

/// Moves enough through both threads that their buffers have been touched.
fn warm_up(proxy: &TestProxy, bytes: usize) {
    for _ in 0..16 {
        let mut client = proxy.connect();
        client.receive(bytes);
        client.reset();
    }
    eventually("the warm-up is over", || proxy.sessions() == 0);
}

fn warm_up_with_echo(proxy: &TestProxy) {
    for _ in 0..200 {
        proxy.connect().echo(&pattern(1, 4_096));
    }
    eventually("the warm-up is over", || proxy.sessions() == 0);
}

/// The bytes of all sessions, once they do not grow any more.
fn stalled_at(proxy: &TestProxy, direction: &str) -> u64 {
    let sum = || {
        let list = proxy.ok("/session-list.do");
        let sessions = list["sessions"].as_array().unwrap();
        sessions.iter().map(|session| session[direction].as_u64().unwrap()).sum::<u64>()
    };
    let mut seen = vec![0];
    wait_for("nothing moves any more", || {
        seen.push(sum());
        let last = &seen[seen.len().saturating_sub(20)..];
        (last.len() == 20 && last[0] > 0 && last.iter().all(|bytes| *bytes == last[0])).then(|| last[0])
    })
}

#[test]
fn a_client_that_does_not_read_costs_less_than_a_mebibyte() {
    let server = FakeServer::huge_sender();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    warm_up(&proxy, 4 << 20);
    let before = proxy.resident_bytes();
    let clients: Vec<Client> = (0..32).map(|_| proxy.connect()).collect();
    let stuck = stalled_at(&proxy, "bytes_down");
    let each = proxy.resident_bytes().saturating_sub(before) / clients.len() as u64;
    println!("{each} bytes resident per stalled reader, {} bytes passed on to each", stuck / clients.len() as u64);
    assert!(each < STALLED_MAX, "{each} bytes each");
    clients.into_iter().for_each(Client::reset);
}

#[test]
fn a_server_that_does_not_read_costs_less_than_a_mebibyte() {
    let (server, kept) = FakeServer::keeping();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let before = proxy.resident_bytes();
    let clients: Vec<Client> = (0..32).map(|_| proxy.connect()).collect();
    let mut senders: Vec<Client> = clients.iter().map(Client::twin).collect();
    let chunk = vec![1; 256 << 10];
    std::thread::scope(|scope| {
        for sender in &mut senders {
            scope.spawn(|| while sender.stream.write_all(&chunk).is_ok() {});
        }
        let stuck = stalled_at(&proxy, "bytes_up");
        let each = proxy.resident_bytes().saturating_sub(before) / clients.len() as u64;
        println!("{each} bytes resident per stalled server, {} bytes passed on to each", stuck / clients.len() as u64);
        assert!(each < STALLED_MAX, "{each} bytes each");
        kept.lock().unwrap().drain(..).for_each(Client::reset);
    });
}

#[test]
fn two_thousand_idle_sessions_cost_little_and_leave_nothing_behind() {
    let (server, kept) = FakeServer::keeping();
    let echo = FakeServer::echo();
    let group = Group::new("ha", &[&server]).server(&echo, serde_json::json!({ "backup": true }));
    let proxy = TestProxy::start(group);
    proxy.set_state(server.addr, "maint");
    warm_up_with_echo(&proxy);
    proxy.set_state(server.addr, "ready");
    let (memory_before, descriptors_before) = (proxy.resident_bytes(), proxy.descriptors());
    let clients: Vec<Client> = (0..2_000).map(|_| proxy.connect()).collect();
    eventually("all have a server", || kept.lock().unwrap().len() == clients.len());
    eventually("all are counted", || proxy.sessions() == clients.len() as u64);
    let each = proxy.resident_bytes().saturating_sub(memory_before) / clients.len() as u64;
    println!("{each} bytes resident per idle session");
    assert!(each < IDLE_MAX, "{each} bytes each");
    assert!(proxy.descriptors() >= 2 * clients.len(), "a session has two");
    let cpu_before = proxy.cpu_seconds();
    let_pass(Duration::from_secs(1), "the second that is measured");
    assert!(proxy.cpu_seconds() - cpu_before < 0.5, "idle sessions need next to no processor time");
    drop(clients);
    kept.lock().unwrap().clear();
    eventually("no session is left", || proxy.sessions() == 0);
    eventually("no descriptor is left", || proxy.descriptors() <= descriptors_before + 4);
}

#[test]
fn sessions_that_end_in_every_way_leave_no_descriptor_and_no_session() {
    let server = FakeServer::start(|mut client, number| match number % 4 {
        0 => drop(client.stream.write_all(b"bye")),
        1 => client.reset(),
        2 => {
            drop(client.stream.write_all(&[3; 400_000]));
            swallow(client);
        }
        _ => swallow(client),
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    warm_up_once(&proxy);
    let before = proxy.descriptors();
    for number in 0..400 {
        // A server's reset may be quicker than the client learns that it is connected.
        let Ok(stream) = TcpStream::connect(proxy.addr()) else { continue };
        let mut client = Client::new(stream);
        // Any of these may meet a server that is gone.
        let _ = client.stream.write_all(b"hello");
        match number / 4 % 4 {
            0 => client.reset(),
            1 => client.finish(),
            2 => {
                let _ = client.stream.set_nonblocking(true);
                let _ = client.stream.write(&[0; 300_000]);
            }
            _ => {}
        }
    }
    eventually("no session is left", || proxy.sessions() == 0);
    // One idle pipe for each of the threads may have come to stay.
    eventually("no descriptor is left", || proxy.descriptors() <= before + 4);
    let ended: u64 = ["client_closed", "server_closed", "client_reset", "server_reset", "connect_failed"]
        .iter()
        .map(|end| proxy.ended(end))
        .sum();
    assert_eq!(ended, proxy.metric("goproxy_sessions_total", &[]) as u64);
}

fn warm_up_once(proxy: &TestProxy) {
    let mut client = proxy.connect();
    client.send(b"hello");
    let _ = client.receive_some(3);
    drop(client);
    eventually("the warm-up is over", || proxy.sessions() == 0);
}
