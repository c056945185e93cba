//! Moving the bytes of a session, both ways, until both have ended.
//!
//! One state machine drives both directions. It is written against [`Socket`], a thin view of a
//! non-blocking socket, so that scripted short reads, full buffers, ends and resets can test it, and so
//! that what carries it can change without touching it.
//!
//! Its cost is the kernel's, so it makes few system calls: what is read is written at once, write events
//! are asked for only after a write that did not fit, a read that did not fill the buffer is taken to have
//! emptied the socket, and proven bulk goes through a pipe. Its memory is one scratch buffer a thread: an
//! idle session holds no buffer and no pipe, one with a slow reader holds at most one of either.

mod flow;
mod pipe;
mod socket;
mod workspace;

use std::io;

use flow::{Flow, FlowEnd};
pub(super) use socket::Socket;
pub(crate) use workspace::{Pause, Side, Workspace};

use super::progress::Progress;
use super::record::SessionRecord;
use crate::counters::EndReason;
use crate::data::deadlines::NEVER;

/// Reads per wake-up and direction, so that one fast stream cannot starve the others of its thread. A splice
/// counts as many as it may replace.
const READS_PER_WAKE: u32 = 16;

/// How long bytes for the client may take to reach it once the server takes no more: so long after the last of them was
/// written, the kernel is taken to have delivered it.
const FLUSH_TIME_MS: u64 = 1_000;

/// How the relay ended.
#[derive(Debug)]
pub(super) struct RelayEnd {
    pub(super) reason: EndReason,
    /// The side to which a reset has to be passed on.
    pub(super) reset: Option<Side>,
    /// What the system said, when it was not an orderly end.
    pub(super) error: Option<io::Error>,
}

/// Both directions of one session.
#[derive(Debug)]
pub(super) struct Relay {
    up: Flow,
    down: Flow,
    first_end: Option<Side>,
    rare: Option<Box<Rare>>,
    /// Since when the server is known to take no more; [`NEVER`] while it does.
    server_gone_ms: u64,
}

/// What few sessions need, or not for long.
#[derive(Debug, Default)]
struct Rare {
    /// Which side was reset.
    reset: Option<(Side, io::Error)>,
    /// What has reached the client, and the server.
    progress: [Progress; 2],
}

impl Default for Relay {
    fn default() -> Self {
        let (up, down) = (Flow::default(), Flow::default());
        Self { up, down, first_end: None, rare: None, server_gone_ms: NEVER }
    }
}

impl Relay {
    /// A relay that starts with bytes the client has already sent, and perhaps its end.
    pub(super) fn new(unsent: Vec<u8>, client_has_finished: bool) -> Self {
        Self { up: Flow::start_with(unsent, client_has_finished), ..Self::default() }
    }

    /// Moves whatever can be moved now.
    ///
    /// # Errors
    ///
    /// The session is over, well or badly.
    // Sessions that are about to end use it, too, and would else cost every wake-up of all others a call.
    #[allow(clippy::inline_always, reason = "tests/guard counts what it is worth")]
    #[inline(always)]
    pub(super) fn advance<C: Socket, S: Socket>(
        &mut self,
        client: &mut C,
        server: &mut S,
        workspace: &mut Workspace,
        record: &SessionRecord,
    ) -> Result<Pause, RelayEnd> {
        loop {
            let at_rest = Some(Pause::UntilEvent);
            let up = match self.up.is_at_rest(client) {
                true => at_rest,
                false => self.advance_one(Side::Client, client, server, workspace, record)?,
            };
            let down = match self.down.is_at_rest(server) {
                true => at_rest,
                false => self.advance_one(Side::Server, server, client, workspace, record)?,
            };
            let pause = match (up, down) {
                (Some(Pause::UntilEvent), Some(Pause::UntilEvent)) => Pause::UntilEvent,
                (Some(_), Some(_)) => Pause::ForOthers,
                // A direction that has ended may go on in another way.
                _ => continue,
            };
            if !client.has_failed() && !server.has_failed() {
                return Ok(pause);
            }
            if !self.look_at_failures(client, server, workspace, record)? {
                return Ok(pause);
            }
        }
    }

