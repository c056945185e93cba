//! What a policy was asked, until somebody looks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::policy::balance::ServerSet;
use crate::policy::recorded::{Epochs, Note};

/// So much may wait to be looked at.
const WAITING_MAX: usize = 65_536;

/// A note, and the number of its pick.
#[derive(Debug)]
pub struct Told {
    /// What was asked, or what became of it.
    pub note: Note,
    /// Of a question that was answered with a server.
    pub pick: Option<u64>,
}

/// What was told since the last look.
#[derive(Debug, Default)]
pub struct Batch {
    /// In order.
    pub told: Vec<Told>,
    /// Picks and reports for which there was no room, since the beginning.
    pub dropped: u64,
    /// The tapped policy serves no more.
    pub is_over: bool,
}

/// A bounded queue of notes.
#[derive(Default)]
pub struct Tap {
    /// Guards the queue and the numbers of picks. Held for a moment by every session.
    state: Mutex<State>,
    /// Guards the sets of servers that are asked about.
    sets: Mutex<HashMap<u32, Arc<ServerSet>>>,
}

#[derive(Default)]
pub(super) struct State {
    told: Vec<Told>,
    dropped: u64,
    is_over: bool,
    pub(super) epochs: Epochs,
    pub(super) picks: u64,
    sets: u32,
}

impl Tap {
    /// Takes what was told, in the place of what is in `batch`.
    pub fn take(&self, batch: &mut Batch) {
        batch.told.clear();
        let mut state = self.state();
        std::mem::swap(&mut state.told, &mut batch.told);
        (batch.dropped, batch.is_over) = (state.dropped, state.is_over);
    }

    /// The sets of servers that are asked about.
    pub fn sets(&self) -> Vec<Arc<ServerSet>> {
        self.live_sets().values().cloned().collect()
    }

    /// Nothing is told any more.
    pub fn end(&self) {
        self.state().is_over = true;
    }

    /// A number for this set, which is asked about from now on.
    pub(super) fn add_set(&self, servers: &Arc<ServerSet>) -> u32 {
        let set = {
            let mut state = self.state();
            state.sets += 1;
            state.sets
        };
        self.live_sets().insert(set, Arc::clone(servers));
        set
    }

    /// This set is asked about no more.
    pub(super) fn remove_set(&self, set: u32) {
        self.live_sets().remove(&set);
        self.state().push_always(Note::Gone(set));
    }

    /// How picks are told apart that were made meanwhile.
    pub(super) fn epochs(&self) -> Epochs {
        self.state().epochs.clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_sets(&self) -> MutexGuard<'_, HashMap<u32, Arc<ServerSet>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells what a session asked or what became of it, if there is room.
    pub(super) fn push(&mut self, note: Note, pick: Option<u64>) {
        if self.is_over {
            return;
        }
        match self.told.len() < WAITING_MAX {
            true => self.told.push(Told { note, pick }),
            false => self.dropped += 1,
        }
    }

    /// Tells of servers: without those, nothing that comes later could be understood.
    pub(super) fn push_always(&mut self, note: Note) {
        if !self.is_over {
            self.told.push(Told { note, pick: None });
        }
    }
}
