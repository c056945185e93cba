//! A recording of what a group's policy is asked and answers: what is shown of it, and how it is ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tokio_util::sync::CancellationToken;

use super::view::RecordingView;
use crate::base::clock;
use crate::base::label::GroupLabel;
use crate::policy::recorded::Tape;
use crate::policy::spec::PolicySpec;

/// A recording of a group's picks, under way or the last one.
pub struct Recording {
    /// Ends it.
    pub tape: Arc<Tape>,
    /// Where it is written.
    pub file: PathBuf,
    /// What is recorded.
    pub policy: PolicySpec,
    /// When it began, on the coarse clock.
    pub since_ms: u64,
    /// Picks in the file.
    pub picks: AtomicU64,
    /// Picks that were noted and could not be written.
    pub lost: AtomicU64,
    /// Bytes in the file.
    pub bytes: AtomicU64,
    /// Cancelled when the file is complete.
    pub done: CancellationToken,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("file", &self.file).field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Recording {
    /// One that begins now.
    pub fn new(tape: Arc<Tape>, file: PathBuf, policy: PolicySpec) -> Self {
        let [picks, lost, bytes] = [const { AtomicU64::new(0) }; 3];
        let since_ms = clock::coarse_ms();
        Self { tape, file, policy, since_ms, picks, lost, bytes, done: CancellationToken::new() }
    }

    /// True until the file is complete.
    pub fn is_active(&self) -> bool {
        !self.done.is_cancelled()
    }

    /// What is shown of it, in the group that is labelled so.
    pub fn view(&self, group: &GroupLabel) -> RecordingView {
        RecordingView {
            group: group.port(),
            name: group.name().map(str::to_owned),
            policy: self.policy.to_string(),
            file: self.file.display().to_string(),
            active: self.is_active(),
            picks: self.picks.load(Relaxed),
            lost: self.lost.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            why: self.tape.why(),
        }
    }
}
