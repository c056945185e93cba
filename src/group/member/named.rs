//! What lookups of its name have to do with a member.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Member;
use crate::base::clock;
use crate::base::text::one_line;
use crate::group::claim::Claim;
use crate::server::ServerSettings;

/// How long the addresses of a name stay in use after the last lookup that found any.
const ADDRESSES_KEPT_MAX: Duration = Duration::from_secs(3_600);

/// The longest reason why a name is not resolved that is shown, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Servers that one name is expanded to; further addresses are not used.
pub(crate) const EXPANDED_MAX: usize = 256;

impl Member {
    /// Takes the addresses of its name. After an error those known before stay for [`ADDRESSES_KEPT_MAX`].
    pub(in crate::group) fn resolved(&mut self, outcome: Result<Vec<SocketAddr>, String>, now_ms: u64) {
        let why = match outcome {
            Ok(addresses) if !addresses.is_empty() => {
                if self.server.settings.expand {
                    self.expand_to(&addresses);
                }
                self.server.live.resolved(addresses);
                (self.unresolved, self.resolved_ms) = (None, now_ms);
                return;
            }
            Ok(_) => "it has no address".to_owned(),
            Err(error) => error,
        };
        if now_ms.saturating_sub(self.resolved_ms) >= clock::as_ms(ADDRESSES_KEPT_MAX) {
            self.server.live.resolved(Vec::new());
            self.expanded.clear();
        }
        if self.server.live.addresses().is_empty() {
            self.unresolved = Some(one_line(&why, REASON_CHARS_MAX).into());
        }
    }

    /// Is expanded from now on if its settings say so, or is not any more.
    pub(super) fn follow_expand(&mut self) {
        match self.server.settings.expand {
            true if self.expanded.is_empty() => {
                let known = self.server.live.addresses();
                self.expand_to(known.all());
            }
            true => {}
            false => self.expanded.clear(),
        }
    }

    /// In an order of their own: resolvers give the same addresses in another order each time.
    fn expand_to(&mut self, addresses: &[SocketAddr]) {
        self.expanded = addresses.iter().map(SocketAddr::ip).collect();
        self.expanded.sort_unstable();
        self.expanded.dedup();
        self.expanded.truncate(EXPANDED_MAX);
    }

    /// The addresses of its name that are servers of their own.
    pub(in crate::group) fn expanded(&self) -> &[IpAddr] {
        &self.expanded
    }

    /// The settings of the servers that it is expanded to.
    pub(in crate::group) fn expansion(&self) -> Vec<ServerSettings> {
        let settings = &self.server.settings;
        let one = |ip: &IpAddr| ServerSettings {
            addr: settings.addr.at(*ip),
            expand: false,
            // A name is one server's.
            name: None,
            ..settings.clone()
        };
        self.expanded.iter().map(one).collect()
    }

    /// Is one address of a name with these settings.
    pub(in crate::group) fn take_one_of_name(&mut self, settings: ServerSettings) {
        self.claims.set(Claim::Resolved);
        self.take_file_settings(settings);
    }
}
