//! Servers whose habits change.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};

use crate::support::{Client, FakeServer, free_port, own_ip};

/// How a server treats those who connect, besides refusing them.
pub(super) const GOOD: u8 = 0;
const RESETTING: u8 = 1;
pub(super) const STALLING: u8 = 2;

/// What a server says first: who it is, and who it was told the client is.
pub(super) const BANNER: usize = 48;

/// A server whose habits change.
pub(super) struct Moody {
    pub(super) server: FakeServer,
    pub(super) habit: Arc<AtomicU8>,
    sessions: Arc<AtomicUsize>,
    pub(super) sessions_most: Arc<AtomicUsize>,
    refuses: bool,
    /// It has refused at some time: checks may have found it down.
    pub(super) has_refused: bool,
    /// What an operator wants of it.
    pub(super) state: &'static str,
}

impl Moody {
    pub(super) fn new() -> Self {
        let (habit, sessions, sessions_most) = (Arc::default(), Arc::default(), Arc::default());
        // A port of its own choice is what a socket keeps when it ceases to listen.
        let server = FakeServer::start_at(free_port(own_ip()), behaviour(&habit, &sessions, &sessions_most));
        Self { server, habit, sessions, sessions_most, refuses: false, has_refused: false, state: "ready" }
    }

    pub(super) fn set_refusing(&mut self, refuses: bool) {
        if refuses && !self.refuses {
            self.server.refuses_from_now_on();
        } else if !refuses && self.refuses {
            self.server.listens_from_now_on(behaviour(&self.habit, &self.sessions, &self.sessions_most));
        }
        self.refuses = refuses;
        self.has_refused |= refuses;
    }

    pub(super) fn name(&self) -> String {
        self.server.addr.to_string()
    }
}

/// Says who it is and sends back what it gets, unless it has another habit now.
pub(super) fn behaviour(
    habit: &Arc<AtomicU8>,
    sessions: &Arc<AtomicUsize>,
    most: &Arc<AtomicUsize>,
) -> impl Fn(Client, usize) + Send + Sync + 'static {
    let (habit, sessions, most) = (Arc::clone(habit), Arc::clone(sessions), Arc::clone(most));
    move |mut client, _| {
        match habit.load(SeqCst) {
            RESETTING => return client.reset(),
            STALLING => {
                // Until the other side gives up.
                while let Ok(1..) = client.stream.read(&mut [0; 1_024]) {}
                return;
            }
            _ => {}
        }
        // A probe or a check says nothing behind its header, and is no session.
        let Ok(told) = begin(&mut client) else { return };
        most.fetch_max(sessions.fetch_add(1, SeqCst) + 1, SeqCst);
        let addr = client.stream.local_addr().map(|addr| addr.to_string()).unwrap_or_default();
        let mut serve = || -> io::Result<()> {
            write!(client.stream, "{addr:<24}{told:<24}")?;
            let mut buffer = [0; 16 << 10];
            loop {
                match client.stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => client.stream.write_all(&buffer[..read])?,
                }
            }
        };
        // The client may end as it likes.
        let _ = serve();
        sessions.fetch_sub(1, SeqCst);
    }
}

/// Reads the PROXY header, if there is one, and the first byte of the client. Whom the header names.
fn begin(client: &mut Client) -> io::Result<String> {
    let mut first = [0];
    client.stream.read_exact(&mut first)?;
    let told = match first[0] {
        b'P' => {
            let mut line = Vec::new();
            while !line.ends_with(b"\n") {
                client.stream.read_exact(&mut first)?;
                line.push(first[0]);
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{}:{}", words[2], words[4])
        }
        b'\r' => {
            let mut head = [0; 15];
            client.stream.read_exact(&mut head)?;
            let mut rest = vec![0; usize::from(u16::from_be_bytes([head[13], head[14]]))];
            client.stream.read_exact(&mut rest)?;
            match rest[..] {
                [a, b, c, d, _, _, _, _, high, low, ..] => {
                    format!("{}:{}", Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))
                }
                // Of a connect of the proxy's own.
                _ => String::new(),
            }
        }
        _ => return Ok("-".to_owned()),
    };
    client.stream.read_exact(&mut first)?;
    Ok(told)
}
