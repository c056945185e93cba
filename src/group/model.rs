//! The members of a group against a plain model of what they should be: claims, leases, checks, suspicion and operators, in
//! any order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::check::tests::settings as check_settings;
use super::check::{CheckResult, CheckSettings};
use super::claim::Claim;
use super::lease::Lease;
use super::members::Members;
use super::settings::GroupSettings;
use super::tests::{server, settings};
use crate::base::label::GroupLabel;
use crate::policy::built_in;
use crate::server::{Origin, ServerAddr, State};

/// With fewer than three no lease is ever kept, so time alone decides.
const SERVERS: usize = 2;
const TIMEOUT_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The file lists these servers, each with its state.
    File([Option<(Origin, State)>; SERVERS]),
    Heartbeat(usize),
    Remove(usize),
    Check(usize, bool),
    Connect(usize, bool),
    /// Time passes, and leases are looked at.
    Pass(u64),
}

/// What is known of a server that is in the group.
#[derive(Clone, Debug)]
struct Known {
    /// How the file lists it.
    file: Option<Origin>,
    origin: Origin,
    state: State,
    lease_until_ms: Option<u64>,
    is_up: bool,
    /// The next check decides alone.
    is_undecided: bool,
    was_checked: bool,
    row: (u32, bool),
    is_suspect: bool,
}

#[derive(Default)]
struct Model {
    now_ms: u64,
    servers: BTreeMap<usize, Known>,
}

impl Known {
    fn new(origin: Origin) -> Self {
        let (state, row) = (State::Ready, (0, true));
        let (file, lease_until_ms) = (None, None);
        let (is_up, is_undecided, was_checked, is_suspect) = (true, true, false, false);
        Self { file, origin, state, lease_until_ms, is_up, is_undecided, was_checked, row, is_suspect }
    }

    fn is_live(&self) -> bool {
        self.file == Some(Origin::File) || self.lease_until_ms.is_some()
    }

    fn is_checked(&self) -> bool {
        self.is_live() && self.state != State::Maint
    }

    fn is_shown(&self) -> bool {
        self.is_live() && self.state == State::Ready && self.is_up
    }

    /// After each change: a server that is checked again is decided by one result.
    fn settle(&mut self) {
        if self.is_checked() && !self.was_checked {
            self.is_undecided = true;
        }
        self.was_checked = self.is_checked();
    }
}

impl Model {
    fn take(&mut self, step: Step, check: &CheckSettings) {
        match step {
            Step::File(list) => {
                for (at, listed) in list.into_iter().enumerate() {
                    match listed {
                        Some((origin, state)) => {
                            let known = self.servers.entry(at).or_insert_with(|| Known::new(origin));
                            match origin {
                                Origin::File => known.lease_until_ms = None,
                                // It served until now, so it gets one lease.
                                Origin::Heartbeat if known.file == Some(Origin::File) => {
                                    known.lease_until_ms = Some(self.now_ms + TIMEOUT_MS);
                                }
                                Origin::Heartbeat => {}
                            }
                            (known.file, known.origin, known.state) = (Some(origin), origin, state);
                        }
                        None => {
                            if let Some(known) = self.servers.get_mut(&at) {
                                known.file = None;
                            }
                        }
                    }
                }
                self.servers.retain(|_, known| known.file.is_some() || known.is_live());
            }
            Step::Heartbeat(at) => {
                let known = self.servers.entry(at).or_insert_with(|| Known::new(Origin::Heartbeat));
                if known.origin == Origin::Heartbeat {
                    known.lease_until_ms = Some(self.now_ms + TIMEOUT_MS);
                }
            }
            Step::Remove(at) => drop(self.servers.remove(&at)),
            Step::Check(at, passes) => {
                let Some(known) = self.servers.get_mut(&at).filter(|known| known.is_checked()) else { return };
                known.row = (if known.row.1 == passes { known.row.0 + 1 } else { 1 }, passes);
                let enough = if passes { check.rise } else { check.fall };
                if known.is_undecided || known.row.0 >= enough {
                    known.is_up = passes;
                }
                known.is_undecided = false;
                known.is_suspect &= !passes;
            }
            Step::Connect(at, succeeds) => {
                if let Some(known) = self.servers.get_mut(&at) {
                    known.is_suspect = !succeeds;
                }
            }
            Step::Pass(ms) => {
                self.now_ms += ms;
                for known in self.servers.values_mut() {
                    known.lease_until_ms = known.lease_until_ms.filter(|until_ms| self.now_ms < *until_ms);
                }
                self.servers.retain(|_, known| known.file.is_some() || known.is_live());
            }
        }
        self.servers.values_mut().for_each(Known::settle);
    }
}

