//! The sessions of a simulation: when they come, how long they are, and whose they are.
//!
//! They follow from the scenario and its seed alone. Each of the three draws from numbers of its own, so every policy
//! gets the very same sessions, whatever it does with randomness.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::base::random::{SplitMix64, below, scatter};
use crate::config::{Durations, Scenario};

/// A session before it has a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Session {
    /// Counted from 0.
    pub(super) number: u64,
    /// When it comes, in nanoseconds.
    pub(super) at_ns: u64,
    /// How long it is, or how much work, in nanoseconds.
    pub(super) work_ns: u64,
    /// Its client, by number.
    pub(super) client: u32,
}

/// The numbers of one purpose: those of two purposes, or of two seeds, have nothing to do with each other.
pub(super) fn stream(seed: u64, purpose: &str) -> SplitMix64 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(purpose.as_bytes(), seed);
    SplitMix64::new(SplitMix64::new(hash).draw())
}

/// A number above 0 and up to 1.
pub(super) fn unit(random: u64) -> f64 {
    ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A number of the normal distribution.
///
/// Not std's functions: they are the platform's, and one bit of difference moves an event.
pub(super) fn normal(numbers: &mut SplitMix64) -> f64 {
    let (radius, angle) = (unit(numbers.draw()), unit(numbers.draw()));
    (-2.0 * libm::log(radius)).sqrt() * libm::cos(2.0 * std::f64::consts::PI * angle)
}

/// All sessions in the order in which they come. Only those of a log have an end.
pub(super) struct Sessions<'s> {
    scenario: &'s Scenario,
    arrivals: SplitMix64,
    durations: SplitMix64,
    clients: SplitMix64,
    /// Shares of the clients, added up; empty where all are alike.
    shares: Vec<f64>,
    number: u64,
    at_ns: f64,
    /// Where all of it comes from instead.
    logged: Option<&'s [Session]>,
}

impl<'s> Sessions<'s> {
    pub(super) fn new(scenario: &'s Scenario) -> Self {
        let seed = scenario.seed;
        Self {
            scenario,
            arrivals: stream(seed, "arrivals"),
            durations: stream(seed, "durations"),
            clients: stream(seed, "clients"),
            shares: shares(scenario.clients.count, scenario.clients.skew),
            number: 0,
            at_ns: 0.0,
            logged: None,
        }
    }

    /// Those of a log instead.
    pub(super) fn of(self, logged: Option<&'s [Session]>) -> Self {
        Self { logged, ..self }
    }

    /// The share of the client that comes most often.
    pub(super) fn largest_client(&self) -> f64 {
        let first = self.shares.first().copied().unwrap_or(1.0);
        first / self.shares.last().copied().unwrap_or(f64::from(self.scenario.clients.count))
    }

    fn gap_ns(&mut self) -> f64 {
        let arrivals = &self.scenario.arrivals;
        let mean = 1e9 / arrivals.rate;
        let exponential = |numbers: &mut SplitMix64| -libm::log(unit(numbers.draw()));
        match arrivals.kind {
            "even" => mean,
            "bursts" if !self.number.is_multiple_of(u64::from(arrivals.size)) => 0.0,
            "bursts" => mean * f64::from(arrivals.size) * exponential(&mut self.arrivals),
            _ => mean * exponential(&mut self.arrivals),
        }
    }

    fn client(&mut self) -> u32 {
        let random = self.clients.draw();
        let Some(all) = self.shares.last() else {
            return below(random, u64::from(self.scenario.clients.count)).0 as u32;
        };
        let at = unit(random) * all;
        self.shares.partition_point(|share| *share < at).min(self.shares.len() - 1) as u32
    }
}

impl Iterator for Sessions<'_> {
    type Item = Session;

    fn next(&mut self) -> Option<Session> {
        if let Some(logged) = self.logged {
            self.number += 1;
            return logged.get(self.number as usize - 1).copied();
        }
        self.at_ns += self.gap_ns();
        let work_ns = work(&self.scenario.durations, &mut self.durations);
        let session = Session { number: self.number, at_ns: self.at_ns as u64, work_ns, client: self.client() };
        self.number += 1;
        Some(session)
    }
}

