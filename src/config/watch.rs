//! Notices that files have changed: `proxy.json`, and the modules that policies are made of.
//!
//! Folders are watched rather than files, because editors rename a new file over the old one and Kubernetes swaps a
//! symbolic link in a folder above. (A file that is a mount point is watched itself.) Each link on the way to a file,
//! and the file itself, is watched through the folder that holds it. Where a folder is missing, its parent is watched
//! until the folder is back. The watches are set up anew before each look at the files, so that nothing in between is
//! missed.
//!
//! After an event the files are looked at once [`QUIET`] has passed without another one, and after [`QUIET_MAX`] at the
//! latest. Besides, their stamps are compared every [`POLL`], because some mounts send no events, or every
//! [`POLL_BLIND`] where watching is impossible. For [`watch_file`] a change is a different content, for [`watch_files`]
//! any event. Whether the content differs from what runs is left to the caller.

mod links;
mod subject;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use arc_swap::ArcSwap;
use links::ways_to;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventHandler, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use subject::{Cause, Content, Stamps, Subject, shown, tell};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::base::vital;
use crate::events::{self, ConfigEvent, Subscription};

/// The files are looked at after this time without an event: most writers are done by then.
pub const QUIET: Duration = Duration::from_millis(200);

/// The longest time from an event to a look, however many events follow.
pub const QUIET_MAX: Duration = Duration::from_secs(2);

/// The time between two looks without any event.
pub const POLL: Duration = Duration::from_secs(30);

/// The same where events are not available.
pub const POLL_BLIND: Duration = Duration::from_secs(1);

/// Calls `on_change` whenever the content of the file at `path` differs from what was last read.
///
/// `last_read` is the 64-bit XXH3 of the content that was last read. Everybody who reads the file sets it, so that a
/// former content that returns counts as a change, too. A file that is missing or cannot be read is no change.
///
/// The first look comes at once, when the watches are set up: the file may have changed since the caller read it.
/// Events during `on_change` lead to another look after it. Ends when `shutdown` is cancelled, but never in the middle
/// of `on_change`.
pub async fn watch_file<F>(
    path: PathBuf,
    last_read: Arc<AtomicU64>,
    on_change: impl FnMut() -> F,
    shutdown: CancellationToken,
) where
    F: Future<Output = ()>,
{
    follow(Watched::new(Content::new(path, last_read)), on_change, None, &shutdown).await;
}

/// Calls `on_change` whenever one of these files may have appeared, changed or gone.
///
/// `paths` is asked anew before each look, and `others` tells when its answer has become another. That leads to a call
/// as soon as the new files are watched, so that what happened to them before is not missed. For the same reason the
/// first call comes at once. Whether anything is different, the caller finds out by reading. Ends as [`watch_file`]
/// does.
pub async fn watch_files<F>(
    paths: impl Fn() -> Vec<PathBuf> + Send + 'static,
    on_change: impl FnMut() -> F,
    others: Others,
    shutdown: CancellationToken,
) where
    F: Future<Output = ()>,
{
    follow(Watched::new(Stamps::new(paths)), on_change, Some(others), &shutdown).await;
}

/// The event by which the files of [`watch_files`] become others.
#[derive(Debug)]
pub struct Others {
    /// Begins before the files are asked for.
    pub changes: Subscription,
    /// True for that event.
    pub is_meant: fn(&events::Event) -> bool,
}

async fn follow<S: Subject, F>(
    mut watched: Watched<S>,
    mut on_change: impl FnMut() -> F,
    mut others: Option<Others>,
    shutdown: &CancellationToken,
) where
    F: Future<Output = ()>,
{
    let signal = Arc::clone(&watched.signal);
    let mut cause = Cause::Event;
    loop {
        // File systems may be slow, or hang: not on this thread.
        let look = tokio::task::spawn_blocking(move || {
            let is_changed = watched.look(cause);
            (watched, is_changed)
        });
        let Some(Ok((back, is_changed))) = shutdown.run_until_cancelled(look).await else { return };
        watched = back;
        if is_changed {
            on_change().await;
        }
        let poll = Instant::now() + if watched.is_blind { POLL_BLIND } else { POLL };
        let next = async {
            if timeout_at(poll, something(&signal, &mut others)).await.is_err() {
                return Cause::Poll;
            }
            let latest = Instant::now() + QUIET_MAX;
            while Instant::now() < latest {
                let quiet = latest.min(Instant::now() + QUIET);
                if timeout_at(quiet, something(&signal, &mut others)).await.is_err() {
                    break;
                }
            }
            Cause::Event
        };
        let Some(next) = shutdown.run_until_cancelled(next).await else { return };
        cause = next;
    }
}

