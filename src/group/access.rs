//! The access log of a group. It changes with the configuration, and sessions that end look at it without a lock.

use std::sync::Arc;

use super::Group;
use crate::access::AccessTarget;

impl Group {
    /// Where its sessions are told besides the log of the process.
    pub fn access_log(&self) -> Option<Arc<AccessTarget>> {
        self.access_log.load_full()
    }

    /// From now on its sessions are told there.
    pub fn set_access_log(&self, target: Option<Arc<AccessTarget>>) {
        self.access_log.store(target);
    }
}
