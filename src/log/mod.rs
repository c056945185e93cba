//! Log lines, formatted and written on a thread of their own.
//!
//! One thread owns stderr. Events come to it as values, by the queue of [`crate::events`], and become lines there, so no
//! data thread formats anything; lines of `tracing` are formatted where they are written and handed to it. It also hands
//! the events of data threads to their subscribers.
//!
//! Lines of access logs are made there, too, and go to files of their own.
//!
//! Nobody ever waits for stderr: what does not fit into the bounded queue, or cannot be written, is
//! dropped and counted, and a line says how many were as soon as lines flow again. Choosing format and
//! level is the configuration's business; [`LogGuard`] belongs to `main`.

mod access;
mod format;
mod lines;
pub(crate) mod logfmt;
mod stderr;
mod thread;

use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::Dispatch;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::access::AccessTarget;
use crate::base::vital;
use crate::events::{QUEUE, Queue, SessionLines};
pub use format::{LogFormat, LogLevel};
use lines::EventLines;
use stderr::Stderr;
use thread::{Lines, LogThread, Stamps};

/// How long the end of the process, or a panic, waits for lines to be written.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

static FILTER: OnceLock<Filter> = OnceLock::new();

/// Writes what is left when it is dropped, waiting one second at most. The last thing `main` drops.
#[must_use = "lines are lost when it is dropped early"]
pub struct LogGuard {
    queue: &'static Queue,
    thread: Option<JoinHandle<()>>,
}

/// Starts the log thread and makes it the destination of `tracing` and of panics.
///
/// `color` is for people in front of a terminal; see [`Style::of_stderr`](crate::base::terminal::Style::of_stderr).
///
/// # Panics
///
/// When it is called twice, or when the system cannot start a thread: nothing has begun by then.
pub fn init(format: LogFormat, level: LogLevel, sessions: SessionLines, color: bool) -> LogGuard {
    let (dispatch, filter) = subscriber(&QUEUE, format, level, color);
    QUEUE.set_lines(level.into(), sessions);
    tracing::dispatcher::set_global_default(dispatch).expect("logging is started once");
    FILTER.set(filter).ok().expect("logging is started once");
    let log = LogThread::new(&QUEUE, EventLines::new(format, color), format, Stderr::new());
    let thread = vital::start("log", None, || log.run()).expect("a thread can be started");
    std::panic::set_hook(Box::new(|panic| report_panic(&QUEUE, panic)));
    LogGuard { queue: &QUEUE, thread: Some(thread) }
}

/// Changes which lines are written from now on. Without effect before [`init`].
pub fn set_lines(level: LogLevel, sessions: SessionLines) {
    if let Some(filter) = FILTER.get() {
        filter.set(&QUEUE, level, sessions);
    }
}

/// From now on these are the access logs of groups.
pub fn set_access_logs(targets: Vec<Arc<AccessTarget>>) {
    let has_connect_lines = targets.iter().any(|target| target.settings().connect_line);
    QUEUE.set_access_logs(!targets.is_empty(), has_connect_lines);
    crate::access::set_live(targets);
}

/// Has the files of access logs opened again, which may have been renamed.
pub fn reopen_access_logs() {
    QUEUE.reopen_access_logs();
}

/// Lines that were lost since the start because the queue was full or stderr failed.
pub fn dropped_total() -> u64 {
    QUEUE.dropped_total()
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let is_written = self.queue.stop(FLUSH_TIME_MAX);
        // One that still waits for stderr is not waited for.
        if let Some(thread) = self.thread.take().filter(|_| is_written) {
            vital::join(vec![thread], FLUSH_TIME_MAX);
        }
    }
}

/// The level in force, changeable while the subscriber is in use.
struct Filter(reload::Handle<Targets, Registry>);

impl Filter {
    fn set(&self, queue: &Queue, level: LogLevel, sessions: SessionLines) {
        queue.set_lines(level.into(), sessions);
        // Fails only when the subscriber is gone, and it lives as long as the process.
        let _ = self.0.reload(targets(level));
    }
}

/// Our own lines down to `level`; of the libraries' only what somebody must know.
fn targets(level: LogLevel) -> Targets {
    let level = LevelFilter::from_level(level.into());
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level).with_default(level.min(LevelFilter::WARN))
}

fn subscriber(queue: &'static Queue, format: LogFormat, level: LogLevel, color: bool) -> (Dispatch, Filter) {
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Lines(queue))
        .with_timer(Stamps)
        .with_target(false)
        .with_ansi(color)
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.fmt_fields(logfmt::TextFields).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    (Dispatch::new(tracing_subscriber::registry().with(filter).with(lines)), Filter(handle))
}

/// Logs a panic like any other line and sees it written, because the process may be about to end.
fn report_panic(queue: &Queue, panic: &PanicHookInfo<'_>) {
    if thread::is_log_thread() {
        // Nobody is left to write the line; stderr itself may fail, and then nothing can be done.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{panic}\n").as_bytes());
        return;
    }
    let backtrace = std::backtrace::Backtrace::capture();
    let is_captured = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
    tracing::error!(
        thread = std::thread::current().name(),
        place = panic.location().map(tracing::field::display),
        error = panic.payload_as_str().unwrap_or("a value that is not text"),
        backtrace = is_captured.then(|| tracing::field::display(&backtrace)),
        "thread panicked"
    );
    queue.flush(FLUSH_TIME_MAX);
}

#[cfg(test)]
mod tests;
