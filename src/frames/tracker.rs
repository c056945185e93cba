//! From one sample to the next: numbers for groups and servers, rates and shares, and what has changed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Serialize;

use super::rows::{self, Row};
use super::sample::{GroupFacts, GroupSample, PolicyFacts, ProcessFacts, Sample, ServerFacts, ServerSample};

/// Over how many frames a share is taken.
const SHARE_FRAMES: usize = 10;

/// A group or a server as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown<F, const N: usize> {
    pub(super) i: u32,
    pub(super) facts: Arc<F>,
    pub(super) row: Row<N>,
}

/// Everything as it is shown at one moment, and what is new of it.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) wall_ms: u64,
    pub(super) process: ProcessFacts,
    /// Sessions, rate, up, down.
    pub(super) totals: Row<4>,
    /// Sessions, rate, up, down, refused.
    pub(super) groups: Vec<Shown<GroupFacts, 5>>,
    /// Sessions, rate, share, connect time, time of the last check.
    pub(super) servers: Vec<Shown<ServerFacts, 5>>,
    pub(super) policies: Vec<PolicyFacts>,
    /// The event for those who have seen the frame before.
    pub(super) change: Bytes,
    /// The event for all others, made when the first of them asks.
    full: OnceLock<Bytes>,
}

/// What is known from the last sample.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    number: u64,
    /// The number of the group or server that came last.
    last_i: u32,
    at_us: Option<u64>,
    groups: HashMap<String, Known<GroupFacts, 5, 4>>,
    /// By the number of the group and the address.
    servers: HashMap<(u32, String), Known<ServerFacts, 5, 1>>,
    process: Option<ProcessFacts>,
    policies: Vec<PolicyFacts>,
    pick_times: HashMap<String, (u64, u64)>,
}

/// A group or a server of the last sample.
#[derive(Debug)]
struct Known<F, const N: usize, const T: usize> {
    i: u32,
    facts: Arc<F>,
    row: Row<N>,
    totals: [u64; T],
    /// New sessions in each of the last frames.
    news: VecDeque<u32>,
    /// The frame that had it.
    number: u64,
}

/// What a frame has that the one before had not.
#[derive(Debug, Default)]
struct News {
    groups: Vec<usize>,
    group_rows: Vec<usize>,
    servers: Vec<usize>,
    server_rows: Vec<usize>,
    gone: Gone,
}

#[derive(Debug, Default, Serialize)]
struct Gone {
    groups: Vec<u32>,
    servers: Vec<u32>,
}

/// An object with its number.
#[derive(Serialize)]
struct Numbered<'a, F> {
    i: u32,
    #[serde(flatten)]
    facts: &'a F,
}

impl Tracker {
    /// The frame of this sample.
    pub(super) fn frame(&mut self, sample: Sample) -> Frame {
        self.number += 1;
        let elapsed_us = self.at_us.replace(sample.at_us).map(|before| sample.at_us.saturating_sub(before).max(1));
        let (mut news, mut groups, mut servers) = (News::default(), Vec::new(), Vec::new());
        let none_yet = elapsed_us.map(|_| 0);
        let mut totals = [Some(sample.sessions), none_yet, none_yet, none_yet];
        for group in sample.groups {
            let of_group = self.group(group, elapsed_us, &mut news, &mut groups, &mut servers);
            for (total, part) in totals[1..].iter_mut().zip(of_group) {
                *total = total.zip(part).map(|(total, part)| total + part);
            }
        }
        let number = self.number;
        self.groups.retain(|_, known| known.number == number || leave(&mut news.gone.groups, known.i));
        self.servers.retain(|_, known| known.number == number || leave(&mut news.gone.servers, known.i));
        let policies = with_costs(sample.policies, &sample.pick_times, &self.pick_times);
        self.pick_times = sample.pick_times;
        let mut frame = Frame {
            number,
            wall_ms: sample.wall_ms,
            process: sample.process,
            totals,
            groups,
            servers,
            policies,
            change: Bytes::new(),
            full: OnceLock::new(),
        };
        let is_other_process = self.process.as_ref() != Some(&frame.process);
        let are_other_policies = self.policies != frame.policies;
        frame.change = frame.event(&news, is_other_process, are_other_policies);
        self.process = Some(frame.process.clone());
        self.policies.clone_from(&frame.policies);
        frame
    }

