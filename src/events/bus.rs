//! Hands events to whoever wants to know.
//!
//! There are two channels, because they differ in volume by orders of magnitude: what changes, and what sessions do.
//! Both are bounded and lossy: a subscriber that stalls costs the channel's capacity at most, holds up nobody, and
//! finds a gap where it missed something. After a gap it looks at what it cares about anew.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender};

use super::event::{Event, Published};
use super::history::{HISTORY, History};

/// Changes that a subscriber may be behind.
pub const CHANGES_MAX: usize = 1_024;

/// Sessions' events that a subscriber may be behind: a busy proxy has as many in 20 ms.
pub const SESSIONS_MAX: usize = 8_192;

/// What a subscriber finds.
#[derive(Clone, Debug)]
pub enum Received {
    /// The next event.
    Event(Arc<Published>),
    /// So many events were lost here, because the subscriber was too slow.
    Gap(u64),
}

/// A subscriber's end of a channel. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    receiver: Receiver<Arc<Published>>,
}

/// One channel and the numbers of its events.
pub(crate) struct Bus {
    sender: Sender<Arc<Published>>,
    /// What has a name is kept here.
    history: Option<&'static LazyLock<History>>,
}

/// Numbers go through both channels, so that a reader of both can put them in order.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

/// What changes: servers, groups, the configuration, policies; and requests of the admin port.
pub(super) static CHANGES: LazyLock<Bus> = LazyLock::new(|| Bus { history: Some(&HISTORY), ..Bus::new(CHANGES_MAX) });

/// What sessions do.
pub(super) static SESSIONS: LazyLock<Bus> = LazyLock::new(|| Bus::new(SESSIONS_MAX));

impl Bus {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { sender: Sender::new(capacity), history: None }
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription { receiver: self.sender.subscribe() }
    }

    pub(super) fn has_subscribers(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub(crate) fn send(&self, event: Event, at: SystemTime) -> Arc<Published> {
        let number = LAST_NUMBER.fetch_add(1, Relaxed) + 1;
        let published = match self.history.filter(|_| event.name().is_some()) {
            Some(history) => history.keep(|id| Published { number, id: Some(id), at, event }),
            None => Arc::new(Published { number, id: None, at, event }),
        };
        // Fails when there is no subscriber: then nobody wants to know.
        let _ = self.sender.send(Arc::clone(&published));
        published
    }
}

impl Subscription {
    /// Waits for the next event, or the gap where some were lost.
    pub async fn next(&mut self) -> Received {
        match self.receiver.recv().await {
            Ok(published) => received(published),
            Err(RecvError::Lagged(lost)) => Received::Gap(lost),
            // The senders are statics.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// What is there already; `None` when nothing is.
    pub fn try_next(&mut self) -> Option<Received> {
        match self.receiver.try_recv() {
            Ok(published) => Some(received(published)),
            Err(TryRecvError::Lagged(lost)) => Some(Received::Gap(lost)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    /// Waits for an event that `is_wanted`, or a gap, after which one may have been missed. What else is there by then
    /// is passed over.
    pub async fn wait_for(&mut self, is_wanted: impl Fn(&Event) -> bool) {
        loop {
            match self.next().await {
                Received::Event(published) if !is_wanted(&published.event) => {}
                _ => return,
            }
        }
    }
}

fn received(published: Arc<Published>) -> Received {
    match published.event {
        Event::Lost(lost) => Received::Gap(lost),
        _ => Received::Event(published),
    }
}
