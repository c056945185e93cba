//! Requests, for `cargo fuzz`.

#![cfg(fuzzing)]

use super::params::Pairs;

/// The first line is the query of a request, the rest its body.
pub(crate) fn fuzz(bytes: &[u8]) {
    let (query, body) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len()));
    let Ok(query) = std::str::from_utf8(query) else { return };
    for kind in [None, Some("application/x-www-form-urlencoded"), Some("text/plain")] {
        if let Ok(pairs) = Pairs::parse(query, kind, body) {
            for name in ["group", "server", ""] {
                assert!(pairs.text(name).is_none_or(|text| text.len() <= bytes.len()));
            }
        }
    }
}
