//! Making a header.

use std::io::Write;
use std::ops::Deref;

use super::{Ends, Family, INET, INET6, LOCAL, PROXY, SIGNATURE, STREAM, UNIQUE_ID, UNSPEC, V1_MAX, V2_FIXED};
use crate::server::SendProxy;

/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 16;

/// A header that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    bytes: [u8; V1_MAX],
    length: usize,
}

/// Makes the header that a server wants; `None` when it wants none.
///
/// Without `ends`, because they are not known or because nobody is spoken for, that is `UNKNOWN` in version 1 and `LOCAL`
/// in version 2. Addresses of both families are written as those of IPv6. The id is told in version 2 only.
pub(crate) fn write(version: SendProxy, ends: Option<Ends>, unique_id: Option<u64>) -> Option<Written> {
    let mut written = Written { bytes: [0; V1_MAX], length: 0 };
    match version {
        SendProxy::None => return None,
        SendProxy::V1 => written.write_v1(ends),
        SendProxy::V2 => written.write_v2(ends, unique_id),
    }
    Some(written)
}

impl Written {
    /// True for a header of version 2.
    pub(super) fn is_v2(&self) -> bool {
        self.starts_with(&SIGNATURE)
    }

    fn write_v1(&mut self, ends: Option<Ends>) {
        let mut room = &mut self.bytes[..];
        let written = match ends.map(|ends| ends.family()) {
            Some(Family::V4(from, to)) => {
                write!(room, "PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
            }
            Some(Family::V6(from, to)) => {
                write!(room, "PROXY TCP6 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
            }
            None => write!(room, "PROXY UNKNOWN\r\n"),
        };
        written.expect("the longest line fits");
        self.length = V1_MAX - room.len();
    }

    fn write_v2(&mut self, ends: Option<Ends>, unique_id: Option<u64>) {
        self.push(&SIGNATURE);
        match ends.map(|ends| ends.family()) {
            Some(Family::V4(from, to)) => {
                self.push(&[2 << 4 | PROXY, INET << 4 | STREAM, 0, 0]);
                self.push(&from.ip().octets());
                self.push(&to.ip().octets());
                self.push(&from.port().to_be_bytes());
                self.push(&to.port().to_be_bytes());
            }
            Some(Family::V6(from, to)) => {
                self.push(&[2 << 4 | PROXY, INET6 << 4 | STREAM, 0, 0]);
                self.push(&from.ip().octets());
                self.push(&to.ip().octets());
                self.push(&from.port().to_be_bytes());
                self.push(&to.port().to_be_bytes());
            }
            None => self.push(&[2 << 4 | LOCAL, UNSPEC << 4, 0, 0]),
        }
        if let Some(id) = unique_id {
            self.push(&[UNIQUE_ID, 0, ID_DIGITS as u8]);
            let digits = &mut self.bytes[self.length..][..ID_DIGITS];
            write!(&mut digits[..], "{id:0ID_DIGITS$x}").expect("an id has so many digits");
            self.length += ID_DIGITS;
        }
        let length = (self.length - V2_FIXED) as u16;
        self.bytes[V2_FIXED - 2..V2_FIXED].copy_from_slice(&length.to_be_bytes());
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

impl Deref for Written {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