    /// Adds a group and its servers to a frame; its rate, up and down.
    fn group(
        &mut self,
        sample: GroupSample,
        elapsed_us: Option<u64>,
        news: &mut News,
        groups: &mut Vec<Shown<GroupFacts, 5>>,
        servers: &mut Vec<Shown<ServerFacts, 5>>,
    ) -> [Option<u64>; 3] {
        let known = known(&mut self.groups, sample.facts.group.clone(), &mut self.last_i, &sample.facts, sample.totals);
        let [rate, up, down, refused] = known.rates(sample.totals, elapsed_us);
        let is_new = known.take(sample.facts, [Some(sample.sessions), rate, up, down, refused], self.number);
        note(is_new, groups.len(), &mut news.groups, &mut news.group_rows);
        groups.push(known.shown());
        let i = known.i;
        let all: u64 = sample.servers.iter().map(|server| self.server_news(i, server)).sum();
        for server in sample.servers {
            let is_new = self.server(i, server, all, elapsed_us, servers);
            note(is_new, servers.len() - 1, &mut news.servers, &mut news.server_rows);
        }
        [rate, up, down]
    }

    /// Notes the new sessions of a server; those of the last frames.
    fn server_news(&mut self, group: u32, sample: &ServerSample) -> u64 {
        let key = (group, sample.facts.addr.clone());
        let known = known(&mut self.servers, key, &mut self.last_i, &sample.facts, [sample.total]);
        let new = u32::try_from(sample.total.saturating_sub(known.totals[0])).unwrap_or(u32::MAX);
        known.news.truncate(SHARE_FRAMES - 1);
        known.news.push_front(new);
        known.lately()
    }

    fn server(
        &mut self,
        group: u32,
        sample: ServerSample,
        all: u64,
        elapsed_us: Option<u64>,
        servers: &mut Vec<Shown<ServerFacts, 5>>,
    ) -> IsNew {
        let facts = ServerFacts { g: group, ..sample.facts };
        let key = (group, facts.addr.clone());
        let known = known(&mut self.servers, key, &mut self.last_i, &facts, [sample.total]);
        let [rate] = known.rates([sample.total], elapsed_us);
        let share = (known.lately() * 200 + all).checked_div(2 * all).unwrap_or(0);
        let row = [Some(sample.sessions), rate, Some(share), Some(sample.connect_us), Some(sample.check_us)];
        let is_new = known.take(facts, row, self.number);
        servers.push(known.shown());
        is_new
    }
}

/// Whether facts, and numbers, are other ones than in the frame before.
struct IsNew {
    facts: bool,
    row: bool,
}

fn note(is_new: IsNew, at: usize, facts: &mut Vec<usize>, rows: &mut Vec<usize>) {
    if is_new.facts {
        facts.push(at);
    }
    if is_new.row {
        rows.push(at);
    }
}

/// Notes that something has left; false, as it is not to be kept.
fn leave(gone: &mut Vec<u32>, i: u32) -> bool {
    gone.push(i);
    false
}

/// What is known of a group or a server. One that is new gets a number; what it did before nobody saw.
fn known<'a, K: std::hash::Hash + Eq, F: Clone, const N: usize, const T: usize>(
    all: &'a mut HashMap<K, Known<F, N, T>>,
    key: K,
    last_i: &mut u32,
    facts: &F,
    totals: [u64; T],
) -> &'a mut Known<F, N, T> {
    all.entry(key).or_insert_with(|| {
        *last_i += 1;
        let (row, news) = ([None; N], VecDeque::new());
        Known { i: *last_i, facts: Arc::new(facts.clone()), row, totals, news, number: 0 }
    })
}

impl<F: Clone + PartialEq, const N: usize, const T: usize> Known<F, N, T> {
    /// What was added to each total in a second; `None` without an earlier frame.
    fn rates(&mut self, totals: [u64; T], elapsed_us: Option<u64>) -> [Option<u64>; T] {
        let before = std::mem::replace(&mut self.totals, totals);
        let per_second = |new: u64, elapsed_us: u64| {
            u64::try_from(u128::from(new) * 1_000_000 / u128::from(elapsed_us)).unwrap_or(u64::MAX)
        };
        std::array::from_fn(|at| Some(per_second(totals[at].saturating_sub(before[at]), elapsed_us?)))
    }

