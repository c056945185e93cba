//! One server of a group, online or not.
//!
//! It is online while one of its claims is live and no verdict is against it. The verdicts are the operator's state, a
//! failed connect while its lease is kept, a name that does not resolve, and a full server. [`Member::offline`] is the
//! one place that weighs them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::claim::{Claim, Claims, Standing};
use super::lease::Lease;
use super::offline::Offline;
use super::said::{Caller, Said, SaidKeeper, Verdict};
use super::view::ServerView;
use crate::base::label::GroupLabel;
use crate::base::text::one_line;
use crate::events::{self, Event, ServerChange};
use crate::server::{Live, Origin, Server, ServerId, ServerSettings, State};

/// The longest reason why a name is not resolved that is shown, in characters.
const REASON_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) server: Arc<Server>,
    pub(super) claims: Claims,
    /// Why its name has no address, while it has none.
    unresolved: Option<Arc<str>>,
    /// Why the last connect failed; counts while the lease is kept.
    pub(super) unanswered: Option<Arc<str>>,
    /// Made when a heartbeat first says more than that the server is there.
    said: Option<Box<SaidKeeper>>,
}

impl Member {
    /// A server that nobody has claimed yet. `addresses` is what its name resolves to, if that is known.
    pub(super) fn new(id: ServerId, settings: ServerSettings, addresses: Vec<SocketAddr>) -> Self {
        let addresses = settings.addr.literal().map_or(addresses, |addr| vec![addr]);
        let unresolved = addresses.is_empty().then(|| "it is being resolved".into());
        let server = Arc::new(Server { id, settings, live: Arc::new(Live::new(addresses)) });
        Self { server, claims: Claims::default(), unresolved, unanswered: None, said: None }
    }

    /// Why the server gets no clients now; `None` while it is online.
    pub(super) fn offline(&self) -> Option<Offline> {
        let settings = &self.server.settings;
        match settings.state {
            State::Ready => {}
            State::Drain => return Some(Offline::Drained),
            State::Maint => return Some(Offline::Maintained),
        }
        if self.claims.standing() < Standing::Live {
            return Some(Offline::Silent);
        }
        if let (true, Some(why)) = (self.is_kept(), &self.unanswered) {
            return Some(Offline::Unanswered(Arc::clone(why)));
        }
        if let Some(why) = &self.unresolved {
            return Some(Offline::Unresolved(Arc::clone(why)));
        }
        self.server.is_full().then_some(Offline::Full(settings.max_sessions))
    }

    /// Why policies do not see the server.
    pub(super) fn hidden(&self) -> Option<Offline> {
        self.offline().filter(Offline::hides)
    }

    /// True while policies see the server.
    pub(super) fn is_shown(&self) -> bool {
        self.hidden().is_none()
    }

    /// Makes a change and publishes it; true when policies begin or cease to see the server.
    pub(super) fn change(&mut self, group: &GroupLabel, change: impl FnOnce(&mut Self)) -> bool {
        let was_shown = self.is_shown();
        change(self);
        self.tell_change(group, was_shown)
    }

    /// Publishes that policies have begun or ceased to see the server, if so; true when they have. All such events are
    /// published here.
    pub(super) fn tell_change(&self, group: &GroupLabel, was_shown: bool) -> bool {
        let hidden = self.hidden();
        let changed = hidden.is_none() != was_shown;
        if changed {
            self.tell(group, hidden.as_ref());
        }
        changed
    }

    /// Publishes that the server has left the group, if policies saw it.
    pub(super) fn tell_removed(&self, group: &GroupLabel, was_shown: bool) {
        if was_shown {
            self.tell(group, Some(&Offline::Removed));
        }
    }

    fn tell(&self, group: &GroupLabel, hidden: Option<&Offline>) {
        let change = match hidden {
            None => ServerChange::Online,
            Some(cause) => ServerChange::Offline { cause: cause.to_string().into() },
        };
        events::publish(Event::Server { group: group.clone(), addr: self.server.settings.addr.shared(), change });
    }

    /// Takes what the file says of the server; what is known of it stays.
    pub(super) fn take_settings(&mut self, mut settings: ServerSettings, now_ms: u64, timeout: Duration) {
        match settings.origin {
            Origin::File => {
                self.claims.withdraw(&Claim::Remembered);
                self.claims.withdraw_lease();
                self.claims.set(Claim::File);
            }
            Origin::Heartbeat => {
                if self.claims.withdraw(&Claim::File) {
                    // It served until now, so it gets one lease to send its first heartbeat.
                    self.claims.set(Claim::Heartbeat(Lease::new(now_ms, timeout)));
                }
                self.claims.set(Claim::Remembered);
            }
        }
        if let Some(said) = &mut self.said {
            said.file_says(&settings);
            said.apply(&mut settings);
        }
        self.set_settings(settings);
    }

