//! What waits for the log thread: lines and events, bounded, filled by everybody, emptied in one go.
//!
//! Each thread pushes into the shard that is its own while there are as few threads as shards, so the
//! locks are hardly ever contended. Nobody is woken for an entry: the log thread looks every
//! [`PAUSE`], and only after a second without any entry does the next one wake it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, SystemTime};

use tracing::Level;

use super::event::{Event, Published};
use super::lines::SessionLines;
use super::session::{SessionEvent, Step};

/// Entries one shard holds; what comes after them is dropped.
pub(crate) const SHARD_ENTRIES_MAX: usize = 16_384;

/// How long the log thread lets entries gather.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

const SHARDS: usize = 8;

/// A larger vector is freed after use when little of it was used, so that one burst does not hold memory for good, and
/// lasting load does not ask for it anew each time.
const CAPACITY_KEPT_MAX: usize = 1_024;

/// Little is less than one in so many.
const USED_PART_MIN: usize = 4;

static THREADS_SEEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = THREADS_SEEN.fetch_add(1, Relaxed) % SHARDS;
}

/// Something to write.
pub(crate) struct Entry {
    pub(crate) at: SystemTime,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// A line as `tracing` formatted it, with its end of line.
    Line(Box<[u8]>),
    /// For the log, for subscribers, or for both.
    Session(SessionEvent),
    /// From a data thread: for subscribers and the log.
    Event(Box<Event>),
    /// Subscribers have it: for the log.
    Published(Arc<Published>),
    /// For the log alone.
    Logged(Box<Event>),
}

/// Somebody has subscribed to what sessions do. The other bits are [`Step`]s that the log writes, and the next two.
const SUBSCRIBED: u8 = 0x80;

/// Some group has an access log.
const HAS_ACCESS_LOGS: u8 = 0x40;

/// Some access log has a line when a client has connected.
const HAS_CONNECT_LINES: u8 = 0x20;

/// Who wants to know of a step of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    bits: u8,
    step: Step,
}

impl Wanted {
    /// Nobody: it need not be told.
    #[inline]
    pub fn is_by_nobody(self) -> bool {
        let by_access_logs = if self.step == Step::Connect { HAS_CONNECT_LINES } else { HAS_ACCESS_LOGS };
        self.bits & (self.step as u8 | SUBSCRIBED | by_access_logs) == 0
    }

    /// The log of the process.
    #[inline]
    pub fn is_by_log(self) -> bool {
        self.bits & self.step as u8 != 0
    }

    /// A subscriber.
    #[inline]
    pub fn is_by_subscribers(self) -> bool {
        self.bits & SUBSCRIBED != 0
    }

    /// True when some group has an access log, so that the session's own has to be asked whether it has.
    #[inline]
    pub fn has_access_logs(self) -> bool {
        self.bits & HAS_ACCESS_LOGS != 0
    }
}

/// The queue of the process.
pub(crate) static QUEUE: Queue = Queue::new();

/// Guards the entries of the threads that share it. A cache line each, so shards do not slow each other.
#[repr(align(64))]
struct Shard(Mutex<Vec<Entry>>);

