//! The sessions: which there are, and the end of one.

use serde::Serialize;
use warp::http::StatusCode;

use super::endpoint::Call;
use super::values::{Id, Server};
use crate::admin::params::params;
use crate::admin::reply::{Answer, Refusal, granted};
use crate::control::{ChangeError, GroupParam};
use crate::group::Group;

/// How many sessions the list shows.
const SESSIONS_SHOWN: usize = 1_000;

params! {
    struct List {
        /// Only the sessions of this group.
        group: Option<GroupParam>,
        /// Only the sessions that have reached this server.
        server: Option<Server>,
    }
}

params! {
    struct Close {
        /// The session.
        id: Option<Id>,
        /// The group of the server whose sessions are ended.
        group: Option<GroupParam>,
        /// The server, all of whose sessions are ended.
        server: Option<Server>,
    }
}

#[derive(Serialize)]
struct Ended {
    sessions: usize,
}

pub(super) async fn list(call: Call, params: List) -> Answer {
    let control = call.control();
    let group = params.group.map(|group| control.group(&group)).transpose()?;
    let server = params.server.as_ref().map(|server| &server.0);
    let list = control.sessions().list_of(group.as_deref().map(Group::id), server, SESSIONS_SHOWN);
    Ok(granted(&format!("sessions: the newest {} of {}", list.sessions.len(), list.total), list))
}

pub(super) async fn close(call: Call, params: Close) -> Answer {
    let control = call.control();
    match params {
        Close { id: Some(id), group: None, server: None } => {
            if control.sessions().close(id.0) {
                return Ok(granted("ended", Ended { sessions: 1 }));
            }
            let msg = format!("no session {}; session-list.do shows the sessions", id.0);
            Err(Refusal::new(StatusCode::NOT_FOUND, "session_not_found", msg))
        }
        Close { id: None, group: Some(group), server: Some(server) } => {
            let group = control.group(&group)?;
            let sessions = control.sessions().close_all_of(group.id(), &server.0);
            // A server that has left may have sessions yet.
            if sessions == 0 && group.server(&server.0).is_none() {
                return Err(ChangeError::ServerNotFound { group: group.id().clone(), server: server.0 }.into());
            }
            Ok(granted(&format!("sessions ended: {sessions}"), Ended { sessions }))
        }
        Close { id: None, group: None, server: None } => {
            Err(Refusal::bad("missing_parameter", "id: missing; expected it, or group and server"))
        }
        Close { id: None, group, .. } => {
            let missing = if group.is_none() { "group" } else { "server" };
            Err(Refusal::bad("missing_parameter", format!("{missing}: missing; expected group and server together")))
        }
        Close { id: Some(_), .. } => {
            Err(Refusal::bad("bad_parameter", "id: sent together with group or server; expected one of the two"))
        }
    }
}
