//! The state file: what it says, and how to drop that.

use std::path::PathBuf;

use serde::Serialize;

use super::endpoint::Call;
use super::values::Server;
use crate::admin::params::{NoParams, params};
use crate::admin::reply::{Answer, Refusal, granted};
use crate::config::Override;
use crate::control::GroupParam;

params! {
    struct Clear {
        /// Only what is said of this group.
        group: Option<GroupParam>,
        /// Only what is said of this server of the group.
        server: Option<Server>,
    }
}

#[derive(Serialize)]
struct Overrides {
    state_file: PathBuf,
    overrides: Vec<Override>,
}

#[derive(Serialize)]
struct Dropped {
    cleared: usize,
}

pub(super) async fn list(call: Call, _: NoParams) -> Answer {
    let (state_file, overrides) = call.control().overrides()?;
    let msg = format!("values that proxy.json does not say: {}", overrides.len());
    Ok(granted(&msg, Overrides { state_file, overrides }))
}

pub(super) async fn clear(call: Call, params: Clear) -> Answer {
    if params.server.is_some() && params.group.is_none() {
        return Err(Refusal::bad("missing_parameter", "group is missing; expected the group of the server"));
    }
    let control = call.control();
    let group = params.group.map(|group| control.group(&group)).transpose()?;
    let server = params.server.map(|server| server.0);
    let cleared = control.clear_overrides(group.map(|group| group.id().clone()), server).await?;
    Ok(granted(&format!("values dropped: {cleared}; proxy.json is in force there"), Dropped { cleared }))
}
