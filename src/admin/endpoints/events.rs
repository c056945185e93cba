//! What happens, and what the dashboard shows, as server-sent events.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;

use super::endpoint::Call;
use super::values::{EventId, View, YesNo};
use crate::admin::params::{Value as _, params};
use crate::admin::reply::{self, Answer, Refusal};
use crate::admin::stream::{EVENT_STREAM, Feed};
use crate::base::clock::stamp;
use crate::control::GroupParam;
use crate::events::{self, Batch, Event, GAP, Published, Reader, Value, Visitor};
use crate::frames::Viewer;
use crate::group::{Group, GroupId};

/// What a viewer sends that comes back: the last id that it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// So many events of the past a viewer of the dashboard is told who names none.
const SHOWN_FIRST: u64 = 100;

params! {
    struct Watch {
        /// The event after which to begin; 0 for all that are kept. `Last-Event-ID` counts more.
        since: Option<EventId>,
        /// Only what happens to this group.
        group: Option<GroupParam>,
        /// Whether to go on with what happens from now on, or to end after what has happened; `yes` when it is left out.
        follow: Option<YesNo>,
        /// Also what the dashboard shows: all groups and servers, at first in full and then once a second what has changed.
        view: Option<View>,
    }
}

pub(super) async fn watch(call: Call, params: Watch) -> Answer {
    let last_seen = call.headers.get(LAST_EVENT_ID).map(|value| last_seen(value.as_bytes())).transpose()?;
    let since = last_seen.or(params.since).map(|id| id.0);
    if let Some(View::Ui) = params.view {
        return show(call, params, since).await;
    }
    let group = params.group.map(|group| call.control().group(&group)).transpose()?;
    let follows = params.follow != Some(YesNo::No);
    let reader = events::reader(since.or((!follows).then_some(0)));
    let only = |group: Arc<Group>| Only { id: group.id().clone(), port: group.snapshot().settings.listen.port() };
    let mut happened = Happened { reader, group: group.map(only) };
    if follows {
        return call.app.streams.open(happened);
    }
    let mut text = Vec::new();
    happened.write_all(&mut text);
    Ok(reply::bytes(EVENT_STREAM, text))
}

/// Answers with frames and what happens between them; with one frame and what has happened to whoever does not follow.
async fn show(call: Call, params: Watch, since: Option<u64>) -> Answer {
    if params.group.is_some() {
        let msg = "group: view=ui shows all groups; expected no group beside it";
        return Err(Refusal::bad("bad_parameter", msg));
    }
    let reader = since.map_or_else(|| events::reader_of_last(SHOWN_FIRST), |since| events::reader(Some(since)));
    let mut shown =
        Shown { frames: call.app.frames.view(), happened: Happened { reader, group: None }, has_state: false };
    if params.follow != Some(YesNo::No) {
        return call.app.streams.open(shown);
    }
    let mut text = Vec::from(shown.next().await.unwrap_or_default());
    shown.happened.write_all(&mut text);
    Ok(reply::bytes(EVENT_STREAM, text))
}

fn last_seen(sent: &[u8]) -> Result<EventId, Refusal> {
    let text = String::from_utf8_lossy(sent);
    EventId::read(&text).map_err(|wrong| Refusal::bad("bad_parameter", format!("Last-Event-ID: {wrong}")))
}

/// What the dashboard shows.
struct Shown {
    frames: Viewer,
    happened: Happened,
    /// The first frame has been told. Before that nothing is.
    has_state: bool,
}

impl Feed for Shown {
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            frame = self.frames.next() => {
                self.has_state = true;
                frame
            }
            events = self.happened.next(), if self.has_state => events,
        }
    }
}

/// What happens, to one group or to anything.
struct Happened {
    reader: Reader,
    group: Option<Only>,
}

impl Feed for Happened {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let batch = self.reader.next().await;
            let mut frame = Vec::new();
            self.write(&batch, &mut frame);
            if !frame.is_empty() {
                return Some(frame.into());
            }
        }
    }
}

impl Happened {
    /// Writes what is there.
    fn write_all(&mut self, out: &mut Vec<u8>) {
        while let Some(batch) = self.reader.try_next() {
            self.write(&batch, out);
        }
    }

    fn write(&self, batch: &Batch, out: &mut Vec<u8>) {
        if batch.missed > 0 || batch.is_other_process {
            let _infallible = write!(
                out,
                "event: {GAP}\ndata: {{\"missed\":{},\"restarted\":{}}}\n\n",
                batch.missed, batch.is_other_process
            );
        }
        batch
            .events
            .iter()
            .filter(|published| self.is_meant(&published.event))
            .for_each(|event| write_event(event, out));
    }

    fn is_meant(&self, event: &Event) -> bool {
        self.group.as_ref().is_none_or(|group| group.is_meant_by(event))
    }
}

/// The group that a viewer looks at.
struct Only {
    id: GroupId,
    port: u16,
}

impl Only {
    fn is_meant_by(&self, event: &Event) -> bool {
        let mut is_meant = false;
        event.show(&mut Visitor::new(&mut |field, value| match (field, value) {
            ("group", Value::Number(port)) => is_meant = self.id.as_port().is_some_and(|own| u64::from(own) == port),
            // As an operator has written it.
            ("group", Value::Text(text)) => is_meant = text == self.id.as_str() || text == self.port.to_string(),
            ("group.name", Value::Text(name)) => is_meant = name == self.id.as_str(),
            _ => {}
        }));
        is_meant
    }
}

fn write_event(published: &Published, out: &mut Vec<u8>) {
    let Published { id, at, event, .. } = published;
    let (Some(id), Some(name)) = (id, event.name()) else { return };
    let mut fields = Vec::new();
    let message = event.show(&mut Visitor::new(&mut |name, value| {
        let _infallible = write!(fields, r#","{name}":"#);
        value.write_json(&mut fields);
    }));
    let (at, level) = (stamp(*at), event.level());
    let _infallible =
        write!(out, "id: {id}\nevent: {name}\ndata: {{\"at\":\"{at}\",\"level\":\"{level}\",\"message\":\"{message}\"");
    out.extend_from_slice(&fields);
    out.extend_from_slice(b"}\n\n");
}
