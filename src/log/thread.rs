//! The one thread that writes to stderr, and the ends of `tracing` that lead to it.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::access::{self, AccessLines};
use super::format::LogFormat;
use super::lines::EventLines;
use crate::base::clock::stamp;
use crate::base::vital;
use crate::events::{self, Entry, Event, PAUSE, Queue, SessionEvent, What};

/// Bytes gathered before they are written.
const WRITE_SIZE: usize = 64 * 1024;

/// How long the thread keeps looking before it waits to be woken.
const IDLE_AFTER: Duration = Duration::from_secs(1);

thread_local! {
    /// Lines that wait for the next write; there is one on the log thread only.
    static OUT: RefCell<Option<Out>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    lines: u64,
}

/// True on the thread that nobody may wait for, itself least of all.
pub(super) fn is_log_thread() -> bool {
    OUT.try_with(|out| out.try_borrow().map_or(true, |out| out.is_some())) == Ok(true)
}

/// Hands each formatted line to the log thread.
pub(super) struct Lines(pub(super) &'static Queue);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter(self.0)
    }
}

/// Takes one whole line with each `write`, as `tracing_subscriber` gives it.
pub(super) struct LineWriter(&'static Queue);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A thread at its very end has no thread-locals left, and is not the log thread.
        let is_taken = OUT.try_with(|out| out.borrow_mut().as_mut().map(|out| out.add(line)).is_some());
        if is_taken != Ok(true) {
            self.0.push(What::Line(line.into()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Adds to what is written next. Only the log thread has that.
fn with_out(add: impl FnOnce(&mut Out)) {
    OUT.with_borrow_mut(|out| out.as_mut().map(add));
}

impl Out {
    fn add(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines += 1;
    }
}

/// Time stamps in the form of this log.
pub(super) struct Stamps;

impl FormatTime for Stamps {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(&stamp(SystemTime::now()))
    }
}

/// Empties the queue into `sink` until the queue is stopped.
pub(super) struct LogThread<W> {
    queue: &'static Queue,
    sink: W,
    lines: EventLines,
    format: LogFormat,
    access: AccessLines,
    batch: Vec<Entry>,
    spare: Vec<Entry>,
    dropped_reported: u64,
}

impl<W: Write> LogThread<W> {
    pub(super) fn new(queue: &'static Queue, lines: EventLines, format: LogFormat, sink: W) -> Self {
        let access = AccessLines::new();
        Self { queue, sink, lines, format, access, batch: Vec::new(), spare: Vec::new(), dropped_reported: 0 }
    }

    /// Ends after the pass that began when the queue was already stopped.
    pub(super) fn run(mut self) {
        OUT.set(Some(Out::default()));
        self.queue.attach();
        let mut busy_at = Instant::now();
        loop {
            let (flush, is_last) = self.queue.begin_pass();
            if self.pass() {
                vital::panic_at("log");
                busy_at = Instant::now();
            }
            if self.queue.take_reopening() {
                self.access.reopen();
                self.write_out();
            }
            let has_lost = access::tell_lost();
            self.write_out();
            self.queue.end_pass(flush);
            if is_last {
                return;
            }
            if busy_at.elapsed() < IDLE_AFTER {
                std::thread::park_timeout(PAUSE);
                continue;
            }
            self.queue.set_idle(true);
            if !self.pass() {
                // What access logs have lost is told in time, although nothing else happens.
                if has_lost { std::thread::park_timeout(IDLE_AFTER) } else { std::thread::park() }
            }
            self.queue.set_idle(false);
            busy_at = Instant::now();
        }
    }

    /// Writes what there is. True when there was something.
    fn pass(&mut self) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        self.queue.collect(&mut batch, &mut self.spare);
        let lines = batch.len();
        for entry in batch.drain(..) {
            match entry.what {
                What::Line(line) => with_out(|out| out.add(&line)),
                What::Session(event) => self.take_session(event, entry.at),
                What::Event(event) => {
                    let published = events::hand_on(*event, entry.at);
                    self.write(&published.event, entry.at);
                }
                What::Published(published) => self.write(&published.event, entry.at),
                What::Logged(event) => self.write(&event, entry.at),
            }
            if OUT.with_borrow(|out| out.as_ref().is_some_and(|out| out.bytes.len() >= WRITE_SIZE)) {
                self.write_out();
            }
        }
        let lost = self.queue.take_events_lost();
        if lost > 0 {
            events::hand_on_gap(lost);
        }
        self.access.flush();
        if lines > 0 && self.write_out() {
            self.report_dropped();
        }
        events::shrink(&mut batch, lines);
        self.batch = batch;
        lines > 0
    }

    /// Writes what a session did and hands it to whoever has subscribed. The level may have changed since.
    fn take_session(&mut self, event: SessionEvent, at: SystemTime) {
        let is_logged = event.is_logged() && self.queue.takes(event.level()) && self.queue.logs(event.step());
        if is_logged {
            with_out(|out| {
                self.lines.write_session(&event, at, &mut out.bytes);
                out.lines += 1;
            });
        }
        if event.access_target().is_some() {
            self.access.write(&event, at, is_logged.then_some(self.format), |line| with_out(|out| out.add(line)));
        }
        events::hand_on_session(event, at);
    }

    fn write(&mut self, event: &Event, at: SystemTime) {
        if self.queue.takes(event.level()) {
            with_out(|out| {
                self.lines.write(event, at, &mut out.bytes);
                out.lines += 1;
            });
        }
    }

    /// Says how many lines were lost, but only when the last write went well: this one would be lost too.
    fn report_dropped(&mut self) {
        let dropped = self.queue.dropped_total();
        if dropped > self.dropped_reported {
            tracing::warn!(dropped = dropped - self.dropped_reported, "log lines dropped");
            self.dropped_reported = dropped;
            self.write_out();
        }
    }

    /// False when the lines are lost.
    fn write_out(&mut self) -> bool {
        let Some(mut out) = OUT.replace(Some(Out::default())) else { return true };
        let is_written = write_all(&mut self.sink, &out.bytes);
        if !is_written {
            self.queue.count_dropped(out.lines);
        }
        out.bytes.clear();
        out.lines = 0;
        OUT.set(Some(out));
        is_written
    }
}

/// As `Write::write_all`, but a sink that somebody else made non-blocking is waited for.
fn write_all(sink: &mut impl Write, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return false,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::park_timeout(PAUSE),
            Err(_) => return false,
        }
    }
    true
}
