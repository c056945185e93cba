//! The conformance run: checks that every policy must pass, and two measurements.
//!
//! Each scene has a rig of its own, so that one fault does not hide the next. The rig judges the answers; a scene only
//! sets up situations. Every scene is bounded in time: a slow module is asked less often, but at least once in each
//! situation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::report::{Leaving, Spread};
use super::rig::{Budget, Rig, Subject, Tally, client, client_v6, server, servers};
use crate::base::clock;
use crate::policy::Outcome;
use crate::server::{Server, ServerId};

/// Most clients whose spread is shown.
pub(super) const CLIENTS_MAX: u32 = 100_000;

/// Most clients that are asked about before and after a server leaves.
const LEAVING_CLIENTS_MAX: usize = 10_000;

/// How long one of the long scenes may take.
const LONG: Duration = Duration::from_secs(2);

/// How long one of the short ones may take.
const SHORT: Duration = Duration::from_millis(500);

/// A session ends after this many more clients have come.
const SESSIONS_HELD: usize = 1_000;

/// A scene: its name, what it promises, and how it is played.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) promise: &'static str,
    play: fn(&mut Rig) -> Result<(), String>,
}

/// The scenes that a module must pass.
pub(super) const SCENES: [Scene; 5] = [
    Scene { name: "sizes", promise: "comes to an end with 0, 1, 10 and 10,000 servers", play: sizes },
    Scene { name: "clients", promise: "comes to an end for any port, IPv4 and IPv6, attempt and time", play: clients },
    Scene { name: "unavailable", promise: "never a server that is full or suspect", play: unavailable },
    Scene { name: "retries", promise: "never a server that this client was refused by", play: retries },
    Scene { name: "membership", promise: "goes on while servers leave, come, all go and come back", play: membership },
];

impl Scene {
    /// Plays it from the start. Returns the tally even when the module fails.
    pub(super) fn play(&self, subject: Subject<'_>) -> (Tally, Result<(), String>) {
        subject.play(self.play)
    }
}

fn sizes(rig: &mut Rig) -> Result<(), String> {
    for size in [0, 1, 10, 10_000, 0, 10] {
        rig.show(servers(0..size))?;
        some_clients(rig, 100)?;
    }
    Ok(())
}

