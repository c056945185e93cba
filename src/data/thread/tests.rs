//! A data thread without its thread: single rounds of its loop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::counters::EndReason;
use crate::data::listeners::ACCEPTS_MAX;
use crate::data::session::{Pause, TcpProxySession};
use crate::data::sessions::SCAN_INTERVAL_MS;
use crate::group::{Group, GroupSettings};
use crate::server::{Origin, ServerSettings};

const BUSY_ROUNDS: usize = 20;

const IDLE_SESSIONS: usize = 20_000;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

fn data_thread() -> (DataThread, Arc<ProxySessionService>, mpsc::SyncSender<Command>) {
    let service = Arc::new(ProxySessionService::new(1, u64::MAX));
    let (commands, receiver) = mpsc::sync_channel(4);
    (DataThread::new(0, &service, receiver).unwrap(), service, commands)
}

fn group_of(server: SocketAddr, settings: GroupSettings) -> Arc<Group> {
    let servers = vec![ServerSettings::new(server.to_string().parse().unwrap(), Origin::File)];
    Arc::new(Group::for_tests(settings, servers))
}

/// Two ends of a connection; ours is non-blocking.
fn accepted() -> (TcpStream, OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, from) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (client, ours.into(), from)
}

/// An address at which nobody answers, for as long as what comes with it is kept.
fn blackhole() -> (SocketAddr, Vec<OwnedFd>) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let addr = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    let mut kept = vec![socket];
    while let Ok(filling) = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT) {
        kept.push(filling.into());
        assert!(kept.len() < 16, "the queue does not fill");
    }
    (addr, kept)
}

/// As many sessions as this test wants, or as its share of the process's descriptors allows.
fn idle_sessions() -> usize {
    let wanted = 4 * IDLE_SESSIONS as u64;
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(wanted);
    let raised = |maximum| setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), maximum: Some(maximum) });
    // More than the hard limit is for the superuser.
    let descriptors = if hard < wanted && raised(wanted).is_ok() { wanted } else { hard };
    raised(descriptors).expect("the hard limit is allowed");
    IDLE_SESSIONS.min(descriptors as usize / 4)
}

#[test]
fn short_time_outs_of_a_few_sessions_cost_nothing_for_those_that_idle() {
    let idle_sessions = idle_sessions();
    let (mut data_thread, service, _commands) = data_thread();
    let start_ms = data_thread.sessions.workspace.now_ms;
    let idle = group_of(([127, 0, 0, 1], 1).into(), GroupSettings::for_tests("round_robin"));
    for _ in 0..idle_sessions {
        let guard = service.register(0, ([127, 0, 0, 1], 2).into(), &idle, clock::coarse_ms());
        let key = guard.key();
        let session = TcpProxySession::idle_for_tests(guard, &data_thread.sessions.workspace);
        data_thread.sessions.keep(key, session, Pause::UntilEvent);
    }
    let (nowhere, _kept) = blackhole();
    let mut settings = GroupSettings::for_tests("round_robin");
    settings.connect_timeout = CONNECT_TIMEOUT;
    let hasty = group_of(nowhere, settings);
    let mut events = Events::new();
    let (mut connects, mut scans) = (0, 0);
    while scans < 3 {
        let (client, ours, from) = accepted();
        data_thread.sessions.start(ours, from, &hasty);
        connects += 1;
        while hasty.counters.ended(EndReason::ConnectFailed) < connects {
            let scan_at_ms = data_thread.sessions.scan_at_ms;
            assert!(data_thread.run_once(&mut events).unwrap());
            scans += usize::from(data_thread.sessions.scan_at_ms != scan_at_ms);
        }
        drop(client);
    }
    let elapsed_ms = clock::coarse_ms() - start_ms;
    assert!(elapsed_ms >= 3 * SCAN_INTERVAL_MS, "{scans} scans in {elapsed_ms} ms");
    assert!(connects >= 5, "{connects} connects have run out in {elapsed_ms} ms");
    // Each scan sees one that connects as well.
    let looks_max = scans * (idle_sessions + 1) + connects as usize;
    assert!(data_thread.sessions.looks <= looks_max, "{} looks, {looks_max} expected", data_thread.sessions.looks);
    assert!(data_thread.sessions.looks >= scans * idle_sessions);
}

