//! What is told of a session: to its group, to the log, to its group's access log, and to whoever has subscribed.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{BY_SERVER, PEEKED_AT, SessionRecord, TOLD, UNTOLD};
use crate::access::{AccessFacts, AccessTarget, Circumstances};
use crate::base::failure::worded;
use crate::counters::{EndReason, HeaderResult, Limit};
use crate::data::session::failed::FailedConnect;
use crate::events::{self, SessionEvent, Step, TlsFacts, Wanted};
use crate::group::Outcome;
use crate::limits::ProcessLimits;
use crate::policy::Epoch;
use crate::server::Server;

/// How a session ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::data::session) struct Over<'a> {
    pub(in crate::data::session) end: EndReason,
    pub(in crate::data::session) error: Option<&'a io::Error>,
    /// What is told of the client's TLS.
    pub(in crate::data::session) tls: Option<&'a Arc<TlsFacts>>,
    pub(in crate::data::session) now_ms: u64,
    /// Sessions of the process, this one included.
    pub(in crate::data::session) active: u64,
}

impl SessionRecord {
    /// Tells that the client has connected. Its address is known from now on.
    #[inline]
    pub(in crate::data::session) fn tell_connected(&self) {
        self.told.store(TOLD, Relaxed);
        let wanted = events::wanted(Step::Connect);
        if wanted.is_by_nobody() {
            return;
        }
        let (is_logged, access) = self.told_where(wanted);
        let access = access.filter(|access| access.settings().connect_line);
        if !is_logged && access.is_none() && !wanted.is_by_subscribers() {
            return;
        }
        events::session(SessionEvent::ClientConnected {
            id: self.id,
            group: self.group.label().clone(),
            client: self.client(),
            client_facts: self.client_facts.get().cloned(),
            is_logged,
            access,
        });
    }

    /// Whether the log of the process has a line for something that somebody wants to know, and the group's access log. One
    /// that has a file has what the log of the process would repeat.
    #[inline]
    fn told_where(&self, wanted: Wanted) -> (bool, Option<Arc<AccessTarget>>) {
        if !wanted.has_access_logs() {
            return (wanted.is_by_log(), None);
        }
        let access = self.group.access_log();
        let is_repeated = access.as_ref().is_some_and(|access| access.has_file());
        (wanted.is_by_log() && !is_repeated, access)
    }

    /// Tells that a server has answered.
    #[inline]
    pub(super) fn tell_server(&self, server: &Server, micros: u32) {
        let wanted = events::wanted(Step::Connect);
        if wanted.is_by_nobody() {
            return;
        }
        let (is_logged, _) = self.told_where(wanted);
        if !is_logged && !wanted.is_by_subscribers() {
            return;
        }
        events::session(SessionEvent::ServerConnected {
            id: self.id,
            group: self.group.label().clone(),
            client: self.client(),
            server: server.settings.addr.shared(),
            attempt: self.attempts.load(Relaxed),
            connect_us: micros.into(),
            is_check: self.client_facts().is_some_and(|client_facts| client_facts.is_local),
            is_logged,
        });
    }

    /// Counts its end, and tells those who have to know of it. `limits` says how many that were turned away are told of.
    pub(in crate::data::session) fn ended(&self, over: Over<'_>, limits: &ProcessLimits) {
        let Over { end, now_ms, .. } = over;
        self.count_bytes();
        let elapsed_ms = now_ms.saturating_sub(self.accepted_ms);
        let counters = &self.group.counters;
        let group_active = counters.sessions_active.fetch_sub(1, Relaxed);
        counters.session_ended(end, elapsed_ms * 1_000);
        let limit = if end.is_turned_away() { self.turned_away(end) } else { None };
        if let Some(server) = self.server.get() {
            self.report(server, end, elapsed_ms, now_ms);
        }
        if self.told.load(Relaxed) != TOLD && self.ended_untold(end) {
            return self.tell_left(end, elapsed_ms);
        }
        let step = Step::of_end(end);
        let wanted = events::wanted(step);
        if wanted.is_by_nobody() {
            return;
        }
        let (is_logged, access) = self.told_where(wanted);
        let is_logged = match step {
            // A warning is said even where the access log has the same, but only so often.
            Step::Refuse => wanted.is_by_log() && limits.may_name(end, limit),
            _ => is_logged,
        };
        if !is_logged && access.is_none() && (step == Step::Refuse || !wanted.is_by_subscribers()) {
            return;
        }
        events::session(SessionEvent::SessionClosed {
            id: self.id,
            group: self.group.label().clone(),
            policy: self.group.snapshot().settings.policy.shared_name(),
            client: self.client(),
            client_facts: self.client_facts.get().cloned(),
            tls: over.tls.cloned(),
            server: self.server.get().map(|server| server.settings.addr.shared()),
            attempts: self.attempts.load(Relaxed),
            end,
            limit,
            bytes_up: self.bytes_up.load(Relaxed),
            bytes_down: self.bytes_down.load(Relaxed),
            connect_us: NonZeroU32::new(self.connect_us.load(Relaxed)),
            elapsed_ms,
            error: over.error.map(|error| worded(error).into()),
            is_logged,
            access: access.map(|target| self.access_facts(target, over, group_active, limit)),
        });
    }

