//! The keys of `check`.

use std::time::Duration;

use super::MINUTE_MS;
use crate::config::declare::settings;
use crate::config::kinds::{Time, optional, switch, time, whole, word};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::time_text;
use crate::group::check::{CheckKind, CheckSettings, CheckStart};
use crate::group::ejection::EjectSettings;

const HOUR_MS: u64 = 60 * MINUTE_MS;

/// What the times of `eject` may be.
const TIME: Time = time(100, HOUR_MS);
const MAX_TIME: Time = time(100, 24 * HOUR_MS);

settings! {
    impl CheckSettings {
        /// What a check does. tcp: it connects, and ends the connection in order.
        kind as word::<CheckKind>(), AtOnce;
        /// The port that is checked, on the server's host; 0 for the server's own.
        port as whole::<u16>(0, u16::MAX as u64) => 0, AtOnce;
        /// The pause between two checks while the server is up.
        interval as time(100, HOUR_MS) => Duration::from_secs(2), AtOnce;
        /// The pause while the server's state is changing or not known yet; null for a quarter of interval, at least 100ms.
        fast_interval as optional(time(50, HOUR_MS)), AtOnce;
        /// The pause while the server is down; null for interval.
        down_interval as optional(time(100, HOUR_MS)), AtOnce;
        /// How long a check may take, but for its orderly end; null for interval, at most 2s.
        timeout as optional(time(10, MINUTE_MS)), AtOnce;
        /// Passes in a row after which a server that is down is up.
        rise as whole::<u32>(1, 100) => 2, AtOnce;
        /// Failures in a row after which a server that is up is down.
        fall as whole::<u32>(1, 100) => 3, AtOnce;
        /// By how many percent each pause is longer or shorter, so that checks spread.
        jitter as whole::<u32>(0, 50) => 10, AtOnce;
        /// What a new server counts as until its first check. up: it gets clients at once; down: it gets none; checked: it
        /// gets none, and /ready waits for the check.
        start as word::<CheckStart>() => CheckStart::Up, AtOnce;
        /// True: a session that connected counts as a check that passed. Only with kind tcp on the server's own port.
        traffic_counts as switch() => true, AtOnce;
    }
}

settings! {
    impl EjectSettings {
        /// After so many faults in a row: connects that failed, or sessions that the server reset before a byte came.
        failures as whole::<u32>(1, 1_000) => 5, AtOnce;
        /// For how long, the first time; each further time doubles it.
        time as TIME => Duration::from_secs(10), AtOnce;
        /// The longest time; it is halved again for each such time without an ejection.
        max_time as MAX_TIME => Duration::from_secs(300), AtOnce;
        /// At most so many percent of the group's servers at a time, rounded down.
        max_percent as whole::<u32>(0, 100) => 50, AtOnce;
    }
}

/// Reports what does not fit together within `eject`.
pub(super) fn check_eject(reader: &mut Reader, object: &Object, eject: &EjectSettings) {
    if eject.max_time < eject.time {
        let (time, max) = (time_text(eject.time), time_text(eject.max_time));
        let message = format!("{max} is shorter than the time of {time}; expected at least that");
        reader.problems.add(object.offset("max_time"), Place::Key(object.place, "max_time"), message);
    }
}

/// Reports what does not fit together within `check`.
pub(super) fn check_check(reader: &mut Reader, object: &Object, check: &CheckSettings) {
    let mut report = |name: &str, message: String| {
        reader.problems.add(object.offset(name), Place::Key(object.place, name), message);
    };
    let interval = time_text(check.interval);
    if check.timeout() > check.interval {
        let timeout = time_text(check.timeout());
        report(
            "timeout",
            format!(
                "{timeout} is longer than the interval of {interval}; expected a check to be over before the next begins"
            ),
        );
    }
    if let Some(fast) = check.fast_interval.filter(|fast| *fast > check.interval) {
        report(
            "fast_interval",
            format!("{} is longer than the interval of {interval}; expected at most that", time_text(fast)),
        );
    }
    if object.says("traffic_counts") && check.traffic_counts && !check.is_proven_by_traffic() {
        report(
            "traffic_counts",
            "true proves nothing here; expected it only with kind tcp on the server's own port".to_owned(),
        );
    }
}
