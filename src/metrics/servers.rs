//! The metrics of servers.

use std::fmt;

use super::families::{Families, Labels};
use super::groups::GroupSample;
use crate::group::view::ServerView;
use crate::server::State;

/// Each server with its labels.
fn all(groups: &[GroupSample]) -> impl Iterator<Item = (Labels<'_>, &ServerView)> {
    groups.iter().flat_map(|group| {
        group.servers.iter().map(|server| (vec![group.label(), ("server", server.addr.as_str())], server))
    })
}

/// One series per server that has this value.
fn each<'a, V>(
    groups: &'a [GroupSample],
    value: impl Fn(&ServerView) -> Option<V> + 'a,
) -> impl Iterator<Item = (Labels<'a>, V)> + 'a {
    all(groups).filter_map(move |(labels, server)| Some((labels, value(server)?)))
}

/// One series per server and result, of the servers that have these counts.
fn by_result<'a>(
    groups: &'a [GroupSample],
    counts: impl Fn(&ServerView) -> Option<[(&'static str, u64); 2]> + 'a,
) -> impl Iterator<Item = (Labels<'a>, u64)> + 'a {
    each(groups, counts).flat_map(|(labels, counts)| {
        counts.map(|(result, count)| (labels.iter().copied().chain([("result", result)]).collect(), count))
    })
}

pub(super) fn write(groups: &[GroupSample], families: &mut Families<'_>) -> fmt::Result {
    let up = each(groups, |server| Some(u64::from(server.online)));
    families.gauge("server_up", "1 while the server may be picked", up)?;
    let state = each(groups, |server| Some(state_number(server.state)));
    families.gauge("server_state", "What an operator wants: 0 ready, 1 drain, 2 maint", state)?;
    // Few are, and with ten thousand servers each line that says nothing is 700 kB.
    let suspect = each(groups, |server| server.suspect.then_some(1u64));
    families.gauge("server_suspect", "1 while it is passed over for a failed connect", suspect)?;
    let active = each(groups, |server| Some(u64::from(server.sessions)));
    families.gauge("server_sessions_active", "Sessions the server has now", active)?;
    let total = each(groups, |server| Some(server.sessions_total));
    families.counter("server_sessions", "Sessions that reached the server", total)?;
    let bytes_up = each(groups, |server| Some(server.bytes_up));
    families.counter("server_bytes_up", "Bytes from clients to the server", bytes_up)?;
    let bytes_down = each(groups, |server| Some(server.bytes_down));
    families.counter("server_bytes_down", "Bytes from the server to clients", bytes_down)?;
    let errors = each(groups, |server| Some(server.connect_errors));
    families.counter("server_connect_errors", "Failed attempts to connect to the server", errors)?;
    let down = each(groups, |server| Some(as_seconds(server.down_ms)));
    families.counter("server_down_seconds", "How long something was wrong with the server", down)?;
    let lease = each(groups, |server| server.lease_ms.map(as_seconds));
    families.gauge("server_lease_seconds", "What is left of the server's lease", lease)?;
    let ejections = by_result(groups, |server| {
        let (ejected, spared) = server.ejections?;
        Some([("ejected", ejected), ("over_limit", spared)])
    });
    families.counter("server_ejections", "Ejections of the server, by result", ejections)?;
    checks(groups, families)
}

fn checks(groups: &[GroupSample], families: &mut Families<'_>) -> fmt::Result {
    let results = by_result(groups, |server| {
        let check = server.check?;
        Some([("pass", check.passed), ("fail", check.failed)])
    });
    families.counter("server_checks", "Checks of the server, by result", results)?;
    let up = each(groups, |server| server.check.map(|check| u64::from(check.is_up)));
    families.gauge("server_check_up", "1 while checks find the server up", up)?;
    let seconds = each(groups, |server| server.check.map(|check| check.seconds));
    families.gauge("server_check_seconds", "How long the last check of the server took", seconds)?;
    let transitions = each(groups, |server| server.check.map(|check| check.transitions));
    families.counter("server_transitions", "How often checks found it down, or up again", transitions)
}

fn state_number(state: State) -> u64 {
    match state {
        State::Ready => 0,
        State::Drain => 1,
        State::Maint => 2,
    }
}

fn as_seconds(millis: u64) -> f64 {
    millis as f64 / 1e3
}
