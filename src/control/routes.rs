//! The routes of the groups, with the groups themselves instead of their names.

use std::sync::Arc;

use crate::group::{Group, GroupId, Groups, RouteTable, RouteTarget};

/// Gives each group the table of its routes.
pub(super) fn set_routes(groups: &Groups) {
    for group in groups.values() {
        let table = RouteTable::new(&group.snapshot().settings, |id| match find(groups, id) {
            Some(own) if Arc::ptr_eq(own, group) => RouteTarget::Own,
            Some(other) => RouteTarget::Group(Arc::clone(other)),
            // The file was checked, so it is there.
            None => RouteTarget::Close,
        });
        // Most have none and had none.
        if table.is_some() || group.routes().is_some() {
            group.set_routes(table.map(Arc::new));
        }
    }
}

/// The group that is called so, or else the one that has this port.
fn find<'g>(groups: &'g Groups, id: &GroupId) -> Option<&'g Arc<Group>> {
    if let Some(group) = groups.get(id) {
        return Some(group);
    }
    let port = id.as_port()?;
    let has_port = |group: &&Arc<Group>| group.snapshot().settings.listen.iter().any(|listen| listen.port() == port);
    groups.values().find(has_port)
}