#[test]
fn the_addresses_of_a_name_take_turns_and_one_that_fails_costs_no_client() {
    let (mut data_thread, _service, _commands) = data_thread();
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let server = ServerSettings::new(format!("name.invalid:{port}").parse().unwrap(), Origin::File);
    let addr = server.addr.clone();
    let group = Arc::new(Group::for_tests(GroupSettings::for_tests("ha"), vec![server]));
    group.resolved(&addr, Ok([&first, &second].map(|listener| listener.local_addr().unwrap()).to_vec()));
    let mut events = Events::new();
    let mut reached = |listeners: &[&TcpListener], clients: usize| {
        listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        let mut reached = vec![0; listeners.len()];
        for count in 1..=clients {
            let (_client, ours, from) = accepted();
            data_thread.sessions.start(ours, from, &group);
            while reached.iter().sum::<usize>() < count {
                for (reached, listener) in reached.iter_mut().zip(listeners) {
                    *reached += usize::from(listener.accept().is_ok());
                }
                assert!(data_thread.run_once(&mut events).unwrap());
            }
        }
        reached
    };
    assert_eq!(reached(&[&first, &second], 6), [3, 3]);
    drop(first);
    assert_eq!(reached(&[&second], 6), [6]);
    assert_eq!(group.counters.ended(EndReason::ConnectFailed), 0);
    assert_eq!(group.failures(&addr), 0, "it answers");
    assert_eq!(group.targets()[0].1.addresses, [SocketAddr::from(([127, 0, 0, 1], port))], "the proxy tries it");
}

#[test]
fn a_listener_that_closes_accepts_whom_the_kernel_has_queued_a_few_at_a_time() {
    const QUEUED: u64 = 3 * ACCEPTS_MAX as u64 + 5;
    let (mut data_thread, _service, commands) = data_thread();
    let group = Arc::new(Group::for_tests(GroupSettings::for_tests("round_robin"), Vec::new()));
    let (socket, addr) = open_listener();
    let _clients: Vec<_> = (0..QUEUED).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let (done, mut when_done) = oneshot::channel();
    commands.send(Command::Open { number: 7, socket, group: Arc::clone(&group) }).unwrap();
    commands.send(Command::Close { number: 7, done }).unwrap();
    data_thread.waker().wake();
    let (mut events, mut accepted) = (Events::new(), 0);
    while when_done.try_recv() == Err(TryRecvError::Empty) {
        assert!(data_thread.run_once(&mut events).unwrap());
        let total = group.counters.sessions_total.load(std::sync::atomic::Ordering::Relaxed);
        assert!(total - accepted <= ACCEPTS_MAX as u64, "{} at once", total - accepted);
        accepted = total;
    }
    assert_eq!(accepted, QUEUED);
    assert!(TcpStream::connect(addr).is_err());
    assert_eq!(data_thread.wait_until_ms(), NEVER);
}

/// What another process has too is shared by duplicates.
#[test]
fn a_thread_at_rest_leaves_its_clients_in_the_queue_until_it_resumes_or_another_takes_them() {
    let (mut data_thread, _service, commands) = data_thread();
    let group = Arc::new(Group::for_tests(GroupSettings::for_tests("round_robin"), Vec::new()));
    let total = || group.counters.sessions_total.load(std::sync::atomic::Ordering::Relaxed);
    let (first, addr) = open_listener();
    // Two sockets of one listener, as when a process with more threads has handed them over.
    let second = first.try_clone().unwrap();
    for socket in [first, second] {
        commands.send(Command::Open { number: 7, socket, group: Arc::clone(&group) }).unwrap();
    }
    let (done, mut when_done) = oneshot::channel();
    commands.send(Command::Rest { done }).unwrap();
    let (answer, mut shared) = oneshot::channel();
    commands.send(Command::Share { answer }).unwrap();
    let waker = data_thread.waker();
    waker.wake();
    let mut events = Events::new();
    let mut run_once = |events: &mut Events| assert!(data_thread.run_once(events).unwrap());
    run_once(&mut events);
    assert_eq!(when_done.try_recv(), Err(TryRecvError::Closed));
    let shared = shared.try_recv().unwrap().unwrap();
    assert_eq!(shared.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [7, 7]);
    let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    waker.wake();
    run_once(&mut events);
    assert_eq!(total(), 0, "it is not even told of them");
    commands.send(Command::Resume).unwrap();
    waker.wake();
    while total() < 3 {
        run_once(&mut events);
    }
    let (done, mut when_done) = oneshot::channel();
    commands.send(Command::Leave { number: 7, done }).unwrap();
    waker.wake();
    run_once(&mut events);
    assert_eq!(when_done.try_recv(), Err(TryRecvError::Closed));
    let _client = TcpStream::connect(addr).unwrap();
    waker.wake();
    run_once(&mut events);
    assert_eq!(total(), 3, "it is another's");
    assert!(rustix::net::acceptfrom(&shared[0].1).is_ok());
}

/// A listener of this process's own on an address that is free.
fn open_listener() -> (OwnedFd, SocketAddr) {
    let socket = crate::net::bind(([127, 0, 0, 1], 0).into(), 1, &[]).unwrap().remove(0);
    let addr = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    (socket, addr)
}

