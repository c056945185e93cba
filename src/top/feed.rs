//! What comes from outside: frames and events of the proxy, answers to changes, keys.

use std::io;

use ratatui::crossterm::event::KeyEvent;
use tokio::sync::mpsc::Sender;

use super::app::{Change, Notice};
use crate::admin_client::{AdminClient, AskError, Follow, Told, encoded};
use crate::base::text::{count, one_line};

/// The longest answer that is shown, in characters.
const MSG_CHARS_MAX: usize = 300;

/// Something new.
#[derive(Debug)]
pub(super) enum Update {
    /// The proxy says something, or cannot be asked any more.
    Told(Result<Told, AskError>),
    /// What came of a change.
    Changed(Notice),
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// Keys cannot be read any more.
    NoKeys(io::Error),
}

/// Hands on what the proxy says, until it refuses or nobody listens.
pub(super) async fn follow(mut follow: Follow, updates: Sender<Update>) {
    loop {
        let told = follow.next().await;
        let is_last = told.is_err();
        if updates.send(Update::Told(told)).await.is_err() || is_last {
            return;
        }
    }
}

/// Asks for a change, one server after the other, and hands on what came of it. A refusal ends it.
pub(super) async fn change(client: AdminClient, change: Change, updates: Sender<Update>) {
    let mut notice = Notice { text: String::new(), is_bad: false };
    for (done, target) in change.servers.iter().enumerate() {
        let (group, server) = (encoded(&target.group), encoded(&target.addr));
        let wanted = change.wanted.as_str();
        let asked = client.post(&format!("/worker-state.do?group={group}&server={server}&state={wanted}")).await;
        match asked {
            Ok(answer) => {
                let said = answer["msg"].as_str().unwrap_or("done");
                notice.text = match done {
                    0 => format!("{}: {said}", target.addr),
                    _ => format!("{}: {said}", count(done + 1, "server")),
                };
            }
            Err(error) => {
                let before = if done > 0 { format!("{} changed; ", count(done, "server")) } else { String::new() };
                notice = Notice { text: format!("{before}{}: {error}", target.addr), is_bad: true };
                break;
            }
        }
    }
    notice.text = one_line(&notice.text, MSG_CHARS_MAX);
    // Nobody listens any more: then nobody wants to know.
    let _ = updates.send(Update::Changed(notice)).await;
}
