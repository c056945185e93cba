//! Leases: how long a server that registered itself is believed.
//!
//! A lease runs out one time-out after the last heartbeat, on the monotonic clock. When most servers of a group fall
//! silent at once, lost heartbeats are more likely than that all servers are gone: their leases are then kept, and a
//! warning is logged. (Netflix's Eureka calls this self-preservation.) While a lease is kept, connects decide: a server
//! that does not answer is offline, see [`Offline::Unanswered`](super::offline::Offline).
//!
//! Leases are kept until heartbeats return, or until one server has sent its heartbeats on time for [`PROOF_TIMEOUTS`].
//! That proves that heartbeats arrive, so the silent servers are really silent. A lease that was not renewed since the
//! process started is never kept.

mod carried;

use std::time::Duration;

use crate::base::clock;
use crate::base::label::GroupLabel;
use crate::events::{self, Event, GroupChange};
pub(super) use carried::LeaseCarried;

/// With fewer silent servers than this, none of their leases is kept.
const SILENT_MIN: usize = 3;

/// How many time-outs one server must send heartbeats on time to prove that they arrive.
const PROOF_TIMEOUTS: u64 = 3;

/// The lease of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    until_ms: u64,
    /// When the last heartbeat came; before the first one, when the lease began.
    heard_ms: u64,
    /// Heartbeats have been on time since then.
    on_time_since_ms: u64,
    /// A heartbeat has come since the process started.
    is_proven: bool,
    phase: Phase,
    /// The load that the server reports.
    pub(super) load: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// It has run out and is kept.
    Kept,
    Ended,
}

/// What a check of a group's leases found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCheck {
    /// A server has come or gone.
    pub changed: bool,
    /// Leases are kept although they ran out.
    pub preserving: bool,
    /// When something may change next, on the clock of [`clock::coarse_ms`]; `None` without leases.
    pub next_ms: Option<u64>,
}

impl Lease {
    /// One whole time-out from now.
    pub fn new(now_ms: u64, timeout: Duration) -> Self {
        Self {
            until_ms: now_ms.saturating_add(clock::as_ms(timeout)),
            heard_ms: now_ms,
            on_time_since_ms: now_ms,
            is_proven: false,
            phase: Phase::Running,
            load: None,
        }
    }

    /// One whole time-out from a heartbeat. `before` is the lease so far, `load` what the heartbeat reports.
    pub(super) fn renewed(before: Option<&Self>, now_ms: u64, timeout: Duration, load: Option<u32>) -> Self {
        let on_time = before.filter(|before| before.phase == Phase::Running);
        Self {
            on_time_since_ms: on_time.map_or(now_ms, |before| before.on_time_since_ms),
            is_proven: true,
            load: load.or(before.and_then(|before| before.load)),
            ..Self::new(now_ms, timeout)
        }
    }

    /// One that has run out.
    pub(super) fn ended() -> Self {
        Self { phase: Phase::Ended, ..Self::new(0, Duration::ZERO) }
    }

    /// One that has run out and is kept.
    #[cfg(test)]
    pub(super) fn kept() -> Self {
        Self { phase: Phase::Kept, is_proven: true, ..Self::new(0, Duration::ZERO) }
    }

    /// True until a check has ended it. A lease that has run out is live until then, because the check may keep it.
    pub(super) fn is_live(&self) -> bool {
        self.phase != Phase::Ended
    }

    /// True when it has run out and is kept because most servers fell silent at once.
    pub(super) fn is_kept(&self) -> bool {
        self.phase == Phase::Kept
    }

    /// When it runs out, or ran out.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// When the last heartbeat came; before the first one, when the lease began.
    pub(super) fn heard_ms(&self) -> u64 {
        self.heard_ms
    }

    pub(super) fn left_ms(&self, now_ms: u64) -> u64 {
        self.until_ms.saturating_sub(now_ms)
    }

    /// Adds the time for which nobody read heartbeats, as far as the lease was running then.
    fn extend(&mut self, late_ms: u64, now_ms: u64) {
        if self.phase == Phase::Running {
            self.until_ms = self.until_ms.saturating_add(late_ms.min(now_ms.saturating_sub(self.heard_ms)));
        }
    }

    fn is_counted(&self) -> bool {
        self.is_proven && self.is_live()
    }
}