#[test]
fn a_session_that_comes_round_to_its_own_group_is_ended_and_one_that_passes_through_another_is_not() {
    let (mut data_thread, service, commands) = data_thread();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let [round, through, last] = std::array::from_fn(|_| open_listener());
    let group = |server| group_of(server, GroupSettings::for_tests("round_robin"));
    let (round_at, through_at) = (round.1, through.1);
    let round_group = group(round_at);
    let groups = [Arc::clone(&round_group), group(last.1), group(server.local_addr().unwrap())];
    for ((socket, addr), group) in [round, through, last].into_iter().zip(groups) {
        service.set_listening(addr.port(), true);
        commands.send(Command::Open { number: addr.port().into(), socket, group }).unwrap();
    }
    data_thread.waker().wake();
    let mut events = Events::new();
    let _passing = TcpStream::connect(through_at).unwrap();
    server.set_nonblocking(true).unwrap();
    let mut passed = None;
    while passed.is_none() {
        assert!(data_thread.run_once(&mut events).unwrap());
        passed = server.accept().ok();
    }
    assert_eq!(service.active(), 2, "one in each group");
    let mut circling = TcpStream::connect(round_at).unwrap();
    while service.active() > 2 || round_group.counters.ended(EndReason::Loop) == 0 {
        assert!(data_thread.run_once(&mut events).unwrap());
    }
    assert_eq!(round_group.counters.sessions_total.load(std::sync::atomic::Ordering::Relaxed), 2);
    assert_eq!(circling.read(&mut [0; 1]).unwrap(), 0);
}

/// The system gives connections to different addresses the same port.
#[test]
fn a_client_with_the_same_address_as_a_connection_of_our_own_is_served() {
    let (mut data_thread, service, commands) = data_thread();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let (first, second) = (open_listener(), open_listener());
    let first_at = first.1;
    let mut settings = GroupSettings::for_tests("round_robin");
    // Its ports may be shared by whoever says so.
    settings.server_tcp.source = Some([127, 0, 0, 1].into());
    let first_group = group_of(second.1, settings);
    let second_group = group_of(server.local_addr().unwrap(), GroupSettings::for_tests("round_robin"));
    for ((socket, addr), group) in [first, second].into_iter().zip([&first_group, &second_group]) {
        service.set_listening(addr.port(), true);
        commands.send(Command::Open { number: addr.port().into(), socket, group: Arc::clone(group) }).unwrap();
    }
    data_thread.waker().wake();
    let mut events = Events::new();
    let mut serve_next = || loop {
        assert!(data_thread.run_once(&mut events).unwrap());
        assert_eq!(first_group.counters.ended(EndReason::Loop), 0);
        if let Ok((passed, _)) = server.accept() {
            break passed;
        }
    };
    let _client = TcpStream::connect(first_at).unwrap();
    let _passed = serve_next();
    let own = service.list(None, 1).sessions[0].client;
    let stranger = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::sockopt::set_socket_reuseaddr(&stranger, true).unwrap();
    rustix::net::bind(&stranger, &own).unwrap();
    rustix::net::connect(&stranger, &first_at).unwrap();
    let _passed_too = serve_next();
    assert_eq!(service.active(), 4, "two in each group");
}

#[test]
fn a_thread_without_sessions_sleeps_until_an_event_comes() {
    let (mut data_thread, service, _commands) = data_thread();
    assert_eq!(data_thread.wait_until_ms(), NEVER);
    let (nowhere, _kept) = blackhole();
    let group = group_of(nowhere, GroupSettings::for_tests("round_robin"));
    let (_client, ours, from) = accepted();
    data_thread.sessions.start(ours, from, &group);
    assert_ne!(data_thread.wait_until_ms(), NEVER);
    let id = service.list(None, 1).sessions[0].id;
    service.close(id);
    let mut events = Events::new();
    while data_thread.wait_until_ms() != NEVER {
        assert!(data_thread.run_once(&mut events).unwrap());
    }
    assert_eq!(service.active(), 0);
}

/// Both its sockets nearly always have more than it may move at once, and events come besides.
#[test]
fn a_busy_session_goes_on_once_however_many_events_come() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let group = group_of(addr, GroupSettings::for_tests("round_robin"));
    let (mut data_thread, service, _commands) = data_thread();
    let (client, ours, from) = accepted();
    data_thread.sessions.start(ours, from, &group);
    let (server, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        for stream in [&client, &server] {
            // Until the session is gone.
            scope.spawn(move || while (&mut &*stream).write_all(&[0; 1 << 18]).is_ok() {});
            scope.spawn(move || while (&mut &*stream).read(&mut [0; 1 << 18]).is_ok_and(|read| read > 0) {});
        }
        let (mut events, mut busy_rounds) = (Events::new(), 0);
        while busy_rounds < BUSY_ROUNDS {
            assert!(data_thread.run_once(&mut events).unwrap());
            assert!(
                data_thread.sessions.again.len() <= 1,
                "{} rounds for one session",
                data_thread.sessions.again.len()
            );
            busy_rounds += data_thread.sessions.again.len();
        }
        drop(data_thread);
    });
    assert_eq!(service.active(), 0);
}
