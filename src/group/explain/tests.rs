use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::super::tests::{file, server, settings, shown, suspect};
use super::super::{GroupSettings, ServerSlot};
use super::*;
use crate::base::random::scatter;
use crate::policy::built_in::{BUILT_IN, describe};
use crate::policy::{IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};
use crate::server::{Origin, ServerId, State};

/// A moment at which whoever is suspect in a test stays so for as long as the test may take.
const NOW_MS: u64 = 1 << 50;

/// How a server of a test stands.
#[derive(Clone, Debug)]
struct Stand {
    weight: u16,
    backup: bool,
    is_offline: bool,
    is_full: bool,
    is_suspect: bool,
    is_tried: bool,
}

fn stands() -> impl Strategy<Value = Vec<Stand>> {
    let rarely = || prop::bool::weighted(0.2);
    let stand = (1_u16..=8, rarely(), rarely(), rarely(), rarely(), rarely()).prop_map(
        |(weight, backup, is_offline, is_full, is_suspect, is_tried)| Stand {
            weight,
            backup,
            is_offline,
            is_full,
            is_suspect,
            is_tried,
        },
    );
    proptest::collection::vec(stand, 0..20)
}

fn addr(index: usize) -> ServerAddr {
    format!("10.0.0.{index}:1").parse().unwrap()
}

/// A group that stands so and has served `picks` clients.
fn group_with(policy: &str, stands: &[Stand], picks: u32) -> Group {
    let servers = stands.iter().enumerate().map(|(index, stand)| {
        let mut server = server(addr(index).as_str(), Origin::File);
        (server.weight, server.backup) = (stand.weight, stand.backup);
        server.max_sessions = if stand.is_full { 1 } else { 0 };
        server.state = if stand.is_offline { State::Maint } else { State::Ready };
        server
    });
    let group = Group::for_tests(settings(policy), servers.collect());
    for (index, stand) in stands.iter().enumerate().filter(|(_, stand)| !stand.is_offline) {
        let server = shown(&group, addr(index).as_str());
        if stand.is_suspect {
            server.live.connect_failed("refused", NOW_MS, NOW_MS);
        }
        if stand.is_full {
            assert!(server.live.try_acquire(1));
        }
    }
    for number in 0..picks {
        drop(pick(&group, client(number), &[], number.into()));
    }
    group
}

fn client(number: u32) -> SocketAddr {
    (IpAddr::V4(Ipv4Addr::from(scatter(number))), 0).into()
}

fn pick(group: &Group, client: SocketAddr, tried: &[ServerId], random: u64) -> Result<ServerSlot, PickError> {
    group.snapshot().pick(client, tried, NOW_MS, random)
}

fn picked(group: &Group, client: SocketAddr, tried: &[ServerId], random: u64) -> Result<String, PickError> {
    pick(group, client, tried, random).map(|slot| slot.server.settings.addr.to_string())
}

