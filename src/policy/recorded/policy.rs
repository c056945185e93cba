//! A policy while it is recorded: it shows the policy inside a mirror, and notes whatever that is shown and answers.

use std::sync::Arc;

use super::epochs::Epochs;
use super::note::{Asked, Note, Reported, Servers, Shown};
use super::tape::{SERVERS_MAX, Tape};
use crate::base::clock;
use crate::policy::balance::{Epoch, IBalancePolicy, Outcome, PickRequest, Picked, RehearsalError, ServerSet};
use crate::server::{Server, ServerId};

/// A policy that is recorded. Sessions ask it one after the other.
pub struct Recorded {
    tape: Arc<Tape>,
    /// Prepared for the mirror.
    inside: Arc<dyn IBalancePolicy>,
    real: Arc<ServerSet>,
    mirror: Arc<ServerSet>,
    /// What the servers are called in notes; 0 for the policy that is prepared for none.
    set: u32,
}

/// A policy that was watched and whose module wants to hear what became of the picks that it made meanwhile.
pub struct AfterRecording {
    inside: Arc<dyn IBalancePolicy>,
    epochs: Arc<Epochs>,
    is_backup: bool,
}

impl Recorded {
    /// Has a fresh policy, prepared for no servers, noted on this tape.
    pub fn new(tape: Arc<Tape>, inside: Arc<dyn IBalancePolicy>) -> Self {
        Self { tape, inside, real: Arc::default(), mirror: Arc::default(), set: 0 }
    }

    /// The same policy with all that it has learned, without the recording, which is over. Prepared for no servers.
    pub fn after(&self) -> Arc<dyn IBalancePolicy> {
        AfterRecording::of(Arc::clone(&self.inside), self.tape.epochs())
    }

    fn prepared(&self, servers: &Arc<ServerSet>, is_last_resort: bool) -> Arc<dyn IBalancePolicy> {
        let mut recorder = self.tape.recorder();
        let now_ms = clock::coarse_ms();
        self.tape.set_now(now_ms);
        if servers.servers.len() > SERVERS_MAX {
            recorder.end(&format!("the group has more than {SERVERS_MAX} servers"));
        }
        let mirror = recorder.mirror.set_of(servers);
        recorder.sets += 1;
        let set = recorder.sets;
        let note = recorder.is_running().then(|| Note::Servers(servers_note(set, &mirror, is_last_resort, now_ms)));
        let inside = match is_last_resort {
            false => self.inside.for_servers(&mirror),
            true => self.inside.for_last_resort(&mirror),
        };
        self.tape.note_deadlines(&mut recorder);
        note.iter().for_each(|note| recorder.add(note));
        Arc::new(Self { tape: Arc::clone(&self.tape), inside, real: Arc::clone(servers), mirror, set })
    }

    fn ask(
        &self,
        request: &PickRequest<'_>,
        named_nobody: bool,
        ask: impl Fn(&PickRequest<'_>) -> Option<Picked>,
    ) -> Option<Picked> {
        let mut recorder = self.tape.recorder();
        self.tape.set_now(request.now_ms);
        recorder.take_over(&self.real, &self.mirror);
        let picked = ask(&PickRequest { servers: &self.mirror, ..*request });
        self.tape.note_deadlines(&mut recorder);
        let asked = Asked {
            set: self.set,
            named_nobody,
            client: recorder.client(request.client),
            port: request.group,
            tried: request.tried.to_vec(),
            avoided: request.avoided,
            now_ms: request.now_ms,
            random: request.random,
            answer: picked.map(|picked| picked.index as u32),
            is_heard: picked.is_some_and(|picked| picked.epoch.is_some()),
        };
        recorder.add(&Note::Pick(asked));
        let Picked { index, epoch } = picked?;
        let number = recorder.picks;
        recorder.picks += 1;
        let epoch = recorder.epochs.give(number, self.mirror.backup, epoch);
        Some(Picked { index, epoch: Some(epoch) })
    }
}

impl AfterRecording {
    /// This policy, which gave these epochs while it was watched. Prepared for no servers.
    pub fn of(inside: Arc<dyn IBalancePolicy>, epochs: Epochs) -> Arc<dyn IBalancePolicy> {
        match epochs.are_heard() {
            true => Arc::new(Self { inside, epochs: Arc::new(epochs), is_backup: false }),
            false => inside,
        }
    }
}

/// These servers as they are noted.
pub fn servers_note(set: u32, servers: &ServerSet, is_last_resort: bool, now_ms: u64) -> Servers {
    let (is_backup, generation) = (servers.backup, servers.generation);
    let servers = servers.servers.iter().map(|server| shown(server)).collect();
    Servers { set, is_backup, is_last_resort, generation, now_ms, servers }
}

/// A server as it is noted.
fn shown(server: &Server) -> Shown {
    let labels = server.settings.labels.iter().map(|(name, text)| (name.clone(), text.clone()));
    Shown {
        id: server.id,
        addr: server.settings.addr.to_string(),
        weight: server.settings.weight,
        max_sessions: server.settings.max_sessions,
        labels: labels.collect(),
        facts: server.live.facts(),
    }
}

impl IBalancePolicy for Recorded {
    fn name(&self) -> &str {
        self.inside.name()
    }

    fn for_servers(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        self.prepared(servers, false)
    }

    fn for_last_resort(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        self.prepared(servers, true)
    }

    /// Of the policy inside: what a rehearsal is asked is not noted.
    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        self.inside.rehearsal()
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.ask(request, false, |request| self.inside.pick(request))
    }

    fn named_nobody(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.ask(request, true, |request| self.inside.named_nobody(request))
    }

    fn report(&self, epoch: Epoch, server: ServerId, outcome: Outcome) {
        let mut recorder = self.tape.recorder();
        // A session that is older than the recording is none of the fresh policy's business.
        let Some(pick) = recorder.epochs.read(epoch) else { return };
        if let Some(epoch) = recorder.epochs.inside(pick, self.mirror.backup) {
            self.inside.report(epoch, server, outcome);
        }
        self.tape.note_deadlines(&mut recorder);
        let (set, is_heard) = (self.set, pick.is_heard);
        recorder.add(&Note::Report(Reported { set, pick: pick.number, is_heard, server, outcome }));
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let mut recorder = self.tape.recorder();
        match self.set {
            // Nobody can be recorded any more.
            0 => recorder.end("the group has another policy, or is gone"),
            set => recorder.add(&Note::Gone(set)),
        }
    }
}

impl IBalancePolicy for AfterRecording {
    fn name(&self) -> &str {
        self.inside.name()
    }

    fn for_servers(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        let (inside, epochs) = (self.inside.for_servers(servers), Arc::clone(&self.epochs));
        Arc::new(Self { inside, epochs, is_backup: servers.backup })
    }

    fn for_last_resort(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        self.inside.for_last_resort(servers)
    }

    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        self.inside.rehearsal()
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.inside.pick(request)
    }

    fn named_nobody(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.inside.named_nobody(request)
    }

    fn report(&self, epoch: Epoch, server: ServerId, outcome: Outcome) {
        let inside = match self.epochs.read(epoch) {
            None => Some(epoch),
            Some(pick) => self.epochs.inside(pick, self.is_backup),
        };
        if let Some(epoch) = inside {
            self.inside.report(epoch, server, outcome);
        }
    }
}