/// What is remembered of a group's leases between two checks.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// Since when leases have been kept.
    since_ms: Option<u64>,
}

impl Keeper {
    /// Ends the leases that have run out, or keeps them where too many would end at once. `late_ms` is how late the
    /// check is: the process was stopped or had no processor, and heartbeats may be waiting.
    ///
    /// A server counts as silent after half a time-out without a heartbeat: servers send at least two in that time. So
    /// a loss of many is seen when the first lease runs out, and not only when the last does.
    pub(super) fn check(
        &mut self,
        leases: &mut [&mut Lease],
        now_ms: u64,
        late_ms: u64,
        timeout: Duration,
        group: &GroupLabel,
    ) -> LeaseCheck {
        leases.iter_mut().for_each(|lease| lease.extend(late_ms, now_ms));
        self.since_ms = self.since_ms.map(|since| since.saturating_add(late_ms).min(now_ms));
        let half = clock::as_ms(timeout) / 2;
        let held = leases.iter().filter(|lease| lease.is_counted()).count();
        let silent = leases.iter().filter(|lease| lease.is_counted() && lease.left_ms(now_ms) < half).count();
        let is_mass = silent >= SILENT_MIN && silent * 2 > held;
        let arrive = self.heartbeats_arrive(leases, now_ms, timeout);
        let mut outcome = LeaseCheck::default();
        for lease in leases.iter_mut().filter(|lease| lease.is_live()) {
            if now_ms < lease.until_ms {
                outcome.next_ms = Some(outcome.next_ms.map_or(lease.until_ms, |next| next.min(lease.until_ms)));
            } else if is_mass && !arrive && lease.is_proven {
                outcome.preserving = true;
                lease.phase = Phase::Kept;
            } else {
                lease.phase = Phase::Ended;
            }
        }
        if outcome.preserving {
            // At any time heartbeats may return, and more leases may run out.
            outcome.next_ms = Some(now_ms + (half / 4).max(10));
        }
        let change = match (self.since_ms.is_some(), outcome.preserving) {
            (false, true) => {
                self.since_ms = Some(now_ms);
                GroupChange::LeasesKept { silent, leases: held }
            }
            (true, false) => {
                self.since_ms = None;
                GroupChange::LeasesNormal {
                    reason: if arrive { "others are heard on time" } else { "heartbeats are back" },
                }
            }
            _ => return outcome,
        };
        events::publish(Event::Group { group: group.clone(), change });
        outcome
    }