fn whys(group: &Group, tried: &[ServerAddr]) -> Vec<String> {
    let explanation = group.explain(client(1), tried).unwrap();
    explanation.candidates.into_iter().map(|candidate| candidate.why).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With the same random number also where chance decides.
    #[test]
    fn the_server_that_is_told_is_the_one_the_next_client_gets_and_telling_changes_nothing(
        stands in stands(), picks in 0_u32..40, number: u32, random: u64,
    ) {
        let is_tried = |index: &usize| stands[*index].is_tried;
        let tried: Vec<ServerAddr> = (0..stands.len()).filter(is_tried).map(addr).collect();
        for name in BUILT_IN {
            let [told, untold] = [group_with(name, &stands, picks), group_with(name, &stands, picks)];
            let ids: Vec<ServerId> = tried.iter().map(|addr| told.members().id_of(addr).unwrap()).collect();
            let before = (told.servers(), told.view());
            let explanation = told.explain_at(client(number), &tried, NOW_MS, random).unwrap();
            prop_assert_eq!(&told.explain_at(client(number), &tried, NOW_MS, random).unwrap(), &explanation);
            prop_assert_eq!((told.servers(), told.view()), before);
            prop_assert_eq!(picked(&told, client(number), &ids, random), explanation.server, "{}", name);
            picked(&untold, client(number), &ids, random).ok();
            for next in 0..5 {
                let [told, untold] = [&told, &untold].map(|group| picked(group, client(next), &[], random));
                prop_assert_eq!(told, untold, "{}", name);
            }
        }
    }

    /// Checked against the rule itself: whoever is not suspect goes before who is, and then no backup before one.
    #[test]
    fn exactly_those_of_which_the_policy_chose_are_eligible(stands in stands(), random: u64) {
        let is_tried = |index: &usize| stands[*index].is_tried;
        let tried: Vec<ServerAddr> = (0..stands.len()).filter(is_tried).map(addr).collect();
        let rank = |stand: &Stand| {
            let is_open = !stand.is_offline && !stand.is_full && !stand.is_tried;
            is_open.then_some((stand.is_suspect, stand.backup))
        };
        let best = stands.iter().filter_map(rank).min();
        for name in BUILT_IN {
            let group = group_with(name, &stands, 3);
            let explanation = group.explain_at(client(5), &tried, NOW_MS, random).unwrap();
            prop_assert_eq!(explanation.server.is_ok(), best.is_some());
            prop_assert_eq!(explanation.candidates.len(), stands.len());
            for (index, (candidate, stand)) in explanation.candidates.iter().zip(&stands).enumerate() {
                prop_assert_eq!(&candidate.addr, &addr(index).to_string());
                let is_eligible = best.is_some() && rank(stand) == best;
                prop_assert_eq!(candidate.eligible, is_eligible, "{:?} {:?}", candidate, stand);
                let is_chosen = explanation.server.as_ref() == Ok(&candidate.addr);
                prop_assert_eq!(candidate.why == "chosen", is_chosen, "{:?}", candidate);
            }
        }
    }
}

#[test]
fn each_reason_is_told() {
    let mut servers = file(&[
        "10.0.0.1:1",
        "10.0.0.2:1",
        "10.0.0.3:1",
        "10.0.0.4:1",
        "no-such-name.invalid:1",
        "10.0.0.6:1",
        "10.0.0.7:1",
        "10.0.0.8:1",
    ]);
    servers[1].state = State::Drain;
    servers[2].state = State::Maint;
    servers[3].origin = Origin::Heartbeat;
    servers[5].max_sessions = 1;
    servers[7].backup = true;
    // A lease that a copy of the file brings back has run out.
    let group = Group::for_tests(settings("ha"), Vec::new());
    group.apply(settings("ha"), servers, None, &[], &[]);
    assert!(shown(&group, "10.0.0.6:1").live.try_acquire(1));
    suspect(&group, "10.0.0.1:1");
    let others = [
        "offline: drained by an operator",
        "offline: in maintenance",
        "offline: no heartbeat within heartbeat_timeout",
        "offline: its name is not resolved: it is being resolved",
        "full: holds max_sessions = 1 sessions",
    ];
    let expect = |first: &'static str, last: [&'static str; 2]| [[first].as_slice(), &others, &last].concat();
    let backup = "backup: only when no other server will do";
    let kept_out = "suspect: the last connect failed, kept out while others are left";
    assert_eq!(whys(&group, &[]), expect(kept_out, ["chosen", backup]));
    let seventh = "10.0.0.7:1".parse().unwrap();
    let tried = "tried: it did not answer this client";
    assert_eq!(whys(&group, std::slice::from_ref(&seventh)), expect(kept_out, [tried, "chosen"]));
    let eighth = "10.0.0.8:1".parse().unwrap();
    assert_eq!(whys(&group, &[seventh, eighth]), expect("chosen", [tried, tried]));
}

