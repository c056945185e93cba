//! Notices that `proxy.json` has changed.
//!
//! Folders are watched, never the file: editors rename a new file over the old one, and Kubernetes swaps
//! a symbolic link in one of the folders above. Every link on the way to the file, and the file itself,
//! is watched through the folder that holds it; where a folder is missing, its parent is watched until it
//! is back. All of that is worked out and set up anew before each reading of the file, so nothing that
//! happens in between is missed.
//!
//! A change is a content with another hash than the one that was last read, by whoever reads the file: a
//! content that was here before is a change when somebody has read another since. It is looked for after
//! [`QUIET`] without events or [`QUIET_MAX`] with them. A file that is gone or cannot be read changes nothing. Every [`POLL`] the file's stamp is looked
//! at, because some mounts send no events; every [`POLL_BLIND`] where watching itself is impossible,
//! so that a change is still seen within about a second. What is in the file, and
//! whether it differs from what runs, is the caller's business.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3Default;

/// How long nothing must happen before the file is read: most writers are done by then.
pub const QUIET: Duration = Duration::from_millis(200);

/// When it is read at the latest, however busy its writer is.
pub const QUIET_MAX: Duration = Duration::from_secs(2);

/// How often the file is looked at without any event.
pub const POLL: Duration = Duration::from_secs(30);

/// How often, while events cannot be had.
pub const POLL_BLIND: Duration = Duration::from_secs(1);

/// As many symbolic links as Linux follows in one path.
const LINKS_MAX: usize = 40;

/// Calls `on_change` whenever the content of the file at `path` is another than was last read.
///
/// `last_read` is the XXH3 hash of that content; whoever reads the file is to keep it. The
/// first look comes at once, when the watches are set up: the file may have changed since the caller read
/// it. Events that come while `on_change` runs lead to another look afterwards. Ends when `shutdown`
/// is cancelled, at any point but within `on_change`.
pub async fn watch<F>(
    path: PathBuf,
    last_read: Arc<AtomicU64>,
    mut on_change: impl FnMut() -> F,
    shutdown: CancellationToken,
) where
    F: Future<Output = ()>,
{
    let events = Arc::new(Notify::new());
    let watched = Watched::new(path, last_read, Arc::clone(&events));
    follow(watched, &events, &mut on_change, &shutdown).await;
}

async fn follow<F>(
    mut watched: Watched,
    events: &Notify,
    on_change: &mut impl FnMut() -> F,
    shutdown: &CancellationToken,
) where
    F: Future<Output = ()>,
{
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
            if timeout_at(poll, events.notified()).await.is_err() {
                return Cause::Poll;
            }
            let latest = Instant::now() + QUIET_MAX;
            while Instant::now() < latest {
                if timeout_at(latest.min(Instant::now() + QUIET), events.notified()).await.is_err() {
                    break;
                }
            }
            Cause::Event
        };
        let Some(next) = shutdown.run_until_cancelled(next).await else { return };
        cause = next;
    }
}

/// Why the file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Something happened: the content decides, because a stamp may miss two writes within one tick.
    Event,
    /// Time has passed: the content is read only when the stamp is another.
    Poll,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
    changed_ns: (i64, i64),
}

/// The file, what was last seen of it, and the watches that lead to it.
struct Watched {
    path: PathBuf,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    /// The paths whose events matter; shared with the thread of `notify`.
    relevant: Arc<ArcSwap<BTreeSet<PathBuf>>>,
    is_blind: bool,
    stamp: Option<Stamp>,
    last_read: Arc<AtomicU64>,
}

impl Watched {
    fn new(path: PathBuf, last_read: Arc<AtomicU64>, events: Arc<Notify>) -> Self {
        let relevant = Arc::new(ArcSwap::from_pointee(BTreeSet::new()));
        let filter = Arc::clone(&relevant);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that events may have been lost, which is as good as an event.
            if event.as_ref().map_or(true, |event| is_relevant(event, &filter.load())) {
                events.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| warn_blind(&path, error)).ok();
        let is_blind = watcher.is_none();
        // Fails only for an empty path or without a working directory; then nothing is found, and polled for.
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { path, watcher, folders: BTreeSet::new(), relevant, is_blind, stamp: None, last_read }
    }

    /// True when the content is another than it was. The watches are set up before it is read.
    fn look(&mut self, cause: Cause) -> bool {
        self.set_up();
        let stamp = match stamp(&self.path) {
            Ok(stamp) => stamp,
            Err(error) => {
                if self.stamp.take().is_some() {
                    tracing::debug!(path = %self.path.display(), %error, "config file gone");
                }
                return false;
            }
        };
        if cause == Cause::Poll && self.stamp.as_ref() == Some(&stamp) {
            return false;
        }
        match hash(&self.path) {
            Ok(hash) => {
                self.stamp = Some(stamp);
                self.last_read.swap(hash, Relaxed) != hash
            }
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "config file unreadable");
                self.stamp = None;
                false
            }
        }
    }

    /// Watches the folders that matter now, and no other. Even those that mattered before are watched
    /// anew: a folder may have been replaced by another of the same name.
    fn set_up(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let (folders, relevant) = way_to(&self.path);
        self.relevant.store(Arc::new(relevant));
        for folder in &self.folders {
            // Fails where the folder is gone, and its watch with it.
            let _ = watcher.unwatch(folder);
        }
        let results: Vec<_> = folders.iter().map(|folder| watcher.watch(folder, RecursiveMode::NonRecursive)).collect();
        self.folders = folders;
        let failure = results.into_iter().find_map(Result::err);
        match &failure {
            Some(error) if !self.is_blind => warn_blind(&self.path, error),
            None if self.is_blind => tracing::info!(path = %self.path.display(), "config file watched again"),
            _ => {}
        }
        self.is_blind = failure.is_some();
    }
}

fn warn_blind(path: &Path, error: &notify::Error) {
    tracing::warn!(path = %path.display(), %error, poll_ms = POLL_BLIND.as_millis() as u64, "config file polled");
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

/// Follows `path` as the kernel does. The folders to watch, and the paths whose events matter: each link,
/// the first part that is missing or else the file, and the folders themselves.
fn way_to(path: &Path) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let (mut folders, mut relevant) = (BTreeSet::new(), BTreeSet::new());
    let mut rest: VecDeque<OsString> = parts(path).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(part);
        let kind = fs::symlink_metadata(&next).map(|meta| meta.file_type());
        let target = match &kind {
            Ok(kind) if kind.is_symlink() && links < LINKS_MAX => fs::read_link(&next).ok(),
            _ => None,
        };
        if target.is_some() || kind.is_err() || rest.is_empty() {
            relevant.extend([next.clone(), at.clone()]);
            folders.insert(at.clone());
        }
        match target {
            Some(target) => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest = parts(&target).chain(rest).collect();
            }
            None if kind.is_err() => break,
            None => at = next,
        }
    }
    (folders, relevant)
}

/// The names in a path; `..` is kept, because what it means depends on the links before it.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    if !meta.is_file() {
        // Opening a pipe would wait for its other end.
        return Err(io::Error::other("not a file"));
    }
    Ok(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        len: meta.len(),
        modified: meta.modified().ok(),
        changed_ns: (meta.ctime(), meta.ctime_nsec()),
    })
}

/// Of a file of any size, without holding it in memory.
fn hash(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3Default::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.digest()),
            len => hash.update(&buffer[..len]),
        }
    }
}

#[cfg(test)]
mod tests;
