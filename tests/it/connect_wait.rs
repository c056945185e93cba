//! A server that restarts turns nobody away: its clients are held for a moment.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Client, Ended, FakeServer, Group, TestProxy, echo, eventually, let_pass, spawn};

#[test]
fn a_lone_server_that_restarts_turns_none_of_its_clients_away() {
    let clients: usize = std::env::var("GOPROXY_TEST_SESSIONS").map_or(150, |text| text.parse().expect("a number"));
    let server = FakeServer::echo();
    let addr = server.addr;
    let proxy = TestProxy::start(Group::new("ha", &[&server]));
    proxy.connect().echo(b"before");
    let (to, failed, served) = (proxy.addr(), Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    drop(server);
    eventually("it refuses", || std::net::TcpStream::connect(addr).is_err());
    let gone = Instant::now();
    let visitors: Vec<_> = (0..clients)
        .map(|number| {
            let (failed, served) = (Arc::clone(&failed), Arc::clone(&served));
            spawn(move || {
                let_pass(Duration::from_micros(500_000 / 500) * (number as u32 % 500), "clients come one by one");
                let visit = Client::try_connect(to).and_then(|mut client| {
                    client.stream.write_all(b"hello")?;
                    let mut back = [0; 5];
                    client.stream.read_exact(&mut back)
                });
                match visit {
                    Ok(()) => _ = served.fetch_add(1, SeqCst),
                    Err(error) => failed.lock().unwrap().push(error.to_string()),
                }
            })
        })
        .collect();
    let_pass(Duration::from_millis(650).saturating_sub(gone.elapsed()), "the time that the server takes to restart");
    let back = FakeServer::start_at(addr, |client, _| echo(client));
    let away = gone.elapsed();
    visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
    eprintln!("away for {away:?}: {} served, {:?}", served.load(SeqCst), failed.lock().unwrap());
    assert_eq!(served.load(SeqCst), clients, "{:?}", failed.lock().unwrap());
    drop(back);
}

/// How long a client waits until it is told that there is no server for it.
fn held(proxy: &TestProxy) -> Duration {
    let start = Instant::now();
    assert_eq!(proxy.connect().receive_all(), (Vec::new(), Ended::InOrder));
    start.elapsed()
}

#[test]
fn a_client_is_held_for_connect_wait_and_not_at_all_without_a_server_or_by_one_that_swallows_connects() {
    let (refusing, blackholed) = (FakeServer::refusing(), FakeServer::blackholed());
    let usual = TestProxy::start(Group::new("ha", &[&refusing]));
    let took = held(&usual);
    assert!((Duration::from_millis(980)..Duration::from_secs(30)).contains(&took), "{took:?}");
    assert_eq!(usual.log.wait_for_end("connect_failed")["error"], "connection refused");
    // It would be a minute each.
    let group = |servers: &[&FakeServer]| Group::new("ha", servers).with("connect_wait", "1m");
    assert!(held(&TestProxy::start(group(&[]))) < Duration::from_secs(30));
    let with_black_hole = group(&[&refusing, &blackholed]).with("connect_timeout", "500ms");
    assert!(held(&TestProxy::start(with_black_hole)) < Duration::from_secs(30));
    assert!(
        held(&TestProxy::start(Group::new("ha", &[&refusing]).with("connect_wait", "0s"))) < Duration::from_secs(30)
    );
}

#[test]
fn a_client_that_goes_while_it_is_held_or_is_ended_by_an_operator_ends_then() {
    let refusing = FakeServer::refusing();
    let proxy = TestProxy::start(Group::new("ha", &[&refusing]).with("connect_wait", "1m"));
    let client = proxy.connect();
    eventually("it is held", || proxy.sessions() == 1);
    client.reset();
    proxy.log.wait_for_end("client_reset");
    let mut client = proxy.connect();
    eventually("it is held", || proxy.sessions() == 1);
    let id = proxy.ok("/session-list.do")["sessions"][0]["id"].clone();
    proxy.ok(&format!("/session-close.do?id={id}"));
    assert_eq!(client.receive_all().1, Ended::InOrder);
}

#[test]
fn what_a_client_that_is_held_has_sent_arrives_once() {
    let server = FakeServer::refusing();
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("connect_wait", "1m"));
    let mut client = Client::new(std::net::TcpStream::connect::<SocketAddr>(proxy.addr()).unwrap());
    client.send(b"first words");
    eventually("it is held", || proxy.server(server.addr)["connect_errors"].as_u64() >= Some(2));
    client.send(b", and more");
    server.listens_from_now_on(|client, _| echo(client));
    assert_eq!(client.receive(21), b"first words, and more");
}
