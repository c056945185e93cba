//! Who gets another server when servers come and go.
//!
//! A copy of the policy is asked about some clients before and after a change. That says something only of policies that
//! place clients by their address: they answer the same when they are asked in another order. Of others it is not told.

use std::net::IpAddr;

use serde::Serialize;

use super::sessions::{client, stream};
use crate::config::{Happening, server_index};
use crate::group::{Group, Snapshot};
use crate::server::Server;

/// The IP of the first server; the others follow.
pub(super) const IP_FIRST: u32 = 0x0a00_0001;

/// Clients that are asked about.
const CLIENTS: u32 = 10_000;

/// A client that no server would take.
const NOBODY: usize = usize::MAX;

/// What an event did to clients.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// When, in seconds.
    pub at: f64,
    /// `kill:s3`.
    pub what: String,
    /// The part of all clients that get another server; null for a policy that does not go by the client.
    pub moved: Option<f64>,
    /// The same among the clients of the servers that got another server or none, where the event names one.
    pub own: Option<f64>,
    /// And among those of all other servers.
    pub others: Option<f64>,
}

/// What is known of all events so far.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) changes: Vec<Change>,
    /// Where clients were before the last event; `None` for a policy that does not go by the client.
    before: Option<Vec<usize>>,
    /// The server that the last event named.
    named: Option<usize>,
    /// The event whose effect is not seen yet, and its server.
    pending: Option<(usize, usize, Option<Vec<usize>>)>,
}

impl Moves {
    pub(super) fn before(&mut self, event: &Happening, group: &Group, now_ms: u64) {
        self.before = places(&group.snapshot(), now_ms);
        let names = [&event.kill, &event.drain, &event.revive, &event.ready];
        self.named = names.into_iter().flatten().find_map(|name| server_index(name));
        let (moved, own, others) = (None, None, None);
        self.changes.push(Change { at: event.at.as_secs_f64(), what: text(event), moved, own, others });
    }

    pub(super) fn after(&mut self, group: &Group, now_ms: u64) {
        let event = self.changes.len() - 1;
        let before = self.before.take();
        self.compare(event, before, self.named, group, now_ms);
    }

    /// This server was killed, or works again: what that does is seen when the proxy knows.
    pub(super) fn wait_for(&mut self, server: usize) {
        self.pending = Some((self.changes.len() - 1, server, self.before.take()));
    }

    /// The proxy knows now that this server is gone, or is back.
    pub(super) fn known(&mut self, server: usize, group: &Group, now_ms: u64) {
        if let Some((event, _, before)) = self.pending.take_if(|(_, awaited, _)| *awaited == server) {
            self.compare(event, before, Some(server), group, now_ms);
        }
    }

    fn compare(&mut self, event: usize, before: Option<Vec<usize>>, named: Option<usize>, group: &Group, now_ms: u64) {
        let (Some(before), Some(after)) = (before, places(&group.snapshot(), now_ms)) else { return };
        let moved = |is_meant: &dyn Fn(usize) -> bool| {
            let meant = || before.iter().zip(&after).filter(|(was, _)| is_meant(**was));
            let count = meant().count();
            (count > 0).then(|| meant().filter(|(was, is)| was != is).count() as f64 / count as f64)
        };
        let change = &mut self.changes[event];
        change.moved = moved(&|_| true);
        change.own = named.and_then(|named| moved(&|was| was == named));
        change.others = named.and_then(|named| moved(&|was| was != named));
    }
}

/// The server of each client; `None` when a client's server depends on who has asked before.
fn places(snapshot: &Snapshot, now_ms: u64) -> Option<Vec<usize>> {
    let ask = |clients: &mut dyn Iterator<Item = u32>, purpose: &str| {
        let copy = snapshot.rehearsal().ok()?;
        let mut random = stream(0, purpose);
        let mut found = vec![NOBODY; CLIENTS as usize];
        for number in clients {
            let picked = copy.pick(client(number), &[], now_ms, random.draw());
            found[number as usize] = picked.map_or(NOBODY, |slot| index_of(&slot.server));
        }
        Some(found)
    };
    let there = ask(&mut (0..CLIENTS), "there")?;
    let back = ask(&mut (0..CLIENTS).rev(), "back")?;
    // Whoever sends everybody to one server looks at something else.
    let goes_by_client = there == back && there.iter().any(|place| *place != there[0]);
    goes_by_client.then_some(there)
}

/// The place of a server in the list of the simulation.
pub(super) fn index_of(server: &Server) -> usize {
    let ip = server.settings.addr.literal().map(|addr| addr.ip());
    match ip {
        Some(IpAddr::V4(ip)) => (u32::from(ip) - IP_FIRST) as usize,
        _ => unreachable!("all servers of a simulation have an IPv4 address"),
    }
}

/// An event as the command line has it.
fn text(event: &Happening) -> String {
    let one = |word: &str, name: &Option<String>| name.as_ref().map(|name| format!("{word}:{name}"));
    let numbers = |word: &str, numbers: &Option<std::collections::BTreeMap<String, f64>>| {
        let numbers = numbers.as_ref()?.iter().map(|(name, number)| format!("{name}={number}"));
        Some(format!("{word}:{}", numbers.collect::<Vec<_>>().join(",")))
    };
    one("kill", &event.kill)
        .or_else(|| one("revive", &event.revive))
        .or_else(|| one("drain", &event.drain))
        .or_else(|| one("ready", &event.ready))
        .or_else(|| event.add.as_ref().map(|plan| format!("add:{}", plan.count)))
        .or_else(|| numbers("weight", &event.weight))
        .or_else(|| numbers("slow", &event.slow))
        .unwrap_or_default()
}
