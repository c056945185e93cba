//! What a proxy has logged so far.

use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{DEADLINE, let_pass, spawn, wait_for};

/// The lines of a log, gathered by a thread while the process writes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogLines {
    /// Guards the lines read so far; a line that is not JSON is a JSON string, as every line of a log in text is.
    lines: Arc<Mutex<Vec<Value>>>,
    /// The process has closed its stderr, and everything is read.
    is_complete: Arc<AtomicBool>,
}

impl LogLines {
    pub(crate) fn gather(pipe: impl Read + Send + 'static) -> Self {
        let gathered = Self::default();
        let (lines, is_complete) = (Arc::clone(&gathered.lines), Arc::clone(&gathered.is_complete));
        spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lines.lock().expect("nobody panics with it").push(value);
            }
            is_complete.store(true, SeqCst);
        });
        gathered
    }

    /// Waits for what a process that has ended has written last.
    pub(super) fn wait_for_the_rest(&self) {
        let start = Instant::now();
        // Not an assertion: this runs while a test fails.
        while !self.is_complete.load(SeqCst) && start.elapsed() < DEADLINE {
            let_pass(Duration::from_millis(1), "the pause between two looks");
        }
    }

    /// The lines with this message.
    pub(crate) fn with_message(&self, message: &str) -> Vec<Value> {
        self.select(|line| line["message"] == message)
    }

    /// How the sessions that are over have ended.
    pub(crate) fn ends(&self) -> Vec<String> {
        let closed = self.with_message("session closed");
        closed.iter().map(|line| line["end"].as_str().unwrap_or("?").to_owned()).collect()
    }

    /// Waits for a line.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.select(&is_wanted).into_iter().next())
    }

    /// Waits for a session that ended for `end`.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, end: &str) -> Value {
        self.wait_for(&format!("a session that ends with {end}"), |line| {
            line["message"] == "session closed" && line["end"] == end
        })
    }

    /// The log as it was written.
    pub(crate) fn text(&self) -> String {
        let shown = |line: &Value| line.as_str().map_or_else(|| line.to_string(), str::to_owned) + "\n";
        self.all().iter().map(shown).collect()
    }

    /// How many lines contain this.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.text().lines().filter(|line| line.contains(text)).count()
    }

    /// Lines that say that somebody must act, and those that no log line is.
    pub(super) fn alarming(&self) -> Vec<Value> {
        self.select(|line| {
            // Of a log in text, the level is the second word.
            let level = line.as_str().map_or(&line["level"], |_| &Value::Null).as_str();
            let level = level.or_else(|| line.as_str()?.split_whitespace().nth(1));
            !level.is_some_and(|level| ["WARN", "INFO", "DEBUG", "TRACE"].contains(&level))
        })
    }

    /// Everything, for the message of a test that fails.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.select(|_| true)
    }

    fn select(&self, is_wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.lines.lock().expect("nobody panics with it").iter().filter(|line| is_wanted(line)).cloned().collect()
    }
}
