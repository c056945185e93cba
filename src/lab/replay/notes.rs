//! The notes of a recording, one after the other.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::policy::recorded::{BadNote, Blocks, Decoder, NoRecording, Note};
use crate::policy::wasm::ModuleError;

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct ReplayError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is none.
    #[error(transparent)]
    Other(#[from] NoRecording),
    /// It was damaged in a way that its checksums do not show.
    #[error("note {0} makes no sense")]
    Damaged(u64),
    /// It does not say what was recorded.
    #[error("does not begin with what was recorded")]
    Headless,
    /// The policy cannot be made.
    #[error("its policy cannot be made: {0}")]
    Policy(String),
    /// Its module cannot be used.
    #[error("its module: {0}")]
    Module(#[from] ModuleError),
}

impl Problem {
    pub(super) fn of(self, file: &Path) -> ReplayError {
        ReplayError { file: file.to_owned(), problem: self }
    }
}

/// Reads notes.
pub(super) struct Notes {
    blocks: Blocks<BufReader<File>>,
    decoder: Decoder,
    block: Vec<u8>,
    /// What was read of `block`.
    at: usize,
    /// Notes so far.
    count: u64,
}

impl Notes {
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        let file = File::open(path).map_err(NoRecording::from)?;
        let blocks = Blocks::open(BufReader::new(file))?;
        Ok(Self { blocks, decoder: Decoder::default(), block: Vec::new(), at: 0, count: 0 })
    }

    /// The next note; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Note>, Problem> {
        loop {
            let mut rest = &self.block[self.at..];
            let read = self.decoder.next(&mut rest).map_err(|BadNote| Problem::Damaged(self.count + 1))?;
            self.at = self.block.len() - rest.len();
            if read.is_some() {
                self.count += 1;
                return Ok(read);
            }
            let Some(block) = self.blocks.next_block().map_err(NoRecording::from)? else { return Ok(None) };
            (self.block, self.at) = (block, 0);
        }
    }

    /// The file ends in the middle.
    pub(super) fn is_cut(&self) -> bool {
        self.blocks.is_cut
    }

    /// Notes of kinds that are not known.
    pub(super) fn unknown(&self) -> u64 {
        self.decoder.unknown
    }

    /// Something in the last note makes no sense.
    pub(super) fn damaged(&self) -> Problem {
        Problem::Damaged(self.count)
    }
}