/// Ports with every remainder of small divisors and at the ends of their ranges, IPv4 and IPv6, first attempts and
/// retries. Times right after boot, an hour later, and beyond 32 bits of milliseconds.
fn clients(rig: &mut Rig) -> Result<(), String> {
    rig.show(servers(0..10))?;
    let ids: Vec<ServerId> = rig.servers().iter().map(|server| server.id).collect();
    let ports = [0, 1, 79, 80, 1_023, 1_024, 32_767, 32_768, 49_151, 49_152, 65_534, 65_535];
    let start_ms = rig.now_ms();
    let budget = Budget::new(SHORT);
    for now_ms in [1, start_ms, start_ms + 3_600_000, u64::from(u32::MAX) - 50, u64::from(u32::MAX) + 1] {
        rig.set_now_ms(now_ms);
        for (number, port) in (0..).zip(ports.into_iter().chain(40_000..40_100)) {
            let ip = if number % 2 == 0 { client(number) } else { client_v6(number) }.ip();
            let tried = &ids[..(number as usize % 5) * usize::from(number % 3 == 0)];
            rig.ask((ip, port).into(), tried)?;
            if budget.is_over() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn unavailable(rig: &mut Rig) -> Result<(), String> {
    rig.show((0..10).map(|number| server(number, 1, 1)).collect())?;
    let all = rig.servers().to_vec();
    // Each session stays until all are full and nobody is left to be named.
    for number in 0..=10 {
        if let Some(index) = rig.ask(client(number), &[])? {
            all[index].live.try_acquire(1);
        }
    }
    all.iter().filter(|server| server.live.sessions() > 0).for_each(|server| server.live.release());
    // Half of the servers become suspect; then a new list arrives while they are.
    for is_told_with_the_list in [false, true] {
        let now_ms = rig.now_ms();
        all.iter().step_by(2).for_each(|server| _ = server.live.connect_failed("refused", now_ms, now_ms));
        if is_told_with_the_list {
            rig.show(all.iter().rev().cloned().collect())?;
        }
        some_clients(rig, 50)?;
    }
    Ok(())
}

fn retries(rig: &mut Rig) -> Result<(), String> {
    rig.show(servers(0..10))?;
    let budget = Budget::new(SHORT);
    for number in 0..50 {
        let mut tried = Vec::new();
        while let Some(index) = rig.ask(client(number), &tried)? {
            let id = rig.servers()[index].id;
            rig.report(id, Outcome::Failed)?;
            tried.push(id);
            // Other clients come meanwhile, so that a policy that only takes turns comes round again.
            for other in 0..number % 10 {
                rig.ask(client(1_000 + other), &[])?;
            }
            if budget.is_over() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What becomes of the servers of a group.
type Change = fn(&mut Vec<Arc<Server>>);

fn membership(rig: &mut Rig) -> Result<(), String> {
    let mut now = servers(0..10);
    let changes: [Change; 8] = [
        |_| {},
        |now| _ = now.remove(0),
        |now| _ = now.pop(),
        |now| now.extend(servers(20..25)),
        |now| now.reverse(),
        |now| now.clear(),
        |now| now.extend(servers(30..40)),
        |now| *now = servers(40..1_040),
    ];
    for change in changes {
        change(&mut now);
        rig.show(now.clone())?;
        some_clients(rig, 50)?;
    }
    // Servers leave one by one and come back one by one.
    for size in (0..=10).rev().chain(1..=10) {
        rig.show(servers(0..size))?;
        some_clients(rig, 3)?;
    }
    Ok(())
}

/// Some clients come, over IPv4 and IPv6; fewer of them when the module is slow.
fn some_clients(rig: &mut Rig, clients: u32) -> Result<(), String> {
    let budget = Budget::new(SHORT / 10);
    for number in 0..clients {
        rig.ask(if number % 4 == 3 { client_v6(number) } else { client(number) }, &[])?;
        if budget.is_over() {
            break;
        }
    }
    Ok(())
}

/// How many clients each of ten servers gets. Sessions stay for a while, for policies that look at the number of
/// sessions.
pub(super) fn spread(rig: &mut Rig) -> Result<Spread, String> {
    rig.show((0..10).map(|number| server(number, 1, 0)).collect())?;
    let all = rig.servers().to_vec();
    let mut spread = Spread { clients: 0, servers: vec![0; all.len()] };
    let mut held = VecDeque::with_capacity(SESSIONS_HELD + 1);
    let budget = Budget::new(LONG);
    while spread.clients < u64::from(CLIENTS_MAX) && !budget.is_over() {
        let picked = rig.ask(client(spread.clients as u32), &[])?;
        spread.clients += 1;
        let Some(index) = picked else { continue };
        spread.servers[index] += 1;
        let live = &all[index].live;
        live.try_acquire(0);
        live.connected(500, clock::coarse_ms());
        rig.report(all[index].id, Outcome::Connected { micros: 500 })?;
        held.push_back(index);
        if held.len() > SESSIONS_HELD
            && let Some(index) = held.pop_front()
        {
            all[index].live.release();
            rig.report(all[index].id, Outcome::Closed { millis: 10_000, bytes: 10_000 })?;
        }
    }
    Ok(spread)
}

/// Which clients move when one of ten servers leaves.
pub(super) fn leaving(rig: &mut Rig) -> Result<Leaving, String> {
    let all = servers(0..10);
    let gone = all[4].id;
    rig.show(all.clone())?;
    let budget = Budget::new(LONG / 2);
    let mut before = Vec::new();
    while before.len() < LEAVING_CLIENTS_MAX && !budget.is_over() {
        let picked = rig.ask(client(before.len() as u32), &[])?;
        before.push(picked.map(|index| rig.servers()[index].id));
    }
    rig.show(all.into_iter().filter(|server| server.id != gone).collect())?;
    let mut leaving = Leaving { clients: 0, moved: 0 };
    for (number, before) in (0..).zip(before) {
        let after = rig.ask(client(number), &[])?.map(|index| rig.servers()[index].id);
        if before.is_some_and(|before| before != gone) {
            leaving.clients += 1;
            leaving.moved += u64::from(after != before);
        }
    }
    Ok(leaving)
}

/// The answers of an instance to requests that are the same for every instance.
pub(super) fn answers(rig: &mut Rig) -> Result<Vec<Option<usize>>, String> {
    rig.show(servers(0..10))?;
    let budget = Budget::new(SHORT);
    let mut answers = Vec::new();
    for number in 0..500 {
        answers.push(rig.ask(client(number), &[])?);
        if budget.is_over() {
            break;
        }
    }
    Ok(answers)
}
