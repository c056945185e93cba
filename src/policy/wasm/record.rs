//! What is known of a module in all groups together.

use std::sync::{Arc, Mutex, PoisonError};

use super::fault::Fault;
use crate::base::label::GroupLabel;
use crate::counters::ModuleCounters;

/// What all slots of one module share.
#[derive(Debug)]
pub(super) struct ModuleRecord {
    /// `wasm:NAME`.
    pub(super) policy: Arc<str>,
    pub(super) counters: Arc<ModuleCounters>,
    /// Guards the text of the last fault.
    last_fault: Mutex<Option<String>>,
}

impl ModuleRecord {
    pub(super) fn new(policy: Arc<str>) -> Self {
        Self { policy, counters: Arc::default(), last_fault: Mutex::default() }
    }

    /// The last fault of any slot, for people.
    pub(super) fn last_fault(&self) -> Option<String> {
        self.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a fault in this group and keeps its text.
    pub(super) fn failed(&self, group: &GroupLabel, fault: &Fault) {
        self.counters.fault(fault.kind);
        let text = format!("group {group}: {}", fault.text);
        *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}
