//! A slot whose instances somebody follows: where they are recorded or replayed.

use std::sync::Arc;

use super::{Compiled, Fault, Instance, Slot};
use crate::base::clock;
use crate::counters::FaultKind;
use crate::policy::oversee::{Birth, InstanceChange, Overseer};

impl Slot {
    /// The same with somebody who follows its instances.
    pub(in crate::policy::wasm) fn overseen(mut self, overseer: Option<Arc<dyn Overseer>>, is_backup: bool) -> Self {
        (self.overseer, self.is_backup) = (overseer, is_backup);
        self
    }

    /// True when somebody follows its instances.
    pub(in crate::policy::wasm) fn is_overseen(&self) -> bool {
        self.overseer.is_some()
    }

    /// What its next instance is to be born with; `None` for whatever the system shows.
    pub(in crate::policy::wasm) fn birth(&self) -> Option<Birth> {
        self.overseer.as_ref().map(|overseer| overseer.birth())
    }

    /// The time, for calls that belong to no request.
    pub(super) fn now_ms(&self) -> u64 {
        self.overseer.as_ref().map_or_else(clock::coarse_ms, |overseer| overseer.now_ms())
    }

    /// The same while no request is answered, as whoever follows the instances wants it; `birth` is what it was born with.
    ///
    /// # Errors
    ///
    /// As [`Slot::put`].
    pub(in crate::policy::wasm) fn put_between_requests(
        &self,
        instance: Instance,
        compiled: &Arc<Compiled>,
        birth: Option<Birth>,
    ) -> Result<(), Fault> {
        let (Some(overseer), Some(birth)) = (&self.overseer, birth) else { return self.put(instance, compiled) };
        let (mut instance, mut outcome) = (Some(instance), Ok(()));
        overseer.change(&mut || {
            outcome = self.put(instance.take()?, compiled);
            let came = InstanceChange::Came { is_backup: self.is_backup, birth, sha256: compiled.file.sha256 };
            outcome.is_ok().then_some(came)
        });
        outcome
    }

    /// The instance fails as if its deadline had passed. For a replay, in which time does not pass as it did.
    pub(in crate::policy::wasm) fn let_time_run_out(self: &Arc<Self>) {
        let mut inner = self.inner();
        if inner.work.is_some() {
            let text = "a call took too long when this was recorded".to_owned();
            self.fail(&mut inner, Fault { kind: FaultKind::Deadline, text });
        }
    }

    /// What was counted of faults is forgotten, or the module may not serve any more.
    pub(super) fn tell_replaced(&self) {
        if let Some(overseer) = &self.overseer {
            overseer.change(&mut || Some(InstanceChange::Replaced));
        }
    }

    /// A call has failed.
    pub(super) fn tell_fault(&self, kind: FaultKind) {
        if let Some(overseer) = self.overseer.as_ref().filter(|_| kind == FaultKind::Deadline) {
            overseer.ran_out_of_time(self.is_backup);
        }
    }
}
