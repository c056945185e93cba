//! A module as a policy: the trait on one side, a slot and the fallback on the other.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::answers::Asked;
use super::fault::Fault;
use super::host::GuestLog;
use super::instance::Instance;
use super::record::ModuleRecord;
use super::slot::Slot;
use crate::policy::balance::{Epoch, IBalancePolicy, Outcome, PickRequest, Picked, RehearsalError, ServerSet};
use crate::policy::built_in;
use crate::policy::spec::ModuleSpec;
use crate::server::ServerId;

/// A module at work for one group. The backups have a slot of their own, so that each instance sees one set
/// of servers and what it has learned of them is not lost when the other set is asked.
pub(super) struct WasmPolicy {
    slots: [Arc<Slot>; 2],
    /// Which of the slots the policy is prepared for.
    at: usize,
    /// Prepared for the same servers.
    fallback: Arc<dyn IBalancePolicy>,
}

/// The policy that answers when a module cannot.
pub(super) fn fallback(spec: &ModuleSpec) -> Arc<dyn IBalancePolicy> {
    built_in::make(spec.fallback).expect("the fallback of a spec is built in")
}

impl WasmPolicy {
    /// A policy of these slots, for the servers and for the backups, prepared for no servers.
    pub(super) fn new(slots: [Arc<Slot>; 2], fallback: Arc<dyn IBalancePolicy>) -> Self {
        Self { slots, at: 0, fallback }
    }

    fn slot(&self) -> &Arc<Slot> {
        &self.slots[self.at]
    }
}

impl IBalancePolicy for WasmPolicy {
    fn name(&self) -> &str {
        &self.slot().shared.policy
    }

    fn for_servers(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        let at = usize::from(servers.backup);
        self.slots[at].set_servers(servers);
        Arc::new(Self { slots: self.slots.clone(), at, fallback: self.fallback.for_servers(servers) })
    }

    /// The fallback: the module is not shown servers that seem to be down.
    fn for_last_resort(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        self.fallback.for_servers(servers)
    }

    /// Throw-away instances with the same configuration and servers: what the module has learned stays behind.
    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        let slot = self.slot();
        // Without an instance the fallback serves.
        let Some(compiled) = slot.compiled() else { return self.fallback.rehearsal() };
        let shared = Arc::new(ModuleRecord::new(Arc::clone(&slot.shared.policy)));
        let own = || {
            let own = Arc::new(Slot::new(slot.group.clone(), Arc::clone(&slot.spec), Arc::clone(&shared), None));
            let instance = Instance::new(&compiled, &slot.spec, slot.group.port(), Arc::new(GuestLog::silent()))?;
            own.put(instance, &compiled).map(|()| own)
        };
        let failed = |fault: Fault| RehearsalError(fault.text);
        let slots = [own().map_err(failed)?, own().map_err(failed)?];
        slots[self.at].set_servers(&slot.set());
        slots[self.at].set_has_named(slot.has_named());
        Ok(Arc::new(Self { slots, at: self.at, fallback: self.fallback.rehearsal()? }))
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        match self.slot().ask(request) {
            Asked::Server(picked) => Some(picked),
            Asked::Nobody => None,
            Asked::Unanswered => {
                self.slot().shared.counters.fallbacks.fetch_add(1, Relaxed);
                self.fallback.pick(request)
            }
        }
    }

    fn named_nobody(&self, request: &PickRequest<'_>) -> Option<Picked> {
        if !self.slot().named_nobody() {
            return None;
        }
        self.slot().shared.counters.fallbacks.fetch_add(1, Relaxed);
        self.fallback.pick(request)
    }

    fn report(&self, epoch: Epoch, server: ServerId, outcome: Outcome) {
        self.slot().report(epoch, server, outcome);
    }
}
