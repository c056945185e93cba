use std::io::{Read as _, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;

use super::super::{ProxySessionService, TcpProxySession};
use super::*;
use crate::data::poll::{Events, Source};
use crate::data::session::{Side, Workspace};
use crate::group::{AcceptProxy, Group};
use crate::limits::{AddressList, ClientLimits, Networks};
use crate::server::{Origin, SendProxy, ServerSettings};

const DEADLINE: Duration = Duration::from_secs(120);

const TIMEOUT: Duration = Duration::from_millis(4_500);

/// A data thread that has one client only, which has to send a header.
struct Bench {
    client: TcpStream,
    session: Option<Box<TcpProxySession>>,
    workspace: Workspace,
    service: Arc<ProxySessionService>,
    group: Arc<Group>,
}

fn settings(policy: &str) -> GroupSettings {
    let from = vec!["127.0.0.0/8".parse().unwrap()];
    GroupSettings {
        accept_proxy: Some(Arc::new(AcceptProxy { from, timeout: TIMEOUT })),
        ..GroupSettings::for_tests(policy)
    }
}

fn server(addr: &SocketAddr) -> ServerSettings {
    ServerSettings::new(addr.to_string().parse().unwrap(), Origin::File)
}

impl Bench {
    /// With a client that has sent these bytes before it was accepted.
    fn new(settings: GroupSettings, servers: Vec<ServerSettings>, first_bytes: &[u8]) -> Self {
        let group = Arc::new(Group::for_tests(settings, servers));
        let service = Arc::new(ProxySessionService::new(1, 10));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write_all(first_bytes).unwrap();
        let (ours, from) = listener.accept().unwrap();
        if !first_bytes.is_empty() {
            ours.peek(&mut [0]).unwrap();
        }
        ours.set_nonblocking(true).unwrap();
        let mut workspace = Workspace::new().unwrap();
        let guard = service.register(0, from, &group, clock::coarse_ms());
        let started = TcpProxySession::start(ours.into(), guard, &mut workspace);
        Self { client, session: started.map(|(session, _)| session), workspace, service, group }
    }

    /// Serves the session until `is_done` or its end.
    fn serve_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        let mut events = Events::new();
        while self.session.is_some() && !is_done(self) {
            self.workspace.reactor.wait(&mut events, Some(DEADLINE.as_millis() as u32)).unwrap();
            assert!(events.iter().count() > 0, "nothing happens any more");
            let mut session = self.session.take().expect("looked at above");
            for (token, ready) in events.iter() {
                match token.source() {
                    Source::Client(_) => session.on_ready(Side::Client, ready),
                    Source::Server(_) => session.on_ready(Side::Server, ready),
                    other => panic!("{other:?}"),
                }
            }
            self.session = session.advance(&mut self.workspace).map(|(session, _)| session);
        }
    }

    fn is_picked(&self) -> bool {
        self.service.list(None, 1).sessions[0].server.is_some()
    }

    fn ended(&self, reason: EndReason) -> u64 {
        self.group.counters.ended(reason)
    }

    fn headers(&self, result: HeaderResult) -> u64 {
        self.group.counters.headers(result)
    }

    #[track_caller]
    fn assert_is_reset(&mut self) {
        let ended = self.client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    server
}

#[track_caller]
fn assert_receives(server: &mut TcpStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn a_header_and_a_request_that_come_together_need_no_waiting() {
    let (listening, addr) = listener();
    let mut bench = Bench::new(settings("ha"), vec![server(&addr)], b"PROXY TCP4 10.1.2.3 192.0.2.1 4 80\r\nhello");
    bench.serve_until(Bench::is_picked);
    assert_receives(&mut accept(&listening), "hello");
    let view = bench.service.list(None, 1).sessions.remove(0);
    assert_eq!((view.client, view.bytes_up), ("10.1.2.3:4".parse().unwrap(), 5));
    assert_eq!(view.via, Some(bench.client.local_addr().unwrap()));
    assert_eq!(bench.headers(HeaderResult::Accepted), 1);
    assert_eq!(bench.group.counters.headers_awaited.load(Relaxed), 0);
}

#[test]
fn a_header_decides_whom_the_policy_sees_however_small_its_pieces_are() {
    let listeners: Vec<_> = (0..4).map(|_| listener()).collect();
    let addrs: Vec<_> = listeners.iter().map(|(_, addr)| *addr).collect();
    let mut bench = Bench::new(settings("ip_hash"), addrs.iter().map(server).collect(), b"");
    assert_eq!(bench.group.counters.headers_awaited.load(Relaxed), 1);
    let picked_for = |client: SocketAddr| bench.group.pick(client, &[], 0).unwrap().server.settings.addr.clone();
    let own = picked_for(([127, 0, 0, 1], 1).into());
    let mut others = (1..=255).map(|last| SocketAddr::from(([10, 0, 0, last], 7)));
    let claimed = others.find(|client| picked_for(*client) != own).expect("not everybody gets the same server");
    let expected = picked_for(claimed);
    for piece in format!("PROXY TCP4 {} 192.0.2.1 7 80\r\n", claimed.ip()).as_bytes() {
        bench.client.write_all(&[*piece]).unwrap();
    }
    bench.client.write_all(b"hello").unwrap();
    bench.serve_until(Bench::is_picked);
    assert_eq!(bench.group.counters.headers_awaited.load(Relaxed), 0);
    let view = bench.service.list(None, 1).sessions.remove(0);
    assert_eq!(view.server.as_deref(), Some(expected.as_str()));
    let index = addrs.iter().position(|addr| addr.to_string() == expected.as_str()).unwrap();
    let mut server = accept(&listeners[index].0);
    bench.client.write_all(b" again").unwrap();
    bench.serve_until(|bench| bench.service.list(None, 1).sessions[0].bytes_up == 11);
    assert_receives(&mut server, "hello again");
}

#[test]
fn each_server_that_is_tried_gets_the_header_that_it_wants_and_nobody_counts_it_as_the_clients() {
    let (listening, addr) = listener();
    let (refusing, refused) = listener();
    drop(refusing);
    let servers = vec![ServerSettings { send_proxy: Some(SendProxy::V2), ..server(&refused) }, server(&addr)];
    let settings = GroupSettings { send_proxy: SendProxy::V1, ..settings("ha") };
    let line = "PROXY TCP6 2001:db8::1 2001:db8::2 4 80\r\n";
    let mut bench = Bench::new(settings, servers, line.as_bytes());
    bench.client.write_all(b"hello").unwrap();
    bench.serve_until(|bench| bench.service.list(None, 1).sessions[0].bytes_up == 5);
    let mut server = accept(&listening);
    assert_receives(&mut server, &format!("{line}hello"));
    bench.client.shutdown(Shutdown::Write).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    bench.serve_until(|_| false);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0, "and nothing more");
    assert_eq!(bench.group.counters.bytes_up.load(Relaxed), 5);
    assert_eq!(bench.ended(EndReason::ClientClosed) + bench.ended(EndReason::ServerClosed), 1);
}

#[test]
fn a_client_that_never_completes_its_header_is_kept_for_a_bounded_time() {
    let mut bench = Bench::new(settings("ha"), vec![server(&listener().1)], b"PROXY TCP4 ");
    let session = bench.session.take().expect("it waits");
    let due_ms = session.due_ms();
    assert_eq!(due_ms, bench.workspace.now_ms + clock::as_ms(TIMEOUT));
    bench.workspace.now_ms = due_ms - 1;
    let (session, _) = session.look(&mut bench.workspace).expect("it still waits");
    bench.workspace.now_ms = due_ms;
    assert!(session.look(&mut bench.workspace).is_none());
    assert_eq!((bench.ended(EndReason::HeaderTimeout), bench.service.active()), (1, 0));
    assert_eq!((bench.headers(HeaderResult::Timeout), bench.group.counters.headers_awaited.load(Relaxed)), (1, 0));
    bench.assert_is_reset();
    let late = HeaderError::Late { timeout: TIMEOUT, bytes: 11 };
    assert_eq!(late.to_string(), "PROXY header: incomplete after 4500ms (11 bytes)");
    let late = HeaderError::Late { timeout: Duration::from_secs(5), bytes: 0 };
    assert_eq!(late.to_string(), "PROXY header: incomplete after 5s (0 bytes)");
}

#[test]
fn a_client_that_sends_something_else_is_reset_whether_it_comes_at_once_or_later() {
    for (at_once, later) in [("GET / HTTP/1.1\r\n", ""), ("", "GET"), ("PROXY TCP4 1.2.3.4 ", "x")] {
        let mut bench = Bench::new(settings("ha"), vec![server(&listener().1)], at_once.as_bytes());
        if !later.is_empty() {
            bench.client.write_all(later.as_bytes()).unwrap();
        }
        bench.serve_until(|_| false);
        assert_eq!((bench.ended(EndReason::BadHeader), bench.headers(HeaderResult::Bad)), (1, 1), "{at_once:?}");
        bench.assert_is_reset();
    }
}

#[test]
fn a_client_that_ends_before_its_header_is_complete_is_counted_as_closed() {
    for at_once in ["", "PROXY"] {
        let mut bench = Bench::new(settings("ha"), vec![server(&listener().1)], at_once.as_bytes());
        bench.client.shutdown(Shutdown::Write).unwrap();
        bench.serve_until(|_| false);
        assert_eq!((bench.ended(EndReason::ClientClosed), bench.headers(HeaderResult::Closed)), (1, 1));
    }
}

#[test]
fn clients_that_are_waited_for_take_a_part_of_the_places_only() {
    let guards = |settings: GroupSettings, sessions_max| {
        let group = Arc::new(Group::for_tests(settings, Vec::new()));
        let service = Arc::new(ProxySessionService::new(1, sessions_max));
        let guard = service.register(0, ([127, 0, 0, 1], 1).into(), &group, 0);
        let places: Vec<_> = std::iter::from_fn(|| WaitingPlace::take(&guard, Awaited::Header).ok()).collect();
        let taken = places.len();
        drop(places);
        assert_eq!(group.counters.headers_awaited.load(Relaxed), 0);
        taken
    };
    assert_eq!(guards(settings("ha"), 100), 25);
    assert_eq!(guards(settings("ha"), 1), 1);
    assert_eq!(guards(GroupSettings { max_sessions: 60, ..settings("ha") }, 100), 60);
}

#[test]
fn only_those_addresses_are_expected_to_send_a_header() {
    let mut settings = settings("ha");
    assert_eq!(expected_of([127, 0, 0, 9].into(), &settings), Some(TIMEOUT));
    assert_eq!(expected_of([10, 0, 0, 9].into(), &settings), None);
    settings.accept_proxy = None;
    assert_eq!(expected_of([127, 0, 0, 9].into(), &settings), None);
}

/// Settings that keep out 192.0.2.0/24 and let each client have one session.
fn limited() -> GroupSettings {
    let deny = Networks::new(["192.0.2.0/24".parse::<ipnet::IpNet>().unwrap()]);
    GroupSettings {
        client: Some(ClientLimits { sessions: 1, rate: None, ipv4: 32, ipv6: 64 }),
        deny: AddressList::new(vec!["192.0.2.0/24".to_owned()], Vec::new(), deny),
        ..settings("ha")
    }
}

#[test]
fn limits_are_for_the_client_that_the_header_names_and_nothing_is_counted_before() {
    let (listening, addr) = listener();
    let mut bench = Bench::new(limited(), vec![server(&addr)], b"PROXY TCP4 192.0.2.7 10.0.0.1");
    assert_eq!(bench.service.limits().tracked(), 0, "it is not known who comes");
    bench.client.write_all(b" 1 2\r\nhello").unwrap();
    bench.serve_until(|_| false);
    bench.assert_is_reset();
    assert_eq!((bench.ended(EndReason::Denied), bench.service.limits().tracked()), (1, 0));
    assert_eq!(bench.headers(HeaderResult::Accepted), 1);

    // In one piece.
    let mut bench = Bench::new(limited(), vec![server(&addr)], b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n");
    assert!(bench.session.is_none());
    bench.assert_is_reset();
    assert_eq!(bench.ended(EndReason::Denied), 1);

    let mut bench = Bench::new(limited(), vec![server(&addr)], b"PROXY TCP4 10.0.0.7 10.0.0.1 1 2\r\n");
    bench.serve_until(Bench::is_picked);
    let shown = bench.service.limits().busiest(1, None);
    assert_eq!(shown[0].key.ip(), IpAddr::from([10, 0, 0, 7]));
    drop(accept(&listening));
    bench.client.shutdown(Shutdown::Write).unwrap();
    bench.serve_until(|_| false);
    assert_eq!((bench.service.active(), bench.service.limits().tracked()), (0, 0));
}