/// How long a session is, in nanoseconds.
fn work(durations: &Durations, numbers: &mut SplitMix64) -> u64 {
    let (mean, sigma, shape) = (durations.mean.as_nanos() as f64, durations.sigma, durations.shape);
    let work = match durations.kind {
        "fixed" => mean,
        "lognormal" => mean * libm::exp(sigma * normal(numbers) - sigma * sigma / 2.0),
        "pareto" => mean * (shape - 1.0) / shape * libm::exp(-libm::log(unit(numbers.draw())) / shape),
        _ => -mean * libm::log(unit(numbers.draw())),
    };
    (work as u64).max(1)
}

/// The shares of so many clients by Zipf's law, each added to those before it.
fn shares(count: u32, skew: f64) -> Vec<f64> {
    if skew == 0.0 {
        return Vec::new();
    }
    let mut sum = 0.0;
    let added_up = (1..=count).map(|rank| {
        sum += libm::exp(-skew * libm::log(f64::from(rank)));
        sum
    });
    added_up.collect()
}

/// The address of a made-up client. Each has an IP of its own, and neighbours are not alike.
pub(super) fn client(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(scatter(number))), 40_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::parse_scenario;

    fn take(text: &str, count: usize) -> (Scenario, Vec<Session>) {
        let scenario = parse_scenario(text).unwrap();
        let sessions = Sessions::new(&scenario).take(count).collect();
        (scenario, sessions)
    }

    #[test]
    fn durations_and_arrivals_have_the_mean_that_is_asked_for() {
        for kind in ["exponential", "fixed", "lognormal", "pareto"] {
            let text = format!(
                r#"{{"durations": {{"kind": "{kind}", "mean": "3s", "shape": 3}}, "arrivals": {{"rate": 50}}}}"#
            );
            let (scenario, sessions) = take(&text, 100_000);
            let mean = sessions.iter().map(|session| session.work_ns as f64).sum::<f64>() / 1e5;
            assert!((mean / 3e9 - 1.0).abs() < 0.02, "{kind}: {mean}");
            let rate = 1e5 / (sessions.last().unwrap().at_ns as f64 / 1e9);
            assert!((rate / scenario.arrivals.rate - 1.0).abs() < 0.02, "{rate}");
        }
        let (_, sessions) = take(r#"{"arrivals": {"kind": "bursts", "size": 4, "rate": 50}}"#, 100_000);
        assert!(sessions.chunks(4).all(|burst| burst.iter().all(|session| session.at_ns == burst[0].at_ns)));
        let rate = 1e5 / (sessions.last().unwrap().at_ns as f64 / 1e9);
        assert!((rate / 50.0 - 1.0).abs() < 0.02, "{rate}");
        let (_, sessions) = take(r#"{"arrivals": {"kind": "even", "rate": 50}}"#, 100);
        assert!(sessions.windows(2).all(|pair| (pair[1].at_ns - pair[0].at_ns).abs_diff(20_000_000) <= 1));
    }

    #[test]
    fn one_purpose_does_not_move_another_and_a_seed_repeats() {
        let (_, first) = take("{}", 1_000);
        let (_, again) = take("{}", 1_000);
        let (_, others) = take(r#"{"durations": {"kind": "lognormal"}, "clients": {"count": 5}}"#, 1_000);
        assert_eq!(first, again);
        assert!(first.iter().zip(&others).all(|(one, other)| one.at_ns == other.at_ns));
        let (_, seeded) = take(r#"{"seed": 2}"#, 1_000);
        assert!(first.iter().zip(&seeded).all(|(one, other)| one.at_ns != other.at_ns));
    }

    #[test]
    fn with_a_skew_few_clients_make_most_sessions() {
        let (scenario, sessions) = take(r#"{"clients": {"count": 1000, "skew": 1.2}}"#, 100_000);
        let of_first = sessions.iter().filter(|session| session.client == 0).count() as f64 / 1e5;
        let expected = Sessions::new(&scenario).largest_client();
        assert!((of_first - expected).abs() < 0.01 && expected > 0.2, "{of_first}, {expected}");
        let (scenario, sessions) = take(r#"{"clients": {"count": 10}}"#, 10_000);
        assert!((0..10).all(|client| sessions.iter().filter(|session| session.client == client).count() > 850));
        assert!((Sessions::new(&scenario).largest_client() - 0.1).abs() < 1e-9);
        assert_eq!(scenario.until, Duration::from_secs(600));
    }
}
