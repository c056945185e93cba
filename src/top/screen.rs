//! The terminal: taken over while it is shown something, and given back whatever happens.
//!
//! It is given back when [`Screen`] is dropped, and before the message of a panic is written. A process that is killed
//! outright leaves it as it is; `reset` helps then.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, Frame};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::feed::Update;
use crate::base::vital;

/// How long it takes until the thread that reads keys notices that it is to end.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// A terminal that shows a picture instead of lines.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes it over.
    pub(super) fn new() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.0.draw(picture).map(drop)
    }

    /// Gives the terminal back to the shell until this process is told to go on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        ratatui::restore();
        kill_process(getpid(), Signal::TSTP)?;
        // Here it goes on. Only the inner one is replaced: dropping a `Screen` gives the terminal back.
        self.0 = ratatui::try_init()?;
        self.0.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // In a panic that was done before its message, which must stay.
        if !std::thread::panicking() {
            ratatui::restore();
        }
    }
}

/// Reads keys on a thread of its own until the guard is dropped.
pub(super) fn read_keys(updates: Sender<Update>) -> io::Result<DropGuard> {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    vital::spawn("keys", None, move || {
        while !stopped.is_cancelled() {
            let update = match event::poll(KEY_WAIT) {
                Ok(false) => continue,
                Ok(true) => match event::read() {
                    Ok(Event::Key(key)) => Update::Key(key),
                    // What else there is makes the picture anew.
                    Ok(_) => Update::Resized,
                    Err(error) => Update::NoKeys(error),
                },
                Err(error) => Update::NoKeys(error),
            };
            let is_last = matches!(update, Update::NoKeys(_));
            if updates.blocking_send(update).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(stop.drop_guard())
}