fn addr(at: usize) -> ServerAddr {
    format!("10.0.0.{at}:1").parse().unwrap()
}

/// Does the same to the real members.
fn take(members: &mut Members, step: Step, now_ms: &mut u64) {
    let timeout = Duration::from_millis(TIMEOUT_MS);
    match step {
        Step::File(list) => {
            let listed = list.into_iter().enumerate().filter_map(|(at, listed)| {
                let (origin, state) = listed?;
                let mut settings = server(addr(at).as_str(), origin);
                settings.state = state;
                Some(settings)
            });
            members.merge(listed.collect(), *now_ms, timeout);
        }
        Step::Heartbeat(at) => {
            if members.renew(&addr(at), None, *now_ms, timeout).is_none() {
                let settings = server(addr(at).as_str(), Origin::Heartbeat);
                members.claim(settings, Vec::new(), Claim::Heartbeat(Lease::new(*now_ms, timeout)));
            }
        }
        Step::Remove(at) => members.remove(&addr(at)),
        Step::Check(at, passes) => {
            let Some(target) = members.check_target(&addr(at)) else { return };
            let outcome = if passes { Ok(()) } else { Err("refused".to_owned()) };
            let result = CheckResult { outcome, micros: 1, connect_us: None, code: None };
            if passes {
                target.server.live.answered(1, *now_ms);
            }
            members.take_check(&addr(at), target.id(), result, *now_ms);
        }
        Step::Connect(at, succeeds) => {
            let Some(known) = members.server_at(&addr(at)) else { return };
            match succeeds {
                true => drop(known.live.connected(1, *now_ms)),
                false => drop(known.live.connect_failed("refused", *now_ms, *now_ms)),
            }
        }
        Step::Pass(ms) => {
            *now_ms += ms;
            members.check_leases(*now_ms, 0, timeout);
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let origin = || prop_oneof![Just(Origin::File), Just(Origin::Heartbeat)];
    let state = || prop_oneof![4 => Just(State::Ready), 1 => Just(State::Drain), 1 => Just(State::Maint)];
    let listed = || prop::option::weighted(0.7, (origin(), state()));
    let step = prop_oneof![
        2 => [listed(), listed()].prop_map(Step::File),
        4 => (0..SERVERS).prop_map(Step::Heartbeat),
        1 => (0..SERVERS).prop_map(Step::Remove),
        6 => (0..SERVERS, any::<bool>()).prop_map(|(at, passes)| Step::Check(at, passes)),
        3 => (0..SERVERS, any::<bool>()).prop_map(|(at, succeeds)| Step::Connect(at, succeeds)),
        4 => (1..1_500_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn members_are_what_claims_leases_checks_and_operators_make_of_them(steps in steps()) {
        let check = Arc::new(check_settings());
        let group = GroupSettings { check: Some(Arc::clone(&check)), ..settings("ha") };
        let mut members = Members::new(GroupLabel::new(1, None), built_in::make("ha").unwrap());
        members.set_common(&group);
        let (mut model, mut now_ms) = (Model { now_ms: 10_000, ..Model::default() }, 10_000);
        for step in steps {
            model.take(step, &check);
            take(&mut members, step, &mut now_ms);
            let views = members.views(now_ms);
            let real: BTreeMap<String, (bool, bool)> =
                views.into_iter().map(|view| (view.addr, (view.online, view.suspect))).collect();
            let expected: BTreeMap<String, (bool, bool)> = model
                .servers
                .iter()
                .map(|(at, known)| (addr(*at).to_string(), (known.is_shown() && !known.is_suspect, known.is_suspect)))
                .collect();
            prop_assert_eq!(&real, &expected, "after {:?}", step);
            let snapshot = members.publish(group.clone());
            let shown: usize = snapshot.tiers.iter().map(|tier| tier.set.servers.len()).sum();
            prop_assert_eq!(shown, model.servers.values().filter(|known| known.is_shown()).count(), "after {:?}", step);
        }
    }
}