    /// Tells the group how the session with this server has gone.
    #[inline]
    fn report(&self, server: &Arc<Server>, end: EndReason, elapsed_ms: u64, now_ms: u64) {
        let (bytes_up, bytes_down) = (self.bytes_up.load(Relaxed), self.bytes_down.load(Relaxed));
        let epoch = Epoch::from_number(self.epoch.load(Relaxed));
        let outcome = Outcome::Closed { millis: elapsed_ms, bytes: bytes_up + bytes_down };
        self.group.report(server, epoch, outcome, now_ms);
        if server.live.is_judged() {
            let is_fault = end == EndReason::ServerReset && bytes_down == 0;
            if is_fault || bytes_down > 0 {
                self.group.judge(server, is_fault.then_some("reset before a byte came"), now_ms);
            }
        }
    }

    /// What the group's access log says besides.
    #[cold]
    fn access_facts(
        &self,
        target: Arc<AccessTarget>,
        over: Over<'_>,
        group_sessions: u64,
        limit: Option<Limit>,
    ) -> Box<AccessFacts> {
        let server = self.server.get();
        let failed = over.error.and_then(|error| error.get_ref()?.downcast_ref::<FailedConnect>());
        Box::new(AccessFacts {
            target,
            circumstances: Circumstances {
                is_connected: server.is_some(),
                server_ended_first: self.half_closed.load(Relaxed) == BY_SERVER,
                has_timed_out: over.error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut),
                is_out_of_descriptors: limit == Some(Limit::Descriptors),
            },
            tried: failed.map(|failed| Arc::clone(&failed.server)),
            is_redispatched: self.is_redispatched.load(Relaxed),
            failed_ms: self.failed_ms.load(Relaxed),
            process_sessions: over.active,
            group_sessions,
            // Its own place has been given back already.
            server_sessions: server.map_or(0, |server| server.live.sessions() + 1),
        })
    }

    /// Counts the end of a session of which nothing was told yet. True when the client has left by itself.
    #[cold]
    fn ended_untold(&self, end: EndReason) -> bool {
        if self.told.load(Relaxed) == UNTOLD
            && let Some(result) = header_result(end)
        {
            self.group.counters.header_ended(result);
        }
        matches!(end, EndReason::ClientClosed | EndReason::ClientReset)
    }

    /// Tells of a client that ended before its PROXY header or its hello was complete: probes of the port are no news.
    #[cold]
    fn tell_left(&self, end: EndReason, elapsed_ms: u64) {
        let wanted = events::wanted(Step::Close);
        if wanted.is_by_log() || wanted.is_by_subscribers() {
            events::session(SessionEvent::ClientLeft {
                id: self.id,
                group: self.group.label().clone(),
                client: self.peer,
                end: end.as_str(),
                was_peeked_at: self.told.load(Relaxed) == PEEKED_AT,
                elapsed_ms,
            });
        }
    }

    /// Counts a client that was turned away. The limit that it was over.
    #[cold]
    fn turned_away(&self, end: EndReason) -> Option<Limit> {
        if end != EndReason::Limit {
            return None;
        }
        let found = usize::from(self.limit.load(Relaxed)).checked_sub(1).and_then(|at| Limit::ALL.get(at));
        // Only of descriptors it is not known beforehand whether there are enough.
        let limit = found.copied().unwrap_or(Limit::Descriptors);
        self.group.counters.client_limited(limit);
        Some(limit)
    }
}

/// What became of a PROXY header that was not complete when the session ended; `None` when it did not end for its client's
/// sake.
fn header_result(end: EndReason) -> Option<HeaderResult> {
    match end {
        EndReason::BadHeader => Some(HeaderResult::Bad),
        EndReason::HeaderTimeout => Some(HeaderResult::Timeout),
        EndReason::ClientClosed | EndReason::ClientReset => Some(HeaderResult::Closed),
        _ => None,
    }
}
