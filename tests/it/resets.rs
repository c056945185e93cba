//! A reset is passed on as a reset, in both directions, and only when there was one.

use std::sync::mpsc::{Receiver, channel};

use crate::support::{Client, DEADLINE, Ended, FakeServer, Group, TestProxy, eventually};

/// Reads to the end and tells what came and how it ended.
fn watching() -> (FakeServer, Receiver<(Vec<u8>, Ended)>) {
    let (seen, when_seen) = channel();
    let server = FakeServer::start(move |mut client, _| {
        client.send(b"hello");
        // A test that is not interested is over.
        let _ = seen.send(client.receive_all());
    });
    (server, when_seen)
}

#[test]
fn a_clients_reset_reaches_the_server_as_a_reset_after_what_it_sent() {
    let (server, seen) = watching();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    assert_eq!(client.receive(5), b"hello");
    client.send(b"then it broke");
    crate::support::eventually("the bytes are passed on", || {
        proxy.ok("/session-list.do")["sessions"][0]["bytes_up"] == 13
    });
    client.reset();
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), (b"then it broke".to_vec(), Ended::Reset));
    proxy.log.wait_for_end("client_reset");
}

#[test]
fn a_clients_orderly_end_never_becomes_a_reset() {
    let (server, seen) = watching();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    assert_eq!(client.receive(5), b"hello");
    client.send(b"bye");
    drop(client);
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), (b"bye".to_vec(), Ended::InOrder));
    proxy.log.wait_for_end("client_closed");
}

#[test]
fn a_servers_reset_reaches_the_client_as_a_reset_after_what_it_sent() {
    let server = FakeServer::start(|mut client, _| {
        client.send(&[7; 10_000]);
        // The client says when it has everything: a reset may overtake what is still on its way.
        let _ = client.receive(1);
        client.reset();
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    assert_eq!(client.receive(10_000), [7; 10_000]);
    client.send(b"!");
    assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
    assert_eq!(proxy.log.wait_for_end("server_reset")["bytes.down"], 10_000);
}

#[test]
fn a_server_that_resets_before_it_says_anything_gives_the_client_a_reset() {
    let server = FakeServer::start(|mut client, _| {
        // One that resets even before this may pass for one that refuses.
        let _question = client.receive(1);
        client.reset();
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    for _ in 0..50 {
        let mut client = proxy.connect();
        client.send(b"?");
        assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
    }
    crate::support::eventually("each is counted", || proxy.ended("server_reset") == 50);
}

/// Closing a socket with unread bytes makes the kernel send a reset: that is a real one.
#[test]
fn a_server_that_closes_without_reading_resets() {
    let server = FakeServer::start(|client, _| {
        // Looks at what has come, and closes without taking it.
        let _ = client.stream.peek(&mut [0; 4]);
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    client.send(b"nobody reads this");
    assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset));
    proxy.log.wait_for_end("server_reset");
}

#[test]
fn a_server_that_just_closes_gives_the_client_an_orderly_end() {
    let server = FakeServer::start(|mut client, number| match number % 3 {
        0 => {}
        1 => client.send(b"bye"),
        _ => client.send(&[1; 100_000]),
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    for number in 0..150 {
        let mut client = proxy.connect();
        let (bytes, ended) = client.receive_all();
        assert_eq!((bytes.len(), ended), ([0, 3, 100_000][number % 3], Ended::InOrder));
    }
    crate::support::eventually("each is counted", || proxy.ended("server_closed") == 150);
    assert_eq!(proxy.ended("server_reset"), 0);
}

/// Until nothing has moved for so long that nothing will.
fn send_until_stuck(client: &mut Client, proxy: &TestProxy) {
    let idle_ms = || proxy.ok("/session-list.do")["sessions"][0]["idle_ms"].as_u64();
    client.send_until(|| idle_ms().is_some_and(|idle_ms| idle_ms > 500));
}

#[test]
fn a_clients_reset_ends_the_session_though_the_server_reads_nothing() {
    let (server, kept) = FakeServer::keeping();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("idle_timeout", "0s"));
    let mut client = proxy.connect();
    send_until_stuck(&mut client, &proxy);
    client.reset();
    proxy.log.wait_for_end("client_reset");
    let mut server = kept.lock().unwrap().pop().expect("one client was passed on");
    let mut everything = Vec::new();
    let error = std::io::Read::read_to_end(&mut server.stream, &mut everything).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_servers_reset_ends_the_session_though_the_client_reads_nothing() {
    let (sent, when_sent) = channel();
    let server = FakeServer::start(move |mut server, _| {
        server.send_until(|| true);
        sent.send(()).expect("the test waits");
        server.reset();
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]).with("idle_timeout", "0s"));
    let mut client = proxy.connect();
    when_sent.recv_timeout(DEADLINE).unwrap();
    proxy.log.wait_for_end("server_reset");
    let mut everything = Vec::new();
    let error = std::io::Read::read_to_end(&mut client.stream, &mut everything).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_only_sends_is_reset_when_the_server_has_gone() {
    let server = FakeServer::start(|mut server, _| {
        let _first = server.receive(5);
    });
    let never = Group::new("round_robin", &[&server]).with("idle_timeout", "0s").with("half_close_timeout", "0s");
    let proxy = TestProxy::start(never);
    let mut client = proxy.connect();
    client.send(b"line\n");
    // Closing with something unread would be a reset.
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    eventually("writing fails", || std::io::Write::write_all(&mut client.stream, b"line\n").is_err());
    assert_eq!(proxy.log.wait_for_end("server_closed")["bytes.down"], 0);
}

#[test]
fn a_reset_in_the_middle_of_bulk_ends_the_session_and_leaves_nothing() {
    let server = FakeServer::start(|mut client, number| {
        let chunk = vec![5; 256 << 10];
        for _ in 0..24 {
            // The client goes away in the middle.
            if std::io::Write::write_all(&mut client.stream, &chunk).is_err() {
                return;
            }
        }
        if number % 2 == 1 {
            client.reset();
        }
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let before = proxy.descriptors();
    for number in 0..40 {
        // All of it may have fitted into the buffers on the way: then the reset comes at once.
        let mut client = match Client::try_connect(proxy.addr()) {
            Ok(client) => client,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => continue,
            Err(error) => panic!("cannot connect: {error}"),
        };
        // A reset may overtake bytes that are on their way.
        let _some = client.receive_some(1 << 20);
        if number % 4 < 2 {
            client.reset();
        } else {
            let _rest = client.receive_all();
        }
    }
    crate::support::eventually("no session is left", || proxy.sessions() == 0);
    // What remains open are idle pipes, two descriptors each, at most 32 a thread; here one at a time.
    assert!(proxy.descriptors() <= before + 8, "{} descriptors, {before} before", proxy.descriptors());
}
