//! One server of a group, online or not.
//!
//! It is online while one of its claims is live and no verdict is against it. The verdicts are the operator's state, failed
//! checks, a name that does not resolve, a failed connect, and a full server. [`Member::offline`] is the one place that
//! weighs them.

mod carried;
mod checking;
mod named;
mod shown;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::check::{CheckState, GroupCheck};
use super::claim::{Claim, Claims, Standing};
use super::ejection::faults_text;
use super::lease::Lease;
use super::offline::Offline;
use super::on_down::{Loss, OnDown};
use super::said::{Caller, Said, SaidKeeper, Verdict};
use super::settings::GroupSettings;
use crate::base::clock;
use crate::base::label::GroupLabel;
use crate::events::{self, Event, ServerChange};
use crate::server::{Live, Origin, SendProxy, Server, ServerId, ServerSettings, State};
pub(crate) use checking::CHECK_LINES;
pub(super) use checking::Checked;

/// What the members of a group have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) label: GroupLabel,
    /// How servers are checked, unless they say otherwise.
    pub(super) check: Option<GroupCheck>,
    /// The group accepts clients.
    pub(super) is_open: bool,
    pub(super) on_down: OnDown,
    /// From which address servers are reached.
    pub(super) source: Option<IpAddr>,
}

/// The shortest pause between two tries of a server whose lease is kept.
const TRY_PAUSE_MIN: Duration = Duration::from_millis(100);

/// A server to be tried by a connect of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its addresses, those last that have failed; or those alone, see `is_partial`.
    pub addresses: Vec<SocketAddr>,
    /// From where to connect; `None` for the address that the system picks.
    pub source: Option<IpAddr>,
    /// The PROXY header that sessions begin with.
    pub header: SendProxy,
    /// How long all of them together may take.
    pub timeout: Duration,
    /// The longest pause until it is to be tried again.
    pub pause_max: Duration,
    /// It has failed to answer.
    pub is_suspect: bool,
    /// It answers, but not at these addresses.
    pub is_partial: bool,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) server: Arc<Server>,
    pub(super) claims: Claims,
    /// Why its name has no address, while it has none.
    unresolved: Option<Arc<str>>,
    /// The addresses of its name, in order, where each of them is a server of its own.
    expanded: Vec<IpAddr>,
    /// When it was last resolved, on the coarse clock.
    resolved_ms: u64,
    /// When it came into the group, on the coarse clock.
    here_since_ms: u64,
    /// What checks have found; `None` for a server that is not to be checked.
    check: Option<Box<CheckState>>,
    /// Policies have been told that they see it.
    is_told_shown: bool,
    /// When they began or ceased to see it, in milliseconds since 1970.
    turned_ms: u64,
    /// Whoever checks has been told to.
    is_told_checked: bool,
    /// Why it has gone as far as its sessions are concerned, as of the last change.
    loss: Option<Loss>,
    /// Its sessions go on when it is taken out of the group, whatever `on_down` says.
    keeps_sessions: bool,
    /// Made when a heartbeat first says more than that the server is there.
    said: Option<Box<SaidKeeper>>,
}

