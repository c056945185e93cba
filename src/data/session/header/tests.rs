//! A preface of the tests' own, which shows that one plugs in: a line with the address of the client before us.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::super::{ProxySessionService, TcpProxySession};
use super::*;
use crate::data::poll::{Events, Source};
use crate::data::session::{Side, Workspace};
use crate::group::{Group, GroupSettings};
use crate::server::{Origin, ServerSettings};

const DEADLINE: Duration = Duration::from_secs(120);

const LINE_MAX: usize = 64;

/// `ADDRESS\n`; the server is told of it by `for ADDRESS\n`.
#[derive(Debug)]
pub(crate) struct Line;

impl Preface {
    pub(super) fn verdict(&self, received: &[u8]) -> Verdict {
        let Self::Line(Line) = self;
        let Some(length) = received.iter().position(|byte| *byte == b'\n') else { return Verdict::Incomplete };
        match std::str::from_utf8(&received[..length]).ok().and_then(|line| line.parse().ok()) {
            Some(client) => {
                Verdict::Complete { length: length + 1, client, prefix: format!("for {client}\n").into_bytes() }
            }
            None => Verdict::Malformed(EndReason::PolicyFailed),
        }
    }

    pub(super) fn length_max(&self) -> usize {
        LINE_MAX
    }

    pub(super) fn reason_if_none(&self) -> EndReason {
        EndReason::IdleTimeout
    }
}

/// A client that has to say a line first, and a data thread that has nobody else.
struct Bench {
    client: TcpStream,
    session: Option<Box<TcpProxySession>>,
    workspace: Workspace,
    service: Arc<ProxySessionService>,
    group: Arc<Group>,
}

impl Bench {
    fn new(policy: &str, servers: &[SocketAddr]) -> Self {
        let server = |addr: &SocketAddr| ServerSettings::new(addr.to_string().parse().unwrap(), Origin::File);
        let servers = servers.iter().map(server).collect();
        let group = Arc::new(Group::for_tests(GroupSettings::for_tests(policy), servers));
        let service = Arc::new(ProxySessionService::new(1, 10));
        let mut workspace = Workspace::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        let (ours, from) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let guard = service.register(0, from, &group, clock::coarse_ms());
        let started = TcpProxySession::start_with(ours.into(), Some(Preface::Line(Line)), guard, &mut workspace);
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

fn receive(server: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    server.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_a_preface_says_decides_whom_the_policy_sees_and_what_the_server_hears_first() {
    let listeners: Vec<_> = (0..4).map(|_| listener()).collect();
    let addrs: Vec<_> = listeners.iter().map(|(_, addr)| *addr).collect();
    let mut bench = Bench::new("ip_hash", &addrs);
    let picked_for = |client: SocketAddr| bench.group.pick(client, &[], 0).unwrap().server.settings.addr.clone();
    let own = picked_for(([127, 0, 0, 1], 1).into());
    let mut others = (1..=255).map(|last| SocketAddr::from(([10, 0, 0, last], 7)));
    let claimed = others.find(|client| picked_for(*client) != own).expect("not everybody gets the same server");
    let expected = picked_for(claimed);
    for piece in claimed.to_string().as_bytes() {
        bench.client.write_all(&[*piece]).unwrap();
    }
    bench.client.write_all(b"\nhello").unwrap();
    bench.serve_until(Bench::is_picked);
    let view = bench.service.list(None, 1).sessions.remove(0);
    assert_eq!(view.server.as_deref(), Some(expected.as_str()));
    let index = addrs.iter().position(|addr| addr.to_string() == expected.as_str()).unwrap();
    let mut server = accept(&listeners[index].0);
    let told = format!("for {claimed}\nhello");
    assert_eq!(receive(&mut server, told.len()), told);
    bench.client.write_all(b" again").unwrap();
    bench.serve_until(|bench| bench.service.list(None, 1).sessions[0].bytes_up == 11);
    assert_eq!(receive(&mut server, 6), " again");
}

#[test]
fn each_server_that_is_tried_gets_the_prefix_and_nobody_counts_it_as_the_clients() {
    let (listening, addr) = listener();
    let (refusing, refused) = listener();
    drop(refusing);
    let mut bench = Bench::new("ha", &[refused, addr]);
    bench.client.write_all(b"10.1.2.3:4\nhello").unwrap();
    bench.serve_until(Bench::is_picked);
    let mut server = accept(&listening);
    let told = "for 10.1.2.3:4\nhello";
    assert_eq!(receive(&mut server, told.len()), told);
    assert_eq!(bench.service.list(None, 1).sessions[0].bytes_up, 5);
    bench.client.shutdown(std::net::Shutdown::Write).unwrap();
    server.shutdown(std::net::Shutdown::Write).unwrap();
    bench.serve_until(|_| false);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0, "and nothing more");
    assert_eq!(bench.ended(EndReason::ClientClosed) + bench.ended(EndReason::ServerClosed), 1);
}

#[test]
fn a_client_that_never_completes_its_preface_is_kept_for_a_bounded_time() {
    let mut bench = Bench::new("ha", &[listener().1]);
    bench.client.write_all(b"10.1.2").unwrap();
    bench.serve_until(|bench| bench.workspace.now_ms > 0);
    let session = bench.session.take().expect("it waits");
    let due_ms = session.due_ms();
    assert!(due_ms <= bench.workspace.now_ms + PREFACE_TIMEOUT_MS);
    bench.workspace.now_ms = due_ms - 1;
    let (session, _) = session.look(&mut bench.workspace).expect("it still waits");
    bench.workspace.now_ms = due_ms;
    assert!(session.look(&mut bench.workspace).is_none());
    assert_eq!((bench.ended(EndReason::IdleTimeout), bench.service.active()), (1, 0));
}

#[test]
fn a_client_whose_preface_is_none_or_too_long_is_turned_away() {
    let mut bench = Bench::new("ha", &[listener().1]);
    bench.client.write_all(&[b'1'; LINE_MAX]).unwrap();
    bench.serve_until(|_| false);
    assert_eq!(bench.ended(EndReason::IdleTimeout), 1);
    let mut bench = Bench::new("ha", &[listener().1]);
    bench.client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    bench.serve_until(|_| false);
    assert_eq!(bench.ended(EndReason::PolicyFailed), 1);
    let mut bench = Bench::new("ha", &[listener().1]);
    bench.client.write_all(b"10.1").unwrap();
    bench.client.shutdown(std::net::Shutdown::Write).unwrap();
    bench.serve_until(|_| false);
    assert_eq!(bench.ended(EndReason::ClientClosed), 1);
}
