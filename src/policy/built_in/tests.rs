//! What every built-in policy promises.

use std::sync::Arc;

use proptest::prelude::*;

use super::BUILT_IN;
use crate::policy::balance::{PickRequest, ServerSet};
use crate::policy::testing::{PickIndex, client, ids, prepared, request, server, set, set_of};
use crate::server::{Avoided, ServerId};

/// How a server of a test is closed, if it is.
#[derive(Clone, Copy, Debug)]
enum Door {
    Open,
    Tried,
    Full,
    Suspect,
}

fn doors() -> impl Strategy<Value = Vec<(u32, Door)>> {
    let door = prop_oneof![Just(Door::Open), Just(Door::Tried), Just(Door::Full), Just(Door::Suspect)];
    proptest::collection::vec((1_u32..=256, door), 0..24)
}

/// A set with such servers, and the ids of those that were tried.
fn set_with(doors: &[(u32, Door)]) -> (Arc<ServerSet>, Vec<ServerId>) {
    let servers = set_of((0..).zip(doors).map(|(index, &(weight, door))| {
        let max_sessions = if matches!(door, Door::Full) { 1 } else { 0 };
        let server = server(index, weight, max_sessions);
        match door {
            Door::Full => assert!(server.live.try_acquire(1)),
            Door::Suspect => assert!(server.live.connect_failed("refused", 1_000, 1_000)),
            Door::Open | Door::Tried => {}
        }
        server
    }));
    let tried = ids(&servers, (0..doors.len()).filter(|&index| matches!(doors[index].1, Door::Tried)));
    (servers, tried)
}

/// A property of the walks behind the fast path needs few cases of many picks; `maglev` builds its table
/// for each.
fn few_cases() -> ProptestConfig {
    ProptestConfig::with_cases(24)
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn an_answer_is_an_open_server_and_missing_only_when_none_is_open(
        doors in doors(), randoms in proptest::collection::vec(any::<u64>(), 20), avoids: bool,
    ) {
        let (servers, tried) = set_with(&doors);
        for name in BUILT_IN {
            let policy = prepared(name, &servers);
            for &random in &randoms {
                let client = client(random as u32);
                let request = PickRequest { client, random, tried: &tried, avoided: if avoids { Avoided::DOUBTFUL } else { Avoided::NONE }, ..request(&servers) };
                let any_open = (0..servers.servers.len()).any(|index| request.is_open(index));
                match policy.pick_index(&request) {
                    Some(index) => {
                        prop_assert!(index < servers.servers.len(), "{name}");
                        prop_assert_eq!(request.why_closed(index), None, "{}", name);
                    }
                    None => prop_assert!(!any_open, "{name} found no open server"),
                }
            }
        }
    }

    #[test]
    fn a_client_s_port_plays_no_part(
        ip: std::net::IpAddr, one: u16, other: u16, weights in proptest::collection::vec(1_u32..=8, 1..40),
    ) {
        let servers = set(&weights);
        for name in BUILT_IN {
            let [one, other] = [one, other].map(|port| {
                prepared(name, &servers).pick_index(&PickRequest { client: (ip, port).into(), ..request(&servers) })
            });
            prop_assert_eq!(one, other, "{}", name);
        }
    }

    #[test]
    fn a_mapped_ipv4_client_is_served_as_the_ipv4_one(ip: std::net::Ipv4Addr) {
        let servers = set(&[1; 20]);
        for name in ["ip_hash", "maglev"] {
            let policy = prepared(name, &servers);
            let [plain, mapped] = [ip.into(), std::net::IpAddr::from(ip.to_ipv6_mapped())]
                .map(|ip| policy.pick_index(&PickRequest { client: (ip, 1).into(), ..request(&servers) }));
            prop_assert_eq!(plain, mapped, "{}", name);
        }
    }
}

#[test]
fn without_servers_there_is_no_answer() {
    for name in BUILT_IN {
        assert_eq!(prepared(name, &set(&[])).pick_index(&request(&set(&[]))), None, "{name}");
    }
}

#[test]
fn a_lone_server_is_the_answer_until_it_closes() {
    let servers = set(&[3]);
    let tried = ids(&servers, [0]);
    for name in BUILT_IN {
        let policy = prepared(name, &servers);
        for n in 0..20 {
            let request = PickRequest { client: client(n), random: n.into(), ..request(&servers) };
            assert_eq!(policy.pick_index(&request), Some(0), "{name}");
            assert_eq!(policy.pick_index(&PickRequest { tried: &tried, ..request }), None, "{name}");
        }
    }
}

#[test]
fn among_ten_thousand_servers_the_only_open_one_is_found_and_none_when_it_closes() {
    let weights: Vec<u32> = (0..10_000).map(|index| 1 + index % 256).collect();
    let (servers, _) = set_with(&weights.iter().map(|&weight| (weight, Door::Suspect)).collect::<Vec<_>>());
    let open = server(7_000, 1, 0);
    let mut servers = servers;
    Arc::get_mut(&mut servers).unwrap().servers[7_000] = Arc::clone(&open);
    let tried = [open.id];
    for name in BUILT_IN {
        let policy = prepared(name, &servers);
        for n in 0..2 {
            let request = PickRequest { client: client(n), random: n.into(), ..request(&servers) };
            assert_eq!(policy.pick_index(&request), Some(7_000), "{name}");
            assert_eq!(policy.pick_index(&PickRequest { tried: &tried, ..request }), None, "{name}");
            assert!(policy.pick_index(&PickRequest { avoided: Avoided::NONE, ..request }).is_some(), "{name}");
        }
    }
}

#[test]
fn two_instances_agree_on_every_client_where_the_client_decides() {
    let servers = set(&[1, 2, 3, 4, 5]);
    for name in ["ip_hash", "maglev"] {
        let [one, other] = [prepared(name, &servers), prepared(name, &set(&[])).for_servers(&servers)];
        for n in 0..200 {
            let request = PickRequest { client: client(n), ..request(&servers) };
            assert_eq!(
                one.pick_index(&request),
                other.pick_index(&PickRequest { random: n.into(), ..request }),
                "{name}"
            );
        }
    }
}

#[test]
fn a_policy_asked_about_another_set_than_its_own_still_answers_with_an_open_server_of_that_set() {
    let (few, many) = (set(&[1, 2]), set(&[1, 2, 3, 4, 5, 6, 7, 8, 9]));
    for name in BUILT_IN {
        for (own, shown) in [(&many, &few), (&few, &many), (&set(&[]), &few)] {
            let policy = prepared(name, own);
            for n in 0..50 {
                let request = PickRequest { client: client(n), random: n.into(), ..request(shown) };
                assert!(policy.pick_index(&request).is_some_and(|index| index < shown.servers.len()), "{name}");
            }
        }
    }
}
