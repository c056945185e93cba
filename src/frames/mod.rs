//! What the dashboard and `goproxy top` are shown: once a second a *frame*, the same for all viewers.
//!
//! A frame is computed on the blocking pool, and only while somebody looks. A viewer gets a full state first, then
//! what changes; one that is behind gets a full state again instead of a queue. Figures and words are those of the
//! lists ([`crate::group::view`]) and of the counters; only rates and shares are made here.
//!
//! On the wire a frame is a server-sent event, `state` or `change`, whose `data` is one line of JSON:
//!
//! ```json
//! {"t":1764511245123,"n":17,
//!  "process":{"version":"0.1.0","started_ms":1764511000000,"sessions_max":10000,"ready":true,"generation":3,
//!             "reload":{"ok":false,"loaded_ms":1764511001000,"error":"proxy.json has 1 mistake(s), the first …"}},
//!  "p":[sessions,rate,up,down],
//!  "groups":[{"i":1,"group":"db","port":5432,"listen":"0.0.0.0:5432","open":true,"policy":"wasm:sticky",
//!             "policy_state":"quarantined","fallback":"round_robin","fail_open":false,"self_preservation":false,
//!             "sessions_max":0}],
//!  "g":[[1,sessions,rate,up,down,refused]],
//!  "servers":[{"i":2,"g":1,"addr":"10.0.0.5:5432","state":"ready","online":false,"suspect":true,
//!              "cause":"connection refused","since_ms":1764511240000,"weight":1,"backup":false,"origin":"file",
//!              "sessions_max":0,"check":{"ok":false,"kind":"tcp","error":"connection refused"}}],
//!  "s":[[2,sessions,rate,share,connect_us,check_us]],
//!  "policies":[{"name":"wasm:sticky","kind":"wasm","state":"quarantined","version":"1.2","error":"pick took too long",
//!               "groups":1,"calls":12345,"faults":3,"fallbacks":40,"cost_ns":850}],
//!  "gone":{"groups":[],"servers":[]}}
//! ```
//!
//! `t` is in milliseconds since 1970, and `n` grows by one. A `state` replaces whatever was known. A `change`
//! has only what is new: an object replaces the one with the same `i`, a row of numbers the row that begins with the same
//! `i`, `policies` and `process` as a whole. Empty lists, and zeros at the end of a row, are left out. `i` is the number of a
//! group or a server for as long as somebody looks, and follows the order of the lists.
//!
//! Sessions are those there are now, of `rate` (new sessions), `up`, `down` (bytes) and `refused` (clients turned away)
//! those of one second; null in the first frame after a while in which nobody looked. `share` is the server's part of
//! the group's new sessions of the last ten seconds, in per cent. What cannot be told is null.

mod rows;
mod sample;
mod table;
mod tracker;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use sample::Sample;
use tracker::{Frame, Tracker};

/// The time between two frames.
const INTERVAL: Duration = Duration::from_secs(1);

/// Makes frames while somebody looks.
#[derive(Debug)]
pub struct Frames {
    /// The newest one; `None` while nobody looks.
    newest: watch::Sender<Option<Arc<Frame>>>,
    /// Wakes [`Frames::run`] when somebody begins to look.
    looked_at: Notify,
}

/// Somebody who looks, until this is dropped.
#[derive(Debug)]
pub struct Viewer {
    newest: watch::Receiver<Option<Arc<Frame>>>,
    /// The number of the frame that was shown last.
    shown: Option<u64>,
}

impl Default for Frames {
    fn default() -> Self {
        Self { newest: watch::Sender::new(None), looked_at: Notify::new() }
    }
}

impl Frames {
    /// Makes a frame every second while there are viewers, until `stop`.
    pub async fn run(&self, control: Control, stop: CancellationToken) {
        let make = async {
            loop {
                self.looked_at.notified().await;
                self.serve(&control).await;
            }
        };
        stop.run_until_cancelled(make).await;
    }

    /// Makes frames until nobody looks any more.
    async fn serve(&self, control: &Control) {
        let mut tracker = Tracker::default();
        let mut next = Instant::now();
        while self.newest.receiver_count() > 0 {
            let control = control.clone();
            let made = tokio::task::spawn_blocking(move || {
                let frame = tracker.frame(Sample::take(&control));
                (tracker, frame)
            });
            let Ok((kept, frame)) = made.await else {
                // The runtime is going down, or a panic, which was told: then begin anew.
                tracker = Tracker::default();
                sleep_until(Instant::now() + INTERVAL).await;
                continue;
            };
            tracker = kept;
            self.newest.send_replace(Some(Arc::new(frame)));
            // After a pause of the process there is nothing to be made up for.
            next = (next + INTERVAL).max(Instant::now() + INTERVAL / 2);
            sleep_until(next).await;
        }
        self.newest.send_replace(None);
        // Whoever has begun to look between the last two lines has left a permit.
    }

    /// Begins to look.
    pub fn view(&self) -> Viewer {
        let viewer = Viewer { newest: self.newest.subscribe(), shown: None };
        self.looked_at.notify_one();
        viewer
    }

    /// What a frame would show now, as a table for people. To be called where it may take a while.
    pub fn table(control: &Control) -> String {
        table::render(&Tracker::default().frame(Sample::take(control)))
    }
}

impl Viewer {
    /// Waits for the next frame, as a server-sent event. `None` when no more will be made.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = &*self.newest.borrow_and_update()
                && self.shown != Some(frame.number)
            {
                let is_next = self.shown.is_some_and(|shown| shown + 1 == frame.number);
                self.shown = Some(frame.number);
                return Some(if is_next { frame.change.clone() } else { frame.full() });
            }
            self.newest.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests;
