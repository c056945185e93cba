//! Which rows a list has, and in which order.

use std::cmp::{Ordering, Reverse};

use super::state::{Group, Server, State};

/// By which column a list is sorted, and whether the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    /// Of the columns of that list.
    pub(super) column: usize,
    pub(super) is_reversed: bool,
}

/// The columns by which servers can be sorted, by their places in the table.
pub(super) const SERVER_COLUMNS: [&str; 8] = ["GROUP", "SERVER", "STATE", "SESS", "RATE", "SHARE", "CONNECT", "CAUSE"];
/// And groups.
pub(super) const GROUP_COLUMNS: [&str; 8] = ["GROUP", "STATE", "POLICY", "ONLINE", "SESS", "RATE", "UP", "DOWN"];

/// What has failed comes first.
pub(super) const SERVERS_FIRST: Sort = Sort { column: 2, is_reversed: false };
/// As they stand in the file.
pub(super) const GROUPS_FIRST: Sort = Sort { column: 0, is_reversed: false };

impl Sort {
    /// By the next column.
    pub(super) fn next(self, columns: usize) -> Self {
        Self { column: (self.column + 1) % columns, is_reversed: false }
    }

    fn apply(self, order: Ordering) -> Ordering {
        if self.is_reversed { order.reverse() } else { order }
    }
}

/// Servers whose row holds `search`, which is in lower case.
pub(super) fn servers(state: &State, sort: Sort, search: &str, only: Option<u32>) -> Vec<u32> {
    let is_meant = |(_, server): &(&u32, &Server)| {
        only.is_none_or(|group| server.facts.g == group) && (search.is_empty() || holds(state, server, search))
    };
    let mut rows: Vec<(&u32, &Server)> = state.servers.iter().filter(is_meant).collect();
    // Numbers are of interest where they are great.
    let number = |server: &Server, at: usize| Reverse(server.row[at].unwrap_or(0));
    let by = |a: &Server, b: &Server| match sort.column {
        0 => state.group_of(a).cmp(state.group_of(b)),
        1 => a.facts.addr.cmp(&b.facts.addr),
        2 => a.facts.standing().cmp(&b.facts.standing()),
        column @ 3..=6 => number(a, column - 3).cmp(&number(b, column - 3)),
        _ => a.facts.cause.is_none().cmp(&b.facts.cause.is_none()).then_with(|| a.facts.cause.cmp(&b.facts.cause)),
    };
    rows.sort_unstable_by(|(i, a), (j, b)| sort.apply(by(a, b)).then_with(|| (a.facts.g, i).cmp(&(b.facts.g, j))));
    rows.into_iter().map(|(i, _)| *i).collect()
}

fn holds(state: &State, server: &Server, search: &str) -> bool {
    let facts = &server.facts;
    let holds = |text: &str| text.to_lowercase().contains(search);
    holds(&facts.addr)
        || holds(state.group_of(server))
        || facts.standing().word().contains(search)
        || facts.cause.as_deref().is_some_and(holds)
}

/// Groups whose row holds `search`, which is in lower case.
pub(super) fn groups(state: &State, sort: Sort, search: &str) -> Vec<u32> {
    let is_meant = |(_, group): &(&u32, &Group)| {
        let facts = &group.facts;
        let texts = [&facts.group, &facts.listen, &facts.policy, &facts.policy_state];
        texts.iter().any(|text| text.to_lowercase().contains(search))
    };
    let mut rows: Vec<(&u32, &Group)> = state.groups.iter().filter(is_meant).collect();
    let number = |group: &Group, at: usize| Reverse(group.row[at].unwrap_or(0));
    let offline = |group: &Group| Reverse(group.servers.1 - group.servers.0);
    let by = |a: &Group, b: &Group| match sort.column {
        1 => trouble(b).cmp(&trouble(a)),
        2 => a.facts.policy.cmp(&b.facts.policy),
        3 => offline(a).cmp(&offline(b)),
        column @ 4..=7 => number(a, column - 4).cmp(&number(b, column - 4)),
        _ => Ordering::Equal,
    };
    rows.sort_unstable_by(|(i, a), (j, b)| match sort.column {
        0 => sort.apply(i.cmp(j)),
        _ => sort.apply(by(a, b)).then_with(|| i.cmp(j)),
    });
    rows.into_iter().map(|(i, _)| *i).collect()
}

/// How bad it is with a group.
fn trouble(group: &Group) -> u8 {
    let facts = &group.facts;
    let is_deserted = group.servers.0 == 0;
    [!facts.open, is_deserted, facts.fail_open, facts.self_preservation]
        .iter()
        .position(|is_so| *is_so)
        .map_or(0, |at| 4 - at as u8)
}

/// The places of policies whose row holds `search`, which is in lower case.
pub(super) fn policies(state: &State, search: &str) -> Vec<u32> {
    let is_meant = |name: &str| name.to_lowercase().contains(search);
    let policies = (0..).zip(&state.policies);
    policies.filter(|(_, policy)| is_meant(&policy.name) || is_meant(&policy.state)).map(|(at, _)| at).collect()
}
