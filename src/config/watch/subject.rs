//! What is watched, and what counts as a change of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use xxhash_rust::xxh3::Xxh3Default;

use crate::events::{self, ConfigEvent};

/// Why the files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// An event: it counts whatever the stamp is, because two writes within one tick leave the same stamp.
    Event,
    /// Time has passed: only a different stamp counts.
    Poll,
}

/// What distinguishes two versions of a file without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
    changed_ns: (i64, i64),
}

/// What is watched, and what counts as a change of it.
pub(super) trait Subject: Send + 'static {
    /// The files.
    fn paths(&self) -> Vec<PathBuf>;

    /// True when they have changed since the last call. The watches on `paths` are set up.
    fn is_changed(&mut self, paths: &[PathBuf], cause: Cause) -> bool;
}

/// One file, of which the content counts.
pub(super) struct Content {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// It was not there at the last look, and the log says so.
    is_gone: bool,
    last_read: Arc<AtomicU64>,
}

impl Content {
    pub(super) fn new(path: PathBuf, last_read: Arc<AtomicU64>) -> Self {
        Self { path, stamp: None, is_gone: false, last_read }
    }
}

impl Subject for Content {
    fn paths(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn is_changed(&mut self, _: &[PathBuf], cause: Cause) -> bool {
        let stamp = match stamp(&self.path) {
            Ok(stamp) => stamp,
            Err(error) => {
                self.stamp = None;
                if !std::mem::replace(&mut self.is_gone, true) {
                    tell(ConfigEvent::FileGone { path: shown(&self.path), error: error.to_string().into() });
                }
                return false;
            }
        };
        self.is_gone = false;
        if cause == Cause::Poll && self.stamp.as_ref() == Some(&stamp) {
            return false;
        }
        match hash(&self.path) {
            Ok(hash) => {
                self.stamp = Some(stamp);
                self.last_read.swap(hash, Relaxed) != hash
            }
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "watched file unreadable");
                self.stamp = None;
                false
            }
        }
    }
}

/// Files that come and go, of which any event counts.
pub(super) struct Stamps<P> {
    paths: P,
    /// `None` for a file that was not there.
    seen: BTreeMap<PathBuf, Option<Stamp>>,
}

impl<P> Stamps<P> {
    pub(super) fn new(paths: P) -> Self {
        Self { paths, seen: BTreeMap::new() }
    }
}

impl<P: Fn() -> Vec<PathBuf> + Send + 'static> Subject for Stamps<P> {
    fn paths(&self) -> Vec<PathBuf> {
        (self.paths)()
    }

    fn is_changed(&mut self, paths: &[PathBuf], cause: Cause) -> bool {
        let now = paths.iter().map(|path| (path.clone(), stamp(path).ok())).collect();
        let before = std::mem::replace(&mut self.seen, now);
        cause == Cause::Event || before != self.seen
    }
}

pub(super) fn tell(event: ConfigEvent) {
    events::publish(events::Event::Config(event));
}

pub(super) fn shown(path: &Path) -> Box<str> {
    path.display().to_string().into()
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
