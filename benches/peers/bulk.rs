//! Clients that move many bytes one way, verified by counts.
//!
//! Up ends with the client's half-close and the server's count of what came; down ends with the server's end.
//! Received bytes are thrown away in the kernel, so that the proxy and not the client is the narrow place.

use std::{
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    thread,
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
    exchange::share,
    faults::Faults,
    wire::{CHUNK, HEAD, Op, STALL},
};

/// A number of bytes over a number of streams.
#[derive(Clone, Copy)]
pub(crate) struct Bulk {
    /// `Up` or `Down`.
    pub(crate) op: Op,
    pub(crate) bytes: u64,
    pub(crate) streams: usize,
}

/// Moves the bytes on at most `lanes` threads.
pub(crate) fn run(work: Bulk, target: SocketAddr, lanes: usize, faults: &Faults) {
    let lanes = lanes.min(work.streams);
    thread::scope(|scope| {
        for lane in 0..lanes {
            scope.spawn(move || {
                let sizes = (lane..work.streams).step_by(lanes).map(|index| share(work.bytes, index, work.streams));
                if let Err(text) = drive(work.op, sizes, target) {
                    faults.add(|| format!("client: {:?}: {text}", work.op));
                }
            });
        }
    });
}

struct Stream {
    socket: TcpStream,
    size: u64,
    moved: u64,
    reply: Vec<u8>,
}

fn drive(op: Op, sizes: impl Iterator<Item = u64>, target: SocketAddr) -> Result<(), String> {
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
    let mut streams = Vec::new();
    for size in sizes {
        let stream = Stream::open(op, size, target, &epoll, streams.len())
            .map_err(|error| format!("opening a stream: {error}"))?;
        streams.push(stream);
    }
    let mut scratch = vec![b'x'; CHUNK];
    let mut events: Vec<Event> = Vec::with_capacity(64);
    let stall = Timespec { tv_sec: STALL.as_secs() as i64, tv_nsec: 0 };
    let mut active = streams.len();
    while active > 0 {
        events.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&stall)) {
            Ok(0) => return Err(format!("{active} streams hang")),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("epoll: {error}")),
        }
        for event in &events {
            let index = event.data.u64() as usize;
            let done = match op {
                Op::Up => streams[index].up(&mut scratch, &epoll, index)?,
                _ => streams[index].down(&mut scratch)?,
            };
            if done {
                epoll::delete(&epoll, &streams[index].socket).map_err(|error| format!("epoll: {error}"))?;
                active -= 1;
            }
        }
    }
    Ok(())
}

impl Stream {
    fn open(op: Op, size: u64, target: SocketAddr, epoll: &OwnedFd, index: usize) -> std::io::Result<Stream> {
        let socket = TcpStream::connect(target)?;
        socket.set_nodelay(true)?;
        if net::send(&socket, &op.head(size), SendFlags::NOSIGNAL)? != HEAD {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        let interest = if op == Op::Up { EventFlags::OUT } else { EventFlags::IN };
        epoll::add(epoll, &socket, EventData::new_u64(index as u64), interest)?;
        Ok(Stream { socket, size, moved: 0, reply: Vec::new() })
    }

    /// One send, or one read of the server's count; true once the count has come and is right.
    fn up(&mut self, scratch: &mut [u8], epoll: &OwnedFd, index: usize) -> Result<bool, String> {
        if self.moved == self.size {
            return self.read_count(scratch);
        }
        let len = scratch.len().min(usize::try_from(self.size - self.moved).unwrap_or(usize::MAX));
        match net::send(&self.socket, &scratch[..len], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => self.moved += sent as u64,
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(format!("after {} of {} bytes: {error}", self.moved, self.size)),
        }
        if self.moved == self.size {
            self.socket.shutdown(Shutdown::Write).map_err(|error| format!("half-close: {error}"))?;
            epoll::modify(epoll, &self.socket, EventData::new_u64(index as u64), EventFlags::IN)
                .map_err(|error| format!("epoll: {error}"))?;
        }
        Ok(false)
    }

    fn read_count(&mut self, scratch: &mut [u8]) -> Result<bool, String> {
        match net::recv(&self.socket, &mut scratch[..HEAD], RecvFlags::DONTWAIT) {
            Ok((0, _)) if self.reply == Op::Up.head(self.size) => Ok(true),
            Ok((0, _)) => Err(format!("sent {} bytes, the server's count is {:?}", self.size, self.reply)),
            Ok((len, _)) => {
                self.reply.extend_from_slice(&scratch[..len]);
                Ok(false)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(format!("waiting for the server's count: {error}")),
        }
    }

    /// One read; true at the end of the stream, when all bytes came.
    fn down(&mut self, scratch: &mut [u8]) -> Result<bool, String> {
        match net::recv(&self.socket, scratch, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, 0)) if self.moved == self.size => Ok(true),
            Ok((_, 0)) => Err(format!("the stream ended after {} of {} bytes", self.moved, self.size)),
            Ok((_, len)) => {
                self.moved += len as u64;
                Ok(false)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(format!("after {} of {} bytes: {error}", self.moved, self.size)),
        }
    }
}