#[test]
fn a_server_that_was_not_chosen_is_told_so() {
    let group = Group::for_tests(settings("ha"), file(&["10.0.0.1:1", "10.0.0.2:1"]));
    assert_eq!(whys(&group, &[]), ["chosen", "not chosen: the policy preferred another"]);
}

#[test]
fn a_server_of_another_group_cannot_have_been_tried() {
    let group = Group::for_tests(settings("ha"), file(&["10.0.0.1:1"]));
    let stranger: ServerAddr = "10.0.0.2:1".parse().unwrap();
    let error = group.explain(client(1), std::slice::from_ref(&stranger)).unwrap_err();
    assert_eq!(error, ExplainError::ServerNotFound(stranger));
}

#[test]
fn what_the_answer_does_not_tell_is_noted() {
    let notes = |settings: GroupSettings, tried: &[ServerAddr]| {
        let group = Group::for_tests(settings, file(&["10.0.0.1:1", "10.0.0.2:1"]));
        group.counters.sessions_active.store(2, Relaxed);
        group.explain(client(1), tried).unwrap().notes.join("; ")
    };
    for built_in in describe() {
        assert_eq!(notes(settings(built_in.name), &[]).contains("chance"), built_in.is_by_chance, "{}", built_in.name);
    }
    assert_eq!(notes(GroupSettings { max_sessions: 3, ..settings("ha") }, &[]), "");
    assert!(notes(GroupSettings { max_sessions: 2, ..settings("ha") }, &[]).contains("max_sessions = 2"));
    assert!(notes(GroupSettings { open: false, ..settings("ha") }, &[]).contains("closed"));
    let twice = ["10.0.0.1:1", "10.0.0.1:1"].map(|addr| addr.parse().unwrap());
    let attempts = |connect_attempts| GroupSettings { connect_attempts, ..settings("ha") };
    assert!(notes(attempts(1), &twice).contains("connect_attempts = 1"));
    assert_eq!(notes(attempts(2), &twice), "", "one server, however often it is named");
}

/// A policy whose answers are no good.
struct Odd {
    answer: Option<usize>,
    can_be_rehearsed: bool,
}

impl IBalancePolicy for Odd {
    fn name(&self) -> &str {
        "odd"
    }

    fn for_servers(&self, _servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        Arc::new(Self { ..*self })
    }

    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        match self.can_be_rehearsed {
            true => Ok(Arc::new(Self { ..*self })),
            false => Err(RehearsalError("it is quarantined".to_owned())),
        }
    }

    fn pick(&self, _request: &PickRequest<'_>) -> Option<Picked> {
        self.answer.map(Picked::new)
    }
}

fn odd(answer: Option<usize>, can_be_rehearsed: bool) -> Group {
    let policy = Arc::new(Odd { answer, can_be_rehearsed });
    Group::new(settings("ha"), file(&["10.0.0.1:1", "10.0.0.2:1"]), policy)
}

#[test]
fn a_policy_that_cannot_be_rehearsed_is_not_asked() {
    let error = odd(Some(0), false).explain(client(1), &[]).unwrap_err();
    assert_eq!(error.to_string(), "cannot rehearse the policy: it is quarantined");
}

#[test]
fn an_answer_that_is_no_good_costs_a_client_its_server_and_is_told() {
    for (answer, error, why) in [
        (None, PickError::NamedNobody, "not chosen: the policy named no server"),
        (Some(2), PickError::BadAnswer, "not chosen: the policy answered with a server that may not be picked"),
    ] {
        let group = odd(answer, true);
        let explanation = group.explain(client(1), &[]).unwrap();
        assert_eq!(explanation.server, Err(error));
        assert!(explanation.candidates.iter().all(|candidate| candidate.eligible && candidate.why == why));
        assert_eq!(pick(&group, client(1), &[], 0).unwrap_err(), error);
    }
}
