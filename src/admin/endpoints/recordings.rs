//! Recordings of picks: begin, end, list.

use serde::Serialize;

use super::endpoint::Call;
use super::values::{RecordMax, RecordTime, YesNo};
use crate::admin::params::{NoParams, params};
use crate::admin::reply::{Answer, granted};
use crate::control::{GroupParam, RECORD_BYTES, RecordOptions};
use crate::group::view::RecordingView;

params! {
    struct Start {
        /// The group.
        group: GroupParam,
        /// For how long; until `record-stop.do` when it is left out.
        time: Option<RecordTime>,
        /// The largest file; `256MiB` when it is left out.
        max: Option<RecordMax>,
        /// Whether other addresses stand in the file in the place of the clients'; `no` when it is left out.
        anonymous: Option<YesNo>,
    }
}

params! {
    struct Stop {
        /// The group.
        group: GroupParam,
    }
}

#[derive(Serialize)]
struct Recordings {
    recordings: Vec<RecordingView>,
}

pub(super) async fn start(call: Call, params: Start) -> Answer {
    let control = call.control();
    let group = control.group(&params.group)?;
    let options = RecordOptions {
        bytes_max: params.max.map_or(RECORD_BYTES, |max| max.0),
        time: params.time.map(|time| time.0),
        is_anonymous: params.anonymous == Some(YesNo::Yes),
    };
    let view = control.start_recording(&group, options).await?;
    Ok(granted(&format!("recording {}: {} is started anew for it", view.file, view.policy), view))
}

pub(super) async fn stop(call: Call, params: Stop) -> Answer {
    let control = call.control();
    let group = control.group(&params.group)?;
    let view = control.stop_recording(&group).await?;
    let msg = match view.active {
        false => format!("{} is complete, with {} picks", view.file, view.picks),
        true => format!("{} has ended, and its end is still being written", view.file),
    };
    Ok(granted(&msg, view))
}

pub(super) async fn list(call: Call, _: NoParams) -> Answer {
    let recordings = call.control().recordings();
    let active = recordings.iter().filter(|recording| recording.active).count();
    Ok(granted(&format!("recordings under way: {active}"), Recordings { recordings }))
}
