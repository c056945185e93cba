//! The clients that are counted: who has the most sessions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::endpoint::Call;
use crate::admin::blocking::blocking;
use crate::admin::params::params;
use crate::admin::reply::{Answer, granted};
use crate::control::{Control, GroupParam};
use crate::group::{Group, GroupId};
use crate::limits::GroupState;

/// How many clients the list shows.
const CLIENTS_SHOWN: usize = 100;

params! {
    struct List {
        /// Only the clients of this group.
        group: Option<GroupParam>,
    }
}

/// A client as `client-list.do` shows it.
#[derive(Serialize)]
struct ClientView {
    group: u16,
    #[serde(skip_serializing_if = "Option::is_none", rename = "group_name")]
    name: Option<String>,
    /// The lowest address of those that are this client.
    client: IpAddr,
    prefix: u8,
    sessions: u32,
    refused: u32,
}

#[derive(Serialize)]
struct Clients {
    clients: Vec<ClientView>,
    /// Clients of all groups that are known.
    tracked: u64,
}

/// On the blocking pool: a million clients may be known.
pub(super) async fn list(call: Call, params: List) -> Answer {
    let control = call.control().clone();
    let group = params.group.map(|group| control.group(&group)).transpose()?;
    let list = blocking("internal", "the list of clients", move || clients(&control, group)).await?;
    let msg = format!("clients: the {} with most sessions of {}", list.clients.len(), list.tracked);
    Ok(granted(&msg, list))
}

fn clients(control: &Control, group: Option<Arc<Group>>) -> Clients {
    let groups: BTreeMap<GroupId, Arc<Group>> = match group {
        Some(group) => [(group.id().clone(), group)].into(),
        None => (*control.groups()).clone(),
    };
    let states: Vec<&GroupState> = groups.values().map(|group| &**group.limits()).collect();
    let limits = control.sessions().limits();
    let busiest = limits.busiest(CLIENTS_SHOWN, Some(&states));
    let view = |figures: crate::limits::ClientFigures| {
        // The group is one of those that were asked for.
        let group = groups.values().find(|group| group.limits().is_of(&figures.key))?;
        let (client, prefix) = (figures.key.ip(), figures.key.bits());
        let name = group.label().name().map(str::to_owned);
        let (sessions, refused) = (figures.sessions, figures.refused);
        Some(ClientView { group: group.port(), name, client, prefix, sessions, refused })
    };
    Clients { clients: busiest.into_iter().filter_map(view).collect(), tracked: limits.tracked() }
}
