//! The timed workloads, and the order in which the peers do them.
//!
//! Within a workload all peers run, idle but for the one at work. A round lets each do the same amount once, and
//! the next round begins with another peer. A peer that fails a workload once is left out of the rest of it.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Part,
    backend::Backends,
    bulk::{self, Bulk},
    exchange::{self, Exchanges},
    faults::Faults,
    measure::{self, Cpu},
    peers::Peer,
    report::Report,
    table::Figure,
    tools,
    wire::Op,
};

const GIB: u64 = 1 << 30;

const CPU_PER_CONNECTION: Figure = Figure::shown("CPU µs per connection").plotted("short");
const CPU_PER_MESSAGE: Figure = Figure::shown("CPU µs per message").plotted("pingpong");
const CPU_PER_GIB: Figure = Figure::shown("CPU s per GiB").plotted("bulk");
const SEGMENTS: Figure = Figure::shown("TCP segments per connection");
const SYSCALLS: Figure = Figure::shown("system calls per connection");
const P50: Figure = Figure::shown("latency p50, µs");
const P99: Figure = Figure::shown("latency p99, µs");
const P999: Figure = Figure::shown("latency p99.9, µs");
const PER_SECOND: Figure = Figure::raw("units per second");
const CPU_SECONDS: Figure = Figure::raw("CPU seconds of the round");

/// One run of the benchmark.
pub(crate) struct Bench {
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    pub(crate) lanes: usize,
    pub(crate) backends: Backends,
    pub(crate) faults: std::sync::Arc<Faults>,
    pub(crate) report: Report,
    /// Idle sessions that are there meanwhile.
    pub(crate) held: usize,
}

#[derive(Clone, Copy)]
enum Work {
    Exchange(Exchanges),
    Bulk(Bulk),
}

pub(crate) struct Workload {
    name: &'static str,
    part: Part,
    work: Work,
    /// Whether the proxy, the client and the server share one CPU: a single ping-pong is bimodal otherwise.
    is_pinned: bool,
}

/// Each is about a second of a proxy's CPU time, bulk with splicing half of one.
const WORKLOADS: [Workload; 8] = [
    exchanges("short, client closes", Part::Short, Op::Reply, 30_000, 64),
    exchanges("short, server closes", Part::Short, Op::ReplyAndClose, 30_000, 64),
    exchanges("ping-pong, 64 connections", Part::Pingpong, Op::Echo, 200_000, 64),
    exchanges("ping-pong, 1 connection on 1 CPU", Part::Pingpong, Op::Echo, 100_000, 1),
    streams("bulk up, 1 stream", Op::Up, 1),
    streams("bulk down, 1 stream", Op::Down, 1),
    streams("bulk up, 16 streams", Op::Up, 16),
    streams("bulk down, 16 streams", Op::Down, 16),
];

pub(crate) const fn exchanges(name: &'static str, part: Part, op: Op, total: u64, connections: usize) -> Workload {
    Workload { name, part, work: Work::Exchange(Exchanges { op, total, connections }), is_pinned: connections == 1 }
}

const fn streams(name: &'static str, op: Op, streams: usize) -> Workload {
    Workload { name, part: Part::Bulk, work: Work::Bulk(Bulk { op, bytes: 8 * GIB, streams }), is_pinned: false }
}

/// The order of the peers in a round.
pub(crate) fn rotated(peers: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..peers).map(move |index| (index + round) % peers)
}

impl Work {
    fn divided(self, by: u64) -> Work {
        match self {
            Work::Exchange(work) => Work::Exchange(Exchanges { total: work.total / by, ..work }),
            Work::Bulk(work) => Work::Bulk(Bulk { bytes: work.bytes / by, ..work }),
        }
    }

    /// How many connections, messages or GiB it is.
    fn units(self) -> f64 {
        match self {
            Work::Exchange(work) => work.total as f64,
            Work::Bulk(work) => work.bytes as f64 / GIB as f64,
        }
    }
}

impl Bench {
    /// Starts all peers, runs the chosen workloads, stops the peers.
    pub(crate) fn run_timed(&mut self, peers: &mut [Peer], parts: &[Part]) -> anyhow::Result<()> {
        let chosen: Vec<_> = WORKLOADS.iter().filter(|workload| parts.contains(&workload.part)).collect();
        if chosen.is_empty() {
            return Ok(());
        }
        peers.iter_mut().try_for_each(Peer::start)?;
        for workload in chosen {
            self.run_workload(workload, peers)?;
        }
        if parts.contains(&Part::Short) {
            self.count_syscalls(peers)?;
        }
        peers.iter_mut().for_each(Peer::stop);
        Ok(())
    }

    /// Waits until only `count` sessions are left beside those that are held; what went wrong since the last call is the peer's failure.
    pub(crate) fn judge(&mut self, what: &str, peer: &Peer, count: usize) -> bool {
        let count = self.held + count;
        if let Err(open) = self.backends.settle(count) {
            self.faults.add(|| format!("the servers have {open} sessions instead of {count}"));
        }
        match self.faults.take() {
            None => true,
            Some(text) => {
                self.report.failures.push(format!("{what}: {}: {text}", peer.kind));
                false
            }
        }
    }

