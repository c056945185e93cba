//! Times and sizes as people write them: a number and a unit, `"2.5s"`, `"64KiB"`.
//!
//! The forms are few on purpose: one pattern in the schema covers them, and a printed value is read back unchanged.

use std::time::Duration;

/// Nanoseconds of each unit of time, longest first.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// Bytes of each unit of size, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// The regular expression of what [`time_of`] reads, for the schema.
pub(super) const TIME_PATTERN: &str = r"^([0-9]+(\.[0-9]{1,9})?(ms|s|m|h|d))+$";

/// The regular expression of what [`size_of`] reads, for the schema.
pub(super) const SIZE_PATTERN: &str = "^[0-9]+(B|KiB|MiB|GiB)$";

/// Reads `"2.5s"`, `"500ms"`, `"1m30s"`; `None` for anything else and for more than a `u64` of nanoseconds.
pub(super) fn time_of(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let (whole, after) = digits(rest)?;
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after).filter(|(fraction, _)| fraction.len() <= 9)?,
            None => ("", after),
        };
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, unit_nanos) = TIME_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(whole.parse::<u64>().ok()?.checked_mul(unit_nanos)?)?;
        if !fraction.is_empty() {
            let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit_nanos);
            nanos = nanos.checked_add(u64::try_from(part / 10_u128.pow(fraction.len() as u32)).ok()?)?;
        }
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(nanos))
}

/// Reads `"64KiB"`; `None` for anything else and for more than a `u64` of bytes.
pub(super) fn size_of(text: &str) -> Option<u64> {
    let (number, unit) = digits(text)?;
    let (_, bytes) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(bytes)
}

/// Writes a time in the longest unit that needs no fraction, or else in milliseconds.
pub(super) fn time_text(time: Duration) -> String {
    let nanos = time.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    match TIME_UNITS.into_iter().find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit))) {
        Some((name, unit)) => format!("{}{name}", nanos / u128::from(unit)),
        None => format!("{}.{:06}ms", nanos / 1_000_000, nanos % 1_000_000),
    }
}

/// Writes a size in the largest unit that needs no fraction.
pub(super) fn size_text(bytes: u64) -> String {
    let fits = |(_, unit): &(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
    let (name, unit) = SIZE_UNITS.into_iter().find(fits).unwrap_or(("B", 1));
    format!("{}{name}", bytes / unit)
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Splits off the digits that `text` starts with; `None` when there is none.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_need_a_unit_and_nothing_else() {
        let nanos = |text| time_of(text).map(|time| time.as_nanos());
        assert_eq!(nanos("2.5s"), Some(2_500_000_000));
        assert_eq!(nanos("1m30s"), Some(90_000_000_000));
        assert_eq!(nanos("1h0m0s"), Some(3_600_000_000_000));
        assert_eq!(nanos("0.000001ms"), Some(1));
        for text in ["", "5", "s", ".5s", "5.s", "-5s", "5 s", "5S", "1mo", "5s ", "1.0000000001s", "213504d", "٣s"] {
            assert_eq!(nanos(text), None, "{text}");
        }
        assert_eq!(size_of("64KiB"), Some(65_536));
        for text in ["", "64", "64kb", "64 KiB", "1.5MiB", "-1B", "99999999999GiB"] {
            assert_eq!(size_of(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos: u64, bytes: u64, text in "\\PC{0,12}|[0-9.dhms]{0,12}") {
            let exact = Duration::from_nanos(nanos);
            proptest::prop_assert_eq!(time_of(&time_text(exact)), Some(exact));
            proptest::prop_assert_eq!(size_of(&size_text(bytes)), Some(bytes));
            if let Some(read) = time_of(&text) {
                proptest::prop_assert_eq!(time_of(&time_text(read)), Some(read));
            }
        }
    }
}
