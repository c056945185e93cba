//! What checks have to do with a member.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::Level;

use super::{Common, Member};
use crate::events::{self, LineLimit, ServerChange};
use crate::group::check::{CheckResult, CheckStart, CheckState, CheckTarget};
use crate::group::claim::Standing;
use crate::server::State;

/// Lines a second that the log has for what checks find: ten thousand servers may fail at once.
pub(crate) static CHECK_LINES: LineLimit = LineLimit::new(10);

/// What the result of a check has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) struct Checked {
    /// The pause until the next check.
    pub(in crate::group) pause: Duration,
    /// Policies have to see another list.
    pub(in crate::group) has_changed: bool,
}

impl Member {
    /// Is checked as its group and its settings say, from now on.
    pub(super) fn follow_check(&mut self, common: &Common) {
        let settings = common.check.as_ref().and_then(|check| check.of(self.server.settings.check));
        match (&mut self.check, settings) {
            (state, None) => *state = None,
            (Some(state), Some(settings)) => state.set_settings(&settings),
            (state @ None, Some(settings)) => *state = Some(Box::new(CheckState::new(settings, self.is_told_shown))),
        }
        let is_checked = self.is_checked(common);
        if is_checked != self.is_told_checked {
            self.is_told_checked = is_checked;
            if let (true, Some(check)) = (is_checked, &mut self.check) {
                check.resume();
                self.tell(common, ServerChange::CheckWanted);
            }
        }
    }

    /// True while it is to be checked: it might serve, or is being drained.
    fn is_checked(&self, common: &Common) -> bool {
        self.check.is_some()
            && common.is_open
            && self.server.settings.state != State::Maint
            && self.claims.standing() == Standing::Live
            && self.unresolved.is_none()
            && self.expanded.is_empty()
    }

    /// How to check the server now; `None` when it is not to be checked.
    pub(in crate::group) fn check_target(&self, common: &Common) -> Option<CheckTarget> {
        let check = self.check.as_ref().filter(|_| self.is_checked(common))?;
        let (server, settings) = (Arc::clone(&self.server), Arc::clone(check.settings()));
        let is_undecided = check.is_undecided();
        Some(CheckTarget { server, settings, is_undecided, is_resumed: is_undecided && !check.is_unchecked() })
    }

    /// Takes the result of a check. Answers what that has changed, and the pause until the next check.
    pub(in crate::group) fn take_check(
        &mut self,
        common: &Common,
        result: CheckResult,
        now_ms: u64,
    ) -> Option<Checked> {
        let check = self.check.as_mut()?;
        let failed = result.outcome.as_ref().err().map(|why| (Box::from(why.as_str()), result.micros));
        let change = check.take(result, now_ms);
        let pause = check.pause();
        let (fails, flaps) = (check.fails(), change.is_flapping.then(|| check.recent_changes()));
        let (kind, fall) = (check.settings().kind.as_str(), check.settings().fall);
        if let Some((error, micros)) = failed {
            let ms = micros as f64 / 1_000.0;
            if change.is_first_failure {
                self.tell_checked(common, ServerChange::CheckFailed { error, kind, ms, fails, fall }, now_ms);
            } else {
                let change = ServerChange::CheckFailedAgain { error, kind, ms, fails, fall };
                events::log_only(Level::DEBUG, || self.event(common, change));
            }
        }
        if let Some(transitions) = flaps {
            self.tell(common, ServerChange::Flapping { transitions });
        }
        let hidden = self.hidden();
        let has_changed = self.turn(hidden.as_ref());
        if has_changed {
            self.tell_checked(common, self.change_to(hidden.as_ref()), now_ms);
        }
        self.follow_loss(common, hidden.as_ref());
        Some(Checked { pause, has_changed })
    }

    /// The next check is due then.
    pub(in crate::group) fn set_next_check(&mut self, next_ms: u64) {
        if let Some(check) = &mut self.check {
            check.set_next(next_ms);
        }
    }

    /// Completes with the next result of a check.
    pub(in crate::group) fn wait_for_check(&mut self, common: &Common) -> Option<oneshot::Receiver<()>> {
        let receiver = self.check.as_mut()?.wait();
        self.tell(common, ServerChange::CheckAsked);
        Some(receiver)
    }

    /// True while the process is not ready before the server was checked once.
    pub(in crate::group) fn is_check_awaited(&self, common: &Common) -> bool {
        let check = self.check.as_ref().filter(|_| self.is_checked(common));
        check.is_some_and(|check| check.is_unchecked() && check.settings().start == CheckStart::Checked)
    }

    /// Publishes what a check has found; the log has room for some lines a second of that.
    fn tell_checked(&self, common: &Common, change: ServerChange, now_ms: u64) {
        events::publish_within(&CHECK_LINES, now_ms, self.event(common, change));
    }
}