    /// Lets the peers, which run, take turns at a workload.
    pub(crate) fn run_workload(&mut self, workload: &Workload, peers: &[Peer]) -> anyhow::Result<()> {
        if !workload.is_pinned {
            return self.run_rounds(workload, peers);
        }
        let all = tools::allowed_cpus()?;
        let one = all.split([',', '-']).next().unwrap_or("0");
        let pids = || peers.iter().flat_map(Peer::pids).chain([std::process::id()]);
        tools::pin(pids(), one)?;
        self.run_rounds(workload, peers)?;
        tools::pin(pids(), &all)
    }

    fn run_rounds(&mut self, workload: &Workload, peers: &[Peer]) -> anyhow::Result<()> {
        let work = workload.work.divided(if self.quick { 5 } else { 1 });
        let mut is_sound = vec![true; peers.len()];
        for (index, peer) in peers.iter().enumerate() {
            self.perform(work.divided(10), peer);
            is_sound[index] = self.judge(workload.name, peer, 0);
        }
        for round in 0..self.rounds {
            eprintln!("peers: {}: round {} of {}", workload.name, round + 1, self.rounds);
            for index in rotated(peers.len(), round) {
                if is_sound[index] {
                    is_sound[index] = self.run_round(workload, work, round, (index, &peers[index]))?;
                }
            }
        }
        Ok(())
    }

    /// True when the round was free of faults; only then its figures count.
    fn run_round(
        &mut self,
        workload: &Workload,
        work: Work,
        round: usize,
        (index, peer): (usize, &Peer),
    ) -> anyhow::Result<bool> {
        let pids = peer.pids();
        let (cpu, segments, began) = (Cpu::of(&pids)?, measure::segments()?, Instant::now());
        let mut latencies = self.perform(work, peer);
        let elapsed = began.elapsed();
        if !self.judge(workload.name, peer, 0) {
            return Ok(false);
        }
        // The last sessions' ends belong to the round.
        thread::sleep(Duration::from_millis(20));
        let used = Cpu::of(&pids)?.since(&cpu).as_secs_f64();
        let segments = (measure::segments()? - segments) as f64;

        let mut note = |figure: Figure, value: f64| self.report.note(workload.name, figure, index, round, value);
        note(CPU_SECONDS, used);
        note(PER_SECOND, work.units() / elapsed.as_secs_f64());
        let is_echo = matches!(work, Work::Exchange(Exchanges { op: Op::Echo, .. }));
        match work {
            Work::Bulk(_) => note(CPU_PER_GIB, used / work.units()),
            Work::Exchange(_) if is_echo => note(CPU_PER_MESSAGE, 1e6 * used / work.units()),
            Work::Exchange(_) => {
                note(CPU_PER_CONNECTION, 1e6 * used / work.units());
                note(SEGMENTS, segments / work.units());
            }
        }
        if is_echo {
            latencies.sort_unstable();
            for (figure, share) in [(P50, 0.5), (P99, 0.99), (P999, 0.999)] {
                let rank = (share * latencies.len() as f64).ceil() as usize;
                note(figure, 1e6 * latencies[rank.max(1) - 1].as_secs_f64());
            }
        }
        Ok(true)
    }

    fn perform(&self, work: Work, peer: &Peer) -> Vec<Duration> {
        match work {
            Work::Exchange(work) => exchange::run(work, &peer.targets, self.lanes, &self.faults),
            Work::Bulk(work) => {
                bulk::run(work, peer.targets[0], self.lanes, &self.faults);
                Vec::new()
            }
        }
    }

    /// Of short connections; untimed, for tracing slows everything down.
    pub(crate) fn count_syscalls(&mut self, peers: &[Peer]) -> anyhow::Result<()> {
        let Some(strace) = tools::find("strace") else {
            self.report.machine.push(("system calls", "not counted, strace is not installed".to_owned()));
            return Ok(());
        };
        let name = WORKLOADS[0].name;
        let work = WORKLOADS[0].work.divided(if self.quick { 50 } else { 15 });
        for (index, peer) in peers.iter().enumerate() {
            eprintln!("peers: {name}: system calls of {}", peer.kind);
            let calls = tools::count_syscalls(&strace, &peer.pids(), peer.folder(), || {
                self.perform(work, peer);
                let _judged_below = self.backends.settle(self.held);
            });
            if !self.judge("system calls", peer, 0) {
                continue;
            }
            match calls {
                Ok(calls) => self.report.note(name, SYSCALLS, index, 0, calls as f64 / work.units()),
                Err(error) => {
                    self.report.machine.push(("system calls", format!("not counted for {}: {error:#}", peer.kind)))
                }
            }
        }
        Ok(())
    }
}
