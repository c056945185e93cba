//! Numbers and times in little room.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::clock;
use crate::base::text::grouped;

/// A number in at most six characters.
pub(super) fn short(number: u64) -> String {
    match number {
        ..100_000 => grouped(number),
        _ => scaled(number, ""),
    }
}

/// A number of bytes in at most seven characters.
pub(super) fn bytes(number: u64) -> String {
    match number {
        ..1_000 => format!("{number} B"),
        _ => scaled(number, "B"),
    }
}

/// With three digits and a decimal prefix.
fn scaled(number: u64, unit: &str) -> String {
    let mut value = number as f64 / 1e3;
    let mut prefixes = ["k", "M", "G", "T", "P", "E"].into_iter();
    let mut prefix = prefixes.next().unwrap_or_default();
    // What would be rounded to a thousand is one of the next.
    while value >= 999.5 {
        let Some(next) = prefixes.next() else { break };
        (value, prefix) = (value / 1e3, next);
    }
    let digits = match value {
        ..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    let separator = if unit.is_empty() { "" } else { " " };
    format!("{value:.digits$}{separator}{prefix}{unit}")
}

/// A time in microseconds, in at most six characters.
pub(super) fn micros(us: u64) -> String {
    match us {
        0 => "-".to_owned(),
        1..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A time that has passed, with the two greatest units.
pub(super) fn age(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min {} s", seconds % 60),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// The time of day in UTC, of milliseconds since 1970.
pub(super) fn time_of_day(ms: u64) -> String {
    let stamp = clock::stamp(UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(SystemTime::UNIX_EPOCH));
    time_in(&stamp).to_owned()
}

/// The time of day in a stamp such as `2026-11-30T10:00:00.123Z`.
pub(super) fn time_in(stamp: &str) -> &str {
    stamp.get(11..19).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_into_their_columns() {
        for (number, text) in [
            (0, "0"),
            (99_999, "99,999"),
            (100_000, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (12_345_678, "12.3M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(short(number), text);
            assert!(text.chars().count() <= 6);
        }
        for (number, text) in [(0, "0 B"), (999, "999 B"), (1_000, "1.00 kB"), (123_456_789, "123 MB")] {
            assert_eq!(bytes(number), text);
            assert!(text.chars().count() <= 7);
        }
        let times = [0, 850, 1_234, 45_678, 1_500_000].map(micros);
        assert_eq!(times, ["-", "850 µs", "1.2 ms", "45 ms", "1.5 s"]);
    }

    #[test]
    fn times_are_told_as_people_do() {
        let ages = [900, 59_999, 61_000, 3_600_000, 90_000_000].map(age);
        assert_eq!(ages, ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
        assert_eq!(time_of_day(1_764_511_245_123), "14:00:45");
        assert_eq!(time_in("2026-11-30T10:00:00.123Z"), "10:00:00");
        assert_eq!((time_in("x"), time_in("äääääääääääääääää")), ("", ""));
    }
}
