//! What a session keeps until it is over, to be told then.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Rare, SessionGuard};
use crate::counters::EndReason;
use crate::events::TlsFacts;

impl SessionGuard {
    /// Keeps how the session ended, until it is dropped.
    pub(crate) fn set_end(&mut self, end: EndReason, error: Option<io::Error>) {
        self.end = end;
        if error.is_some() {
            let rare = self.rare.take().unwrap_or_default();
            self.rare = OnceCell::from(Box::new(Rare { error, ..*rare }));
        }
    }

    /// Keeps what is to be told of the client's TLS.
    #[cold]
    pub(in crate::data::session) fn set_tls(&mut self, facts: TlsFacts) {
        if facts.is_truncated {
            self.record.group().counters.tls_truncated.fetch_add(1, Relaxed);
        }
        let rare = self.rare.take().unwrap_or_default();
        self.rare = OnceCell::from(Box::new(Rare { tls: Some(Arc::new(facts)), ..*rare }));
    }
}
