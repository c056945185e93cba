//! `least_latency`: least smoothed connect time × (sessions + 1), and nobody is written off for good.

use goproxy::policy::Outcome;

use crate::kit::{Group, add_sessions, promise, servers, shares};

const FILE: &str = "least_latency.wasm";
const CLIENTS: u32 = 3_200;

/// The shares of three servers that connect in `micros`; `None` fails.
fn shares_of(group: &mut Group, micros: [Option<u32>; 3]) -> Vec<usize> {
    let mut picks = Vec::new();
    for _ in 0..CLIENTS {
        let [number] = group.picks(1)[..] else { unreachable!("one client has one server") };
        group.report(number, micros[number as usize].map_or(Outcome::Failed, |micros| Outcome::Connected { micros }));
        picks.push(number);
    }
    shares(3, &picks)
}

/// What the sample promises first of all; the fixture is held to it, too.
pub(crate) fn prefers_who_connects_fastest(group: &mut Group) {
    group.show(servers(0..3));
    let shares = shares_of(group, [Some(900), Some(200), Some(40_000)]);
    assert!(shares[1] > 3_000, "{shares:?}");
    assert!(shares[0] > 30 && shares[2] > 30, "the others are measured again: {shares:?}");
}

#[test]
fn least_latency_prefers_who_connects_fastest_and_still_explores() {
    promise(FILE, "{}", prefers_who_connects_fastest);
}

#[test]
fn least_latency_tries_a_server_again_that_was_slow_or_failing() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..3));
        let shares = shares_of(group, [None, Some(200), Some(40_000)]);
        assert!(shares[0] < 60 && shares[2] < 60, "{shares:?}");
        let shares = shares_of(group, [Some(100), Some(20_000), Some(40_000)]);
        assert!(shares[0] > 2_000, "{shares:?}");
    });
}

#[test]
fn least_latency_weighs_time_by_sessions() {
    promise(FILE, "{}", |group| {
        let all = servers(0..2);
        group.show(all.clone());
        group.report(0, Outcome::Connected { micros: 100 });
        group.report(1, Outcome::Connected { micros: 300 });
        add_sessions(&all[0], 1);
        assert_eq!(group.picks(10), [0; 10], "200 is less than 300");
        add_sessions(&all[0], 2);
        assert_eq!(group.picks(10), [1; 10], "400 is more");
    });
}

#[test]
fn least_latency_begins_with_what_the_proxy_has_measured() {
    promise(FILE, "{}", |group| {
        let all = servers(0..3);
        for (server, micros) in all.iter().zip([900, 100, 500]) {
            server.live.connected(micros, goproxy::base::clock::coarse_ms());
        }
        group.show(all);
        assert_eq!(group.picks(10), [1; 10]);
    });
}

#[test]
fn least_latency_remembers_while_the_list_changes() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..3));
        group.report(0, Outcome::Connected { micros: 900 });
        group.report(1, Outcome::Connected { micros: 900 });
        group.report(2, Outcome::Connected { micros: 50 });
        group.show(servers(1..3));
        assert_eq!(group.picks(10), [2; 10]);
    });
}
