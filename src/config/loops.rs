//! Groups whose servers or routes lead to other groups of this file: a chain is allowed, a circle is not.
//!
//! One client of a circle would make sessions until all descriptors are used up. Only addresses are checked here;
//! circles through names are found when sessions run.

use std::collections::{BTreeSet, HashMap};

use super::reach::reaches;
use super::reader::{Listens, Reader};
use super::routes::steps_of_routes;

/// Reports every server that leads back to its own group by way of other groups.
pub(super) fn check_loops(reader: &mut Reader) {
    let mut by_port: HashMap<u16, Vec<(&Listens, usize)>> = HashMap::new();
    for listens in &reader.listeners {
        let group = listens.group.map(|group| (listens, group));
        by_port.entry(listens.addr.port()).or_default().extend(group);
    }
    // For each server that is a group: its own group, and the group that it is.
    let mut steps: Vec<(usize, usize, usize)> = Vec::new();
    for (index, server) in reader.servers.iter().enumerate() {
        let reached = by_port.get(&server.addr.port()).into_iter().flatten();
        let reached = reached.filter(|(listens, group)| *group != server.group && reaches(&server.addr, listens.addr));
        steps.extend(reached.map(|(_, group)| (index, server.group, *group)));
    }
    // A circle has a server in it: no route leads to a group that has routes.
    let edges = steps.iter().map(|(_, from, to)| (*from, *to)).chain(steps_of_routes(reader));
    let edges: BTreeSet<(usize, usize)> = edges.collect();
    let circle_of = circles(&edges);
    for (index, from, to) in steps {
        if circle_of[&from] == circle_of[&to] {
            let server = &reader.servers[index];
            let message = format!(
                "\"{}\" is groups[{to}], whose servers lead back to this group; expected a server outside that circle",
                server.addr
            );
            reader.problems.add(server.offset, server.path(), message);
        }
    }
}

/// The strongly connected component of each group that an edge names, as a number (Kosaraju's algorithm): groups with
/// the same number can all reach each other.
fn circles(edges: &BTreeSet<(usize, usize)>) -> HashMap<usize, usize> {
    let mut next: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut previous: HashMap<usize, Vec<usize>> = HashMap::new();
    for (from, to) in edges {
        next.entry(*from).or_default().push(*to);
        next.entry(*to).or_default();
        previous.entry(*to).or_default().push(*from);
    }
    let mut seen = BTreeSet::new();
    let mut finished = Vec::new();
    for start in next.keys() {
        finished.extend(depth_first(*start, &next, &mut |group| seen.insert(group)));
    }
    let mut circle_of = HashMap::new();
    for start in finished.into_iter().rev() {
        depth_first(start, &previous, &mut |group| {
            let is_new = !circle_of.contains_key(&group);
            circle_of.entry(group).or_insert(start);
            is_new
        });
    }
    circle_of
}

/// Depth-first search from `start` through all groups that `enter` accepts; returns them in post-order.
fn depth_first(start: usize, next: &HashMap<usize, Vec<usize>>, enter: &mut impl FnMut(usize) -> bool) -> Vec<usize> {
    let mut left = Vec::new();
    if !enter(start) {
        return left;
    }
    // Not by recursion: a chain may be as long as there are groups.
    let mut way = vec![(start, 0)];
    while let Some((group, at)) = way.last_mut() {
        match next.get(group).and_then(|next| next.get(*at)) {
            Some(to) => {
                *at += 1;
                if enter(*to) {
                    way.push((*to, 0));
                }
            }
            None => {
                left.push(*group);
                way.pop();
            }
        }
    }
    left
}
