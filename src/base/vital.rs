//! Threads that must not end before they are told to.
//!
//! A proxy that has lost one of its threads could go on serving for a long time, but could not load a policy, stop a
//! module that loops, or log. So when a vital thread panics, [`failed`] completes, and `main` ends the process. When
//! the threads have been told to end, [`join_all`] waits for them, for a bounded time.
//!
//! Tasks are watched by whoever spawns them; see `proxy.rs`.

use std::io;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle, Thread};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// How often threads that end are looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// Cancelled when a vital thread has ended by surprise. One for the process, which has one fate.
static FAILED: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

/// Guards the threads that were started and may still run.
static THREADS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Starts a thread that runs until `run` returns, and that [`join_all`] waits for. A panic in it ends the process.
///
/// # Errors
///
/// The system refuses another thread.
pub fn spawn(name: &str, stack_bytes: Option<usize>, run: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    let handle = start(name, stack_bytes, run)?;
    let thread = handle.thread().clone();
    let mut threads = threads();
    threads.retain(|thread| !thread.is_finished());
    threads.push(handle);
    Ok(thread)
}

/// As [`spawn`]; the caller joins it.
///
/// # Errors
///
/// The system refuses another thread.
pub fn start(
    name: &str,
    stack_bytes: Option<usize>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let builder = stack_bytes.map_or_else(Builder::new, |bytes| Builder::new().stack_size(bytes));
    let run = move || {
        let by_surprise = FAILED.clone().drop_guard();
        run();
        by_surprise.disarm();
    };
    #[allow(clippy::disallowed_methods, reason = "the one place for it")]
    builder.name(name.to_owned()).spawn(run)
}

/// Completes when a vital thread has ended by surprise: the process cannot go on.
pub fn failed() -> WaitForCancellationFuture<'static> {
    FAILED.cancelled()
}

/// Waits until all threads of [`spawn`] have ended, which others have told to, `time_max` at most.
///
/// # Errors
///
/// The names of those that have not.
pub fn join_all(time_max: Duration) -> Result<(), Vec<String>> {
    let left = join(std::mem::take(&mut *threads()), time_max);
    let names: Vec<String> = left.iter().map(|handle| handle.thread().name().unwrap_or("?").to_owned()).collect();
    if names.is_empty() { Ok(()) } else { Err(names) }
}

/// Waits until these threads have ended, `time_max` at most. Answers those that have not.
pub fn join(mut left: Vec<JoinHandle<()>>, time_max: Duration) -> Vec<JoinHandle<()>> {
    let start = Instant::now();
    loop {
        for ended in left.extract_if(.., |thread| thread.is_finished()) {
            // A panic was reported by the panic hook; there is nothing to add.
            let _ = ended.join();
        }
        if left.is_empty() || start.elapsed() >= time_max {
            return left;
        }
        thread::park_timeout(PAUSE);
    }
}

fn threads() -> MutexGuard<'static, Vec<JoinHandle<()>>> {
    // Handles are added and taken whole.
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Panics, once in the life of a process that was built for tests, when the environment variable `GOPROXY_TEST_PANIC`
/// names this place: so tests see what becomes of a process that loses a part. Empty in release builds.
pub fn panic_at(place: &str) {
    #[cfg(debug_assertions)]
    {
        static WANTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("GOPROXY_TEST_PANIC").ok());
        static IS_DONE: AtomicBool = AtomicBool::new(false);
        let is_wanted = WANTED.as_deref() == Some(place) && !IS_DONE.swap(true, Relaxed);
        assert!(!is_wanted, "a test wants a panic at {place}");
    }
    let _ = place;
}

/// Ends the process as `kill -9` does, when the environment variable `GOPROXY_TEST_KILL` names this place. Empty in release
/// builds.
pub fn kill_at(place: &str) {
    #[cfg(debug_assertions)]
    if std::env::var("GOPROXY_TEST_KILL").is_ok_and(|wanted| wanted == place) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    let _ = place;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const GENEROUS: Duration = Duration::from_secs(120);

    #[test]
    fn threads_are_joined_when_they_have_ended_and_not_waited_for_longer_than_wanted() {
        let (end, when_told) = mpsc::channel::<()>();
        let waiting = start("waiting", None, move || _ = when_told.recv()).unwrap();
        let done = start("done", None, || {}).unwrap();
        let left = join(vec![waiting, done], Duration::from_millis(10));
        assert!(left.iter().any(|thread| thread.thread().name() == Some("waiting")), "{left:?}");
        drop(end);
        assert!(join(left, GENEROUS).is_empty());
    }
}
