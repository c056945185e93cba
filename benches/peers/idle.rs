//! What sessions cost that do nothing.
//!
//! Every measurement takes a fresh process, since what an allocator kept from earlier work would hide the cost of
//! new sessions. It is warmed with the same few connections, then the sessions are opened one by one, each makes
//! the same small exchange, and all stay open while memory and CPU time are read.

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
    peers::Peer,
    report::Figure,
    wire::{HEAD, Op, STALL},
    workloads::{Bench, rotated},
};

const RESIDENT: Figure = Figure::shown("resident bytes per session");
const CPU: Figure = Figure::absolute("CPU ms per second, all sessions");
const NAME: &str = "idle sessions";

/// Measures each peer in turn; no other runs meanwhile.
pub(crate) fn run(bench: &mut Bench, peers: &mut [Peer]) -> anyhow::Result<()> {
    // Each takes two descriptors here and two, with HAProxy's reserve two and a half, in the proxy.
    let affordable = namespace::descriptors().saturating_sub(600) * 2 / 5;
    let count = affordable.min(if bench.quick { 2_000 } else { 4_000 }) as usize;
    ensure!(count >= 100, "idle sessions: only {count} fit into the limit of descriptors; raise `ulimit -n`");
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

fn run_round(bench: &mut Bench, peer: &Peer, (index, round): (usize, usize), count: usize) -> anyhow::Result<()> {
    let warm = Exchanges { op: Op::Reply, total: 200, connections: 2 };
    exchange::run(warm, peer.target, 1, &bench.faults);
    if !bench.judge(NAME, peer, 0) {
        return Ok(());
    }
    let pids = peer.pids();
    let before = measure::resident(&pids)?;
    let mut sessions = Vec::with_capacity(count);
    for number in 0..count {
        match open(peer.target, number as u64) {
            Ok(session) => sessions.push(session),
            Err(error) => {
                bench.faults.add(|| format!("client: session {number}: {error}"));
                break;
            }
        }
    }
    if bench.judge(NAME, peer, count) {
        let quiet = Duration::from_secs(if bench.quick { 2 } else { 5 });
        thread::sleep(Duration::from_secs(1));
        let resident = measure::resident(&pids)?.saturating_sub(before);
        let cpu = Cpu::of(&pids)?;
        thread::sleep(quiet);
        let used = Cpu::of(&pids)?.since(&cpu);
        bench.report.note(NAME, RESIDENT, index, round, resident as f64 / count as f64);
        bench.report.note(NAME, CPU, index, round, 1e3 * used.as_secs_f64() / quiet.as_secs_f64());
    }
    drop(sessions);
    bench.judge(NAME, peer, 0);
    Ok(())
}

fn open(target: SocketAddr, number: u64) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(STALL))?;
    let mut message = [b'x'; 1024];
    message[..HEAD].copy_from_slice(&Op::Echo.head(number));
    stream.write_all(&message)?;
    stream.read_exact(&mut message)?;
    if message[..HEAD] == Op::Echo.head(number) {
        Ok(stream)
    } else {
        Err(std::io::Error::other("the reply belongs to another request"))
    }
}
