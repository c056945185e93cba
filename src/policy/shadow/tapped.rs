//! The policy that serves, with a tap.

use std::sync::Arc;

use super::tap::Tap;
use crate::base::clock;
use crate::policy::balance::{Epoch, IBalancePolicy, Outcome, PickRequest, Picked, RehearsalError, ServerSet};
use crate::policy::recorded::{AfterRecording, Asked, Note, Reported, servers_note};
use crate::server::ServerId;

/// A policy that serves as ever, and what it is asked is told besides.
pub struct Tapped {
    tap: Arc<Tap>,
    inside: Arc<dyn IBalancePolicy>,
    is_backup: bool,
    /// What the servers are called in notes; 0 for the policy that is prepared for none.
    set: u32,
}

impl Tapped {
    /// Taps the policy that serves, prepared for no servers.
    pub fn new(tap: Arc<Tap>, inside: Arc<dyn IBalancePolicy>) -> Self {
        Self { tap, inside, is_backup: false, set: 0 }
    }

    /// The same policy without the tap. Prepared for no servers.
    pub fn after(&self) -> Arc<dyn IBalancePolicy> {
        AfterRecording::of(Arc::clone(&self.inside), self.tap.epochs())
    }

    fn prepared(&self, servers: &Arc<ServerSet>, is_last_resort: bool) -> Arc<dyn IBalancePolicy> {
        let set = self.tap.add_set(servers);
        let note = servers_note(set, servers, is_last_resort, clock::coarse_ms());
        // Before anybody can ask about them.
        self.tap.state().push_always(Note::Servers(note));
        let inside = match is_last_resort {
            false => self.inside.for_servers(servers),
            true => self.inside.for_last_resort(servers),
        };
        Arc::new(Self { tap: Arc::clone(&self.tap), inside, is_backup: servers.backup, set })
    }

    fn told(&self, request: &PickRequest<'_>, named_nobody: bool, picked: Option<Picked>) -> Option<Picked> {
        let asked = Asked {
            set: self.set,
            named_nobody,
            client: request.client,
            port: request.group,
            tried: request.tried.to_vec(),
            avoided: request.avoided,
            now_ms: request.now_ms,
            random: request.random,
            answer: picked.map(|picked| picked.index as u32),
            is_heard: picked.is_some_and(|picked| picked.epoch.is_some()),
        };
        let mut state = self.tap.state();
        let Some(Picked { index, epoch }) = picked else {
            state.push(Note::Pick(asked), None);
            return None;
        };
        let number = state.picks;
        state.picks += 1;
        let epoch = state.epochs.give(number, self.is_backup, epoch);
        state.push(Note::Pick(asked), Some(number));
        Some(Picked { index, epoch: Some(epoch) })
    }
}

impl IBalancePolicy for Tapped {
    fn name(&self) -> &str {
        self.inside.name()
    }

    fn for_servers(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        self.prepared(servers, false)
    }

    fn for_last_resort(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        self.prepared(servers, true)
    }

    /// Of the policy inside: what a rehearsal is asked is not told.
    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        self.inside.rehearsal()
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.told(request, false, self.inside.pick(request))
    }

    fn named_nobody(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.told(request, true, self.inside.named_nobody(request))
    }

    fn report(&self, epoch: Epoch, server: ServerId, outcome: Outcome) {
        let mut inside = Some(epoch);
        {
            let mut state = self.tap.state();
            // A session that is older than the tap is the policy's business only.
            if let Some(pick) = state.epochs.read(epoch) {
                inside = state.epochs.inside(pick, self.is_backup);
                let (set, is_heard) = (self.set, pick.is_heard);
                let report = Reported { set, pick: pick.number, is_heard, server, outcome };
                state.push(Note::Report(report), None);
            }
        }
        if let Some(epoch) = inside {
            self.inside.report(epoch, server, outcome);
        }
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        match self.set {
            0 => self.tap.end(),
            set => self.tap.remove_set(set),
        }
    }
}
