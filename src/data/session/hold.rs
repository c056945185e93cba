//! Whether a client is held when no server is left that may be tried.
//!
//! A server that refuses says at once that nobody listens there, as one does that restarts: its clients are held for a
//! moment and it is asked again. A server that fails in another way, such as by silence, has cost the client time already.

use std::io;

use crate::data::deadlines::NEVER;

/// Between two rounds of asking.
const PAUSE_MS: u64 = 250;

/// What is known for that of one client's search.
#[derive(Debug)]
pub(super) struct Hold {
    wait_ms: u64,
    /// [`NEVER`] before the first server was asked.
    until_ms: u64,
    ask_at_ms: u64,
    has_failed_otherwise: bool,
}

impl Hold {
    /// A client may be held for so long.
    pub(super) fn new(wait_ms: u64) -> Self {
        Self { wait_ms, until_ms: NEVER, ask_at_ms: NEVER, has_failed_otherwise: false }
    }

    /// A server is asked.
    pub(super) fn begin(&mut self, now_ms: u64) {
        if self.until_ms == NEVER {
            self.until_ms = now_ms.saturating_add(self.wait_ms);
        }
    }

    /// A server has failed.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.has_failed_otherwise |= error.kind() != io::ErrorKind::ConnectionRefused;
    }

    /// No server is left: true when they are to be asked again, at [`Hold::ask_at_ms`].
    pub(super) fn goes_on(&mut self, now_ms: u64) -> bool {
        let goes_on = self.until_ms != NEVER && !self.has_failed_otherwise && now_ms < self.until_ms;
        if goes_on {
            self.ask_at_ms = (now_ms + PAUSE_MS).min(self.until_ms);
        }
        goes_on
    }

    pub(super) fn ask_at_ms(&self) -> u64 {
        self.ask_at_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_held_until_its_time_is_over_and_only_by_servers_that_refuse() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let mut hold = Hold::new(600);
        assert!(!hold.goes_on(0), "no server was asked");
        hold.begin(1_000);
        hold.failed(&refused);
        for (now_ms, ask_at_ms) in [(1_010, 1_260), (1_262, 1_512), (1_520, 1_600)] {
            assert!(hold.goes_on(now_ms));
            assert_eq!(hold.ask_at_ms(), ask_at_ms);
            hold.begin(ask_at_ms);
        }
        assert!(!hold.goes_on(1_600));
        let mut hold = Hold::new(60_000);
        hold.begin(0);
        hold.failed(&refused);
        hold.failed(&io::ErrorKind::TimedOut.into());
        hold.failed(&refused);
        assert!(!hold.goes_on(1));
        let mut hold = Hold::new(0);
        hold.begin(5);
        hold.failed(&refused);
        assert!(!hold.goes_on(5));
    }
}
