//! The last events that have a name, for viewers who come later or come back.
//!
//! Their ids follow each other without a hole, so a viewer that was away too long learns how many it has missed. The
//! first id is the time at which the process began, in microseconds: ids also grow from one process to the next, and one
//! of a former process is recognised. A reader holds nothing but its place; one that stalls costs nothing.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::event::Published;

/// Events that are kept.
pub const HISTORY_MAX: usize = 1_000;

/// Events that a reader is given at a time.
const BATCH_MAX: usize = 16;

/// The history of the process.
pub(super) static HISTORY: LazyLock<History> = LazyLock::new(|| {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    History::new(u64::try_from(since_epoch.as_micros()).unwrap_or_default())
});

/// The last events.
pub(crate) struct History {
    /// The id of the first event is the next one.
    start: u64,
    /// Guards the events, oldest first; held to add one or to copy a few references.
    kept: Mutex<VecDeque<Arc<Published>>>,
    /// The id of the last event. Changed only while `kept` is held.
    last: watch::Sender<u64>,
}

/// A place in the history. What it is to read next may be gone when it gets there.
pub struct Reader {
    history: &'static History,
    /// The event that was read last.
    after: u64,
    news: watch::Receiver<u64>,
}

/// What a reader finds.
#[derive(Debug, Default)]
pub struct Batch {
    /// So many events are gone that should come before these.
    pub missed: u64,
    /// The reader has seen events of another process, which nobody knows here.
    pub is_other_process: bool,
    /// The next events.
    pub events: Vec<Arc<Published>>,
}

impl History {
    pub(super) fn new(start: u64) -> Self {
        Self { start, kept: Mutex::default(), last: watch::Sender::new(start) }
    }

    /// Adds the event that is made with its id.
    pub(super) fn keep(&self, make: impl FnOnce(u64) -> Published) -> Arc<Published> {
        let mut kept = self.kept();
        let id = *self.last.borrow() + 1;
        let published = Arc::new(make(id));
        if kept.len() == HISTORY_MAX {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&published));
        self.last.send_replace(id);
        published
    }

    pub(super) fn reader(&'static self, after: Option<u64>) -> Reader {
        let news = self.last.subscribe();
        let after = after.unwrap_or(*self.last.borrow());
        Reader { history: self, after, news }
    }

    pub(super) fn reader_of_last(&'static self, count: u64) -> Reader {
        let last = *self.last.borrow();
        self.reader(Some(last.saturating_sub(count).max(self.start)))
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Published>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Waits until there is something. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Batch {
        loop {
            // Whatever is added after this look is news.
            self.news.mark_unchanged();
            if let Some(batch) = self.try_next() {
                return batch;
            }
            // Fails only when the history is gone, which is a static.
            let _ = self.news.changed().await;
        }
    }

    /// What is there already; `None` when nothing is.
    pub fn try_next(&mut self) -> Option<Batch> {
        let kept = self.history.kept();
        let last = *self.history.last.borrow();
        let mut batch = Batch::default();
        // Zero asks for all that is kept, and misses nothing.
        let is_known = (self.history.start..=last).contains(&self.after);
        batch.is_other_process = !is_known && self.after != 0;
        let before_kept = last - kept.len() as u64;
        if self.after == 0 {
            self.after = before_kept;
        } else if !is_known {
            self.after = self.history.start;
        }
        batch.missed = before_kept.saturating_sub(self.after);
        self.after = self.after.max(before_kept);
        let seen = usize::try_from(self.after - before_kept).unwrap_or(usize::MAX);
        batch.events = kept.iter().skip(seen).take(BATCH_MAX).cloned().collect();
        self.after += batch.events.len() as u64;
        let has_something = batch.is_other_process || !batch.events.is_empty();
        has_something.then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{ConfigEvent, Event};

    fn history(events: usize) -> &'static History {
        let history = Box::leak(Box::new(History::new(5_000)));
        add(history, events);
        history
    }

    fn add(history: &History, events: usize) {
        for _ in 0..events {
            let event = Event::Config(ConfigEvent::InOrderAgain);
            history.keep(|id| Published { number: id, id: Some(id), at: SystemTime::now(), event });
        }
    }

    /// All that is there: how many were missed, and the ids.
    fn read(reader: &mut Reader) -> (u64, bool, Vec<u64>) {
        let batches: Vec<_> = std::iter::from_fn(|| reader.try_next()).collect();
        assert!(batches.iter().all(|batch| batch.events.len() <= BATCH_MAX));
        let ids = batches.iter().flat_map(|batch| &batch.events).filter_map(|published| published.id).collect();
        let missed = batches.iter().map(|batch| batch.missed).sum();
        (missed, batches.iter().any(|batch| batch.is_other_process), ids)
    }

    #[test]
    fn a_reader_gets_what_follows_the_event_that_it_has_seen_last() {
        let history = history(40);
        assert_eq!(read(&mut history.reader(Some(5_038))), (0, false, vec![5_039, 5_040]));
        assert_eq!(read(&mut history.reader(Some(5_040))), (0, false, vec![]));
        assert_eq!(read(&mut history.reader(None)), (0, false, vec![]));
        assert_eq!(read(&mut history.reader(Some(0))).2, (5_001..=5_040).collect::<Vec<_>>());
        assert_eq!(read(&mut history.reader_of_last(2)), (0, false, vec![5_039, 5_040]));
        assert_eq!(read(&mut history.reader_of_last(100)).2.len(), 40);
        let mut late = history.reader(None);
        add(history, 1);
        assert_eq!(read(&mut late), (0, false, vec![5_041]));
    }

    #[test]
    fn whoever_was_away_too_long_learns_how_many_events_it_has_missed() {
        let history = history(10);
        let (mut stalled, mut all) = (history.reader(Some(5_004)), history.reader(Some(0)));
        add(history, HISTORY_MAX);
        let (missed, is_other, ids) = read(&mut stalled);
        assert_eq!((missed, is_other, ids.len()), (6, false, HISTORY_MAX));
        assert_eq!(ids[0], 5_011, "5005 to 5010 are gone");
        let (missed, _, ids) = read(&mut all);
        assert_eq!((missed, ids.len()), (0, HISTORY_MAX), "who asks for what is there misses nothing");
    }

    #[test]
    fn an_event_of_another_process_is_followed_by_everything_that_is_kept() {
        let history = history(3);
        for seen_last in [4_000, 5_004] {
            assert_eq!(read(&mut history.reader(Some(seen_last))), (0, true, vec![5_001, 5_002, 5_003]), "{seen_last}");
        }
        let fresh = Box::leak(Box::new(History::new(9_000)));
        assert_eq!(read(&mut fresh.reader(Some(5_003))), (0, true, vec![]));
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let history = history(0);
        let mut reader = history.reader(None);
        let (batch, ()) = tokio::join!(reader.next(), async { add(history, 1) });
        assert_eq!(batch.events[0].id, Some(5_001));
    }
}
