//! Leases: how long a server that registered itself is believed.
//!
//! A lease runs out one time-out after the last heartbeat, on the monotonic clock. When most servers of a
//! group fall silent at once it is likelier that their heartbeats are lost than that they are: the leases are
//! then kept, a warning is logged, and connect failures decide, until heartbeats return. (Netflix's Eureka
//! calls this self-preservation.)

use std::time::Duration;

use crate::base::clock;

/// With fewer silent servers than this, each is believed to be gone.
const SILENT_MIN: usize = 3;

/// The lease of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    until_ms: u64,
    is_kept: bool,
    /// It ran out, and that was noticed: it is not counted among those that fall silent now.
    has_ended: bool,
    /// The server's own idea of its load.
    pub(super) load: Option<u32>,
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
        Self { until_ms: now_ms + clock::as_ms(timeout), is_kept: false, has_ended: false, load: None }
    }

    /// One whole time-out from a heartbeat, which told the server's load or did not.
    pub(super) fn renewed(now_ms: u64, timeout: Duration, load: Option<u32>) -> Self {
        Self { load, ..Self::new(now_ms, timeout) }
    }

    /// One that has run out.
    #[cfg(test)]
    pub(super) fn ended() -> Self {
        Self { has_ended: true, ..Self::new(0, Duration::ZERO) }
    }

    /// True until a check has ended it: only there is it known whether it is to be kept.
    pub(super) fn is_live(&self) -> bool {
        !self.has_ended
    }

    /// When it runs out, or ran out.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    pub(super) fn left_ms(&self, now_ms: u64) -> u64 {
        self.until_ms.saturating_sub(now_ms)
    }
}

/// Ends the leases that have run out, or keeps them where too many would go at once.
///
/// Silent is a server that has not been heard of for more than half a time-out: whoever sends its heartbeats
/// in time has at least two in that, and one that has missed them is on its way out. That makes the mass
/// visible when the first lease runs out, not when the last does.
pub(super) fn check(leases: &mut [&mut Lease], now_ms: u64, timeout: Duration, port: u16) -> LeaseCheck {
    let half = clock::as_ms(timeout) / 2;
    let held = leases.iter().filter(|lease| !lease.has_ended).count();
    let silent = leases.iter().filter(|lease| !lease.has_ended && lease.left_ms(now_ms) < half).count();
    let preserving = silent >= SILENT_MIN && silent * 2 > held;
    let mut outcome = LeaseCheck { preserving: false, ..LeaseCheck::default() };
    let was_preserving = leases.iter().any(|lease| lease.is_kept);
    for lease in leases.iter_mut().filter(|lease| !lease.has_ended) {
        if now_ms < lease.until_ms {
            let next = outcome.next_ms.map_or(lease.until_ms, |next| next.min(lease.until_ms));
            outcome.next_ms = Some(next);
            continue;
        }
        lease.is_kept = preserving;
        lease.has_ended = !preserving;
        outcome.preserving |= preserving;
    }
    if outcome.preserving {
        // Heartbeats may return, or more leases run out, at any time.
        outcome.next_ms = Some(now_ms + (half / 4).max(10));
    }
    match (was_preserving, outcome.preserving) {
        (false, true) => tracing::warn!(
            group = port,
            silent,
            leases = held,
            "leases kept: most servers fell silent at once, connect failures decide until heartbeats return"
        ),
        (true, false) => tracing::info!(group = port, "heartbeats are back: leases run out again"),
        _ => {}
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(1_000);

    fn leases(count: usize) -> Vec<Lease> {
        vec![Lease::new(0, TIMEOUT); count]
    }

    fn check_all(leases: &mut [Lease], now_ms: u64) -> LeaseCheck {
        check(&mut leases.iter_mut().collect::<Vec<_>>(), now_ms, TIMEOUT, 1)
    }

    fn live(leases: &[Lease]) -> usize {
        leases.iter().filter(|lease| lease.is_live()).count()
    }

    #[test]
    fn a_lease_runs_out_one_timeout_after_the_last_heartbeat() {
        let mut all = leases(1);
        all[0] = Lease::new(500, TIMEOUT);
        assert_eq!(check_all(&mut all, 1_499), LeaseCheck { next_ms: Some(1_500), ..LeaseCheck::default() });
        assert_eq!(live(&all), 1);
        assert_eq!(check_all(&mut all, 1_500).next_ms, None);
        assert_eq!(live(&all), 0);
    }

    #[test]
    fn one_of_many_that_falls_silent_is_gone() {
        let mut all = leases(4);
        all[1..].iter_mut().for_each(|lease| *lease = Lease::new(900, TIMEOUT));
        assert!(!check_all(&mut all, 1_000).preserving);
        assert_eq!(live(&all), 3);
    }

    #[test]
    fn when_most_fall_silent_at_once_all_are_kept_until_heartbeats_return() {
        let mut all = leases(4);
        for (at, lease) in all.iter_mut().enumerate() {
            *lease = Lease::new(at as u64 * 100, TIMEOUT);
        }
        for now_ms in [1_000, 1_100, 1_300, 9_000] {
            assert!(check_all(&mut all, now_ms).preserving, "{now_ms}");
            assert_eq!(live(&all), 4, "{now_ms}");
        }
        all[0] = Lease::new(9_000, TIMEOUT);
        all[1] = Lease::new(9_000, TIMEOUT);
        let check = check_all(&mut all, 9_100);
        assert!(!check.preserving);
        assert_eq!(live(&all), 2, "the two that stayed silent go now");
    }

    #[test]
    fn two_servers_that_fall_silent_are_gone() {
        let mut all = leases(2);
        assert!(!check_all(&mut all, 1_000).preserving);
        assert_eq!(live(&all), 0);
    }

    #[test]
    fn servers_gone_long_ago_do_not_count() {
        let mut all = leases(6);
        all[..2].iter_mut().for_each(|lease| *lease = Lease::new(2_000, TIMEOUT));
        all[2..].iter_mut().for_each(|lease| lease.has_ended = true);
        assert!(!check_all(&mut all, 3_000).preserving, "two silent of two held");
        assert_eq!(live(&all), 0);
    }
}
