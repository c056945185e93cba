//! What a group is called where it is shown: in events, in the log, in lists.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// The port of a group and its name, where it has one. Cheap to clone: every event of a session carries one.
#[derive(Clone, Debug)]
pub struct GroupLabel(Arc<Label>);

#[derive(Debug)]
struct Label {
    /// A group that has a name may move to another port.
    port: AtomicU16,
    name: Option<Box<str>>,
}

impl GroupLabel {
    /// The label of a group that listens on `port`.
    pub fn new(port: u16, name: Option<&str>) -> Self {
        Self(Arc::new(Label { port: port.into(), name: name.map(Into::into) }))
    }

    /// The group listens on another port from now on, for everybody who holds its label.
    pub fn set_port(&self, port: u16) {
        self.0.port.store(port, Relaxed);
    }

    /// The port, the first one where the group listens on several addresses.
    pub fn port(&self) -> u16 {
        self.0.port.load(Relaxed)
    }

    /// True when both are the label of the same group.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The name; `None` for a group that is called by its port.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }
}

/// The name, or else the port.
impl fmt::Display for GroupLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.port()),
        }
    }
}