    /// True when one server has sent its heartbeats on time for long enough, since leases are kept, to prove that
    /// heartbeats arrive.
    fn heartbeats_arrive(&self, leases: &[&mut Lease], now_ms: u64, timeout: Duration) -> bool {
        let Some(since_ms) = self.since_ms else {
            return false;
        };
        let proof = PROOF_TIMEOUTS.saturating_mul(clock::as_ms(timeout));
        let is_beating =
            |lease: &&&mut Lease| lease.is_proven && lease.phase == Phase::Running && now_ms < lease.until_ms;
        let mut beating = leases.iter().filter(is_beating);
        beating.any(|lease| now_ms.saturating_sub(lease.on_time_since_ms.max(since_ms)) >= proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(1_000);

    /// Leases of servers that are heard now and then.
    #[derive(Default)]
    struct Group {
        keeper: Keeper,
        leases: Vec<Lease>,
    }

    impl Group {
        fn heard(count: usize, now_ms: u64) -> Self {
            let mut group = Self { leases: vec![Lease::new(now_ms, TIMEOUT); count], ..Self::default() };
            (0..count).for_each(|at| group.beat(at, now_ms));
            group
        }

        fn beat(&mut self, at: usize, now_ms: u64) {
            self.leases[at] = Lease::renewed(Some(&self.leases[at]), now_ms, TIMEOUT, None);
        }

        fn check(&mut self, now_ms: u64) -> LeaseCheck {
            self.check_late(now_ms, 0)
        }

        fn check_late(&mut self, now_ms: u64, late_ms: u64) -> LeaseCheck {
            self.keeper.check(
                &mut self.leases.iter_mut().collect::<Vec<_>>(),
                now_ms,
                late_ms,
                TIMEOUT,
                &GroupLabel::new(1, None),
            )
        }

        fn live(&self) -> usize {
            self.leases.iter().filter(|lease| lease.is_live()).count()
        }
    }

    #[test]
    fn a_lease_runs_out_one_timeout_after_the_last_heartbeat() {
        let mut all = Group::heard(1, 0);
        all.beat(0, 500);
        assert_eq!(all.check(1_499), LeaseCheck { next_ms: Some(1_500), ..LeaseCheck::default() });
        assert_eq!(all.live(), 1);
        assert_eq!(all.check(1_500).next_ms, None);
        assert_eq!(all.live(), 0);
    }

    #[test]
    fn one_of_many_that_falls_silent_is_gone() {
        let mut all = Group::heard(4, 0);
        (1..4).for_each(|at| all.beat(at, 900));
        assert!(!all.check(1_000).preserving);
        assert_eq!(all.live(), 3);
    }

    #[test]
    fn when_most_fall_silent_at_once_all_are_kept_until_heartbeats_return() {
        let mut all = Group::heard(4, 0);
        (0..4).for_each(|at| all.beat(at, at as u64 * 100));
        for now_ms in [1_000, 1_100, 1_300, 9_000, 900_000] {
            assert!(all.check(now_ms).preserving, "{now_ms}");
            assert_eq!(all.live(), 4, "{now_ms}");
        }
        (0..2).for_each(|at| all.beat(at, 900_000));
        assert!(!all.check(900_100).preserving);
        assert_eq!(all.live(), 2, "the two that stayed silent go now");
    }

    #[test]
    fn those_that_stay_silent_are_gone_when_another_is_heard_on_time_for_three_timeouts() {
        let mut all = Group::heard(8, 0);
        let mut now_ms = 0;
        let mut last_kept = 0;
        while now_ms < 10_000 {
            now_ms += 100;
            (0..3).for_each(|at| all.beat(at, now_ms));
            if all.check(now_ms).preserving {
                last_kept = now_ms;
            }
        }
        // Kept from 1,000 on.
        assert_eq!((last_kept, all.live()), (3_900, 3));
    }

    #[test]
    fn heartbeats_that_come_late_prove_nothing() {
        let mut all = Group::heard(8, 0);
        for now_ms in (100..20_000).step_by(100) {
            if now_ms % 1_300 == 0 {
                all.beat(0, now_ms);
            }
            let check = all.check(now_ms);
            assert!(now_ms < 1_000 || check.preserving, "{now_ms}");
        }
        assert_eq!(all.live(), 8);
    }

    #[test]
    fn two_servers_that_fall_silent_are_gone() {
        let mut all = Group::heard(2, 0);
        assert!(!all.check(1_000).preserving);
        assert_eq!(all.live(), 0);
    }

    #[test]
    fn servers_gone_long_ago_do_not_count() {
        let mut all = Group::heard(6, 0);
        all.leases[2..].iter_mut().for_each(|lease| *lease = Lease::ended());
        assert!(!all.check(1_000).preserving, "two silent of two held");
        assert_eq!(all.live(), 0);
    }

    #[test]
    fn a_lease_that_nobody_has_renewed_since_the_start_is_never_kept() {
        let mut all = Group { leases: vec![Lease::new(0, TIMEOUT); 8], ..Group::default() };
        assert_eq!(all.check(999).next_ms, Some(1_000), "it lasts its time");
        (0..3).for_each(|at| all.beat(at, 900));
        assert!(!all.check(1_000).preserving);
        assert_eq!(all.live(), 3);
        // Those that were heard are kept like any others.
        assert!(all.check(1_900).preserving);
        assert_eq!(all.live(), 3);
    }

    #[test]
    fn a_check_that_comes_late_extends_every_lease_by_its_lateness() {
        let mut all = Group::heard(2, 0);
        // Stopped from 500 on; the next check was to come at 700.
        all.beat(1, 7_500);
        let check = all.check_late(7_500, 6_800);
        assert_eq!(check.next_ms, Some(7_800), "for another 300 ms");
        assert_eq!(all.leases[1].left_ms(7_500), 1_000, "one that was heard meanwhile has a whole lease and no more");
        assert_eq!(all.live(), 2);
        all.check(7_800);
        assert_eq!(all.live(), 1);
    }
}
