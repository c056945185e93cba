//! Whether a client is held when no server is left that may be tried.
//!
//! A server that refuses says at once that nobody listens there, as one does that restarts: its clients are held for a
//! moment and it is asked again. A server that fails in another way, such as by silence, has cost the client time already.

use std::io;
use std::time::Duration;

use crate::base::clock;
use crate::data::deadlines::NEVER;

/// Between two rounds of asking.
const PAUSE_MS: u64 = 250;

/// What is known for that of one client's search.
#[derive(Debug)]
pub(super) struct Hold {
    wait: Duration,
    /// When the first server was asked; [`NEVER`] before.
    begun_ms: u64,
    ask_at_ms: u64,
    has_failed_otherwise: bool,
}

impl Hold {
    /// A client may be held for so long.
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, begun_ms: NEVER, ask_at_ms: NEVER, has_failed_otherwise: false }
    }

    /// A server is asked.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.begun_ms = self.begun_ms.min(now_ms);
    }

    /// A server has failed.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.has_failed_otherwise |= error.kind() != io::ErrorKind::ConnectionRefused;
    }

    /// No server is left: true when they are to be asked again, at [`Hold::ask_at_ms`].
    pub(super) fn goes_on(&mut self, now_ms: u64) -> bool {
        if self.begun_ms == NEVER {
            return false;
        }
        let until_ms = self.begun_ms.saturating_add(clock::as_ms(self.wait));
        let goes_on = !self.has_failed_otherwise && now_ms < until_ms;
        if goes_on {
            self.ask_at_ms = (now_ms + PAUSE_MS).min(until_ms);
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
        let mut hold = Hold::new(Duration::from_millis(600));
        assert!(!hold.goes_on(0), "no server was asked");
        hold.begin(1_000);
        hold.failed(&refused);
        for (now_ms, ask_at_ms) in [(1_010, 1_260), (1_262, 1_512), (1_520, 1_600)] {
            assert!(hold.goes_on(now_ms));
            assert_eq!(hold.ask_at_ms(), ask_at_ms);
            hold.begin(ask_at_ms);
        }
        assert!(!hold.goes_on(1_600));
        let mut hold = Hold::new(Duration::from_millis(60_000));
        hold.begin(0);
        hold.failed(&refused);
        hold.failed(&io::ErrorKind::TimedOut.into());
        hold.failed(&refused);
        assert!(!hold.goes_on(1));
        let mut hold = Hold::new(Duration::from_millis(0));
        hold.begin(5);
        hold.failed(&refused);
        assert!(!hold.goes_on(5));
    }
}
