//! A search that goes on: with the next server, or with all of them again after a pause.

use super::{Connected, Context, Dialling};
use crate::data::deadlines::NEVER;
use crate::data::session::connect::Step;
use crate::data::session::opening::NotConnected;

impl Dialling {
    /// True while all servers refuse, and are to be asked again.
    pub(in crate::data::session) fn is_held(&self) -> bool {
        self.server.is_none()
    }

    /// Dials the next server.
    pub(super) fn ask(&mut self, context: Context<'_>) -> Result<Option<Connected>, NotConnected> {
        match self.dialer.start(&self.first_bytes, context)? {
            Step::Connected(server, sent) => {
                self.sent = sent;
                Ok(Some(self.connected(server, context)))
            }
            step => {
                self.wait_for(step);
                Ok(None)
            }
        }
    }

    /// Waits for the connect that has begun, or for the time to ask again.
    pub(super) fn wait_for(&mut self, step: Step) {
        match step {
            Step::Connected(..) => unreachable!("nothing is left to wait for"),
            Step::Connecting(server, sent) => {
                (self.server, self.sent) = (Some(server), sent);
                (self.until_ms, self.slow_ms) = (self.dialer.address_until_ms(), self.dialer.slow_ms());
            }
            Step::Held => (self.until_ms, self.slow_ms) = (self.dialer.hold.ask_at_ms(), NEVER),
        }
    }
}