/// Waits for a signal of the system's, or for other files.
async fn something(signal: &Notify, others: &mut Option<Others>) {
    let told = async {
        match others {
            Some(others) => others.changes.wait_for(others.is_meant).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signal.notified() => {}
        () = told => {}
    }
}

/// The files and the watches that lead to them.
struct Watched<S> {
    subject: S,
    /// From the thread of `notify`: something has happened that matters. No fact: what it was is found by looking.
    signal: Arc<Notify>,
    /// With whether its thread has ended.
    watcher: Option<(RecommendedWatcher, Arc<AtomicBool>)>,
    /// What is watched.
    folders: BTreeSet<PathBuf>,
    /// Files that are mount points, of which the log knows.
    mounted: BTreeSet<PathBuf>,
    /// The paths whose events matter; shared with the thread of `notify`.
    relevant: Arc<ArcSwap<BTreeSet<PathBuf>>>,
    is_blind: bool,
}

impl<S: Subject> Watched<S> {
    fn new(subject: S) -> Self {
        let relevant = Arc::new(ArcSwap::from_pointee(BTreeSet::new()));
        let mut watched = Self {
            subject,
            signal: Arc::default(),
            watcher: None,
            folders: BTreeSet::new(),
            mounted: BTreeSet::new(),
            relevant,
            is_blind: true,
        };
        watched.start();
        watched
    }

    /// Starts the thread of `notify`, which waits for events.
    fn start(&mut self) {
        let is_over = Arc::new(AtomicBool::new(false));
        let ears = EventFilter {
            relevant: Arc::clone(&self.relevant),
            signal: Arc::clone(&self.signal),
            is_over: Arc::clone(&is_over),
        };
        let watcher = notify::recommended_watcher(ears);
        let watcher = watcher.inspect_err(|error| warn_blind(&self.subject.paths(), error)).ok();
        self.is_blind = watcher.is_none();
        self.folders.clear();
        self.watcher = watcher.map(|watcher| (watcher, is_over));
    }

    /// True when the files have changed. The watches are set up before they are looked at.
    fn look(&mut self, cause: Cause) -> bool {
        // Fails only for an empty path or without a working directory; then nothing is found, and polled for.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let paths: Vec<PathBuf> = self.subject.paths().into_iter().map(absolute).collect();
        self.set_up(&paths);
        self.subject.is_changed(&paths, cause)
    }

    /// Watches the folders that matter now, and no others. All are watched anew: a folder may have been replaced by
    /// another of the same name.
    fn set_up(&mut self, paths: &[PathBuf]) {
        if self.watcher.as_ref().is_some_and(|(_, is_over)| is_over.load(SeqCst)) {
            tell(ConfigEvent::FilesWatchedAnew { path: first(paths) });
            // Dropping it would panic: it wants to tell its thread.
            std::mem::forget(self.watcher.take());
            self.start();
        }
        let Some((watcher, _)) = &mut self.watcher else { return };
        let way = ways_to(paths);
        self.relevant.store(Arc::new(way.relevant));
        for folder in &self.folders {
            // Fails where the folder is gone, and its watch with it.
            let _ = watcher.unwatch(folder);
        }
        let watch = |folder: &PathBuf| watcher.watch(folder, RecursiveMode::NonRecursive);
        let results: Vec<_> = way.folders.iter().map(watch).collect();
        self.folders = way.folders;
        for path in way.mounted.difference(&self.mounted) {
            tell(ConfigEvent::FileMounted { path: shown(path) });
        }
        self.mounted = way.mounted;
        let failure = results.into_iter().find_map(Result::err);
        match &failure {
            Some(error) if !self.is_blind => warn_blind(paths, error),
            None if self.is_blind => tell(ConfigEvent::FilesWatched { path: first(paths) }),
            _ => {}
        }
        self.is_blind = failure.is_some();
    }
}

/// Called by the thread of `notify` with each event; dropped when that thread ends.
struct EventFilter {
    relevant: Arc<ArcSwap<BTreeSet<PathBuf>>>,
    signal: Arc<Notify>,
    is_over: Arc<AtomicBool>,
}

impl EventHandler for EventFilter {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        vital::panic_at("watcher");
        // An error means that events may have been lost, which is as good as an event.
        if event.as_ref().map_or(true, |event| is_relevant(event, &self.relevant.load())) {
            self.signal.notify_one();
        }
    }
}

impl Drop for EventFilter {
    fn drop(&mut self) {
        // The thread ended unexpectedly, or with the watcher, and then nobody is waiting.
        self.is_over.store(true, SeqCst);
        self.signal.notify_one();
    }
}

fn warn_blind(paths: &[PathBuf], error: &notify::Error) {
    let (error, poll_ms) = (error.to_string().into(), POLL_BLIND.as_millis() as u64);
    tell(ConfigEvent::FilesPolled { path: first(paths), error, poll_ms });
}

/// One of the files, to tell which they are.
fn first(paths: &[PathBuf]) -> Box<str> {
    shown(paths.first().map_or(Path::new(""), PathBuf::as_path))
}

/// Our own reading opens the file; only what may change it counts.
fn is_relevant(event: &Event, relevant: &BTreeSet<PathBuf>) -> bool {
    let is_reading = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    event.need_rescan() || (!is_reading && event.paths.iter().any(|path| relevant.contains(path)))
}

#[cfg(test)]
mod tests;
