use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::limits::IDLE_PROMISED;
use super::*;
use crate::admin::reply;

const DEADLINE: Duration = Duration::from_secs(120);

/// A server on loopback that answers every request with `ok`; `/slow` only when released.
struct Running {
    addr: SocketAddr,
    resting: CancellationToken,
    shutdown: CancellationToken,
    release: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn short() -> Limits {
    let second = Duration::from_secs(1);
    Limits { idle_time: second, head_time: second, write_time: Duration::from_millis(200), ..LIMITS }
}

async fn start(limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (shutdown, release) = (CancellationToken::new(), CancellationToken::new());
    let wait = release.clone();
    let handler = move |caller: Caller, request: Request<Body>| {
        let wait = wait.clone();
        async move {
            match request.uri().path() {
                "/slow" => wait.cancelled().await,
                "/large" => return reply::bytes("text/plain", vec![b'a'; 64 << 20]),
                _ => {}
            }
            reply::granted(if caller.is_spare { "spare" } else { "served" }, reply::Nothing {})
        }
    };
    let stops = Stops { resting: shutdown.child_token(), shutdown: shutdown.clone() };
    let resting = stops.resting.clone();
    let task = tokio::spawn(async move { serve(listener, limits, handler, &stops).await });
    Running { addr, resting, shutdown, release, task }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = self.connect().await;
        send(&mut stream, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        rest(&mut stream).await
    }
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// All that comes until the connection is closed; a reset is an end too.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the connection is closed in time");
    String::from_utf8(bytes).unwrap()
}

/// One answer on a connection that stays open.
async fn one(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("}\n") {
        let mut buffer = [0; 4096];
        let read = timeout(DEADLINE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

#[tokio::test]
async fn a_connection_serves_several_requests_and_then_is_not_kept_for_ever() {
    let server = start(short()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        send(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(one(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    assert_eq!(rest(&mut stream).await, "", "silence ends it");
}

#[tokio::test]
async fn whoever_sends_no_head_or_only_drips_it_is_closed() {
    let server = start(short()).await;
    let mut silent = server.connect().await;
    assert!(!rest(&mut silent).await.contains("200 OK"));

    let mut dripping = server.connect().await;
    let (mut read, mut write) = dripping.split();
    let drip = async {
        write.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx: ").await.unwrap();
        // Each byte comes within the time for a head; all of them together do not.
        let mut drops = tokio::time::interval(Duration::from_millis(20));
        while write.write_all(b"a").await.is_ok() {
            drops.tick().await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = drip => {}
        _ = timeout(DEADLINE, read.read_to_end(&mut answer)) => {}
    }
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test]
async fn whoever_takes_no_answer_is_closed() {
    let server = start(Limits { connections: 1, ..short() }).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let begun = Instant::now();
    while server.get("/").await.contains("spare") {
        assert!(begun.elapsed() < DEADLINE, "the only place is still taken");
    }
    drop(stream);
}

#[tokio::test]
async fn connections_without_a_request_make_room_and_those_that_are_kept_go_last() {
    let server = start(Limits { connections: 4, ..LIMITS }).await;
    let mut kept = server.connect().await;
    send(&mut kept, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(one(&mut kept).await.contains("\r\nkeep-alive: timeout=75\r\n"));
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(server.connect().await);
    }
    let answer = server.get("/").await;
    assert!(answer.contains("served") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(rest(&mut silent[0]).await, "", "it was silent longest");
    send(&mut kept, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(one(&mut kept).await.contains("served"), "it has its place");
}

#[tokio::test]
async fn when_all_others_are_busy_the_connection_that_is_kept_makes_room() {
    let server = start(Limits { connections: 4, ..LIMITS }).await;
    let mut kept = server.connect().await;
    send(&mut kept, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(one(&mut kept).await.contains("keep-alive"));
    let mut slow = Vec::new();
    for _ in 0..3 {
        slow.push(server.connect().await);
        send(slow.last_mut().unwrap(), "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    }
    assert!(server.get("/").await.contains("served"));
    assert_eq!(rest(&mut kept).await, "");
    server.release.cancel();
    for mut stream in slow {
        assert!(one(&mut stream).await.contains("served"));
    }
}

/// More callers than places, all at once, as after a restart: each waits its turn.
#[tokio::test]
async fn a_burst_of_callers_is_served_though_it_has_more_connections_than_there_are_places() {
    let server = Arc::new(start(Limits { connections: 8, ..LIMITS }).await);
    let mut kept = server.connect().await;
    send(&mut kept, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    one(&mut kept).await;
    let callers: Vec<_> = (0..200)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.get("/").await })
        })
        .collect();
    for caller in callers {
        let answer = caller.await.unwrap();
        assert!(answer.contains("served"), "{answer:?}");
    }
    send(&mut kept, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(one(&mut kept).await.contains("served"), "it has its place");
}

#[tokio::test]
async fn beyond_half_of_the_places_connections_are_not_kept() {
    let server = start(Limits { connections: 4, ..LIMITS }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        send(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(one(&mut stream).await.contains("keep-alive"));
        held.push(stream);
    }
    let mut third = server.connect().await;
    send(&mut third, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = rest(&mut third).await;
    assert!(answer.contains("\r\nconnection: close\r\n") && !answer.contains("keep-alive"), "{answer}");
    send(&mut held[0], "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(one(&mut held[0]).await.contains("keep-alive"), "there is room again");
}

#[tokio::test]
async fn a_port_whose_places_are_all_busy_still_takes_a_few_and_says_so() {
    let server = start(Limits { connections: 1, ..LIMITS }).await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let begun = Instant::now();
    while !server.get("/").await.contains("spare") {
        assert!(begun.elapsed() < DEADLINE, "the slow request takes the only place");
    }
    let mut spare: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        spare.push(server.connect().await);
        send(spare.last_mut().unwrap(), "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    }
    let answer = rest(&mut spare[199]).await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer:?}");
    server.release.cancel();
    assert!(one(&mut busy).await.contains("200 OK"));
}

#[tokio::test]
async fn the_time_for_a_head_begins_with_its_first_byte() {
    let limits = Limits { head_time: Duration::from_millis(50), ..LIMITS };
    let server = start(limits).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        let mut byte = [0];
        let silence = timeout(5 * limits.head_time, stream.read(&mut byte)).await;
        assert!(silence.is_err(), "closed while idle");
        send(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(one(&mut stream).await.contains("200 OK"));
    }
    send(&mut stream, "G").await;
    assert!(!rest(&mut stream).await.contains("200 OK"), "a head that is begun has its time");
}

#[tokio::test]
async fn requests_that_come_together_are_each_answered_once() {
    let server = start(LIMITS).await;
    let mut stream = server.connect().await;
    let get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
    // The handler does not read the body, which must not be taken for a request.
    let all = [get, get, post, post, get, post, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"].concat();
    let (head, tail) = all.split_at(get.len() + 10);
    send(&mut stream, head).await;
    assert!(one(&mut stream).await.contains("200 OK"));
    send(&mut stream, tail).await;
    assert_eq!(rest(&mut stream).await.matches("HTTP/1.1 200 OK").count(), 6);
}

#[test]
fn the_answer_to_one_too_many_is_well_formed() {
    let text = std::str::from_utf8(BUSY).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), body.len());
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["code"], "too_many_connections");
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_a_huge_head_is_431() {
    let server = start(LIMITS).await;
    for garbage in
        ["\0\u{1}\u{2}\u{3}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}"]
    {
        let mut stream = server.connect().await;
        send(&mut stream, garbage).await;
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{garbage:?}: {answer:?}");
    }
    let mut stream = server.connect().await;
    let huge = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(LIMITS.head_bytes));
    send(&mut stream, &huge).await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431 "));
    assert!(server.get("/").await.contains("200 OK"));
}

#[tokio::test]
async fn a_caller_that_has_shut_down_its_side_still_gets_its_answer() {
    let server = start(LIMITS).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    stream.shutdown().await.unwrap();
    server.release.cancel();
    assert!(rest(&mut stream).await.contains("200 OK"));
}

#[tokio::test]
async fn shutdown_lets_a_request_under_way_end_and_takes_no_new_one() {
    let server = start(LIMITS).await;
    let mut idle = server.connect().await;
    send(&mut idle, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    one(&mut idle).await;
    let mut slow = server.connect().await;
    send(&mut slow, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    send(&mut idle, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    one(&mut idle).await;

    server.shutdown.cancel();
    assert_eq!(rest(&mut idle).await, "", "an idle connection is closed");
    assert!(TcpStream::connect(server.addr).await.is_err(), "nobody listens any more");
    server.release.cancel();
    assert!(rest(&mut slow).await.contains("200 OK"));
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn at_rest_a_request_under_way_has_as_long_as_it_needs_and_others_go_elsewhere() {
    let mut server = start(Limits { shutdown_time: Duration::from_millis(1), ..LIMITS }).await;
    let mut idle = server.connect().await;
    send(&mut idle, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    one(&mut idle).await;
    let mut slow = server.connect().await;
    send(&mut slow, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(server.get("/").await.contains("200 OK"), "so the slow one is under way");
    server.resting.cancel();
    assert_eq!(rest(&mut idle).await, "", "an idle connection is closed");
    assert!(TcpStream::connect(server.addr).await.is_err(), "nobody listens here any more");
    // Much longer than what a shutdown would leave it.
    assert!(timeout(Duration::from_millis(50), &mut server.task).await.is_err());
    server.release.cancel();
    let answer = rest(&mut slow).await;
    assert!(answer.contains("200 OK") && answer.contains("connection: close"), "{answer}");
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_request_that_does_not_end() {
    let server = start(Limits { shutdown_time: Duration::from_millis(50), ..LIMITS }).await;
    let mut slow = server.connect().await;
    send(&mut slow, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(server.get("/").await.contains("200 OK"));
    server.shutdown.cancel();
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
    assert_eq!(rest(&mut slow).await, "");
}

/// Fails as often as it is told to, as when no file descriptor is left; then brings one connection.
struct Failing {
    errors: u32,
    io: Option<UnixStream>,
}

impl Accept for Failing {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(Self::Io, Peer)> {
        if self.errors > 0 {
            self.errors -= 1;
            return Err(rustix::io::Errno::MFILE.into());
        }
        match self.io.take() {
            Some(io) => Ok((io, None)),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn running_out_of_file_descriptors_is_waited_out_without_spinning() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let shutdown = CancellationToken::new();
    let handler = |_: Caller, _: Request<Body>| async { reply::granted("served", reply::Nothing {}) };
    let listener = Failing { errors: 3, io: Some(theirs) };
    let begun = Instant::now();
    let stops = Stops { resting: shutdown.child_token(), shutdown: shutdown.clone() };
    let task = tokio::spawn(async move { serve(listener, LIMITS, handler, &stops).await });
    ours.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    ours.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("200 OK"), "{answer:?}");
    assert!(begun.elapsed() >= 3 * ACCEPT_PAUSE);
    shutdown.cancel();
    task.await.unwrap();
}

#[test]
fn limits_are_those_that_are_promised() {
    assert_eq!(LIMITS.head_time, Duration::from_secs(5));
    assert!(LIMITS.idle_time > Duration::from_secs(u64::from(IDLE_PROMISED)) + Duration::from_secs(15));
}
