//! The last moments of a session whose connections work: what is on its way to the client goes out first.
//!
//! That is what has been read from the server and what lies unread in its socket when the end begins, and no more: a server
//! that goes on sending does not put the end off. It may take [`DELIVERY_TIME_MS`]. Then both sides are closed in order,
//! and a client that has not taken everything by then is reset, because its answer is cut.

use super::opening::{FIRST_READ_MAX, NotConnected};
use super::relay::{Pause, RelayEnd, Workspace};
use super::relaying::Relaying;
use super::service::SessionGuard;
use super::stream::Stream;
use crate::counters::EndReason;
use crate::data::poll::Token;

/// How long delivering may take.
const DELIVERY_TIME_MS: u64 = 1_000;

/// A session that is about to end.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) relaying: Relaying,
    reason: EndReason,
    /// Bytes to the client after which it has all that was on its way.
    down_until: u64,
    pub(super) until_ms: u64,
}

impl Closing {
    /// Ends from now on, for this reason.
    pub(super) fn new(relaying: Relaying, reason: EndReason, now_ms: u64) -> Self {
        let down_until = relaying.relay.bytes_down_with(relaying.server.unread());
        Self { relaying, reason, down_until, until_ms: now_ms + DELIVERY_TIME_MS }
    }

    /// Delivers what can be delivered now.
    ///
    /// # Errors
    ///
    /// The session is over.
    #[cold]
    #[inline(never)]
    pub(super) fn advance(
        &mut self,
        client: &mut Stream,
        guard: &SessionGuard,
        workspace: &mut Workspace,
    ) -> Result<Pause, RelayEnd> {
        let Relaying { server, relay, .. } = &mut self.relaying;
        // Whatever ends it meanwhile comes after what ended it first.
        let pause = relay
            .advance(client, server, workspace, guard.record())
            .map_err(|end| RelayEnd { reason: self.reason, ..end })?;
        if relay.has_delivered(self.down_until) || workspace.now_ms >= self.until_ms {
            return Err(RelayEnd { reason: self.reason, reset: None, error: None });
        }
        let key = guard.key();
        client.rearm(Token::client(key), &workspace.reactor).map_err(NotConnected::out_of_descriptors)?;
        server.rearm(Token::server(key), &workspace.reactor).map_err(NotConnected::out_of_descriptors)?;
        Ok(pause)
    }

    /// Which sides are closed with a reset when nothing else decides that.
    pub(super) fn is_cut(&self, client: &Stream, workspace: &mut Workspace) -> (bool, bool) {
        let Relaying { server, relay, .. } = &self.relaying;
        let (client_is_cut, server_is_cut) = relay.is_cut(client, server);
        let has_delivered = relay.has_delivered(self.down_until);
        if has_delivered {
            // Closing with unread bytes would reset the client, and it might lose what is still on its way.
            client.discard_unread(&mut workspace.scratch[..FIRST_READ_MAX]);
        }
        (client_is_cut && !has_delivered, server_is_cut)
    }
}
