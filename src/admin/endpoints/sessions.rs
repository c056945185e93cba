//! The sessions: which there are, and the end of one.

use warp::http::StatusCode;

use super::endpoint::Call;
use super::values::Id;
use crate::admin::params::params;
use crate::admin::reply::{Answer, Nothing, Refusal, granted};
use crate::control::GroupParam;
use crate::group::Group;

/// How many sessions the list shows.
const SESSIONS_SHOWN: usize = 1_000;

params! {
    struct List {
        /// Only the sessions of this group.
        group: Option<GroupParam>,
    }
}

params! {
    struct Close {
        /// The session.
        id: Id,
    }
}

pub(super) async fn list(call: Call, params: List) -> Answer {
    let control = call.control();
    let group = params.group.map(|group| control.group(&group)).transpose()?;
    let list = control.sessions().list(group.as_deref().map(Group::id), SESSIONS_SHOWN);
    Ok(granted(&format!("sessions: the newest {} of {}", list.sessions.len(), list.total), list))
}

pub(super) async fn close(call: Call, params: Close) -> Answer {
    let id = params.id.0;
    if call.control().sessions().close(id) {
        return Ok(granted("ended", Nothing {}));
    }
    let msg = format!("no session {id}; session-list.do shows the sessions");
    Err(Refusal::new(StatusCode::NOT_FOUND, "session_not_found", msg))
}
