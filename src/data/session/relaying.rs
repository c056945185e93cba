//! A session that has its server.

use super::passage::PassageGuard;
use super::progress::Progress;
use super::record::SessionRecord;
use super::relay::{Relay, RelayEnd, Workspace};
use super::stream::Stream;
use super::view::Silence;
use crate::base::clock;
use crate::counters::EndReason;
use crate::group::{Liveness, ServerSlot};

/// A session that has its server.
#[derive(Debug)]
pub(super) struct Relaying {
    pub(super) server: Stream,
    pub(super) relay: Relay,
    /// When to look at the session if nothing has happened to it until then.
    pub(super) look_at_ms: u64,
    /// Its place on the server.
    pub(super) _slot: ServerSlot,
    /// What our own listener has to know, if the connection leads there.
    pub(super) _word: Option<Box<PassageGuard>>,
}

/// A session that is younger than this may be a short one, and is not worth a system call.
const SETTLED_MS: u64 = 3_000;

/// How often a session is asked within the user time-out whether its peers take anything.
const LOOKS_PER_TIMEOUT: u64 = 3;

impl Relaying {
    /// How a session ends when bytes for one side have not moved for `idle_timeout`, whatever the other side sends.
    ///
    /// # Errors
    ///
    /// It ends now.
    pub(super) fn look_for_stuck(
        &mut self,
        client: &Stream,
        record: &SessionRecord,
        workspace: &Workspace,
    ) -> Result<(), RelayEnd> {
        let now_ms = workspace.now_ms;
        let timeout_ms = clock::as_ms(record.group().snapshot().settings.idle_timeout);
        if timeout_ms == 0 || record.age_ms(now_ms) < SETTLED_MS {
            return Ok(());
        }
        let pause_s = Progress::pause_s(timeout_ms);
        let was_active = record.idle_ms(now_ms) <= (pause_s + 1) * 1_000;
        let is_its_turn = (now_ms / 1_000 + record.id()).is_multiple_of(pause_s);
        if !is_its_turn || !(was_active || self.relay.is_waited_for()) {
            return Ok(());
        }
        // Where the system does not tell, nothing is taken to wait.
        let waiting = [client, &self.server].map(|stream| stream.unacknowledged(&workspace.windows).unwrap_or(0));
        match self.relay.is_stuck(waiting, now_ms, timeout_ms) {
            true => Err(RelayEnd { reason: EndReason::IdleTimeout, reset: None, error: None }),
            false => Ok(()),
        }
    }

    /// Has the system find out that a peer is gone, once the session is no short one.
    pub(super) fn look_after_peers(&mut self, client: &mut Stream, record: &SessionRecord, workspace: &Workspace) {
        let now_ms = workspace.now_ms;
        if record.age_ms(now_ms) < SETTLED_MS {
            return;
        }
        let snapshot = record.group().snapshot();
        let settings = &snapshot.settings;
        if !self.server.is_watched() {
            self.server.watch_peer(&settings.server_tcp.liveness());
        }
        for (stream, liveness) in
            [(client, settings.client_tcp.liveness()), (&mut self.server, settings.server_tcp.liveness())]
        {
            if let Liveness { user_timeout: Some(timeout), is_derived: true, .. } = liveness {
                // What was sent longer ago has been acknowledged, or the connection is gone.
                let is_active = record.idle_ms(now_ms) < clock::as_ms(timeout) + SETTLED_MS;
                let every_s = (timeout.as_secs() / LOOKS_PER_TIMEOUT).max(1);
                let is_its_turn = is_active && (now_ms / 1_000 + record.id()).is_multiple_of(every_s);
                stream.be_patient(timeout, &workspace.windows, is_its_turn);
            }
        }
    }

    /// How a session ends to which nothing has happened for too long.
    ///
    /// # Errors
    ///
    /// It ends now.
    pub(super) fn look(&mut self, record: &SessionRecord, now_ms: u64) -> Result<(), RelayEnd> {
        if let Some(end) = self.relay.overdue(&mut self.server, record, now_ms) {
            return Err(end);
        }
        match record.silence(now_ms) {
            Silence::TooLong(reason) => Err(RelayEnd { reason, reset: None, error: None }),
            Silence::Allowed { look_at_ms } => {
                let look_at_ms = look_at_ms.min(self.relay.due_ms(record));
                // A deadline that it has already is early enough, and is put off when it is reached.
                if self.look_at_ms <= now_ms || look_at_ms < self.look_at_ms {
                    self.look_at_ms = look_at_ms;
                }
                Ok(())
            }
        }
    }
}