/// The queue, and how its two ends tell each other about flushing and stopping.
pub(crate) struct Queue {
    shards: [Shard; SHARDS],
    /// What somebody wants to know of what sessions do.
    sessions_wanted: AtomicU8,
    /// The least important level that the log writes; 0 while there is no log.
    level: AtomicU8,
    /// Lines that were lost.
    dropped: AtomicU64,
    /// Events that were lost and that no subscriber has been told of yet.
    events_lost: AtomicU64,
    is_idle: AtomicBool,
    is_stopping: AtomicBool,
    is_reopening: AtomicBool,
    flushes_wanted: AtomicU64,
    /// Guards the number of the last flush that was done.
    flushes_done: Mutex<u64>,
    flush_done: Condvar,
    log_thread: OnceLock<Thread>,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self {
            shards: [const { Shard(Mutex::new(Vec::new())) }; SHARDS],
            sessions_wanted: AtomicU8::new(0),
            level: AtomicU8::new(0),
            dropped: AtomicU64::new(0),
            events_lost: AtomicU64::new(0),
            is_idle: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            is_reopening: AtomicBool::new(false),
            flushes_wanted: AtomicU64::new(0),
            flushes_done: Mutex::new(0),
            flush_done: Condvar::new(),
            log_thread: OnceLock::new(),
        }
    }

    // Inlined, as is the rest of the way: an entry is built where it stays.
    #[cfg(test)]
    pub(crate) fn push_session(&self, step: Step, event: impl FnOnce() -> SessionEvent) {
        if !self.wanted(step).is_by_nobody() {
            self.push(What::Session(event()));
        }
    }

    /// Who wants to know of this step of sessions.
    #[inline]
    pub(crate) fn wanted(&self, step: Step) -> Wanted {
        Wanted { bits: self.sessions_wanted.load(Relaxed), step }
    }

    /// True when the log writes this step of sessions.
    pub(crate) fn logs(&self, step: Step) -> bool {
        self.wanted(step).is_by_log()
    }

    /// Some groups have access logs, or none has any more; and some of these have a line for each client that connects.
    pub(crate) fn set_access_logs(&self, has_some: bool, has_connect_lines: bool) {
        for (bit, is_set) in [(HAS_ACCESS_LOGS, has_some), (HAS_CONNECT_LINES, has_connect_lines)] {
            match is_set {
                true => self.sessions_wanted.fetch_or(bit, Relaxed),
                false => self.sessions_wanted.fetch_and(!bit, Relaxed),
            };
        }
    }

    /// Has the log thread open the files of access logs again.
    pub(crate) fn reopen_access_logs(&self) {
        self.is_reopening.store(true, Relaxed);
        self.wake();
    }

    /// Never waits longer than another thread takes to move one entry.
    #[inline]
    pub(crate) fn push(&self, what: What) {
        self.push_entry(Entry { at: SystemTime::now(), what });
    }

    #[inline]
    pub(crate) fn push_entry(&self, entry: Entry) {
        let mut entries = lock(&self.shards[SHARD.with(|shard| *shard)].0);
        if entries.len() >= SHARD_ENTRIES_MAX {
            drop(entries);
            return self.lose(entry);
        }
        entries.push(entry);
        let is_first = entries.len() == 1;
        drop(entries);
        // The log thread says that it is idle before it looks into the shards for the last time, and
        // the lock orders that against this: an entry it did not see comes from somebody who sees this.
        if is_first && self.is_idle.load(Relaxed) && self.is_idle.swap(false, Relaxed) {
            self.wake();
        }
    }

    /// From now on the log writes what is at least as important as this, and of sessions these steps.
    pub(crate) fn set_lines(&self, level: Level, sessions: SessionLines) {
        self.level.store(rank(level), Relaxed);
        let (connect, close, refuse) = (Step::Connect as u8, Step::Close as u8, Step::Refuse as u8);
        let steps = match sessions {
            SessionLines::All => connect | close | refuse,
            SessionLines::Closed => close | refuse,
            SessionLines::Refused => refuse,
            SessionLines::None => 0,
        };
        // Those that got no server are told at *warn*, the others at *info* and below.
        let of_level = match level {
            Level::ERROR => 0,
            Level::WARN => refuse,
            _ => connect | close | refuse,
        };
        let steps = steps & of_level;
        // One after the other: a subscriber may come in between.
        self.sessions_wanted.fetch_or(steps, Relaxed);
        self.sessions_wanted.fetch_and(steps | SUBSCRIBED | HAS_ACCESS_LOGS | HAS_CONNECT_LINES, Relaxed);
    }

    /// True when the log writes events of this level.
    pub(crate) fn takes(&self, level: Level) -> bool {
        rank(level) <= self.level.load(Relaxed)
    }

    /// Somebody has subscribed to what sessions do, or nobody has any more.
    pub(crate) fn set_subscribed(&self, is_subscribed: bool) {
        match is_subscribed {
            true => self.sessions_wanted.fetch_or(SUBSCRIBED, Relaxed),
            false => self.sessions_wanted.fetch_and(!SUBSCRIBED, Relaxed),
        };
    }

    /// Counts what found no place.
    #[cold]
    fn lose(&self, entry: Entry) {
        match entry.what {
            What::Line(_) | What::Published(_) | What::Logged(_) => {}
            What::Session(event) => {
                self.events_lost.fetch_add(1, Relaxed);
                if let Some(target) = event.access_target() {
                    target.lose(1);
                }
                if !event.is_logged() {
                    return;
                }
            }
            What::Event(_) => {
                self.events_lost.fetch_add(1, Relaxed);
            }
        }
        self.count_dropped(1);
    }

    /// Events that were lost since the last call.
    pub(crate) fn take_events_lost(&self) -> u64 {
        self.events_lost.swap(0, Relaxed)
    }

    pub(crate) fn dropped_total(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(crate) fn count_dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Relaxed);
    }

    /// Waits until what was pushed so far is written, or for `time_max`. True when it is written.
    pub(crate) fn flush(&self, time_max: Duration) -> bool {
        let mine = {
            let _done = lock(&self.flushes_done);
            self.flushes_wanted.fetch_add(1, Relaxed) + 1
        };
        self.wake();
        let done = lock(&self.flushes_done);
        let waited = self.flush_done.wait_timeout_while(done, time_max, |done| *done < mine);
        let (done, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *done >= mine
    }

    /// Flushes for the last time: the log thread ends, and session events cost nothing any more. True when everything is
    /// written.
    pub(crate) fn stop(&self, time_max: Duration) -> bool {
        self.is_stopping.store(true, Relaxed);
        let is_written = self.flush(time_max);
        self.level.store(0, Relaxed);
        self.sessions_wanted.store(0, Relaxed);
        is_written
    }

    fn wake(&self) {
        if let Some(thread) = self.log_thread.get() {
            thread.unpark();
        }
    }
}

