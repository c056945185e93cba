//! The routes of a group. They change with the configuration, and sessions that begin look at them without a lock.

use std::sync::Arc;

use super::{Group, RouteTable};

impl Group {
    /// The routes that are in force.
    pub fn routes(&self) -> Option<Arc<RouteTable<Self>>> {
        self.routes.load_full()
    }

    /// From now on its new clients are routed by this.
    pub fn set_routes(&self, table: Option<Arc<RouteTable<Self>>>) {
        self.routes.store(table);
    }
}
