//! For how long a server could not be picked because something was wrong with it.

/// Why a server may not be picked. The last one stops the clock: what an operator wants is no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its group hides it from policies.
    Hidden = 1,
    /// The last connect failed.
    Suspect = 2,
    /// It failed too many sessions.
    Ejected = 4,
    /// An operator wants it so.
    Unwanted = 8,
}

const FAULTS: u8 = Reason::Hidden as u8 | Reason::Suspect as u8 | Reason::Ejected as u8;

/// A clock that runs while a fault holds, however many there are, and no operator wants the server out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Downtime {
    reasons: u8,
    /// When it began to run last, on the coarse clock.
    since_ms: u64,
    /// What it had counted before.
    total_ms: u64,
}

impl Downtime {
    /// From now on `reason` holds, or does not.
    pub(super) fn set(&mut self, reason: Reason, holds: bool, now_ms: u64) {
        let was_running = self.is_running();
        match holds {
            true => self.reasons |= reason as u8,
            false => self.reasons &= !(reason as u8),
        }
        match (was_running, self.is_running()) {
            (false, true) => self.since_ms = now_ms,
            (true, false) => self.total_ms += now_ms.saturating_sub(self.since_ms),
            _ => {}
        }
    }

    /// True while `reason` holds.
    pub(super) fn has(self, reason: Reason) -> bool {
        self.reasons & reason as u8 != 0
    }

    /// All the time so far.
    pub(super) fn total_ms(self, now_ms: u64) -> u64 {
        let running_ms = if self.is_running() { now_ms.saturating_sub(self.since_ms) } else { 0 };
        self.total_ms + running_ms
    }

    fn is_running(self) -> bool {
        self.reasons & FAULTS != 0 && !self.has(Reason::Unwanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_that_hold_at_the_same_time_count_once_and_maintenance_does_not() {
        let mut downtime = Downtime::default();
        assert_eq!(downtime.total_ms(1_000), 0);
        downtime.set(Reason::Suspect, true, 1_000);
        downtime.set(Reason::Hidden, true, 2_000);
        downtime.set(Reason::Suspect, false, 3_000);
        assert_eq!(downtime.total_ms(3_500), 2_500, "it goes on while one fault is left");
        downtime.set(Reason::Unwanted, true, 4_000);
        assert_eq!(downtime.total_ms(9_000), 3_000, "an operator works on it");
        downtime.set(Reason::Unwanted, false, 9_000);
        downtime.set(Reason::Hidden, false, 10_000);
        assert_eq!(downtime.total_ms(20_000), 4_000);
        downtime.set(Reason::Unwanted, true, 20_000);
        downtime.set(Reason::Unwanted, false, 30_000);
        assert_eq!(downtime.total_ms(30_000), 4_000, "nothing was wrong with it");
    }
}
