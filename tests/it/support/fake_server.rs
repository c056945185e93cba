//! Servers that behave, and servers that do not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use super::{Client, own_ip, spawn};

/// A server on an address of its own.
#[derive(Debug)]
pub(crate) struct FakeServer {
    pub(crate) addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// Keeps the port, and wakes the accepting thread at the end.
    socket: OwnedFd,
    /// Connections that fill the queue of a server that never answers.
    _filling: Vec<OwnedFd>,
}

impl FakeServer {
    /// Runs `behaviour` on a thread of its own for each connection; its second argument counts them from 0.
    pub(crate) fn start(behaviour: impl Fn(Client, usize) + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::new(own_ip(), 0), behaviour)
    }

    /// The same at an address of the caller's choice.
    pub(crate) fn start_at(addr: SocketAddr, behaviour: impl Fn(Client, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(addr).expect("the address is nobody else's");
        // For as many as a test likes to connect at the same moment.
        rustix::net::listen(&listener, 4_096).expect("it is bound");
        let addr = listener.local_addr().expect("it is bound");
        let socket = OwnedFd::from(listener.try_clone().expect("a descriptor is left"));
        let server = Self { addr, accepted: Arc::default(), socket, _filling: Vec::new() };
        server.serve(listener, behaviour);
        server
    }

    /// Sends back what it gets, and ends when the client does.
    pub(crate) fn echo() -> Self {
        Self::start(|client, _| echo(client))
    }

    /// As [`FakeServer::echo`], on IPv6.
    pub(crate) fn echo_on_ipv6() -> Self {
        Self::start_at("[::1]:0".parse().expect("an address"), |client, _| echo(client))
    }

    /// Speaks first, then waits for the client's end.
    pub(crate) fn banner(text: &str) -> Self {
        let text = text.to_owned();
        Self::start(move |mut client, _| {
            client.send(text.as_bytes());
            swallow(client);
        })
    }

    /// Never says anything; ends when the client does.
    pub(crate) fn silent() -> Self {
        Self::start(|client, _| swallow(client))
    }

    /// Sends without end until it is told to stop or cannot any more.
    pub(crate) fn huge_sender() -> Self {
        Self::start(|mut client, _| {
            let chunk = vec![0x5a; 256 << 10];
            while client.stream.write_all(&chunk).is_ok() {}
        })
    }

    /// Keeps its connections, without a thread for each, until it is dropped.
    pub(crate) fn keeping() -> (Self, Arc<Mutex<Vec<Client>>>) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        (Self::start(move |client, _| keep.lock().expect("nobody panics with it").push(client)), kept)
    }

    /// Nobody listens there, and nobody else will.
    pub(crate) fn refusing() -> Self {
        let (socket, addr) = bound();
        Self { addr, accepted: Arc::default(), socket, _filling: Vec::new() }
    }

    /// Never answers a connect: its queue is full, so the kernel drops whoever comes.
    pub(crate) fn blackholed() -> Self {
        let (socket, addr) = bound();
        rustix::net::listen(&socket, 0).expect("it is bound");
        let mut filling = Vec::new();
        // The kernel takes one or two more than it was told to.
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
            filling.push(OwnedFd::from(stream));
            assert!(filling.len() < 16, "the queue does not fill");
        }
        Self { addr, accepted: Arc::default(), socket, _filling: filling }
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// Ceases to listen; connections that it has go on.
    pub(crate) fn refuses_from_now_on(&self) {
        // Wakes the accepting thread, which ends.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Starts to listen at an address that refused until now.
    pub(crate) fn listens_from_now_on(&self, behaviour: impl Fn(Client, usize) + Send + Sync + 'static) {
        rustix::net::listen(&self.socket, 128).expect("it is bound");
        let listener = TcpListener::from(self.socket.try_clone().expect("a descriptor is left"));
        self.serve(listener, behaviour);
    }

    /// Runs `behaviour` for whoever comes, until the socket is shut down.
    fn serve(&self, listener: TcpListener, behaviour: impl Fn(Client, usize) + Send + Sync + 'static) {
        let (counter, behaviour) = (Arc::clone(&self.accepted), Arc::new(behaviour));
        spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let number = counter.fetch_add(1, SeqCst);
                let behaviour = Arc::clone(&behaviour);
                #[allow(clippy::disallowed_methods, reason = "it ends with its client")]
                let spawned = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
                    behaviour(Client::new(stream), number);
                });
                spawned.expect("a thread is left");
            }
        });
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        // Wakes the accepting thread, which closes the listener.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

/// Sends back what comes until the end, then ends as well.
pub(crate) fn echo(mut client: Client) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = client.stream.read(&mut buffer) {
        if client.stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

/// A server on 127.0.0.1 that says its address in a line of its own and then sends back what it gets.
pub(crate) fn named_echo() -> FakeServer {
    FakeServer::start_at("127.0.0.1:0".parse().expect("an address"), |mut client, _| {
        let Ok(addr) = client.stream.local_addr() else { return };
        // Idle for as long as the test likes.
        let _ = client.stream.set_read_timeout(None);
        // The client may be gone already.
        if writeln!(client.stream, "{addr}").is_ok() {
            echo(client);
        }
    })
}

/// Reads until the end without a word.
pub(crate) fn swallow(mut client: Client) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(1..) = client.stream.read(&mut buffer) {}
}

fn bound() -> (OwnedFd, SocketAddr) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a descriptor is left");
    rustix::net::bind(&socket, &SocketAddr::new(own_ip(), 0)).expect("the address is nobody else's");
    let addr = rustix::net::getsockname(&socket).ok().and_then(|addr| SocketAddr::try_from(addr).ok());
    (socket, addr.expect("it is bound"))
}
