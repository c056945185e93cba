//! The file of a recording: a first line, then blocks of notes, each with its length and its CRC-32.
//!
//! A file that was cut off, by a full disk or with the process, is good up to its last whole block.

use std::io::{self, Read};

/// What the file begins with.
pub const FIRST_LINE: &[u8] = b"goproxy-picks 1\n";

/// The largest block that is read: a module and what is written at once beside it.
const BLOCK_BYTES_MAX: u32 = 1 << 30;

/// So much is read at once, so that a length that is wrong allocates nothing.
const STEP: u64 = 1 << 20;

/// The block of these notes.
pub fn block(notes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(notes.len()).expect("notes are written long before there are so many");
    let mut block = Vec::with_capacity(notes.len() + 8);
    block.extend_from_slice(&length.to_le_bytes());
    block.extend_from_slice(&crc32fast::hash(notes).to_le_bytes());
    block.extend_from_slice(notes);
    block
}

/// Reads blocks.
#[derive(Debug)]
pub struct Blocks<R> {
    from: R,
    /// The file ends in the middle of a block, or one was changed.
    pub is_cut: bool,
}

/// What cannot be read as a recording.
#[derive(Debug, thiserror::Error)]
pub enum NoRecording {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is another kind of file.
    #[error("is no recording of picks; expected a file that begins with goproxy-picks 1")]
    Other,
    /// It is of a later version.
    #[error("was made by a later version of goproxy: it begins with {0}; expected goproxy-picks 1")]
    Later(String),
}

impl<R: Read> Blocks<R> {
    /// Reads the first line.
    ///
    /// # Errors
    ///
    /// See [`NoRecording`].
    pub fn open(mut from: R) -> Result<Self, NoRecording> {
        let mut line = Vec::new();
        from.by_ref().take(FIRST_LINE.len() as u64).read_to_end(&mut line)?;
        if line != FIRST_LINE {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(match text.starts_with("goproxy-picks ") {
                true => NoRecording::Later(text),
                false => NoRecording::Other,
            });
        }
        Ok(Self { from, is_cut: false })
    }

    /// The notes of the next block; `None` at the end, and at a block that is not whole.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn next_block(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.is_cut {
            return Ok(None);
        }
        let mut head = Vec::new();
        self.from.by_ref().take(8).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(None);
        }
        let number = |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let (Some(length), Some(crc)) = (number(0).filter(|length| *length <= BLOCK_BYTES_MAX), number(4)) else {
            self.is_cut = true;
            return Ok(None);
        };
        let (mut notes, mut left) = (Vec::new(), u64::from(length));
        while left > 0 {
            let read = self.from.by_ref().take(left.min(STEP)).read_to_end(&mut notes)? as u64;
            if read == 0 {
                break;
            }
            left -= read;
        }
        self.is_cut = left > 0 || crc32fast::hash(&notes) != crc;
        Ok((!self.is_cut).then_some(notes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let mut blocks = Blocks::open(bytes).unwrap();
        let read = std::iter::from_fn(|| blocks.next_block().unwrap()).collect();
        (read, blocks.is_cut)
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_good_up_to_its_last_whole_block() {
        let whole = [FIRST_LINE, &block(b"one"), &block(b""), &block(b"three")].concat();
        let all = vec![b"one".to_vec(), Vec::new(), b"three".to_vec()];
        assert_eq!(read(&whole), (all.clone(), false));
        for length in whole.len() - 12..whole.len() {
            assert_eq!(read(&whole[..length]), (all[..2].to_vec(), true), "{length}");
        }
        assert_eq!(read(&whole[..whole.len() - 13]), (all[..2].to_vec(), false));
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(read(&changed), (all[..2].to_vec(), true));
        let endless = [FIRST_LINE, &u32::MAX.to_le_bytes(), &[0; 20]].concat();
        assert_eq!(read(&endless), (Vec::new(), true));
    }

    #[test]
    fn other_files_are_told_apart() {
        let error = |bytes: &[u8]| Blocks::open(bytes).unwrap_err().to_string();
        assert!(error(b"").contains("is no recording of picks"));
        assert!(error(b"\0asm and so on and so on").contains("is no recording of picks"));
        assert!(error(b"goproxy-picks 2\nabc").contains("later version of goproxy: it begins with goproxy-picks 2;"));
    }
}