/// The log thread's end.
impl Queue {
    /// Says who is to be woken. Called once, by the log thread, before anything else.
    pub(crate) fn attach(&self) {
        self.log_thread.get_or_init(std::thread::current);
    }

    /// True when there is a log thread.
    pub(crate) fn is_attached(&self) -> bool {
        self.log_thread.get().is_some()
    }

    /// True once after somebody wanted access logs to be opened again.
    pub(crate) fn take_reopening(&self) -> bool {
        self.is_reopening.load(Relaxed) && self.is_reopening.swap(false, Relaxed)
    }

    /// The number of the flush that a pass beginning now will fulfil, and whether it is the last pass.
    pub(crate) fn begin_pass(&self) -> (u64, bool) {
        let _done = lock(&self.flushes_done);
        (self.flushes_wanted.load(Relaxed), self.is_stopping.load(Relaxed))
    }

    pub(crate) fn end_pass(&self, flush: u64) {
        let mut done = lock(&self.flushes_done);
        if *done < flush {
            *done = flush;
            self.flush_done.notify_all();
        }
    }

    /// Moves everything into `batch`, in the order of time. `spare` goes round between the shards so
    /// that each is locked for one swap only.
    pub(crate) fn collect(&self, batch: &mut Vec<Entry>, spare: &mut Vec<Entry>) {
        for shard in &self.shards {
            let mut entries = lock(&shard.0);
            if entries.is_empty() {
                shrink(&mut entries, 0);
                continue;
            }
            std::mem::swap(&mut *entries, spare);
            drop(entries);
            let used = spare.len();
            batch.append(spare);
            shrink(spare, used);
        }
        if batch.is_empty() {
            shrink(spare, 0);
        }
        batch.sort_by_key(|entry| entry.at);
    }

    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.is_idle.load(Relaxed)
    }

    pub(crate) fn set_idle(&self, is_idle: bool) {
        self.is_idle.store(is_idle, Relaxed);
    }
}

/// More for what matters less; [`Level`] itself cannot be stored in an atomic.
fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Frees what a burst has left behind of a vector that is empty now, and of which so much was `used`.
pub(crate) fn shrink(entries: &mut Vec<Entry>, used: usize) {
    if entries.capacity() > CAPACITY_KEPT_MAX.max(used * USED_PART_MIN) {
        *entries = Vec::new();
    }
}

/// A panic elsewhere leaves vectors and counters valid, so poison means nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 4 * CAPACITY_KEPT_MAX;

    #[test]
    fn lasting_load_keeps_its_memory_and_a_burst_leaves_none() {
        let queue = Queue::new();
        let (mut batch, mut spare) = (Vec::new(), Vec::new());
        let mut capacities = |entries: usize| {
            for _ in 0..entries {
                queue.push(What::Line(Box::default()));
            }
            queue.collect(&mut batch, &mut spare);
            assert_eq!(batch.len(), entries);
            batch.clear();
            shrink(&mut batch, entries);
            let shards = queue.shards.iter().map(|shard| lock(&shard.0).capacity());
            (batch.capacity(), shards.sum::<usize>() + spare.capacity())
        };
        for _ in 0..3 {
            let (of_batch, of_shards) = capacities(MANY);
            assert!(of_batch >= MANY && of_shards >= MANY, "{of_batch} {of_shards}");
        }
        capacities(1);
        let (of_batch, of_shards) = capacities(0);
        assert!(of_batch <= CAPACITY_KEPT_MAX && of_shards <= 2 * CAPACITY_KEPT_MAX, "{of_batch} {of_shards}");
    }
}
