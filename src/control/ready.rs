//! What `/ready` tells.

use std::sync::atomic::Ordering::Relaxed;

use super::Control;

impl Control {
    /// True when every open group listens and the process is not draining: what `/ready` tells.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready.load(Relaxed) && self.shared.waiting.load(Relaxed) == 0 && self.is_checked_once()
    }

    /// True when every server has been checked that has to be before the process is ready. Once it is, it stays so.
    fn is_checked_once(&self) -> bool {
        let is_known = self.shared.is_checked_once.load(Relaxed);
        let is_so = is_known || !self.groups().values().any(|group| group.is_check_awaited());
        self.shared.is_checked_once.store(is_so, Relaxed);
        is_so
    }

    /// The process is to stop: it is not ready from now on, and goes on as before.
    pub(crate) fn announce_stop(&self) {
        self.shared.is_ready.store(false, Relaxed);
    }
}
