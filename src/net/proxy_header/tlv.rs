//! What may stand behind the addresses of version 2: type, length, value, again and again.

use super::crc32c::crc32c;
use super::{AUTHORITY, CRC32C, UNIQUE_ID};

/// Longest host name that is kept.
const AUTHORITY_MAX: usize = 255;
/// Longest id that is kept; the specification allows no longer one.
const UNIQUE_ID_MAX: usize = 128;

/// What is kept of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tlvs<'a> {
    pub(super) authority: Option<&'a [u8]>,
    pub(super) unique_id: Option<&'a [u8]>,
}

/// Reads those of `header`, a whole header, that begin at `start`. A list that is cut is left out, as a receiver may
/// ignore all of them. `None` when a checksum is there and wrong. A LOCAL header may hold anything, so what has not the
/// length of a checksum is none there.
pub(super) fn tlvs(header: &[u8], start: usize, is_local: bool) -> Option<Tlvs<'_>> {
    let mut found = Tlvs::default();
    let mut at = start;
    while at < header.len() {
        let value = header.get(at + 1..at + 3).and_then(|length| {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            header.get(at + 3..at + 3 + length)
        });
        let Some(value) = value else { return Some(Tlvs::default()) };
        match header[at] {
            AUTHORITY if value.len() <= AUTHORITY_MAX => found.authority = Some(value),
            UNIQUE_ID if value.len() <= UNIQUE_ID_MAX => found.unique_id = Some(value),
            CRC32C if is_local && value.len() != size_of::<u32>() => {}
            CRC32C if !is_right(header, at + 3, value) => return None,
            _ => {}
        }
        at += 3 + value.len();
    }
    Some(found)
}

/// True when `value`, which stands `at` this byte, is the checksum of the header with zeros in its place.
fn is_right(header: &[u8], at: usize, value: &[u8]) -> bool {
    let Ok(value) = <[u8; 4]>::try_from(value) else { return false };
    crc32c(&[&header[..at], &[0; 4], &header[at + 4..]]) == u32::from_be_bytes(value)
}
