//! Shadows: a policy beside the one that serves.

use serde::Serialize;

use super::endpoint::Call;
use super::values::Policy;
use crate::admin::params::{NoParams, params};
use crate::admin::reply::{Answer, granted};
use crate::control::GroupParam;
use crate::group::view::ShadowView;

params! {
    struct Start {
        /// The group.
        group: GroupParam,
        /// The policy that is tried beside the one that serves.
        policy: Policy,
    }
}

params! {
    struct Stop {
        /// The group.
        group: GroupParam,
    }
}

#[derive(Serialize)]
struct Shadows {
    shadows: Vec<ShadowView>,
}

pub(super) async fn start(call: Call, params: Start) -> Answer {
    let control = call.control();
    let group = control.group(&params.group)?;
    let view = control.start_shadow(&group, params.policy.0).await?;
    Ok(granted(&format!("{} is tried beside {}", view.candidate, view.policy), view))
}

pub(super) async fn stop(call: Call, params: Stop) -> Answer {
    let control = call.control();
    let group = control.group(&params.group)?;
    let view = control.stop_shadow(&group).await?;
    Ok(granted(&format!("{} is not tried any more, after {} picks", view.candidate, view.figures.picks), view))
}

pub(super) async fn list(call: Call, _: NoParams) -> Answer {
    let shadows = call.control().shadows();
    let active = shadows.iter().filter(|shadow| shadow.active).count();
    Ok(granted(&format!("policies tried beside others: {active}"), Shadows { shadows }))
}
