//! An echo server that registers itself with the proxy, and that can be killed.
//!
//! It says `server N`, then sends back whatever it gets. One HTTP GET registers it; repeated, the same GET
//! keeps its lease. Its life ends all at once, as that of a killed process: the listener, the heartbeats
//! and the connections it has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::Admin;
use super::port::Port;

/// How many of them there are.
pub(super) const SERVERS: usize = 4;

/// How often it says that it lives; several times within its lease, so that one late heartbeat costs nothing.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(300);

/// How long it does not accept after accepting has failed: the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const BUFFER_BYTES: usize = 16 << 10;

/// One server; alive between `start` and `kill`.
pub(super) struct EchoServer {
    number: usize,
    port: Port,
    sessions: Arc<AtomicU64>,
    life: Option<Life>,
}

#[derive(Clone)]
struct Life {
    end: CancellationToken,
    tasks: TaskTracker,
}

impl EchoServer {
    /// A server that is not alive yet.
    pub(super) fn new(number: usize) -> std::io::Result<Self> {
        Ok(Self { number, port: Port::reserve()?, sessions: Arc::default(), life: None })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.port.addr
    }

    pub(super) fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    /// Sessions it has had in all its lives.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Relaxed)
    }

    /// Listens, and registers itself: when this returns, the proxy knows it.
    pub(super) async fn start(&mut self, admin: Admin, group: u16) -> anyhow::Result<()> {
        let listener = self.port.listen().with_context(|| format!("server {} cannot listen", self.number))?;
        let heartbeat = format!("/worker-keepalive.do?group={group}&server={}", self.addr());
        admin.call(&heartbeat).await?;
        let life = Life { end: CancellationToken::new(), tasks: TaskTracker::new() };
        let beat = async move {
            loop {
                tokio::time::sleep(HEARTBEAT_EVERY).await;
                // A lost one is made good by the next.
                drop(admin.call(&heartbeat).await);
            }
        };
        life.spawn(beat);
        life.spawn(accept(listener, self.number, Arc::clone(&self.sessions), life.clone()));
        self.life = Some(life);
        Ok(())
    }

    /// Ends its life: when this returns, nothing of it is left but the reserved port.
    pub(super) async fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            life.end.cancel();
            life.tasks.close();
            life.tasks.wait().await;
        }
    }
}

impl Life {
    /// Runs `task` as long as the server lives.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            end.run_until_cancelled(task).await;
        });
    }
}

async fn accept(listener: TcpListener, number: usize, sessions: Arc<AtomicU64>, life: Life) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let sessions = Arc::clone(&sessions);
                // A connection that breaks is the client's to notice.
                life.spawn(async move { drop(echo(client, number, &sessions).await) });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn echo(mut client: TcpStream, number: usize, sessions: &AtomicU64) -> std::io::Result<()> {
    client.write_all(format!("server {number}\n").as_bytes()).await?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut is_session = false;
    loop {
        match client.read(&mut buffer).await? {
            0 => return client.shutdown().await,
            len => {
                // The proxy tries a server by a connect without a byte.
                if !std::mem::replace(&mut is_session, true) {
                    sessions.fetch_add(1, Relaxed);
                }
                client.write_all(&buffer[..len]).await?;
            }
        }
    }
}
