//! A policy that is tried beside the one that serves: what is shown of it, and how it is ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::view::{ShadowFigures, ShadowView};
use crate::base::clock;
use crate::base::label::GroupLabel;
use crate::policy::shadow::Tap;

/// A policy beside the one that serves.
pub struct Shadow {
    /// What the policy that serves is asked.
    pub tap: Arc<Tap>,
    /// The policy that serves.
    pub live: Arc<str>,
    /// The one beside it.
    pub candidate: Arc<str>,
    /// The hash of a module's file.
    pub sha256: Option<String>,
    /// When it began, on the coarse clock.
    pub since_ms: u64,
    /// Somebody wants it ended.
    pub is_unwanted: AtomicBool,
    /// How the two do.
    pub figures: ArcSwap<ShadowFigures>,
    /// Cancelled when it has ended.
    pub done: CancellationToken,
}

impl std::fmt::Debug for Shadow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shadow").field("candidate", &self.candidate).finish_non_exhaustive()
    }
}

impl Shadow {
    /// One that begins now.
    pub fn new(tap: Arc<Tap>, live: Arc<str>, candidate: Arc<str>, sha256: Option<String>) -> Self {
        let since_ms = clock::coarse_ms();
        let (is_unwanted, figures, done) = (AtomicBool::new(false), ArcSwap::default(), CancellationToken::new());
        Self { tap, live, candidate, sha256, since_ms, is_unwanted, figures, done }
    }

    /// True until it has ended.
    pub fn is_active(&self) -> bool {
        !self.done.is_cancelled()
    }

    /// Has it end soon.
    pub fn end(&self) {
        self.is_unwanted.store(true, Relaxed);
    }

    /// What is shown of it, in the group that is labelled so.
    pub fn view(&self, group: &GroupLabel) -> ShadowView {
        let figures = self.figures.load();
        ShadowView {
            group: group.port(),
            name: group.name().map(str::to_owned),
            policy: self.live.to_string(),
            candidate: self.candidate.to_string(),
            sha256: self.sha256.clone(),
            active: self.is_active(),
            figures: ShadowFigures::clone(&figures),
        }
    }
}
