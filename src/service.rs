//! What the service manager, such as systemd, is told: that the process serves, reloads or stops, how the last reload of
//! the file ended, and that it still works.
//!
//! Without a service manager nothing is told. What cannot be told is logged and changes nothing. When to say what is left to `main`.

use std::convert::Infallible;
use std::future::pending;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::base::text::one_line;
use crate::events::{self, ConfigEvent, Event, Received};

/// Names the socket on which a service manager listens.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// The longest status, in characters.
const STATUS_CHARS_MAX: usize = 300;

/// The process serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The file is being read again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The process stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Goes on telling how reloads end, and feeds the watchdog as long as the caller is run. Never ends.
pub async fn report() -> Infallible {
    if std::env::var_os(SOCKET_VARIABLE).is_none() {
        return pending().await;
    }
    let mut changes = events::subscribe();
    // sd_watchdog_enabled(3) asks for twice in the time that is allowed.
    let every = sd_notify::watchdog_enabled().map(|time_max| time_max / 2).filter(|every| !every.is_zero());
    let mut watchdog = every.map(|every| interval_at(Instant::now() + every, every));
    if let Some(watchdog) = &mut watchdog {
        // After a pause of the whole process one sign is enough.
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let feed = async {
            match &mut watchdog {
                Some(watchdog) => _ = watchdog.tick().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = feed => tell(&[NotifyState::Watchdog]),
            received = changes.next() => {
                if let Received::Event(published) = received
                    && let Event::Config(event) = &published.event
                    && let Some(status) = status(event)
                {
                    tell(&[NotifyState::Status(&status)]);
                }
            }
        }
    }
}

/// How a reload has ended; `None` for what is no end of one.
fn status(event: &ConfigEvent) -> Option<String> {
    let refused =
        |why: &str| one_line(&format!("proxy.json refused, what runs stays as it is: {why}"), STATUS_CHARS_MAX);
    match event {
        ConfigEvent::Reloaded { .. } => Some("proxy.json reloaded".to_owned()),
        ConfigEvent::InOrderAgain | ConfigEvent::Unchanged | ConfigEvent::NothingToDo => {
            Some("proxy.json is in force".to_owned())
        }
        ConfigEvent::Refused { error } => Some(refused(error)),
        ConfigEvent::FileGone { error, .. } => Some(refused(error)),
        _ => None,
    }
}

/// Tells systemd, where it listens.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
