//! Clients that send a request and wait for its reply: short connections and ping-pong.
//!
//! One epoll thread drives many connections in a closed loop. Per short connection it makes six system calls,
//! less than half of what the cheapest proxy makes, so the proxy is what the machine spends its time on.

use std::{
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
    net::{self, RecvFlags, SendFlags},
};

use crate::{
    faults::Faults,
    wire::{HEAD, Op, STALL},
};

/// A lane with so many faults gives up: the peer is broken, not slow.
const FAULTS_MAX: u32 = 100;

/// A number of exchanges over a number of connections.
#[derive(Clone, Copy)]
pub(crate) struct Exchanges {
    pub(crate) op: Op,
    pub(crate) total: u64,
    pub(crate) connections: usize,
}

/// Runs the exchanges on at most `lanes` threads; gives the latency of each, in no order. New connections go to one
/// target after the other.
///
/// A short connection's latency runs from before its connect to its complete reply, or to the server's end
/// where the server closes.
pub(crate) fn run(work: Exchanges, targets: &[SocketAddr], lanes: usize, faults: &Faults) -> Vec<Duration> {
    let lanes = lanes.min(work.connections);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes)
            .map(|lane| {
                let share = Exchanges {
                    total: share(work.total, lane, lanes),
                    connections: share(work.connections as u64, lane, lanes) as usize,
                    ..work
                };
                scope.spawn(move || match Lane::new(share, targets, lane, faults) {
                    Ok(mut lane) => {
                        lane.run();
                        lane.latencies
                    }
                    Err(error) => {
                        faults.add(|| format!("client: epoll: {error}"));
                        Vec::new()
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client thread never panics")).collect()
    })
}

/// What one of `parts` gets of `total`.
pub(crate) fn share(total: u64, part: usize, parts: usize) -> u64 {
    total / parts as u64 + u64::from((part as u64) < total % parts as u64)
}

struct Slot {
    stream: Option<TcpStream>,
    number: u64,
    got: usize,
    started: Instant,
}

struct Lane<'a> {
    epoll: OwnedFd,
    work: Exchanges,
    targets: &'a [SocketAddr],
    faults: &'a Faults,
    slots: Vec<Slot>,
    started: u64,
    number: u64,
    active: usize,
    failed: u32,
    latencies: Vec<Duration>,
}

impl<'a> Lane<'a> {
    fn new(
        work: Exchanges,
        targets: &'a [SocketAddr],
        lane: usize,
        faults: &'a Faults,
    ) -> rustix::io::Result<Lane<'a>> {
        Ok(Lane {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            work,
            targets,
            faults,
            slots: Vec::with_capacity(work.connections),
            started: 0,
            number: (lane as u64) << 48,
            active: 0,
            failed: 0,
            latencies: Vec::with_capacity(work.total as usize),
        })
    }

    fn run(&mut self) {
        for index in 0..self.work.connections {
            self.slots.push(Slot { stream: None, number: 0, got: 0, started: Instant::now() });
            self.active += 1;
            self.begin(index);
        }
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let mut reply = [0; 2048];
        let stall = Timespec { tv_sec: STALL.as_secs() as i64, tv_nsec: 0 };
        while self.active > 0 && self.failed < FAULTS_MAX {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&stall)) {
                Ok(0) => return self.faults.add(|| format!("client: {} exchanges hang", self.active)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return self.faults.add(|| format!("client: epoll: {error}")),
            }
            for event in &events {
                let index = event.data.u64() as usize;
                match self.step(index, &mut reply) {
                    Ok(false) => {}
                    Ok(true) => self.end(index),
                    Err(text) => self.fail(index, text),
                }
            }
        }
    }

    /// Starts the slot's next exchange, or retires the slot when all are under way.
    fn begin(&mut self, index: usize) {
        while self.started < self.work.total && self.failed < FAULTS_MAX {
            self.started += 1;
            self.number += 1;
            match self.send(index) {
                Ok(()) => return,
                Err(error) => {
                    self.slots[index].stream = None;
                    self.failed += 1;
                    self.faults.add(|| format!("client: starting an exchange: {error}"));
                }
            }
        }
        self.slots[index].stream = None;
        self.active -= 1;
    }

    fn send(&mut self, index: usize) -> std::io::Result<()> {
        let slot = &mut self.slots[index];
        (slot.number, slot.got, slot.started) = (self.number, 0, Instant::now());
        if slot.stream.is_none() {
            let stream = TcpStream::connect(self.targets[self.started as usize % self.targets.len()])?;
            if self.work.op == Op::Echo {
                stream.set_nodelay(true)?;
            }
            epoll::add(&self.epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            slot.stream = Some(stream);
        }
        let mut request = [b'x'; 1024];
        request[..HEAD].copy_from_slice(&self.work.op.head(slot.number));
        let request = &request[..self.work.op.request_len()];
        match &slot.stream {
            Some(stream) if net::send(stream, request, SendFlags::NOSIGNAL)? == request.len() => Ok(()),
            _ => Err(std::io::ErrorKind::WriteZero.into()),
        }
    }

    /// Reads what is there; true when the exchange is complete.
    fn step(&mut self, index: usize, reply: &mut [u8]) -> Result<bool, String> {
        let (op, slot) = (self.work.op, &mut self.slots[index]);
        let Some(stream) = &slot.stream else { return Ok(false) };
        let wanted = op.reply_len();
        let len = match net::recv(stream, &mut *reply, RecvFlags::DONTWAIT) {
            Ok((len, _)) => len,
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(format!("after {} of {wanted} bytes: {error}", slot.got)),
        };
        if len == 0 {
            return match (op, slot.got == wanted) {
                (Op::ReplyAndClose, true) => Ok(true),
                _ => Err(format!("the stream ended after {} of {wanted} bytes", slot.got)),
            };
        }
        if slot.got == 0 && (len < HEAD || reply[..HEAD] != op.head(slot.number)) {
            return Err(format!("a reply of {len} bytes that belongs to another request"));
        }
        slot.got += len;
        if slot.got > wanted {
            return Err(format!("{} bytes came instead of {wanted}", slot.got));
        }
        Ok(slot.got == wanted && op != Op::ReplyAndClose)
    }

    fn end(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        self.latencies.push(slot.started.elapsed());
        if self.work.op != Op::Echo {
            slot.stream = None;
        }
        self.begin(index);
    }

    fn fail(&mut self, index: usize, text: String) {
        self.faults.add(|| format!("client: {:?}: {text}", self.work.op));
        self.failed += 1;
        self.slots[index].stream = None;
        self.begin(index);
    }
}
