//! Facts as values: what happens is published once, and whoever wants to know receives it.
//!
//! The log makes lines of events, subscribers act on them; nobody polls to learn what happened. [`publish`] is for
//! management: subscribers have the event when it returns. Data threads use [`session()`] and [`publish_soon`], which cost
//! one push into the thread's own part of a bounded queue; the log thread takes events out of it and hands them on.
//! Nobody ever waits: what does not fit is dropped, and a subscriber finds a gap in its place.
//!
//! What nobody but a reader of the log could use stays a line of `tracing`: steps at *debug*, the status line, and what
//! `main` and the log itself say before anybody can subscribe, or when the process ends.

mod admin;
mod bus;
mod config;
mod declare;
mod event;
mod fields;
mod history;
mod limits;
mod limit;
mod lines;
mod policy;
mod queue;
mod server;
mod session;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use tracing::Level;

pub use admin::AdminEvent;
#[cfg(test)]
pub(crate) use bus::Bus;
pub use bus::{CHANGES_MAX, Received, SESSIONS_MAX, Subscription};
pub use config::ConfigEvent;
pub use event::{Event, GAP, GroupChange, ProcessEvent, Published};
pub use fields::{Value, Visitor};
pub use history::{Batch, HISTORY_MAX, Reader};
pub use limit::LineLimit;
pub use limits::LimitEvent;
pub use lines::{RequestLines, SessionLines};
pub use policy::PolicyEvent;
#[cfg(test)]
pub(crate) use queue::SHARD_ENTRIES_MAX;
pub use queue::Wanted;
pub(crate) use queue::{Entry, PAUSE, QUEUE, Queue, What, shrink};
pub use server::ServerChange;
pub use session::{ClientFacts, Routed, SessionEvent, Step, TlsFacts};

/// Publishes what management has done or found. Subscribers have it when this returns, the log writes it soon after.
pub fn publish(event: Event) {
    let level = event.level();
    let at = SystemTime::now();
    let published = bus::CHANGES.send(event, at);
    if QUEUE.takes(level) {
        QUEUE.push_entry(Entry { at, what: What::Published(published) });
    }
}

/// As [`publish`]; the log leaves the event out when it has no more room for such lines.
pub fn publish_within(limit: &LineLimit, now_ms: u64, event: Event) {
    let level = event.level();
    if QUEUE.takes(level) && limit.has_room(now_ms) {
        publish(event);
    } else {
        bus::CHANGES.send(event, SystemTime::now());
    }
}

/// Publishes from a thread that must not wait for anybody: subscribers have it a moment later.
pub fn publish_soon(event: Event) {
    match QUEUE.is_attached() {
        true => QUEUE.push(What::Event(Box::new(event))),
        // Without a log thread nobody would hand it on: a proxy inside another program, or a test.
        false => publish(event),
    }
}

/// Has the log write what comes by the thousand and changes nothing, which would drown everything else that subscribers
/// have to see. `event` is not called when the log leaves out what is of this level.
pub fn log_only(level: Level, event: impl FnOnce() -> Event) {
    if QUEUE.takes(level) {
        QUEUE.push(What::Logged(Box::new(event())));
    }
}

/// Who wants to know of this step of sessions: one atomic read.
#[inline]
pub fn wanted(step: Step) -> Wanted {
    QUEUE.wanted(step)
}

/// Publishes what a session did, which somebody wants to know: see [`wanted`].
#[inline]
pub fn session(event: SessionEvent) {
    QUEUE.push(What::Session(event));
}

/// Subscribes to everything but what sessions do.
pub fn subscribe() -> Subscription {
    bus::CHANGES.subscribe()
}

/// Reads what viewers are told: what has happened after the event `after` and is still kept, then what comes. Without
/// `after`, what comes from now on.
pub fn reader(after: Option<u64>) -> Reader {
    history::HISTORY.reader(after)
}

/// Reads like [`reader`], and the last `count` events first.
pub fn reader_of_last(count: u64) -> Reader {
    history::HISTORY.reader_of_last(count)
}

/// Subscribes to what sessions do. Until the subscription is dropped, and some events longer, data threads publish it.
pub fn subscribe_to_sessions() -> Subscription {
    let subscription = bus::SESSIONS.subscribe();
    QUEUE.set_subscribed(true);
    subscription
}

/// Hands a session's event to those who have subscribed.
pub(crate) fn hand_on_session(event: SessionEvent, at: SystemTime) {
    if !bus::SESSIONS.has_subscribers() {
        QUEUE.set_subscribed(false);
        // Whoever has subscribed since the look has set the flag before, or finds it as it should be.
        if bus::SESSIONS.has_subscribers() {
            QUEUE.set_subscribed(true);
        }
        return;
    }
    bus::SESSIONS.send(Event::Session(event), at);
}

/// Hands on an event that came by way of the queue.
pub(crate) fn hand_on(event: Event, at: SystemTime) -> std::sync::Arc<Published> {
    bus::CHANGES.send(event, at)
}

/// Tells every subscriber that so many events were lost before they could be handed on.
pub(crate) fn hand_on_gap(lost: u64) {
    let at = SystemTime::now();
    bus::CHANGES.send(Event::Lost(lost), at);
    if bus::SESSIONS.has_subscribers() {
        bus::SESSIONS.send(Event::Lost(lost), at);
    }
}