impl Member {
    /// A server that nobody has claimed yet. `addresses` is what its name resolves to, if that is known.
    pub(super) fn new(id: ServerId, settings: ServerSettings, addresses: Vec<SocketAddr>) -> Self {
        let addresses = settings.addr.literal().map_or(addresses, |addr| vec![addr]);
        let unresolved = addresses.is_empty().then(|| "it is being resolved".into());
        let server = Arc::new(Server { id, settings, live: Arc::new(Live::new(addresses)) });
        let now_ms = clock::coarse_ms();
        Self {
            server,
            claims: Claims::default(),
            unresolved,
            expanded: Vec::new(),
            resolved_ms: now_ms,
            here_since_ms: now_ms,
            check: None,
            is_told_shown: false,
            turned_ms: clock::wall_ms(),
            is_told_checked: false,
            loss: None,
            keeps_sessions: false,
            said: None,
        }
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
            return Some(if settings.addr.is_one_of_name() { Offline::NotOfName } else { Offline::Silent });
        }
        if !self.expanded.is_empty() {
            return Some(Offline::Expanded(self.expanded.len()));
        }
        let outage = self.server.live.outage();
        if let (true, Some(outage)) = (self.is_kept(), &outage) {
            return Some(Offline::Unanswered(Arc::clone(outage)));
        }
        if let Some(why) = self.check.as_ref().and_then(|check| check.why_down()) {
            return Some(Offline::Down(why));
        }
        if let Some(why) = &self.unresolved {
            return Some(Offline::Unresolved(Arc::clone(why)));
        }
        if self.server.live.is_ejected() {
            let ejection = self.server.live.ejection();
            let left_ms = ejection.until_ms.saturating_sub(clock::coarse_ms());
            return Some(Offline::Ejected(left_ms, faults_text(&ejection)));
        }
        if let Some(outage) = outage {
            return Some(Offline::Suspect(outage));
        }
        self.server.is_full().then_some(Offline::Full(settings.max_sessions))
    }

    /// Why policies do not see the server.
    pub(super) fn hidden(&self) -> Option<Offline> {
        self.offline().filter(Offline::hides)
    }

    /// Makes a change and publishes it; true when policies begin or cease to see the server.
    pub(super) fn change(&mut self, common: &Common, change: impl FnOnce(&mut Self)) -> bool {
        change(self);
        self.tell_change(common)
    }

    /// Publishes that policies have begun or ceased to see the server since they were told last, if so; true when they
    /// have. All such events are published here.
    pub(super) fn tell_change(&mut self, common: &Common) -> bool {
        self.follow_check(common);
        self.server.live.set_source(common.source);
        let hidden = self.hidden();
        let changed = self.turn(hidden.as_ref());
        if changed {
            self.tell(common, self.change_to(hidden.as_ref()));
        }
        self.follow_loss(common, hidden.as_ref());
        changed
    }

    /// Notes whether policies see the server from now on; true when that has changed.
    fn turn(&mut self, hidden: Option<&Offline>) -> bool {
        let is_unwanted = hidden.is_some_and(Offline::is_by_operator);
        self.server.live.set_hidden(hidden.is_some() && !is_unwanted, is_unwanted, clock::coarse_ms());
        let changed = hidden.is_none() != self.is_told_shown;
        if changed {
            self.is_told_shown = hidden.is_none();
            self.turned_ms = clock::wall_ms();
        }
        changed
    }

    /// Has its sessions end when it has gone for another cause than before, if such a cause ends them.
    fn follow_loss(&mut self, common: &Common, hidden: Option<&Offline>) {
        let loss = hidden.and_then(Offline::loss);
        if let Some(loss) = loss
            && self.loss != Some(loss)
            && common.on_down.closes(loss)
        {
            self.tell(common, ServerChange::Lost { cause: loss.as_str() });
        }
        self.loss = loss;
    }

    /// True while its sessions are to end.
    pub(super) fn is_lost(&self, common: &Common) -> bool {
        self.hidden().and_then(|hidden| hidden.loss()).is_some_and(|loss| common.on_down.closes(loss))
    }

    /// Its sessions go on when it is taken out of the group.
    pub(super) fn set_keeps_sessions(&mut self, keeps_sessions: bool) {
        self.keeps_sessions = keeps_sessions;
    }

    /// Publishes that the server has left the group, if policies saw it; true when they did.
    pub(super) fn tell_removed(&self, common: &Common) -> bool {
        if self.is_told_shown {
            self.tell(common, self.change_to(Some(&Offline::Removed)));
        }
        if common.on_down.closes(Loss::Removed) && !self.keeps_sessions {
            self.tell(common, ServerChange::Lost { cause: Loss::Removed.as_str() });
        }
        self.is_told_shown
    }

    /// Publishes that the lease has run out and is kept.
    pub(super) fn tell_kept(&self, common: &Common) {
        self.tell(common, ServerChange::LeaseKept);
    }

    fn change_to(&self, hidden: Option<&Offline>) -> ServerChange {
        match hidden {
            None if self.server.live.is_untried() => ServerChange::Untried,
            None => ServerChange::Online,
            Some(cause) => ServerChange::Offline { cause: cause.to_string().into() },
        }
    }

    fn tell(&self, common: &Common, change: ServerChange) {
        events::publish(self.event(common, change));
    }

    fn event(&self, common: &Common, change: ServerChange) -> Event {
        Event::Server { group: common.label.clone(), addr: self.server.settings.addr.shared(), change }
    }

    /// Takes what the file says of the server; what is known of it stays.
    pub(super) fn take_settings(&mut self, settings: ServerSettings, now_ms: u64, timeout: Duration) {
        match settings.origin {
            Origin::File => {
                self.claims.withdraw(&Claim::Remembered);
                self.claims.withdraw_lease();
                let is_one_of_name = settings.addr.is_one_of_name();
                self.claims.set(if is_one_of_name { Claim::OneOfName } else { Claim::File });
            }
            Origin::Heartbeat => {
                if self.claims.withdraw(&Claim::File) {
                    // It served until now, so it gets one lease to send its first heartbeat.
                    self.claims.set(Claim::Heartbeat(Lease::new(now_ms, timeout)));
                }
                self.claims.set(Claim::Remembered);
            }
        }
        self.take_file_settings(settings);
    }

    /// Takes settings that the file gives, but for what heartbeats have said since.
    fn take_file_settings(&mut self, mut settings: ServerSettings) {
        if let Some(said) = &mut self.said {
            said.file_says(&settings);
            said.apply(&mut settings);
        }
        self.set_settings(settings);
        self.follow_expand();
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

    /// True while its lease has run out and is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.claims.lease().is_some_and(Lease::is_kept)
    }

    /// How to try the server by a connect of the proxy's own, while that has to be found out: clients could not connect, its
    /// lease is kept, or an address of its name has failed. `None` for a server that would get no clients anyway.
    pub(super) fn target(&self, settings: &GroupSettings) -> Option<Target> {
        let live = &self.server.live;
        if !matches!(self.hidden(), None | Some(Offline::Unanswered(_))) {
            return None;
        }
        let (addresses, is_suspect) = (live.addresses(), live.is_suspect());
        let is_partial = !is_suspect && !self.is_kept();
        let pause_max = match is_suspect || is_partial {
            true => settings.recheck_max,
            false => settings.heartbeat_timeout.max(TRY_PAUSE_MIN),
        };
        let addresses = if is_partial { addresses.failed() } else { addresses.in_order() };
        let timeout = settings.connect_timeout;
        (!is_partial || !addresses.is_empty()).then_some(Target {
            addresses,
            source: settings.server_tcp.source,
            header: self.server.settings.send_proxy.unwrap_or(settings.send_proxy),
            timeout,
            pause_max,
            is_suspect,
            is_partial,
        })
    }

    /// Since when the server has been silent, if it registered itself, nothing but the file keeps its place, and nobody
    /// works on it.
    pub(super) fn silent_since_ms(&self) -> Option<u64> {
        let is_gone = self.claims.is_remembered() && self.claims.standing() == Standing::Place;
        let heard_ms = self.claims.lease().map_or(0, Lease::heard_ms);
        (is_gone && self.server.settings.state != State::Maint).then(|| heard_ms.max(self.here_since_ms))
    }

    /// True while the server has a lease that has not ended.
    pub(super) fn has_live_lease(&self) -> bool {
        self.claims.lease().is_some_and(Lease::is_live)
    }
}

#[cfg(test)]
mod tests;
