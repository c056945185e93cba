//! What a request asks, and with which statuses a check passes.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What a status may be.
const STATUS: RangeInclusive<u16> = 100..=599;

/// The method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpMethod {
    /// GET.
    #[default]
    Get,
    /// HEAD: the answer has no body.
    Head,
    /// OPTIONS.
    Options,
    /// POST with an empty body.
    Post,
}

impl HttpMethod {
    /// The word in the file and in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
        }
    }
}

/// Codes and ranges of codes: `200-299,301`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(Vec<RangeInclusive<u16>>);

impl StatusSet {
    /// True when a check passes with this status.
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

impl Default for StatusSet {
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl FromStr for StatusSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let code = |text: &str| text.trim().parse().ok().filter(|code| STATUS.contains(code));
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = code(first)?..=code(last)?;
            (!range.is_empty()).then_some(range)
        };
        let wrong = |part: &str| format!("\"{}\" is no status", crate::base::text::echo(part.trim()));
        text.split(',').map(|part| range(part).ok_or_else(|| wrong(part))).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_ranges_are_read_and_written() {
        let set: StatusSet = "200-299, 301,404-404".parse().unwrap();
        assert_eq!(set.to_string(), "200-299,301,404");
        assert_eq!(set.to_string().parse::<StatusSet>().unwrap(), set);
        assert_eq!(
            [199, 200, 299, 300, 301, 404, 405].map(|code| set.contains(code)),
            [false, true, true, false, true, true, false]
        );
        assert_eq!(StatusSet::default(), "200-399".parse().unwrap());
    }

    #[test]
    fn what_is_no_status_is_told() {
        for text in ["", "200,", "20", "600", "300-200", "2xx", "200-299-300", "-200", "٢٠٠"] {
            assert!(text.parse::<StatusSet>().unwrap_err().ends_with("is no status"), "{text}");
        }
    }
}
