//! Stderr, into which another process may write as well, as while one takes over from the other.
//!
//! What is written into a pipe with one call is not torn apart by others up to `PIPE_BUF` bytes. So pieces are no larger
//! there, and end with a line. A file takes each call as a whole.

use std::io::{self, Write};

use rustix::fs::{FileType, fstat};

/// `PIPE_BUF` of Linux, see pipe(7).
const PIECE_MAX: usize = 4_096;

/// Stderr of this process.
#[derive(Debug)]
pub(super) struct Stderr {
    is_shared: bool,
}

impl Stderr {
    pub(super) fn new() -> Self {
        let kind = fstat(io::stderr()).map(|about| FileType::from_raw_mode(about.st_mode));
        Self { is_shared: matches!(kind, Ok(FileType::Fifo | FileType::Socket)) }
    }
}

impl Write for Stderr {
    /// Takes whole lines, and may be called again for the rest.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = if self.is_shared { piece(bytes) } else { bytes };
        io::stderr().write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// As many lines as fit into a piece; at least one, whatever its length.
fn piece(bytes: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| *byte == b'\n';
    if bytes.len() <= PIECE_MAX {
        return bytes;
    }
    let end = bytes[..PIECE_MAX].iter().rposition(is_end).or_else(|| bytes.iter().position(is_end));
    end.map_or(bytes, |end| &bytes[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_ends_with_a_line_and_is_small_unless_a_line_is_not() {
        let lines = |lengths: &[usize]| {
            lengths.iter().flat_map(|length| [&vec![b'x'; *length - 1][..], b"\n"].concat()).collect::<Vec<u8>>()
        };
        for (lengths, expected) in [
            (&[10, 20][..], 30),
            (&[4_096], 4_096),
            (&[4_000, 96, 1], 4_096),
            (&[4_000, 97, 1], 4_000),
            (&[5_000, 1], 5_000),
            (&[], 0),
        ] {
            assert_eq!(piece(&lines(lengths)).len(), expected, "{lengths:?}");
        }
        assert_eq!(piece(&[b'x'; 5_000]).len(), 5_000);
    }
}
