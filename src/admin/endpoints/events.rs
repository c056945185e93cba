//! What happens, as server-sent events.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;

use super::endpoint::Call;
use super::values::{EventId, Follow};
use crate::admin::params::{Value as _, params};
use crate::admin::reply::{self, Answer, Refusal};
use crate::admin::stream::{EVENT_STREAM, Feed};
use crate::base::clock::stamp;
use crate::control::GroupParam;
use crate::events::{self, Batch, Event, GAP, Published, Reader, Value, Visitor};
use crate::group::{Group, GroupId};

/// What a viewer sends that comes back: the last id that it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

params! {
    struct Watch {
        /// The event after which to begin; 0 for all that are kept. `Last-Event-ID` counts more.
        since: Option<EventId>,
        /// Only what happens to this group.
        group: Option<GroupParam>,
        /// Whether to go on with what happens from now on, or to end after what has happened; `yes` when it is left out.
        follow: Option<Follow>,
    }
}

pub(super) async fn watch(call: Call, params: Watch) -> Answer {
    let group = params.group.map(|group| call.control().group(&group)).transpose()?;
    let last_seen = call.headers.get(LAST_EVENT_ID).map(|value| last_seen(value.as_bytes())).transpose()?;
    let since = last_seen.or(params.since).map(|id| id.0);
    let follows = params.follow != Some(Follow::No);
    let reader = events::reader(since.or((!follows).then_some(0)));
    let only = |group: Arc<Group>| Only { id: group.id().clone(), port: group.snapshot().settings.listen.port() };
    let mut happened = Happened { reader, group: group.map(only) };
    if follows {
        return call.app.streams.open(happened);
    }
    let mut text = Vec::new();
    while let Some(batch) = happened.reader.try_next() {
        happened.write(&batch, &mut text);
    }
    Ok(reply::bytes(EVENT_STREAM, text))
}

fn last_seen(sent: &[u8]) -> Result<EventId, Refusal> {
    let text = String::from_utf8_lossy(sent);
    EventId::read(&text).map_err(|wrong| Refusal::bad("bad_parameter", format!("Last-Event-ID: {wrong}")))
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
