//! TLS, side by side: what a handshake costs, what bulk costs, and what it costs to look at the name in a hello.
//!
//! Clients are rustls, never come back with a ticket, and offer TLS 1.3 with AES-256-GCM and X25519 alone, so that every peer
//! does the same work. Which library a peer does it with is said above the tables: two builds of one peer may differ by more than
//! two peers do.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
};

use crate::{
    configs::Speaks,
    measure::Cpu,
    peers::{Kind, Means, Peer},
    table::{Figure, Ratio, Table},
    tools,
    wire::{CHUNK, Op, STALL},
    workloads::{Bench, rotated},
};

const NAME: &str = "site.example.com";
const CPU_PER_CONNECTION: Figure = Figure::shown("CPU µs per connection");
const CPU_PER_GIB: Figure = Figure::shown("CPU s per GiB");
const GIB: f64 = (1_u64 << 30) as f64;

/// Connections of one round, and bytes of bulk.
const HANDSHAKES: u64 = 5_000;
const HELLOS: u64 = 25_000;
const BYTES: u64 = 2 << 30;

/// Clients at a time, and servers that answer a hello.
const CLIENTS: u64 = 8;

/// How many columns a table has at most, and how many tables there are.
const COLUMNS: usize = 4;
const TABLES: usize = 4;

/// How many peers all of it takes.
pub(crate) const PEERS: usize = COLUMNS * TABLES;

/// What a server answers to a hello.
const ANSWER: [u8; 64] = [7; 64];

/// One kind of work: so many units of it, and what is done for the one of this number.
struct Work<'a> {
    name: &'static str,
    figure: Figure,
    units: f64,
    count: u64,
    one: &'a (dyn Fn(SocketAddr, u64) -> io::Result<()> + Sync),
}

/// Measures the first goproxy beside HAProxy and nginx, as far as they are among `kinds`.
pub(crate) fn run(bench: &mut Bench, kinds: &[Kind], mut first: usize, means: Means<'_>) -> anyhow::Result<()> {
    let is_fit = |kind: &&Kind| kind.is_goproxy() || matches!(kind, Kind::Haproxy | Kind::Nginx);
    let kinds: Vec<Kind> = kinds.iter().filter(is_fit).copied().take(COLUMNS - 1).collect();
    bench.report.machine.push(("TLS", libraries(&kinds, means)?));
    let columns = kinds.iter().map(Kind::to_string).collect();
    bench.report.begin(Table::new("TLS to clients", "tls-", columns, Ratio::FirstByOther));
    let part = if bench.quick { 5 } else { 1 };
    let folder = tempfile::tempdir()?;
    for (name, key, is_bulk) in [
        ("handshake with ECDSA P-256", &PKCS_ECDSA_P256_SHA256, false),
        ("handshake with RSA 2048", &PKCS_RSA_SHA256, false),
        ("bulk down over TLS, 1 stream", &PKCS_ECDSA_P256_SHA256, true),
    ] {
        let pem = folder.path().join("site.pem");
        let config = certificate(key, &pem)?;
        let speaks = Speaks::Tls { pem: &pem, is_bulk };
        let peers = kinds.iter().enumerate().map(|(column, kind)| {
            let index = first + column;
            Peer::new(*kind, index, 1, bench.backends.of(index), Means { speaks, ..means })
        });
        let mut peers = peers.collect::<anyhow::Result<Vec<_>>>()?;
        first += COLUMNS;
        let (count, bytes) = (HANDSHAKES / part, BYTES / part);
        let work = match is_bulk {
            false => {
                let one = |to: SocketAddr, number: u64| short(to, &config, number);
                measure(
                    bench,
                    &mut peers,
                    &Work { name, figure: CPU_PER_CONNECTION, units: count as f64, count, one: &one },
                )
            }
            true => {
                let one = |to: SocketAddr, _: u64| bulk(to, &config, bytes);
                measure(
                    bench,
                    &mut peers,
                    &Work { name, figure: CPU_PER_GIB, units: bytes as f64 / GIB, count: 1, one: &one },
                )
            }
        };
        work?;
    }
    by_name(bench, &kinds, first, means, HELLOS / part)
}

