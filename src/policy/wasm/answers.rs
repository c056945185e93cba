//! What an instance in a slot answers, checked.
//!
//! An answer that is no open server is a fault, unless the module could not know better: a server may have become full
//! or suspect since the module was told its servers, and a session may see the servers of a moment ago.

use std::sync::Arc;

use super::compiled::Compiled;
use super::fault::Fault;
use super::instance::Instance;
use crate::base::clock;
use crate::counters::{FaultKind, ModuleCounters};
use crate::policy::balance::{Closed, Epoch, PickRequest, Picked, ServerSet};
use crate::server::{Avoided, Server, ServerId};

/// Telling an instance which servers are available costs about half a microsecond for each of them, so for servers
/// that have become full or suspect, or are so no longer, it is done at most this often for each thousand of them.
const TELL_INTERVAL_MS: u64 = 10;

/// One pick in so many is timed: looking at the clock twice costs half as much as a pick.
const PICKS_PER_TIMED: u32 = 16;

/// An instance and what it was told.
pub(super) struct Work {
    /// Of the instance, if it wants to hear what becomes of its picks.
    pub(super) epoch: Option<Epoch>,
    pub(super) instance: Instance,
    pub(super) compiled: Arc<Compiled>,
    /// The set it was told, by its generation.
    generation: u64,
    /// Indexes of the servers it was told are not available, in order.
    hidden: Vec<u32>,
    told_ms: u64,
    /// Picks since one was timed.
    picks: u32,
}

/// What a slot answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// This server.
    Server(Picked),
    /// No server will do.
    Nobody,
    /// The module cannot tell.
    Unanswered,
}

impl Work {
    pub(super) fn new(instance: Instance, compiled: &Arc<Compiled>) -> Self {
        Self {
            epoch: instance.wants_feedback().then(Epoch::next),
            instance,
            compiled: Arc::clone(compiled),
            generation: 0,
            hidden: Vec::new(),
            told_ms: 0,
            picks: 0,
        }
    }

    /// Tells the instance the servers of `set`, and which of them may be picked at this moment.
    pub(super) fn tell(&mut self, set: &Arc<ServerSet>, avoided: Avoided, now_ms: u64) -> Result<(), Fault> {
        self.hidden.clear();
        let servers = set.servers.iter().zip(0..);
        let is_hidden = |server: &Server| server.is_full() || server.live.is_avoided(avoided);
        self.hidden.extend(servers.filter(|(server, _)| is_hidden(server)).map(|(_, index)| index));
        self.generation = set.generation;
        self.told_ms = now_ms;
        self.instance.set_servers(set, &self.hidden)
    }

    pub(super) fn ask(
        &mut self,
        request: &PickRequest<'_>,
        set: &Arc<ServerSet>,
        counters: &ModuleCounters,
    ) -> Result<Asked, Fault> {
        // Nobody to choose from is no question. Only a retry, or a server that is not available, makes that likely.
        if (request.attempt > 0 || !self.hidden.is_empty()) && is_nobody_open(request) {
            return Ok(Asked::Nobody);
        }
        // A session may still see the servers of a moment ago, or not see yet those that the instance knows.
        let is_same_set = self.generation == request.servers.generation;
        let is_outdated = is_same_set && self.hidden.iter().any(|&index| request.is_open(index as usize));
        if is_outdated && self.may_tell(request) {
            self.tell(set, request.avoided, request.now_ms)?;
        }
        let asked = self.ask_once(request, is_same_set, counters)?;
        match asked {
            Answer::Good(index) => Ok(Asked::Server(Picked { index, epoch: self.epoch })),
            Answer::Nobody if is_outdated => Ok(Asked::Unanswered),
            Answer::Nobody => Ok(Asked::Nobody),
            Answer::Outdated if is_nobody_open(request) => Ok(Asked::Nobody),
            Answer::Outdated if is_same_set && self.may_tell(request) => {
                self.tell(set, request.avoided, request.now_ms)?;
                match self.ask_once(request, is_same_set, counters)? {
                    Answer::Good(index) => Ok(Asked::Server(Picked { index, epoch: self.epoch })),
                    Answer::Nobody => Ok(Asked::Nobody),
                    Answer::Outdated => Ok(Asked::Unanswered),
                }
            }
            Answer::Outdated => Ok(Asked::Unanswered),
        }
    }

    fn may_tell(&self, request: &PickRequest<'_>) -> bool {
        let thousands = request.len().div_ceil(1_000) as u64;
        request.now_ms >= self.told_ms + thousands * TELL_INTERVAL_MS
    }

    fn ask_once(
        &mut self,
        request: &PickRequest<'_>,
        is_same_set: bool,
        counters: &ModuleCounters,
    ) -> Result<Answer, Fault> {
        let is_timed = self.picks == 0;
        self.picks = (self.picks + 1) % PICKS_PER_TIMED;
        let picked = if is_timed {
            let began_ns = clock::precise_ns();
            let picked = self.instance.pick(request);
            counters.pick_time.observe(clock::precise_ns() - began_ns);
            picked
        } else {
            self.instance.pick(request)
        };
        let Some(id) = picked? else { return Ok(Answer::Nobody) };
        let index = match is_same_set {
            true => self.instance.index_of(id),
            false => request.servers.servers.iter().position(|server| server.id == ServerId(id)),
        };
        let bad = |text: String| Fault { kind: FaultKind::BadAnswer, text: format!("pick answered {id}, {text}") };
        let Some(index) = index else {
            // Only of the very servers it was told does the module have to know.
            return if is_same_set {
                Err(bad("which is not a server of the group".to_owned()))
            } else {
                Ok(Answer::Outdated)
            };
        };
        let addr = &request.servers.servers[index].settings.addr;
        match request.why_closed(index) {
            None => Ok(Answer::Good(index)),
            Some(Closed::Tried) => Err(bad(format!("which is {addr} and was tried already"))),
            Some(Closed::Full | Closed::Avoided)
                if is_same_set && self.hidden.binary_search(&(index as u32)).is_ok() =>
            {
                Err(bad(format!("which is {addr} and not available")))
            }
            Some(Closed::Full | Closed::Avoided) => Ok(Answer::Outdated),
        }
    }
}

/// True when this session may be given none of the servers.
fn is_nobody_open(request: &PickRequest<'_>) -> bool {
    !(0..request.len()).any(|index| request.is_open(index))
}

/// What an instance answered, checked.
enum Answer {
    Good(usize),
    Nobody,
    /// A server that may not be picked any more, which the module was not told.
    Outdated,
}
