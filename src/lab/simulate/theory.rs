//! The simulator held against what is known: queueing theory, and what the policies promise.
//!
//! In CI each figure is of one short run, with a tolerance of some three of its standard deviations. With `GOPROXY_THEORY=full`, in a
//! release build, it is the mean of five seeds of a million sessions, and the tolerance is the second of the two.

use std::sync::Arc;

use super::report::Simulated;
use super::run::Run;
use super::{Subject, settings, simulate};
use crate::base::random::{SplitMix64, below};
use crate::config::{Scenario, parse_scenario};
use crate::policy::built_in::BUILT_IN;
use crate::policy::{IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};

fn is_full() -> bool {
    std::env::var_os("GOPROXY_THEORY").is_some_and(|size| size == "full")
}

/// A scenario in which so many sessions come, `rate` a second, with durations of one second on average.
fn scenario(rate: f64, sessions: u32, durations: &str, servers: &str) -> Scenario {
    let sessions = if is_full() { 1_000_000 } else { sessions };
    let until_ms = (f64::from(sessions) / rate * 1e3) as u64;
    let durations = match durations.split_once(' ') {
        None => format!(r#"{{"kind": "{durations}", "mean": "1s"}}"#),
        Some((kind, sigma)) => format!(r#"{{"kind": "{kind}", "mean": "1s", "sigma": {sigma}}}"#),
    };
    let text = format!(
        r#"{{"until": "{until_ms}ms", "arrivals": {{"rate": {rate}}}, "durations": {durations}, "servers": {servers}}}"#
    );
    parse_scenario(&text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

/// The runs of a built-in policy: one, or one for each of five seeds.
fn runs(policy: &str, scenario: &Scenario) -> Vec<Simulated> {
    let subject = Subject::built_in(policy).unwrap();
    let seeds = if is_full() { 1..=5 } else { 1..=1 };
    seeds.map(|seed| simulate(&subject, &Scenario { seed, ..scenario.clone() }, None).unwrap()).collect()
}

/// A figure is as theory says, within a tolerance in the same unit: in CI, and in full.
#[track_caller]
fn is_near(what: &str, runs: &[Simulated], figure: fn(&Simulated) -> f64, theory: f64, tolerance: [f64; 2]) {
    let found = runs.iter().map(figure).sum::<f64>() / runs.len() as f64;
    let allowed = tolerance[usize::from(is_full())];
    println!("{what}: {found:.4}, theory {theory:.4}, off {:+.4}, allowed {allowed:.4}", found - theory);
    assert!((found - theory).abs() <= allowed, "{what}: {found} instead of {theory}, allowed is {allowed}");
}

fn refused(run: &Simulated) -> f64 {
    100.0 * run.refused as f64 / run.sessions as f64
}

/// In durations, which have a second on average.
fn response(run: &Simulated) -> f64 {
    run.response_ms.mean / 1e3
}

/// Erlang's B: the part of the sessions that find all places taken, whatever durations are.
#[test]
fn who_is_turned_away_is_what_erlang_says_for_any_durations_and_any_policy() {
    for (durations, places, load, theory) in [
        ("exponential", 10, 90.0, 2.696),
        ("lognormal 1.5", 10, 90.0, 2.696),
        ("exponential", 5, 40.0, 1.869),
        ("exponential", 10, 95.0, 4.880),
    ] {
        let scenario = scenario(load, 150_000, durations, &format!(r#"[{{"count": 10, "max_sessions": {places}}}]"#));
        is_near(&format!("Erlang B {durations} {load}"), &runs("random", &scenario), refused, theory, [0.4, 0.1]);
    }
    let scenario = scenario(90.0, 20_000, "exponential", r#"[{"count": 10, "max_sessions": 10}]"#);
    let turned_away: Vec<u64> = BUILT_IN.iter().map(|policy| runs(policy, &scenario)[0].refused).collect();
    assert!(turned_away[0] > 0 && turned_away.iter().all(|refused| *refused == turned_away[0]), "{turned_away:?}");
}

/// M/G/∞: without limits the number of sessions is Poisson's, for any durations.
#[test]
fn sessions_that_are_held_are_as_many_as_poisson_says() {
    let load = if is_full() { 1_000.0 } else { 100.0 };
    for durations in ["exponential", "lognormal 1.5"] {
        let runs = runs("random", &scenario(load, 150_000, durations, r#"[{"count": 10}]"#));
        is_near(&format!("held {durations}"), &runs, |run| run.held.mean, load, [2.0, 10.0]);
        is_near(&format!("variance {durations}"), &runs, |run| run.held.variance, load, [20.0, 50.0]);
    }
}

#[test]
fn how_even_sessions_lie_is_as_it_was() {
    let scenario = scenario(1_000.0, 150_000, "exponential", r#"[{"count": 10}]"#);
    // Poisson of 100 on each; of ten servers the deviation is 0.923 of that.
    is_near("CoV of random", &runs("random", &scenario), |run| 100.0 * run.cov, 9.2, [0.8, 0.2]);
    let above = |run: &Simulated| 100.0 * (run.busiest_over_mean.mean - 1.0);
    is_near("busiest of least_sessions", &runs("least_sessions", &scenario), above, 0.7, [0.3, 0.2]);
    is_near("busiest of p2c", &runs("p2c", &scenario), above, 1.9, [0.4, 0.2]);
}

/// M/M/1, M/G/1 (Pollaczek and Khinchine), E₁₀/M/1, M/M/10 (Erlang's C).
#[test]
fn waits_are_as_long_as_queueing_theory_says() {
    let ten = r#"[{"count": 10, "serve": "queue"}]"#;
    let pool = r#"[{"serve": "queue", "places": 10}]"#;
    let random = |load: f64, durations: &str| runs("random", &scenario(10.0 * load, 150_000, durations, ten));
    is_near("M/M/1 0.7", &random(0.7, "exponential"), response, 3.333, [0.17, 0.033]);
    is_near("M/M/1 0.9", &random(0.9, "exponential"), response, 10.0, [1.5, 0.2]);
    is_near("M/G/1 lognormal", &random(0.7, "lognormal 1"), response, 4.171, [0.4, 0.083]);
    is_near("M/D/1", &random(0.7, "fixed"), response, 2.167, [0.08, 0.043]);
    is_near(
        "E10/M/1",
        &runs("round_robin", &scenario(9.0, 150_000, "exponential", ten)),
        response,
        5.660,
        [0.6, 0.113],
    );
    for (load, mean, allowed, wait, wait_allowed) in
        [(0.8, 1.2046, [0.04, 0.018], 1.856, [0.25, 0.093]), (0.9, 1.6687, [0.17, 0.025], 4.203, [0.9, 0.21])]
    {
        let runs = runs("ha", &scenario(10.0 * load, 150_000, "exponential", pool));
        is_near(&format!("M/M/10 {load}"), &runs, response, mean, allowed);
        is_near(&format!("its wait, p99, {load}"), &runs, |run| run.wait_ms.p99 / 1e3, wait, wait_allowed);
    }
}

/// Processor sharing: the mean response does not depend on how durations are distributed.
#[test]
fn with_shared_processors_only_the_mean_duration_counts() {
    let ten = r#"[{"count": 10, "serve": "share"}]"#;
    for durations in ["exponential", "fixed", "lognormal 1"] {
        let runs = runs("random", &scenario(7.0, 100_000, durations, ten));
        is_near(&format!("share {durations}"), &runs, response, 3.333, [0.25, 0.033]);
    }
    let unlike = r#"[{"count": 5, "serve": "share", "weight": 2}, {"count": 5, "serve": "share", "speed": 0.5}]"#;
    is_near(
        "weights",
        &runs("random", &scenario(5.25, 100_000, "exponential", unlike)),
        response,
        4.444,
        [0.35, 0.045],
    );
}

/// Draws two servers, which may be the same, and takes the one with fewer sessions: the policy of the theorem.
struct TwoChoices;

impl IBalancePolicy for TwoChoices {
    fn name(&self) -> &str {
        "two_choices"
    }

    fn for_servers(&self, _: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        Arc::new(Self)
    }

    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        Ok(Arc::new(Self))
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        let mut draws = SplitMix64::new(request.random);
        let [one, other] = [(); 2].map(|()| below(draws.draw(), request.len() as u64).0 as usize);
        let sessions = |index: usize| request.servers.servers.get(index).map(|server| server.live.sessions());
        Some(Picked::new(if sessions(other) < sessions(one) { other } else { one }))
    }
}

/// Mitzenmacher: the response is the sum of λ^(2^i − 2), for many servers.
#[test]
fn two_choices_are_as_good_as_mitzenmacher_says() {
    let run_it = |scenario: &Scenario| {
        let (books, moves, _) = Run::new(scenario, settings(), Arc::new(TwoChoices)).run();
        Simulated::new("two_choices", None, &books, moves.changes)
    };
    let many = scenario(450.0, 150_000, "exponential", r#"[{"count": 500, "serve": "queue"}]"#);
    is_near("two choices 0.9", &[run_it(&many)], response, 2.614, [0.1, 0.05]);
    // Between a common queue and one for each, which are known.
    let ten = r#"[{"count": 10, "serve": "queue"}]"#;
    let scenario = scenario(9.0, 150_000, "exponential", ten);
    is_near("p2c 0.9", &runs("p2c", &scenario), response, 2.97, [0.3, 0.09]);
    is_near("least_sessions 0.9", &runs("least_sessions", &scenario), response, 1.90, [0.2, 0.06]);
}

/// As many sessions as servers, which stay: ln n ÷ ln ln n for one choice, ln ln n for two.
#[test]
fn the_fullest_of_many_servers_is_as_full_as_balls_in_bins() {
    const SERVERS: u32 = 10_000;
    let text = format!(
        r#"{{"until": "{SERVERS}s", "warm_up": "0s", "arrivals": {{"rate": 1, "kind": "even"}},
            "durations": {{"kind": "fixed", "mean": "30d"}}, "servers": [{{"count": {SERVERS}}}]}}"#
    );
    let scenario = parse_scenario(&text).unwrap();
    let fullest = |policy: Arc<dyn IBalancePolicy>| {
        let (books, ..) = Run::new(&scenario, settings(), policy).run();
        (books.at_end.iter().sum::<u32>(), books.at_end.into_iter().max().unwrap())
    };
    let (sessions, one) = fullest(crate::policy::built_in::make("random").unwrap());
    assert!(sessions.abs_diff(SERVERS) <= 1 && (6..=9).contains(&one), "{sessions}, {one}");
    let (_, two) = fullest(Arc::new(TwoChoices));
    assert!((3..=4).contains(&two), "{two}");
}

/// Who moves when a server goes, and who gets what.
#[test]
fn hashing_policies_move_whom_they_promise_to_move() {
    let text = r#"{"until": "10m", "events": [{"at": "5m", "drain": "s3"}]}"#;
    let scenario = parse_scenario(text).unwrap();
    let change = |policy: &str| {
        let subject = Subject::built_in(policy).unwrap();
        simulate(&subject, &scenario, None).unwrap().changes.remove(0)
    };
    let maglev = change("maglev");
    assert_eq!(maglev.own, Some(1.0));
    assert!(maglev.others.unwrap() <= 0.01, "{maglev:?}");
    // Eight of nine: clients go by the hash modulo the number of servers.
    let ip_hash = change("ip_hash");
    assert!((ip_hash.others.unwrap() - 0.889).abs() < 0.015, "{ip_hash:?}");
    assert_eq!(change("round_robin").moved, None, "it does not go by the client");
    let run = &runs("ha", &Scenario::default())[0];
    assert_eq!(run.share[0], 1.0);
}

/// Half of the servers are slow and nobody has told the policy: counts know what weights do not.
#[test]
fn counting_sessions_finds_slow_servers_and_taking_turns_does_not() {
    let servers = r#"[{"count": 5, "serve": "share"}, {"count": 5, "serve": "share", "speed": 0.5}]"#;
    let slow = scenario(4.65, 60_000, "exponential", servers);
    let p99 = |policy: &str| {
        let runs = runs(policy, &slow);
        let mean = runs.iter().map(|run| run.response_ms.p99).sum::<f64>() / runs.len() as f64 / 1e3;
        println!("half slow, p99 of {policy}: {mean:.1}");
        mean
    };
    let [least, p2c, turns, random] = ["least_sessions", "p2c", "round_robin", "random"].map(p99);
    assert!(least < p2c && p2c < turns && turns < random, "{least} {p2c} {turns} {random}");
    assert!((least / 8.6 - 1.0).abs() < 0.2 && (p2c / 14.5 - 1.0).abs() < 0.2, "{least} {p2c}");
    let too_much = scenario(5.625, 60_000, "exponential", servers);
    for policy in ["round_robin", "random"] {
        assert_eq!(runs(policy, &too_much)[0].overloaded, ["s6", "s7", "s8", "s9", "s10"], "{policy}");
    }
    assert!(runs("least_sessions", &too_much)[0].overloaded.is_empty());
}

/// Servers come and go while clients come.
#[test]
fn a_server_that_dies_is_found_out_once_and_serves_again() {
    let text = r#"{"until": "10m", "warm_up": "0s", "arrivals": {"rate": 20}, "events": [
        {"at": "2m", "kill": "s3"}, {"at": "4m", "revive": "s3"}, {"at": "6m", "add": {"count": 2}},
        {"at": "7m", "weight": {"s1": 5}}, {"at": "8m", "ready": "s1"}]}"#;
    let scenario = parse_scenario(text).unwrap();
    for policy in BUILT_IN {
        let run = &runs(policy, &scenario)[0];
        // One client meets it, and after that the proxy tries it by itself; nobody goes without a server.
        let met = if policy == "ha" { 0 } else { 1 };
        assert_eq!((run.failed_picks, run.failed, run.refused), (met, 0, 0), "{policy}");
        assert_eq!((run.share.len(), run.changes.len()), (12, 5), "{policy}");
        assert!(policy == "ha" || (run.broken > 0 && run.share[2] > 0.02), "{policy}: {:?}", run.share);
    }
    // Who hashes the client moves those of the dead server and brings them back.
    let changes = &runs("maglev", &scenario)[0].changes;
    let [gone, back] = [changes[0].moved.unwrap(), changes[1].moved.unwrap()];
    assert!((0.08..0.12).contains(&gone) && (gone - back).abs() < 1e-9, "{changes:?}");
    let series = &runs("round_robin", &scenario)[0].series;
    assert!(series[60][2] == 0 && series[199][2] > 5 && series[110].len() == 10 && series[199][11] > 5, "{series:?}");
}

/// The same seed gives the same bytes, whatever the machine does meanwhile.
#[test]
fn a_simulation_repeats() {
    let scenario = parse_scenario(
        r#"{"until": "2m", "clients": {"count": 100, "skew": 1.1}, "events": [{"at": "1m", "kill": "s2"}],
            "servers": [{"count": 3, "serve": "queue", "places": 400}, {"serve": "share", "places": 400}]}"#,
    )
    .unwrap();
    let bytes = |policy: &str| {
        let run = Simulated {
            cost: Default::default(),
            ..simulate(&Subject::built_in(policy).unwrap(), &scenario, None).unwrap()
        };
        serde_json::to_string(&run).unwrap()
    };
    for policy in BUILT_IN {
        assert_eq!(bytes(policy), bytes(policy), "{policy}");
    }
}
