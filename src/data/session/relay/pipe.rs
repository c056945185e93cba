//! Pipes for `splice(2)`, and the pool each data thread keeps of them.
//!
//! Bulk data goes from socket to socket through a pipe without being copied to user space; what that
//! gains is proportional to the pipe's size. A session holds a pipe only while bytes are in it or keep
//! coming, so a few serve many. When no pipe can be had, or only tiny ones, the relay copies instead.

use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Wanted size of a pipe: where the cost per byte stops falling.
pub(super) const PIPE_SIZE: usize = 1 << 20;

/// A pipe smaller than this costs more system calls than copying does.
const PIPE_SIZE_MIN: usize = 64 << 10;

/// Idle pipes a thread keeps. An unprivileged user has pages for about 64 pipes of 1 MiB.
const IDLE_MAX: usize = 32;

/// Pipes a thread has in all, so that thousands of stalled bulk sessions hold neither descriptors nor
/// kernel memory without bound. Those beyond it copy.
const LIVE_MAX: usize = 64;

/// An empty pipe, or one on its way from one socket to another.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
}

impl Pipe {
    fn new() -> Option<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // The kernel may grant less than asked for; over the user's limit it refuses and leaves the default.
        let size = [PIPE_SIZE, PIPE_SIZE / 4]
            .into_iter()
            .find_map(|size| fcntl_setpipe_size(&writer, size).ok())
            .or_else(|| rustix::pipe::fcntl_getpipe_size(&writer).ok())?;
        (size >= PIPE_SIZE_MIN).then_some(Self { reader, writer })
    }
}

/// The pipes of one thread.
#[derive(Debug, Default)]
pub(super) struct PipePool {
    idle: Vec<Pipe>,
    live: usize,
}

impl PipePool {
    /// An empty pipe; `None` when the relay has to copy.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.live >= LIVE_MAX {
            return None;
        }
        let pipe = Pipe::new()?;
        self.live += 1;
        Some(pipe)
    }

    /// Takes back a pipe. One that still holds bytes is closed: they would end up in another session.
    pub(super) fn give_back(&mut self, pipe: Pipe, is_empty: bool) {
        if is_empty && self.idle.len() < IDLE_MAX {
            self.idle.push(pipe);
        } else {
            self.live -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_with_bytes_left_in_it_is_never_given_to_another_session() {
        let mut pool = PipePool::default();
        let pipe = pool.take().unwrap();
        rustix::io::write(&pipe.writer, b"secret").unwrap();
        pool.give_back(pipe, false);
        assert_eq!((pool.idle.len(), pool.live), (0, 0));

        let pipe = pool.take().unwrap();
        pool.give_back(pipe, true);
        assert_eq!((pool.idle.len(), pool.live), (1, 1));
    }

    #[test]
    fn a_thread_never_has_more_pipes_than_its_bound() {
        let mut pool = PipePool::default();
        let mut held = Vec::new();
        while let Some(pipe) = pool.take() {
            held.push(pipe);
            assert!(held.len() <= LIVE_MAX);
        }
        for pipe in held {
            pool.give_back(pipe, true);
        }
        assert!(pool.idle.len() <= IDLE_MAX);
    }
}