    /// A connection has broken, which a flow finds only where it reads or writes. True when it found out by this that a
    /// direction has ended.
    fn look_at_failures<C: Socket, S: Socket>(
        &mut self,
        client: &mut C,
        server: &mut S,
        workspace: &mut Workspace,
        record: &SessionRecord,
    ) -> Result<bool, RelayEnd> {
        let now_ms = workspace.now_ms;
        let mut has_ended = false;
        if client.has_failed() && (self.up.is_blocked() || self.up.is_over()) {
            let error = client.take_error();
            if error.kind() != io::ErrorKind::BrokenPipe {
                return Err(reset_by(Side::Client, error));
            }
            // It had finished before, so what it has sent is complete and still wanted.
            self.first_end.get_or_insert(Side::Client);
            self.down.release(workspace);
            self.down.close();
            has_ended = true;
        }
        if server.has_failed() && self.server_gone_ms == NEVER {
            if self.down.is_over() && !self.up.is_over() {
                // What the client has sent or will send is lost: no need to wait for a write that says so.
                self.up.release(workspace);
                self.server_closed(now_ms);
                has_ended = true;
            } else if self.down.is_blocked() {
                self.server_gone_ms = now_ms;
            }
        }
        if has_ended {
            record.set_half_closed(self.first_end == Some(Side::Client), now_ms);
        }
        self.verdict(record, now_ms).map_or(Ok(has_ended), Err)
    }

    /// When to look at the session, should nothing have happened to it until then.
    pub(super) fn due_ms(&self, record: &SessionRecord) -> u64 {
        if self.server_gone_ms == NEVER {
            NEVER
        } else if !self.down.is_over() {
            record.down_ms().max(self.server_gone_ms) + FLUSH_TIME_MS
        } else if self.down.bytes > 0 {
            record.down_ms() + FLUSH_TIME_MS
        } else {
            self.server_gone_ms
        }
    }

    /// How the session ends when nothing has happened to it until it was due.
    pub(super) fn overdue<S: Socket>(
        &mut self,
        server: &mut S,
        record: &SessionRecord,
        now_ms: u64,
    ) -> Option<RelayEnd> {
        (now_ms >= self.due_ms(record)).then(|| match self.take_reset() {
            Some(reset) => reset_by(reset.0, reset.1),
            None if self.up.is_discarding() => closed_by_server(),
            None => reset_by(Side::Server, server.take_error()),
        })
    }

    /// True when bytes have not moved for `timeout_ms` of which so many wait, for the client and for the server, to be
    /// acknowledged.
    pub(super) fn is_stuck(&mut self, waiting: [u32; 2], now_ms: u64, timeout_ms: u64) -> bool {
        if waiting == [0; 2] && self.rare.is_none() {
            return false;
        }
        let sent = [self.down.bytes, self.up.bytes];
        let progress = self.rare.get_or_insert_default().progress.iter_mut();
        let looked_at = progress.zip(sent).zip(waiting);
        let stuck = looked_at.map(|((progress, sent), waiting)| progress.is_stuck(sent, waiting, now_ms, timeout_ms));
        // Each of them has to be looked at.
        stuck.fold(false, |any, is_stuck| any | is_stuck)
    }

