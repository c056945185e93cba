//! One direction of a session: from a source to a sink.

use std::io;

use super::pipe::{PIPE_SIZE, Pipe};
use super::socket::Socket;
use super::workspace::{Pause, SCRATCH_SIZE, Workspace};

/// A read of this much is a sign of bulk: moving it through a pipe costs less than copying it twice.
pub(super) const LARGE_READ: usize = 64 << 10;

/// How sure a direction must be that it is bulk to be spliced: two large reads in a row.
const BULK_LIKELY: u8 = 2;

/// How sure it can be. A large splice makes it so, and each small one takes one off: the odd small piece of a stream
/// that goes on must not lead to large ones that are copied.
const BULK_SURE: u8 = 6;

/// A splice that moves less than this costs more than copying would have.
const SPLICE_WORTH: usize = 4 << 10;

/// What a splice counts for in the reads of one wake-up: it may move as much as so many of them.
const READS_PER_SPLICE: u32 = (PIPE_SIZE / SCRATCH_SIZE) as u32;

/// How a direction ended. In each case everything read before has been written, as far as the sink took it.
#[derive(Debug)]
pub(super) enum FlowEnd {
    /// The source has finished in order.
    Finished,
    /// The source failed while it was read.
    SourceReset(io::Error),
    /// The sink failed while it was written to.
    SinkFailed(io::Error),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// The source has ended; what is pending still has to be written.
    Ending(FlowEnd),
    /// The sink takes no more; the source is read and what it sends thrown away.
    Discarding,
    /// Nothing is left to do.
    Over,
}

/// Bytes that wait for the sink; never none.
#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    /// How many of them have been written.
    at: usize,
}

impl Pending {
    fn of(bytes: Vec<u8>) -> Option<Box<Self>> {
        (!bytes.is_empty()).then(|| Box::new(Self { bytes, at: 0 }))
    }
}

/// One direction of a session.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Bytes written to the sink.
    pub(super) bytes: u64,
    state: State,
    /// How sure it is that this is bulk: from [`BULK_LIKELY`] on it is taken to be.
    bulk: u8,
    /// What was read and did not fit into the sink, before what is in the pipe.
    pending: Option<Box<Pending>>,
    pipe: Option<Pipe>,
    /// Bytes in it, which holds [`PIPE_SIZE`] at most.
    in_pipe: u32,
}

impl Flow {
    /// A direction whose first bytes, and perhaps its end, have been read already.
    pub(super) fn start_with(unsent: Vec<u8>, has_ended: bool) -> Self {
        let state = if has_ended { State::Ending(FlowEnd::Finished) } else { State::Open };
        Self { pending: Pending::of(unsent), state, ..Self::default() }
    }

    /// True when nothing will move in this direction any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// True when what the source sends is thrown away.
    pub(super) fn is_discarding(&self) -> bool {
        matches!(self.state, State::Discarding)
    }