/// Hellos that are looked at, by every peer, and beside them goproxy without looking.
fn by_name(bench: &mut Bench, kinds: &[Kind], first: usize, means: Means<'_>, count: u64) -> anyhow::Result<()> {
    let servers = [hello_server()?, hello_server()?];
    let own = kinds.iter().copied().find(|kind| kind.is_goproxy());
    let plain = own.map(|kind| (kind, Speaks::Unread));
    let mut all: Vec<(Kind, Speaks<'_>)> = kinds.iter().map(|kind| (*kind, Speaks::ByName)).collect();
    all.splice(1.min(all.len())..1.min(all.len()), plain);
    let peers = all.iter().enumerate().map(|(column, (kind, speaks))| {
        Peer::new(*kind, first + column, 1, &servers, Means { speaks: *speaks, ..means })
    });
    let mut peers = peers.collect::<anyhow::Result<Vec<_>>>()?;
    let columns = all.iter().map(|(kind, speaks)| match speaks {
        Speaks::Unread => format!("{kind}, not looking"),
        _ => kind.to_string(),
    });
    let table = Table::new("By the name in a hello", "routes-", columns.collect(), Ratio::FirstByOther);
    bench.report.begin(table);
    let hello = hello()?;
    let one = |to: SocketAddr, _: u64| -> io::Result<()> {
        let mut client = connect(to)?;
        client.write_all(&hello)?;
        client.read_exact(&mut [0; ANSWER.len()])
    };
    let name = "short, by name";
    measure(bench, &mut peers, &Work { name, figure: CPU_PER_CONNECTION, units: count as f64, count, one: &one })
}

/// Lets the peers take turns, and ends them.
fn measure(bench: &mut Bench, peers: &mut [Peer], work: &Work<'_>) -> anyhow::Result<()> {
    peers.iter_mut().try_for_each(Peer::start)?;
    let mut is_sound = vec![true; peers.len()];
    for (index, peer) in peers.iter().enumerate() {
        perform(bench, peer, &Work { count: (work.count / 10).max(1), ..*work });
        is_sound[index] = bench.judge(work.name, peer, 0);
    }
    for round in 0..bench.rounds {
        eprintln!("peers: {}: round {} of {}", work.name, round + 1, bench.rounds);
        for index in rotated(peers.len(), round).filter(|index| is_sound[*index]).collect::<Vec<_>>() {
            let (peer, pids) = (&peers[index], peers[index].pids());
            let before = Cpu::of(&pids)?;
            perform(bench, peer, work);
            is_sound[index] = bench.judge(work.name, peer, 0);
            if !is_sound[index] {
                continue;
            }
            // The last sessions' ends belong to the round.
            thread::sleep(Duration::from_millis(20));
            let used = Cpu::of(&pids)?.since(&before).as_secs_f64();
            let scale = if work.figure == CPU_PER_GIB { 1.0 } else { 1e6 };
            bench.report.note(work.name, work.figure, index, round, scale * used / work.units);
        }
    }
    peers.iter_mut().for_each(Peer::stop);
    Ok(())
}

/// Does all of the work, several clients at a time; whatever fails is a fault.
fn perform(bench: &Bench, peer: &Peer, work: &Work<'_>) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS.min(work.count) {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Relaxed)).filter(|number| *number < work.count) {
                    if let Err(error) = (work.one)(peer.targets[0], number) {
                        bench.faults.add(|| format!("client {number}: {error}"));
                    }
                }
            });
        }
    });
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let client = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(STALL))?;
    client.set_write_timeout(Some(STALL))?;
    Ok(client)
}

fn shake_hands(to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = NAME.try_into().map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, connect(to)?))
}

/// A connection, a request, a reply.
fn short(to: SocketAddr, config: &Arc<ClientConfig>, number: u64) -> io::Result<()> {
    let mut client = shake_hands(to, config)?;
    let mut request = vec![0; Op::Reply.request_len()];
    let head = Op::Reply.head(number);
    request[..head.len()].copy_from_slice(&head);
    client.write_all(&request)?;
    let mut reply = vec![0; Op::Reply.reply_len()];
    client.read_exact(&mut reply)?;
    if reply[..head.len()] != head {
        return Err(io::Error::other("a reply that belongs to somebody else"));
    }
    client.conn.send_close_notify();
    client.conn.complete_io(&mut client.sock).map(drop)
}

/// So many bytes of a server.
fn bulk(to: SocketAddr, config: &Arc<ClientConfig>, bytes: u64) -> io::Result<()> {
    let mut client = shake_hands(to, config)?;
    client.write_all(&Op::Down.head(bytes))?;
    let (mut buffer, mut received) = (vec![0; CHUNK], 0);
    while received < bytes {
        match client.read(&mut buffer)? {
            0 => return Err(io::Error::other(format!("an end after {received} of {bytes} bytes"))),
            read => received += read as u64,
        }
    }
    Ok(())
}

/// Writes a certificate and its key of this kind, and gives what a client wants that trusts it.
fn certificate(kind: &'static SignatureAlgorithm, pem: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let key = KeyPair::generate_for(kind)?;
    let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
    fs::write(pem, certificate.pem() + &key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    client(roots)
}

/// A client that has one cipher and one way to exchange keys.
fn client(roots: RootCertStore) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What a client says first.
fn hello() -> anyhow::Result<Vec<u8>> {
    let mut hello = Vec::new();
    ClientConnection::new(client(RootCertStore::empty())?, NAME.try_into()?)?.write_tls(&mut hello)?;
    Ok(hello)
}

/// A server that answers a hello with a few bytes, until its client ends; it lives as long as the process.
fn hello_server() -> anyhow::Result<SocketAddr> {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0")?);
    let addr = listener.local_addr()?;
    for _ in 0..CLIENTS {
        let listener = Arc::clone(&listener);
        thread::Builder::new().name("server".into()).spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok((mut stream, _)) = listener.accept() {
                // What fails here fails at the client, too, which tells it.
                let answered = stream.read(&mut buffer).and_then(|_| stream.write_all(&ANSWER));
                while answered.is_ok() && stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
            }
        })?;
    }
    Ok(addr)
}

/// What each of them speaks TLS with.
fn libraries(kinds: &[Kind], means: Means<'_>) -> anyhow::Result<String> {
    let said = |given: Option<&Path>, name: &str, flag: &str| -> anyhow::Result<String> {
        let program = given.map(Path::to_owned).or_else(|| tools::find(name)).context("it was found before")?;
        let output = Command::new(program).arg(flag).output()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let line = |with: &str| text.lines().find(|line| line.contains(with)).map(str::to_owned);
        let line = line("Running on ").or_else(|| line("running with ")).or_else(|| line("built with "));
        let shown = line.as_deref().and_then(|line| line.rsplit([':', '(']).next()).unwrap_or("unknown");
        Ok(shown.trim().trim_start_matches("running with ").trim_end_matches(')').to_owned())
    };
    let mut all = Vec::new();
    for kind in kinds {
        all.push(match kind {
            Kind::Haproxy => format!("{kind} with {}", said(means.haproxy, "haproxy", "-vv")?),
            Kind::Nginx => format!("{kind} with {}", said(means.nginx, "nginx", "-V")?),
            _ => format!("{kind} with rustls and aws-lc"),
        });
    }
    Ok(all.join(", "))
}