    /// True while bytes waited when it was looked at last.
    pub(super) fn is_waited_for(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.progress.iter().any(|progress| progress.is_waited_for()))
    }

    /// Which side was reset.
    fn reset_of(&self) -> Option<Side> {
        self.rare.as_ref()?.reset.as_ref().map(|reset| reset.0)
    }

    fn take_reset(&mut self) -> Option<(Side, io::Error)> {
        self.rare.as_mut()?.reset.take()
    }

    /// The bytes that will have gone to the client when it has all that was read of the server, and so many more.
    pub(super) fn bytes_down_with(&self, unread: u64) -> u64 {
        self.down.bytes + self.down.held() + unread
    }

    /// True when so many bytes have gone to the client, or no more will.
    pub(super) fn has_delivered(&self, bytes_down: u64) -> bool {
        self.down.is_over() || self.down.bytes >= bytes_down
    }

    /// To which sides bytes are under way, which an orderly end would cut without a trace.
    pub(super) fn is_cut<C: Socket, S: Socket>(&self, client: &C, server: &S) -> (bool, bool) {
        let cut = |flow: &Flow, has_unread: &dyn Fn() -> bool| flow.is_moving() && (flow.is_blocked() || has_unread());
        (cut(&self.down, &|| server.has_unread()), cut(&self.up, &|| client.has_unread()))
    }

    /// Moves what `source` has sent. `None` when that has come to an end, an error when the session has with it.
    #[allow(clippy::inline_always, reason = "tests/guard counts what it is worth")]
    #[inline(always)]
    fn advance_one<A: Socket, B: Socket>(
        &mut self,
        source: Side,
        from: &mut A,
        to: &mut B,
        workspace: &mut Workspace,
        record: &SessionRecord,
    ) -> Result<Option<Pause>, RelayEnd> {
        // Closing with a reset would drop what has waited for an orderly end.
        let ends_in_order = self.reset_of().is_none();
        let flow = match source {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        };
        let before = flow.bytes;
        let advanced = flow.advance(from, to, workspace, READS_PER_WAKE, ends_in_order);
        let moved = flow.bytes - before;
        match source {
            _ if moved == 0 => {}
            Side::Client => record.add_up(moved, workspace.now_ms),
            Side::Server => record.add_down(moved, workspace.now_ms),
        }
        match advanced {
            Ok(pause) => Ok(Some(pause)),
            Err(end) => self.ended(source, end, to, record, workspace.now_ms).map_or(Ok(None), Err),
        }
    }

    /// One direction has ended: `source` sends no more, or `sink` takes no more.
    fn ended<K: Socket>(
        &mut self,
        source: Side,
        end: FlowEnd,
        sink: &mut K,
        record: &SessionRecord,
        now_ms: u64,
    ) -> Option<RelayEnd> {
        let (flow, other) = match source {
            Side::Client => (&mut self.up, &self.down),
            Side::Server => (&mut self.down, &self.up),
        };
        match end {
            FlowEnd::Finished => {
                flow.close();
                self.first_end.get_or_insert(source);
                record.set_half_closed(self.first_end == Some(Side::Client), now_ms);
                if !other.is_over() {
                    sink.finish();
                }
            }
            // What was read before the failure has been written: pass it on. Nothing sent to this side can arrive.
            FlowEnd::SourceReset(error) => return Some(reset_by(source, error)),
            // The sink closed without reading everything.
            FlowEnd::SinkFailed(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                match source {
                    Side::Client => self.server_closed(now_ms),
                    Side::Server => {
                        self.first_end.get_or_insert(Side::Client);
                        flow.close();
                    }
                }
                record.set_half_closed(self.first_end == Some(Side::Client), now_ms);
            }
            // The sink failed, which also ends what it sends, but only after what it had sent before.
            FlowEnd::SinkFailed(error) => {
                flow.close();
                record.set_half_closed(self.first_end == Some(Side::Client), now_ms);
                self.rare.get_or_insert_default().reset = Some((source.other(), error));
                if source == Side::Client {
                    self.server_gone_ms = now_ms;
                }
            }
        }
        self.verdict(record, now_ms)
    }

    /// The server takes no more. Its answer still has to reach the client, and it would not if closing with unread bytes
    /// reset the client: they are read and thrown away until the answer has been delivered.
    fn server_closed(&mut self, now_ms: u64) {
        self.first_end.get_or_insert(Side::Server);
        self.up.discard();
        self.server_gone_ms = now_ms;
    }

    fn verdict(&mut self, record: &SessionRecord, now_ms: u64) -> Option<RelayEnd> {
        if let Some(side) = self.reset_of() {
            let source_is_over = match side {
                Side::Client => self.up.is_over(),
                Side::Server => self.down.is_over(),
            };
            return source_is_over.then(|| {
                let reset = self.take_reset().expect("it was there a line ago");
                reset_by(reset.0, reset.1)
            });
        }
        if self.up.is_discarding() && self.down.is_over() && now_ms >= self.due_ms(record) {
            return Some(closed_by_server());
        }
        if !(self.up.is_over() && self.down.is_over()) {
            return None;
        }
        let reason = match self.first_end {
            Some(Side::Server) => EndReason::ServerClosed,
            _ => EndReason::ClientClosed,
        };
        Some(RelayEnd { reason, reset: None, error: None })
    }

    /// Gives back what the session holds of its thread. To be called when it has ended.
    pub(super) fn release(&mut self, workspace: &mut Workspace) {
        self.up.release(workspace);
        self.down.release(workspace);
    }
}

/// The server has closed, and what the client goes on sending is lost, which only a reset tells it.
fn closed_by_server() -> RelayEnd {
    RelayEnd { reason: EndReason::ServerClosed, reset: Some(Side::Client), error: None }
}

fn reset_by(side: Side, error: io::Error) -> RelayEnd {
    let reason = match side {
        Side::Client => EndReason::ClientReset,
        Side::Server => EndReason::ServerReset,
    };
    // Also for a connection that timed out or lost its route: an orderly end would make a reply that was cut
    // look complete.
    RelayEnd { reason, reset: Some(side.other()), error: Some(error) }
}

#[cfg(test)]
mod tests;
