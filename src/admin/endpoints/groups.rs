//! The groups: open, close, list, and the policy of each.

use serde::Serialize;

use super::endpoint::Call;
use super::values::{Policy, Sessions};
use crate::admin::params::{NoParams, params};
use crate::admin::reply::{Answer, granted};
use crate::control::GroupParam;
use crate::group::view::GroupView;

params! {
    struct Open {
        /// The group; a port that no group has makes a new one.
        group: GroupParam,
        /// The policy of a new group, or another one for a group that is there.
        policy: Option<Policy>,
    }
}

params! {
    struct Close {
        /// The group.
        group: GroupParam,
        /// What becomes of its sessions; `keep` when it is left out.
        sessions: Option<Sessions>,
    }
}

params! {
    struct SetPolicy {
        /// The group.
        group: GroupParam,
        /// Its new policy.
        policy: Policy,
    }
}

#[derive(Serialize)]
struct SessionsOf {
    sessions: u64,
}

#[derive(Serialize)]
struct Groups {
    groups: Vec<GroupView>,
}

pub(super) async fn open(call: Call, params: Open) -> Answer {
    let control = call.control();
    let group = control.group_to_open(&params.group)?;
    let view = control.open_group(&group, params.policy.map(|policy| policy.0)).await?;
    Ok(granted(&format!("listening on {}", view.listen), view))
}

pub(super) async fn close(call: Call, params: Close) -> Answer {
    let control = call.control();
    let group = control.group(&params.group)?;
    let closes_sessions = params.sessions == Some(Sessions::Close);
    let sessions = control.close_group(group.id(), closes_sessions).await?;
    let msg = if closes_sessions { "closed, and its sessions ended" } else { "closed; its sessions go on" };
    Ok(granted(msg, SessionsOf { sessions }))
}

pub(super) async fn list(call: Call, _: NoParams) -> Answer {
    let groups: Vec<GroupView> = call.control().groups().values().map(|group| group.view()).collect();
    Ok(granted(&format!("groups: {}", groups.len()), Groups { groups }))
}

pub(super) async fn set_policy(call: Call, params: SetPolicy) -> Answer {
    let control = call.control();
    let group = control.group(&params.group)?;
    let view = control.set_policy(group.id(), params.policy.0).await?;
    Ok(granted(&format!("policy is {}", view.policy), view))
}
