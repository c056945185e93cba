//! What went wrong in a round.
//!
//! Client and server threads report here and go on; the round is judged once it is over. Only the first text
//! is kept: the others are most often its echo.

use std::sync::{Mutex, PoisonError};

/// How many faults there were, and the first one's text.
#[derive(Default)]
pub(crate) struct Faults(Mutex<(u64, String)>);

impl Faults {
    /// Counts one fault.
    pub(crate) fn add(&self, text: impl FnOnce() -> String) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 == 0 {
            held.1 = text();
        }
        held.0 += 1;
    }

    /// The faults since the last call as one line; `None` when there was none.
    pub(crate) fn take(&self) -> Option<String> {
        let (count, first) = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (count > 0).then(|| format!("{count} faults, first: {first}"))
    }
}
