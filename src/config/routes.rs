//! Routes and the groups that they lead to: there is such a group, only one, and it can take clients from another.

use std::collections::BTreeSet;

use super::reader::{Named, Reader, RoutesTo};

/// Reports routes that lead to no group, or to one that cannot take their clients.
pub(super) fn check_routes(reader: &mut Reader) {
    let wrong: Vec<_> = reader.routes.iter().filter_map(|route| Some((route, mistake(reader, route)?))).collect();
    let wrong: Vec<_> = wrong.into_iter().map(|(route, wrong)| (route.offset, route.path.clone(), wrong)).collect();
    for (offset, path, message) in wrong {
        reader.problems.add(offset, path, message);
    }
}

/// Which groups lead to which others by a route.
pub(super) fn steps_of_routes(reader: &Reader) -> impl Iterator<Item = (usize, usize)> {
    let steps = reader.routes.iter().filter_map(|route| match groups(reader, route)[..] {
        [one] if one != route.from => Some((route.from, one)),
        _ => None,
    });
    steps.collect::<Vec<_>>().into_iter()
}

fn mistake(reader: &Reader, route: &RoutesTo) -> Option<String> {
    let shown = match route.to.as_port() {
        Some(port) => port.to_string(),
        None => format!("\"{}\"", route.to),
    };
    let group = match groups(reader, route)[..] {
        [] => return Some(format!("there is no group {shown}; expected the port or the name of a group of this file")),
        [own] if own == route.from => return None,
        [one] => one,
        _ => return Some(format!("several groups listen on port {shown}; expected the name of one of them")),
    };
    let named = reader.names.iter().find(|named| named.group == group)?;
    let cannot = match named {
        Named { has_routes: true, .. } => "has routes itself; expected a group without routes",
        Named { accepts_proxy: true, .. } => {
            "expects PROXY headers, which its clients would have to send here; expected a group without accept_proxy"
        }
        Named { speaks_tls: true, .. } => {
            "speaks TLS to its clients itself, whose bytes are passed on as they are here; expected a group without tls"
        }
        Named { speaks_server_tls: true, .. } if route.has_asked_for_tls => {
            "begins with TLS at its servers, which starttls has asked for it in the clear; expected a group without server_tls"
        }
        _ => return None,
    };
    Some(format!("group {shown} {cannot}"))
}

/// The groups of the file that a route may mean, by their index.
fn groups(reader: &Reader, route: &RoutesTo) -> Vec<usize> {
    let is_called = |named: &&Named| named.name.as_deref() == Some(route.to.as_str());
    if let Some(named) = reader.names.iter().find(is_called) {
        return vec![named.group];
    }
    let port = route.to.as_port();
    let at_port = reader.listeners.iter().filter(|listens| Some(listens.addr.port()) == port);
    let groups: BTreeSet<usize> = at_port.filter_map(|listens| listens.group).collect();
    groups.into_iter().collect()
}