    /// True while bytes of the source are still meant for the sink.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.state, State::Open | State::Ending(_))
    }

    /// True when bytes have been read that the sink has not taken.
    pub(super) fn is_blocked(&self) -> bool {
        self.pending.is_some() || self.in_pipe > 0
    }

    /// Bytes that have been read and that the sink has not taken.
    pub(super) fn held(&self) -> u64 {
        let pending = self.pending.as_ref().map_or(0, |pending| pending.bytes.len() - pending.at);
        pending as u64 + u64::from(self.in_pipe)
    }

    /// Nothing will move in this direction any more.
    pub(super) fn close(&mut self) {
        // What the sink did not take would be sent to it again.
        self.pending = None;
        self.state = State::Over;
    }

    /// The sink takes no more: reads the source on and throws away what it sends.
    pub(super) fn discard(&mut self) {
        self.pending = None;
        self.state = State::Discarding;
    }

    /// Gives back the pipe, if there is one.
    #[inline]
    pub(super) fn release(&mut self, workspace: &mut Workspace) {
        if self.pipe.is_some() {
            self.give_back(workspace);
        }
    }

    #[inline(never)]
    fn give_back(&mut self, workspace: &mut Workspace) {
        if let Some(pipe) = self.pipe.take() {
            workspace.pipes.give_back(pipe, self.in_pipe == 0);
            self.in_pipe = 0;
        }
    }

    /// True when [`Flow::advance`] would find nothing to do: most events concern one direction only.
    pub(super) fn is_at_rest<A: Socket>(&self, source: &A) -> bool {
        let is_empty = self.pending.is_none() && self.pipe.is_none();
        match self.state {
            State::Open | State::Discarding => is_empty && !source.is_readable(),
            State::Over => is_empty,
            State::Ending(_) => false,
        }
    }

    /// Moves what can be moved now, at most `reads` reads. With `ends_in_order` the end of the source will be passed on
    /// as such.
    ///
    /// # Errors
    ///
    /// The direction has come to an end, which the caller answers with [`Flow::close`] or [`Flow::discard`].
    pub(super) fn advance<A: Socket, B: Socket>(
        &mut self,
        source: &mut A,
        sink: &mut B,
        workspace: &mut Workspace,
        mut reads: u32,
        ends_in_order: bool,
    ) -> Result<Pause, FlowEnd> {
        loop {
            // Mostly all that was read has been taken at once.
            if self.is_blocked() {
                match self.deliver(sink) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Pause::UntilEvent),
                    Err(error) => {
                        self.release(workspace);
                        return Err(FlowEnd::SinkFailed(error));
                    }
                }
            }
            match self.state {
                State::Over => return Ok(Pause::UntilEvent),
                State::Ending(ref end) => {
                    if !sink.is_drained(ends_in_order && matches!(end, FlowEnd::Finished)) {
                        return Ok(Pause::UntilEvent);
                    }
                    self.release(workspace);
                    // Whatever stands here now is what the caller puts in its place.
                    let State::Ending(end) = std::mem::take(&mut self.state) else { unreachable!("a line above") };
                    return Err(end);
                }
                State::Open | State::Discarding => {}
            }
            if !source.is_readable() {
                self.release(workspace);
                return Ok(Pause::UntilEvent);
            }
            if reads == 0 {
                // Others of this thread wait as well.
                return Ok(Pause::ForOthers);
            }
            reads -= 1;
            let moved = if matches!(self.state, State::Discarding) {
                discard_once(source, workspace)
            } else if self.shall_splice(source, sink, workspace) {
                reads = reads.saturating_sub(READS_PER_SPLICE - 1);
                self.splice_once(source)
            } else {
                match self.copy_once(source, sink, workspace, ends_in_order) {
                    Ok(moved) => moved,
                    Err(error) => {
                        self.release(workspace);
                        return Err(FlowEnd::SinkFailed(error));
                    }
                }
            };
            match moved {
                Ok(Moved::Some) => {}
                Ok(Moved::End) => {
                    if source.may_be_cut() {
                        sink.end_without_a_word();
                    }
                    self.state = State::Ending(FlowEnd::Finished);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => source.read_blocked(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.state = State::Ending(FlowEnd::SourceReset(error)),
            }
        }
    }

    /// Writes what is pending and what is in the pipe. True when nothing of it is left.
    #[inline(never)]
    fn deliver<B: Socket>(&mut self, sink: &mut B) -> io::Result<bool> {
        loop {
            let sent = match (&self.pipe, &self.pending) {
                (_, None) if self.in_pipe == 0 => return Ok(true),
                _ if !sink.is_writable() => return Ok(false),
                (_, Some(pending)) => sink.send(&pending.bytes[pending.at..], false),
                (pipe, None) => sink.splice_out(&pipe.as_ref().expect("bytes are in it").reader, self.in_pipe as usize),
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.bytes += sent as u64;
                    self.delivered(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sink.write_blocked(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The sink took so much of what waits for it.
    fn delivered(&mut self, sent: usize) {
        match &mut self.pending {
            None => self.in_pipe -= sent as u32,
            Some(pending) => {
                pending.at += sent;
                if pending.at == pending.bytes.len() {
                    self.pending = None;
                }
            }
        }
    }

    /// True when the next bytes shall go through a pipe, and there is one.
    fn shall_splice<A: Socket, B: Socket>(&mut self, source: &A, sink: &B, workspace: &mut Workspace) -> bool {
        if self.bulk < BULK_LIKELY || source.has_exception() || !source.can_splice() || !sink.can_splice() {
            return false;
        }
        if self.pipe.is_none() {
            self.pipe = workspace.pipes.take();
        }
        self.pipe.is_some()
    }

    /// Moves what has arrived into the pipe, which is empty: so "would block" can only mean the source.
    #[inline(never)]
    fn splice_once<A: Socket>(&mut self, source: &mut A) -> io::Result<Moved> {
        let pipe = self.pipe.as_ref().expect("bulk has a pipe");
        let moved = source.splice_in(&pipe.writer, PIPE_SIZE)?;
        self.in_pipe = moved as u32;
        match moved {
            LARGE_READ.. => self.bulk = BULK_SURE,
            SPLICE_WORTH.. => {}
            _ => self.bulk -= 1,
        }
        Ok(if moved == 0 { Moved::End } else { Moved::Some })
    }

    /// Reads into the scratch buffer and writes it straight on, keeping only what does not fit.
    ///
    /// The outer error is the sink's, the inner one the source's.
    fn copy_once<A: Socket, B: Socket>(
        &mut self,
        source: &mut A,
        sink: &mut B,
        workspace: &mut Workspace,
        ends_in_order: bool,
    ) -> io::Result<io::Result<Moved>> {
        let scratch = &mut workspace.scratch;
        let read = match source.recv(scratch) {
            Ok(0) => return Ok(Ok(Moved::End)),
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        self.bulk = if read < LARGE_READ { 0 } else { (self.bulk + 1).min(BULK_SURE) };
        let mut moved = Moved::Some;
        if read < scratch.len() && !source.has_exception() {
            // Not filled: the socket is empty now, and a read to be told so, or to be told of the end, can be saved.
            match source.has_end() {
                true => moved = Moved::End,
                false => source.read_blocked(),
            }
        }
        let sent = match sink.send(&scratch[..read], ends_in_order && matches!(moved, Moved::End)) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                // The sink has room, so no event would tell of it: the rest is sent at once.
                self.pending = Pending::of(scratch[..read].to_vec());
                return Ok(Ok(moved));
            }
            Err(error) => return Err(error),
        };
        self.bytes += sent as u64;
        if sent < read {
            sink.write_blocked();
            self.pending = Pending::of(scratch[sent..read].to_vec());
        }
        Ok(Ok(moved))
    }
}

enum Moved {
    Some,
    End,
}

/// Reads and throws away.
#[inline(never)]
fn discard_once<A: Socket>(source: &mut A, workspace: &mut Workspace) -> io::Result<Moved> {
    let read = source.recv(&mut workspace.scratch)?;
    Ok(if read == 0 { Moved::End } else { Moved::Some })
}
