//! What a slot asks of whoever makes instances.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Compiled, Fault, Instance, Slot};

/// What a slot asks of whoever makes instances.
pub(in crate::policy::wasm) enum Request {
    /// Another instance.
    Replace(Replacement),
    /// Nothing: the slot is gone.
    Gone,
}

/// A request for another instance.
pub(in crate::policy::wasm) struct Replacement {
    pub(in crate::policy::wasm) slot: Weak<Slot>,
    /// The instance that failed, to be dropped by somebody for whom no client waits.
    pub(in crate::policy::wasm) dead: Option<Box<Instance>>,
    /// How long to wait first.
    pub(in crate::policy::wasm) pause: Duration,
    /// A version that has named no server since it was put to work, and what that is called.
    pub(in crate::policy::wasm) names_nobody: Option<(Arc<Compiled>, Fault)>,
}

/// Called with the slot locked; passes the request on and does not block. Gives it back when there is no room for it.
pub(in crate::policy::wasm) type Send = Box<dyn Fn(Request) -> Result<(), Request> + std::marker::Send + Sync>;
