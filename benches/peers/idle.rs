//! What sessions cost that do nothing.
//!
//! Every measurement takes a fresh process, since what an allocator kept from earlier work would hide the cost of
//! new sessions. It is warmed with the same few connections, then the sessions are opened one by one, each makes
//! the same small exchange, and all stay open while memory and CPU time are read. Then each is sent 256 KiB, and
//! memory is read again: what a session keeps of a burst.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::ensure;

use crate::{
    exchange::{self, Exchanges},
    measure::{self, Cpu},
    namespace,
    peers::{Kind, Peer},
    table::Figure,
    wire::{HEAD, Op, STALL},
    workloads::{Bench, rotated},
};

const RESIDENT: Figure = Figure::shown("resident bytes per session").plotted("idle");
const CPU: Figure = Figure::absolute("CPU, % of one core, all sessions");
const NAME: &str = "idle sessions";
const FILLED: &str = "idle sessions, after 256 KiB each";

/// What each session is sent.
const FILL: usize = 256 * 1024;

/// Descriptors that are for everything else.
const RESERVED: u64 = 1_000;

/// How many idle sessions are opened: as many as the issue is about, if the limit of descriptors allows.
pub(crate) fn count(is_quick: bool, kinds: &[Kind]) -> anyhow::Result<usize> {
    let available = namespace::descriptors().saturating_sub(RESERVED);
    // Each takes two here and two, with HAProxy's reserve two and a half, in the proxy.
    let affordable = if kinds.iter().all(|kind| kind.is_goproxy()) { available / 2 } else { available * 2 / 5 };
    let count = affordable.min(if is_quick { 2_000 } else { 9_000 }) as usize;
    ensure!(count >= 100, "idle sessions: only {count} fit into the limit of descriptors; raise `ulimit -n`");
    Ok(count)
}

/// Measures each peer in turn; no other runs meanwhile.
pub(crate) fn run(bench: &mut Bench, peers: &mut [Peer]) -> anyhow::Result<()> {
    let kinds: Vec<Kind> = peers.iter().map(|peer| peer.kind).collect();
    let count = count(bench.quick, &kinds)?;
    bench.report.machine.push((NAME, count.to_string()));
    // Fresh processes doing the same thing agree within a percent.
    let rounds = bench.rounds.min(if bench.quick { 1 } else { 3 });
    for round in 0..rounds {
        eprintln!("peers: {NAME}: round {} of {rounds}", round + 1);
        for index in rotated(peers.len(), round) {
            let peer = &mut peers[index];
            peer.start()?;
            run_round(bench, peer, (index, round), count)?;
            peer.stop();
        }
    }
    Ok(())
}

/// Opens sessions that stay, in turn to each target, each with one exchange behind it. What goes wrong is a fault.
pub(crate) fn open_many(bench: &Bench, targets: &[SocketAddr], count: usize) -> Vec<TcpStream> {
    let numbered = targets.iter().cycle().take(count).zip(0..);
    let opened = numbered.map_while(|(target, number)| match open(*target, number) {
        Ok(session) => Some(session),
        Err(error) => {
            bench.faults.add(|| format!("client: session {number}: {error}"));
            None
        }
    });
    opened.collect()
}

/// One exchange on a session that is open.
pub(crate) fn echo(session: &mut TcpStream, number: u64) -> std::io::Result<()> {
    let mut message = [b'x'; 1024];
    message[..HEAD].copy_from_slice(&Op::Echo.head(number));
    session.write_all(&message)?;
    session.read_exact(&mut message)?;
    if message[..HEAD] == Op::Echo.head(number) {
        Ok(())
    } else {
        Err(std::io::Error::other("the reply belongs to another request"))
    }
}

fn run_round(bench: &mut Bench, peer: &Peer, (index, round): (usize, usize), count: usize) -> anyhow::Result<()> {
    let warm = Exchanges { op: Op::Reply, total: 200, connections: 2 };
    exchange::run(warm, &peer.targets, 1, &bench.faults);
    if !bench.judge(NAME, peer, 0) {
        return Ok(());
    }
    let pids = peer.pids();
    let before = measure::resident(&pids)?;
    let mut sessions = open_many(bench, &peer.targets, count);
    if bench.judge(NAME, peer, count) {
        let quiet = Duration::from_secs(if bench.quick { 2 } else { 10 });
        thread::sleep(Duration::from_secs(1));
        let resident = measure::resident(&pids)?.saturating_sub(before);
        let cpu = Cpu::of(&pids)?;
        thread::sleep(quiet);
        let used = Cpu::of(&pids)?.since(&cpu);
        bench.report.note(NAME, RESIDENT, index, round, resident as f64 / count as f64);
        bench.report.note(NAME, CPU, index, round, 1e2 * used.as_secs_f64() / quiet.as_secs_f64());
    }
    let mut buffer = vec![0; FILL];
    for (number, session) in sessions.iter_mut().enumerate() {
        if let Err(error) = fill(session, &mut buffer) {
            bench.faults.add(|| format!("client: session {number}: {error}"));
            break;
        }
    }
    if bench.judge(FILLED, peer, count) {
        thread::sleep(Duration::from_secs(1));
        let resident = measure::resident(&pids)?.saturating_sub(before);
        bench.report.note(FILLED, RESIDENT, index, round, resident as f64 / count as f64);
    }
    drop(sessions);
    bench.judge(NAME, peer, 0);
    Ok(())
}

fn open(target: SocketAddr, number: u64) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(STALL))?;
    echo(&mut stream, number)?;
    Ok(stream)
}

/// Has the server send as much as the buffer holds.
fn fill(session: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    session.write_all(&Op::Fill.head(buffer.len() as u64))?;
    session.read_exact(buffer)
}