    fn lately(&self) -> u64 {
        self.news.iter().copied().map(u64::from).sum()
    }

    fn take(&mut self, facts: F, row: Row<N>, number: u64) -> IsNew {
        let is_first = self.number == 0;
        let is_new = IsNew { facts: is_first || *self.facts != facts, row: is_first || self.row != row };
        if is_new.facts {
            self.facts = Arc::new(facts);
        }
        (self.row, self.number) = (row, number);
        is_new
    }

    fn shown(&self) -> Shown<F, N> {
        Shown { i: self.i, facts: Arc::clone(&self.facts), row: self.row }
    }
}

/// The policies with what a call took since the last frame, where there were calls.
fn with_costs(
    mut policies: Vec<PolicyFacts>,
    now: &HashMap<String, (u64, u64)>,
    before: &HashMap<String, (u64, u64)>,
) -> Vec<PolicyFacts> {
    for policy in &mut policies {
        if let (Some((sum, count)), Some((sum_before, count_before))) =
            (now.get(&policy.name), before.get(&policy.name))
        {
            let lately = sum.saturating_sub(*sum_before).checked_div(count.saturating_sub(*count_before));
            policy.cost_ns = lately.or(policy.cost_ns);
        }
    }
    policies
}

impl Frame {
    /// The event with everything.
    pub(super) fn full(&self) -> Bytes {
        let make = || {
            let mut text = self.begin("state");
            write_json(&mut text, "process", &self.process);
            write_things(&mut text, ["groups", "g"], self.groups.iter(), self.groups.iter());
            write_things(&mut text, ["servers", "s"], self.servers.iter(), self.servers.iter());
            write_json(&mut text, "policies", &self.policies);
            end(text)
        };
        self.full.get_or_init(make).clone()
    }

    /// The event with what is new.
    fn event(&self, news: &News, is_other_process: bool, are_other_policies: bool) -> Bytes {
        let mut text = self.begin("change");
        if is_other_process {
            write_json(&mut text, "process", &self.process);
        }
        let of = |at: &usize| &self.groups[*at];
        write_things(&mut text, ["groups", "g"], news.groups.iter().map(of), news.group_rows.iter().map(of));
        let of = |at: &usize| &self.servers[*at];
        write_things(&mut text, ["servers", "s"], news.servers.iter().map(of), news.server_rows.iter().map(of));
        if are_other_policies {
            write_json(&mut text, "policies", &self.policies);
        }
        if !(news.gone.groups.is_empty() && news.gone.servers.is_empty()) {
            write_json(&mut text, "gone", &news.gone);
        }
        end(text)
    }

    fn begin(&self, event: &str) -> String {
        let mut text = format!("event: {event}\ndata: {{\"t\":{},\"n\":{},\"p\":", self.wall_ms, self.number);
        rows::write(&mut text, None, &self.totals);
        text
    }
}

fn end(mut text: String) -> Bytes {
    text.push_str("}\n\n");
    text.into()
}

/// JSON has no line feed that is not escaped, so that the event stays one line.
fn write_json(text: &mut String, name: &str, value: &impl Serialize) {
    let json = serde_json::to_string(value).expect("facts have string keys and no failing part");
    text.extend([",\"", name, "\":", &json]);
}

fn write_things<'a, F: Serialize + 'a, const N: usize>(
    text: &mut String,
    [objects, rows]: [&str; 2],
    facts: impl Iterator<Item = &'a Shown<F, N>>,
    numbers: impl Iterator<Item = &'a Shown<F, N>>,
) {
    let facts: Vec<_> = facts.map(|shown| Numbered { i: shown.i, facts: &*shown.facts }).collect();
    if !facts.is_empty() {
        write_json(text, objects, &facts);
    }
    let mut opening = [",\"", rows, "\":["].concat();
    for shown in numbers {
        text.push_str(&opening);
        rows::write(text, Some(shown.i), &shown.row);
        ",".clone_into(&mut opening);
    }
    if opening == "," {
        text.push(']');
    }
}
