//! Another policy object in the place of the one that serves, with the same configuration.

use std::ptr::addr_eq;
use std::sync::Arc;

use super::Group;
use super::recording::Recording;
use super::shadow::Shadow;
use crate::policy::IBalancePolicy;
use crate::policy::spec::PolicySpec;

impl Group {
    /// The policy that serves, prepared for no servers, and how it is configured.
    pub fn policy(&self) -> (Arc<dyn IBalancePolicy>, PolicySpec) {
        let members = self.members();
        (members.policy(), self.snapshot().settings.policy.clone())
    }

    /// Has another policy object serve in the place of this one. False, and nothing is changed, when that does not serve
    /// any more.
    pub fn exchange_policy(&self, old: &Arc<dyn IBalancePolicy>, new: Arc<dyn IBalancePolicy>) -> bool {
        let mut members = self.members();
        let is_same = addr_eq(Arc::as_ptr(&members.policy()), Arc::as_ptr(old));
        if is_same {
            members.set_policy(new);
            self.republish(&mut members);
        }
        is_same
    }

    /// The recording under way, or the last one.
    pub fn recording(&self) -> Option<Arc<Recording>> {
        self.recording.load_full()
    }

    /// From now on this is the last recording.
    pub fn set_recording(&self, recording: Arc<Recording>) {
        self.recording.store(Some(recording));
    }

    /// The policy that is tried beside its own, now or last.
    pub fn shadow(&self) -> Option<Arc<Shadow>> {
        self.shadow.load_full()
    }

    /// From now on this is the last that was tried.
    pub fn set_shadow(&self, shadow: Arc<Shadow>) {
        self.shadow.store(Some(shadow));
    }
}
