//! What connects of the proxy's own, probes and checks, have to do with a group.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Group;
use super::check::{CheckResult, CheckTarget};
use super::member::{CHECK_LINES, Target};
use crate::base::clock;
use crate::events;
use crate::server::{ServerAddr, ServerId};

impl Group {
    /// The servers to be tried by a connect of the proxy's own: clients could not connect, or the lease is kept.
    pub fn targets(&self) -> Vec<(ServerAddr, Target)> {
        let members = self.members();
        members.targets(&self.snapshot().settings)
    }

    /// How to try this server now; `None` when there is no need any more.
    pub fn target(&self, addr: &ServerAddr) -> Option<Target> {
        let members = self.members();
        members.target(addr, &self.snapshot().settings)
    }

    /// Takes the outcome of a try that began at `since_ms`: the microseconds it took, or why it failed.
    pub fn tried(&self, addr: &ServerAddr, outcome: Result<u64, &str>, since_ms: u64) {
        let server = self.members().server_at(addr).map(Arc::clone);
        let Some(server) = server else { return };
        let now_ms = clock::coarse_ms();
        match outcome {
            Ok(micros) => self.tell_recovery(&server, server.live.answered(micros, now_ms)),
            Err(why) => self.tell_suspicion(&server, why, server.live.probe_failed(why, since_ms, now_ms)),
        }
        self.look_again(addr);
    }

    /// A connect of the proxy's own has reached this address of a server.
    pub fn address_answered(&self, addr: &ServerAddr, address: SocketAddr) {
        let server = self.members().server_at(addr).map(Arc::clone);
        if let Some(server) = server.filter(|server| server.live.addresses().answer_at(address)) {
            self.tell_address_answers(&server, address);
        }
    }

    /// How often connects to this server, or to those its name is expanded to, have failed since one succeeded; 0 while
    /// none of them is suspect.
    pub fn failures(&self, addr: &ServerAddr) -> u64 {
        self.members().failures(addr)
    }

    /// The servers to be checked.
    pub fn check_targets(&self) -> Vec<CheckTarget> {
        self.members().check_targets().collect()
    }

    /// How to check this server now; `None` when it is not to be checked any more.
    pub fn check_target(&self, addr: &ServerAddr) -> Option<CheckTarget> {
        self.members().check_target(addr)
    }

    /// Takes the result of a check. Answers the pause until the next one, and whether [`Group::publish_checked`] is to be
    /// called, which the caller does for many results together. `None` when the server is no longer here.
    pub fn checked(&self, addr: &ServerAddr, id: ServerId, result: CheckResult) -> Option<(Duration, bool)> {
        let now_ms = clock::coarse_ms();
        let mut members = self.members();
        let server = members.server_at(addr).filter(|server| server.id == id).cloned()?;
        let recovery = result.connect_us.and_then(|micros| server.live.answered(micros, now_ms));
        let checked = members.take_check(addr, id, result, now_ms)?;
        drop(members);
        if let Some(recovery) = recovery {
            let tell = |change| events::publish_within(&CHECK_LINES, now_ms, self.event_of(&server, change));
            self.recovered(&server, recovery, tell);
        }
        Some((checked.pause, checked.has_changed))
    }

    /// Has policies see what results of checks have changed.
    pub fn publish_checked(&self) {
        self.republish(&mut self.members());
    }

    /// The next check of this server is due then, on the coarse clock.
    pub fn set_next_check(&self, addr: &ServerAddr, next_ms: u64) {
        if let Some((member, _)) = self.members().member(addr) {
            member.set_next_check(next_ms);
        }
    }

    /// Asks for a check of this server now, and completes with its result. `None` when the server is not checked.
    pub fn ask_check(&self, addr: &ServerAddr) -> Option<oneshot::Receiver<()>> {
        let mut members = self.members();
        members.member(addr).and_then(|(member, common)| member.wait_for_check(common))
    }

    /// True while the process is not ready before a server was checked once.
    pub fn is_check_awaited(&self) -> bool {
        self.members().is_check_awaited()
    }

    /// Has to be called when clients could or could not connect to a server whose lease is kept: that decides then.
    pub fn look_again(&self, addr: &ServerAddr) {
        let mut members = self.members();
        if members.look_again(addr) {
            self.republish(&mut members);
        }
    }
}
