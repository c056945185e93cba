//! A server of a simulation: what it does with the sessions it gets.
//!
//! `hold` lets each last its duration. `queue` works on so many at a time, in order (a pool of threads). `share` works on
//! all at once, as processors do: with `n` sessions on `k` places each gets `k / n` of one, or a whole one.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::config::ServerPlan;
use crate::server::{Server, ServerSettings};

/// A session at a server, by its place in the list of sessions.
pub(super) type Key = usize;

/// A server.
pub(super) struct Station {
    pub(super) settings: ServerSettings,
    /// True when connects succeed.
    pub(super) is_up: bool,
    pub(super) speed: f64,
    pub(super) places: u32,
    /// The median of connects, in nanoseconds.
    pub(super) connect_ns: f64,
    /// How much they differ.
    pub(super) connect_sigma: f64,
    /// As the group shows it; none before its first session.
    pub(super) server: Option<Arc<Server>>,
    /// How long the proxy waits before it tries a server again that has failed, in nanoseconds; 0 while it has not.
    pub(super) probe_ns: u64,
    /// Sessions it has.
    pub(super) held: u32,
    work: Work,
}

enum Work {
    Hold,
    Queue { waiting: VecDeque<Key>, busy: u32 },
    Share(Share),
}

/// Work that all sessions share. Time is counted in what each of them has got so far, so a session's end stays where it
/// is whoever comes and goes.
#[derive(Default)]
struct Share {
    got: f64,
    at_ns: u64,
    ends: BinaryHeap<Reverse<End>>,
    /// Grows with every change, so that an end that was foreseen before is known to be out of date.
    stamp: u64,
}

#[derive(Clone, Copy, PartialEq)]
struct End {
    got: f64,
    key: Key,
}

impl Eq for End {}

impl PartialOrd for End {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for End {
    fn cmp(&self, other: &Self) -> Ordering {
        self.got.total_cmp(&other.got).then(self.key.cmp(&other.key))
    }
}

/// What is to be done at a later time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Later {
    /// Nothing.
    Nothing,
    /// This session ends in so many nanoseconds.
    Ends(Key, u64),
    /// In so many nanoseconds a session ends, unless the stamp is another by then.
    Look { in_ns: u64, stamp: u64 },
}

impl Station {
    pub(super) fn new(plan: &ServerPlan, settings: ServerSettings) -> Self {
        let work = match plan.serve {
            "queue" => Work::Queue { waiting: VecDeque::new(), busy: 0 },
            "share" => Work::Share(Share::default()),
            _ => Work::Hold,
        };
        Self {
            settings,
            is_up: true,
            speed: plan.speed,
            places: plan.places,
            connect_ns: plan.connect.as_nanos() as f64,
            connect_sigma: plan.connect_sigma,
            server: None,
            probe_ns: 0,
            held: 0,
            work,
        }
    }

    /// True when sessions wait for each other.
    pub(super) fn has_limits(&self) -> bool {
        !matches!(self.work, Work::Hold)
    }

    /// Takes a session with so much work. Says whether that begins at once, and what comes of it.
    pub(super) fn take(&mut self, key: Key, work_ns: u64, now_ns: u64) -> (bool, Later) {
        self.held += 1;
        match &mut self.work {
            Work::Hold => (true, Later::Ends(key, work_ns)),
            Work::Queue { busy, .. } if *busy < self.places => {
                *busy += 1;
                (true, Later::Ends(key, (work_ns as f64 / self.speed) as u64))
            }
            Work::Queue { waiting, .. } => {
                waiting.push_back(key);
                (false, Later::Nothing)
            }
            Work::Share(share) => {
                share.advance(now_ns, self.speed, self.places);
                share.ends.push(Reverse(End { got: share.got + work_ns as f64, key }));
                (true, share.foresee(self.speed, self.places))
            }
        }
    }

    /// A session of `hold` or `queue` is over. Returns the one that begins now.
    pub(super) fn end(&mut self) -> Option<Key> {
        self.held -= 1;
        let Work::Queue { waiting, busy } = &mut self.work else { return None };
        let next = waiting.pop_front();
        *busy -= u32::from(next.is_none());
        next
    }

    /// How long a session of `queue` is worked on.
    pub(super) fn service_ns(&self, work_ns: u64) -> u64 {
        (work_ns as f64 / self.speed) as u64
    }

    /// A session of `share` should be over. Returns it, and what comes next; `None` when things have changed meanwhile.
    pub(super) fn look(&mut self, stamp: u64, now_ns: u64) -> Option<(Key, Later)> {
        let Work::Share(share) = &mut self.work else { return None };
        if share.stamp != stamp {
            return None;
        }
        share.advance(now_ns, self.speed, self.places);
        let Reverse(end) = share.ends.pop()?;
        // Rounding to whole nanoseconds must not lose work.
        share.got = share.got.max(end.got);
        self.held -= 1;
        Some((end.key, share.foresee(self.speed, self.places)))
    }

    /// Works at this speed from now on.
    pub(super) fn set_speed(&mut self, speed: f64, now_ns: u64) -> Later {
        let old = std::mem::replace(&mut self.speed, speed);
        let Work::Share(share) = &mut self.work else { return Later::Nothing };
        share.advance(now_ns, old, self.places);
        share.foresee(speed, self.places)
    }

    /// All its sessions are gone.
    pub(super) fn clear(&mut self) {
        self.held = 0;
        match &mut self.work {
            Work::Hold => {}
            Work::Queue { waiting, busy } => {
                waiting.clear();
                *busy = 0;
            }
            Work::Share(share) => {
                share.ends.clear();
                share.stamp += 1;
            }
        }
    }
}

impl Share {
    /// What each session gets in a nanosecond.
    fn rate(&self, speed: f64, places: u32) -> f64 {
        let sessions = self.ends.len() as f64;
        speed * (f64::from(places) / sessions).min(1.0)
    }

    fn advance(&mut self, now_ns: u64, speed: f64, places: u32) {
        if !self.ends.is_empty() {
            self.got += self.rate(speed, places) * (now_ns - self.at_ns) as f64;
        }
        self.at_ns = now_ns;
    }

    fn foresee(&mut self, speed: f64, places: u32) -> Later {
        self.stamp += 1;
        let Some(Reverse(next)) = self.ends.peek() else { return Later::Nothing };
        let in_ns = ((next.got - self.got) / self.rate(speed, places)).max(0.0).ceil();
        Later::Look { in_ns: in_ns as u64, stamp: self.stamp }
    }
}