    /// Takes what a heartbeat says of the server, and what of that is new.
    pub(super) fn hear(&mut self, said: &Said, caller: Caller, now_ms: u64) -> (Said, Verdict) {
        let keeper = self.said.get_or_insert_default();
        let mut settings = self.server.settings.clone();
        let news = said.news_for(&settings);
        if news.is_empty() {
            keeper.confirmed(caller);
            return (news, Verdict::default());
        }
        let verdict = keeper.changed(&settings, &news, caller, now_ms);
        news.apply(&mut settings);
        self.set_settings(settings);
        (news, verdict)
    }

    /// Changes what is kept of heartbeats; true when by that something else counts.
    pub(super) fn change_said(&mut self, change: impl FnOnce(&mut SaidKeeper)) -> bool {
        let Some(said) = &mut self.said else {
            return false;
        };
        let mut settings = self.server.settings.clone();
        said.apply_file(&mut settings);
        change(said);
        said.apply(&mut settings);
        let is_other = self.server.settings != settings;
        self.set_settings(settings);
        is_other
    }

    /// When the file is to be told what heartbeats have said.
    pub(super) fn said_due_ms(&self) -> Option<u64> {
        self.said.as_ref()?.due_ms()
    }

    /// What the file is to be told now, if that has waited until `by_ms` or longer.
    pub(super) fn take_said(&mut self, now_ms: u64, by_ms: u64) -> Option<Said> {
        let said = self.said.as_mut()?;
        said.due_ms().is_some_and(|due_ms| due_ms <= by_ms).then(|| said.start_writing(now_ms))
    }

    pub(super) fn set_settings(&mut self, settings: ServerSettings) {
        if self.server.settings != settings {
            let (id, live) = (self.server.id, Arc::clone(&self.server.live));
            self.server = Arc::new(Server { id, settings, live });
        }
    }

    /// Takes the addresses of its name; after an error the addresses known before stay.
    pub(super) fn resolved(&mut self, outcome: Result<Vec<SocketAddr>, String>) {
        let why = match outcome {
            Ok(addresses) if !addresses.is_empty() => {
                self.server.live.resolved(addresses);
                self.unresolved = None;
                return;
            }
            Ok(_) => "it has no address".to_owned(),
            Err(error) => error,
        };
        if self.server.live.addresses().is_empty() {
            self.unresolved = Some(one_line(&why, REASON_CHARS_MAX).into());
        }
    }

    /// True while its lease has run out and is kept.
    fn is_kept(&self) -> bool {
        self.claims.lease().is_some_and(Lease::is_kept)
    }

    /// While the lease is kept, takes note of connects of clients that failed.
    pub(super) fn look_at_connects(&mut self) {
        if self.is_kept() && self.server.live.last_connect_failed() {
            self.unanswered.get_or_insert_with(|| "a client could not connect".into());
        }
    }

    /// The addresses to try, when a try is due.
    pub(super) fn take_try(&mut self, now_ms: u64) -> Option<Vec<SocketAddr>> {
        let may_serve = matches!(self.hidden(), None | Some(Offline::Unanswered(_)));
        if !may_serve || !self.claims.lease_mut()?.take_try(now_ms) {
            return None;
        }
        let live = &self.server.live;
        let mut addresses = live.addresses().to_vec();
        let preferred = live.preferred().min(addresses.len().saturating_sub(1));
        addresses[..=preferred].rotate_right(1);
        Some(addresses)
    }

    /// Takes the outcome of a try; `None` when it says nothing.
    pub(super) fn tried(&mut self, outcome: Option<Result<(), String>>, now_ms: u64, timeout: Duration) {
        let Some(lease) = self.claims.lease_mut() else {
            return;
        };
        lease.tried(now_ms, timeout);
        match outcome {
            Some(Ok(())) => {
                self.server.live.answered();
                self.unanswered = None;
            }
            Some(Err(why)) if lease.is_kept() => self.unanswered = Some(why.into()),
            Some(Err(_)) | None => {}
        }
    }

    /// True while the server has a lease that has not ended.
    pub(super) fn has_live_lease(&self) -> bool {
        self.claims.lease().is_some_and(Lease::is_live)
    }

    pub(super) fn view(&self, now_ms: u64) -> ServerView {
        let Server { settings, live, .. } = &*self.server;
        let offline = self.offline();
        let lease = self.claims.lease();
        let is_leased = lease.is_some() || self.claims.is_remembered();
        ServerView {
            addr: settings.addr.to_string(),
            state: settings.state,
            online: offline.is_none(),
            cause: offline.map(|cause| cause.to_string()),
            origin: settings.origin,
            weight: settings.weight,
            backup: settings.backup,
            max_sessions: settings.max_sessions,
            labels: settings.labels.clone(),
            sessions: live.sessions(),
            sessions_total: live.sessions_total(),
            connect_errors: live.connect_errors(),
            connect_latency_us: live.connect_latency_us(),
            suspect: live.is_suspect(now_ms),
            lease_ms: is_leased.then(|| lease.map_or(0, |lease| lease.left_ms(now_ms))),
            load: lease.and_then(|lease| lease.load),
            last_check: None,
        }
    }
}

#[cfg(test)]
mod tests;
