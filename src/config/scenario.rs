//! The scenario of a simulation: a file like `proxy.json`, with comments, units, and all mistakes with their place.
//!
//! Only its shape: what happens in a simulation is left to `lab`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::declare::{Fields, settings};
use super::key::{Describe, Kind, Style, Table};
use super::kinds::{labels, list, optional, section, switch, text, time, time_or_zero, whole, words, wrong};
use super::object::Object;
use super::problem::{Place, Problem};
use super::reader::Reader;
use super::schema::schema_of;
use super::syntax::{syntax, without_bom};
use super::units::quoted;
use crate::server::WEIGHT_RANGE;

/// Most servers of a scenario.
pub const SERVERS_MAX: usize = 10_000;

/// The longest time that is simulated.
const LONGEST_MS: u64 = 366 * 86_400_000;

/// How servers deal with sessions, in the file's words.
const SERVE: &[&str] = &["hold", "queue", "share"];

settings! {
    /// What happens in a simulation.
    pub struct Scenario {
        /// The version of this form.
        scenario: u32 as whole::<u32>(1, 1) => 1, AtOnce;
        /// What all random numbers follow from: the same seed gives the same simulation.
        seed: u64 as whole::<u64>(0, u64::MAX) => 1, AtOnce;
        /// How long clients come.
        until: Duration as time(1, LONGEST_MS) => Duration::from_secs(600), AtOnce;
        /// The time at the beginning that is not measured; null for a tenth of `until`.
        warm_up: Option<Duration> as optional(time_or_zero(1, LONGEST_MS)), AtOnce;
        /// The servers; each element may stand for several.
        servers: Vec<ServerPlan> as list(section::<ServerPlan>(), SERVERS_MAX) => vec![ServerPlan { count: 10, ..ServerPlan::default() }], AtOnce;
        /// When clients come.
        arrivals: Arrivals as section::<Arrivals>(), AtOnce;
        /// How long sessions are, or the work in them.
        durations: Durations as section::<Durations>(), AtOnce;
        /// Who comes.
        clients: Clients as section::<Clients>(), AtOnce;
        /// How many servers a session tries.
        connect_attempts: u32 as whole::<u32>(1, 100) => 3, AtOnce;
        /// What happens to servers.
        events: Vec<Happening> as list(section::<Happening>(), 1_000) => Vec::new(), AtOnce;
    }
}

settings! {
    /// One server, or several alike.
    pub struct ServerPlan {
        /// How many servers this is.
        count: u32 as whole::<u32>(1, SERVERS_MAX as u64) => 1, AtOnce;
        /// Their share of new sessions.
        weight: u16 as whole::<u16>(*WEIGHT_RANGE.start() as u64, *WEIGHT_RANGE.end() as u64) => 1, AtOnce;
        /// Sessions of a server at a time; 0 for no limit.
        max_sessions: u32 as whole::<u32>(0, u32::MAX as u64) => 0, AtOnce;
        /// True: used only when no other server will do.
        backup: bool as switch() => false, AtOnce;
        /// Facts that policies may go by.
        labels: BTreeMap<String, String> as labels() => BTreeMap::new(), AtOnce;
        /// hold: a session lasts its duration, wherever it is. queue: so many as there are `places` are worked on, the others wait in
        /// order. share: all sessions share the `places`.
        serve: &'static str as words(SERVE) => "hold", AtOnce;
        /// Sessions that are worked on at a time, in queue and share.
        places: u32 as whole::<u32>(1, 1_000_000) => 1, AtOnce;
        /// By what durations are divided, in queue and share.
        speed: f64 as decimal(0.001, 1_000.0) => 1.0, AtOnce;
        /// How long a connect takes, as a median.
        connect: Duration as time_or_zero(0, 60_000) => Duration::from_micros(200), AtOnce;
        /// By how much connects differ: the sigma of a log-normal distribution; 0 for not at all.
        connect_sigma: f64 as decimal(0.0, 5.0) => 0.5, AtOnce;
    }
}

impl Default for ServerPlan {
    fn default() -> Self {
        let mut reader = Reader::new(PathBuf::new(), &|_| None);
        let read = Self::read(&mut reader, &Object::missing(&Place::Root, false), None);
        read.expect("every key has a default")
    }
}

settings! {
    /// When clients come.
    pub struct Arrivals {
        /// Sessions a second.
        rate: f64 as decimal(1e-6, 1e9) => 100.0, AtOnce;
        /// poisson: independent of each other; even: at equal distances; bursts: `size` at once.
        kind: &'static str as words(&["poisson", "even", "bursts"]) => "poisson", AtOnce;
        /// Sessions of a burst.
        size: u32 as whole::<u32>(1, 1_000_000) => 10, AtOnce;
    }
}

settings! {
    /// How long sessions are.
    pub struct Durations {
        /// How durations are distributed.
        kind: &'static str as words(&["exponential", "fixed", "lognormal", "pareto"]) => "exponential", AtOnce;
        /// Their mean.
        mean: Duration as time(0, LONGEST_MS) => Duration::from_secs(10), AtOnce;
        /// The sigma of lognormal.
        sigma: f64 as decimal(0.0, 5.0) => 1.0, AtOnce;
        /// The shape of pareto; below 2 the variance is infinite.
        shape: f64 as decimal(1.01, 100.0) => 1.5, AtOnce;
    }
}

settings! {
    /// Who comes.
    pub struct Clients {
        /// How many clients there are.
        count: u32 as whole::<u32>(1, 10_000_000) => 10_000, AtOnce;
        /// The exponent of Zipf's law: the larger, the more sessions are of few clients; 0 for all alike.
        skew: f64 as decimal(0.0, 5.0) => 0.0, AtOnce;
    }
}

settings! {
    /// Something that happens to servers, which are called s1, s2 and so on in their order.
    pub struct Happening {
        /// When.
        at: Duration as time_or_zero(0, LONGEST_MS), AtOnce;
        /// This server refuses connects from now on, and its sessions end.
        kill: Option<String> as optional(text()), AtOnce;
        /// This server works again.
        revive: Option<String> as optional(text()), AtOnce;
        /// This server gets no new sessions.
        drain: Option<String> as optional(text()), AtOnce;
        /// This server gets new sessions again.
        ready: Option<String> as optional(text()), AtOnce;
        /// Further servers.
        add: Option<ServerPlan> as optional(section::<ServerPlan>()), AtOnce;
        /// Servers have these weights from now on.
        weight: Option<BTreeMap<String, f64>> as optional(numbers(*WEIGHT_RANGE.start() as f64, *WEIGHT_RANGE.end() as f64)), AtOnce;
        /// Servers have these speeds from now on, in queue and share.
        slow: Option<BTreeMap<String, f64>> as optional(numbers(0.001, 1_000.0)), AtOnce;
    }
}

impl Default for Scenario {
    fn default() -> Self {
        parse_scenario("{}").expect("every key has a default")
    }
}

/// Reads a scenario.
///
/// # Errors
///
/// All mistakes.
pub fn parse_scenario(text: &str) -> Result<Scenario, Vec<Problem>> {
    let text = without_bom(text);
    let value = syntax(text)?;
    let mut reader = Reader::new(PathBuf::new(), &|_| None);
    let scenario = Object::open(&mut reader, &value, &Place::Root, Scenario::TABLE, false).and_then(|object| {
        let scenario = Scenario::read(&mut reader, &object, None)?;
        check(&mut reader, &object, &scenario);
        Some(scenario)
    });
    let problems = reader.problems.finish(text);
    match scenario {
        Some(scenario) if problems.is_empty() => Ok(scenario),
        _ => Err(problems),
    }
}

impl Scenario {
    /// Checks what must hold between values that flags have changed.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub fn check(&self) -> Result<(), String> {
        if self.warm_up.is_some_and(|warm_up| warm_up >= self.until) {
            return Err("the warm-up is not shorter than the simulation; expected less".to_owned());
        }
        let mut known = self.servers.iter().map(|plan| plan.count as usize).sum::<usize>();
        let mut events: Vec<&Happening> = self.events.iter().collect();
        events.sort_by_key(|event| event.at);
        for event in events {
            known += event.add.as_ref().map_or(0, |plan| plan.count as usize);
            event.check(known, self.until)?;
        }
        Ok(())
    }
}

/// The JSON Schema of a scenario.
pub fn scenario_schema() -> String {
    schema_of(
        Scenario::TABLE,
        "scenario",
        "What happens in goproxy policy simulate. Comments and trailing commas are accepted.",
    )
}

/// What must hold between the keys.
fn check(reader: &mut Reader, object: &Object, scenario: &Scenario) {
    if scenario.warm_up.is_some_and(|warm_up| warm_up >= scenario.until) {
        let message = "is not shorter than `until`; expected less".to_owned();
        reader.problems.add(object.offset("warm_up"), "warm_up", message);
    }
    let servers: usize = scenario.servers.iter().map(|plan| plan.count as usize).sum();
    if !(1..=SERVERS_MAX).contains(&servers) {
        let message = format!("{servers} servers; expected 1 to {SERVERS_MAX}");
        reader.problems.add(object.offset("servers"), "servers", message);
    }
    let Some(Value::Array(events)) = object.value("events") else { return };
    let mut known = servers;
    let mut in_order: Vec<(usize, &Happening)> = scenario.events.iter().enumerate().collect();
    in_order.sort_by_key(|(_, event)| event.at);
    for (index, event) in in_order {
        known += event.add.as_ref().map_or(0, |plan| plan.count as usize);
        let offset = events.elements.get(index).map_or(0, Ranged::start);
        if let Err(message) = event.check(known, scenario.until) {
            reader.problems.add(offset, format!("events[{index}]"), message);
        }
    }
}

impl Happening {
    /// Checks one event among so many servers.
    pub fn check(&self, servers: usize, until: Duration) -> Result<(), String> {
        let named = [&self.kill, &self.revive, &self.drain, &self.ready];
        let maps = [&self.weight, &self.slow];
        let said = named.iter().filter(|name| name.is_some()).count()
            + maps.iter().filter(|map| map.is_some()).count()
            + usize::from(self.add.is_some());
        if said != 1 {
            return Err(format!("says {said} things; expected one of kill, revive, drain, ready, add, weight, slow"));
        }
        if self.at >= until {
            return Err("comes after the end; expected a time before `until`".to_owned());
        }
        let names = named.into_iter().flatten().chain(maps.into_iter().flatten().flat_map(BTreeMap::keys));
        for name in names {
            if server_index(name).is_none_or(|index| index >= servers) {
                return Err(format!(
                    "no server is called \"{}\"; expected s1 to s{servers}",
                    crate::base::text::echo(name)
                ));
            }
        }
        Ok(())
    }
}

/// The place of a server that is called so: 0 for `s1`.
pub fn server_index(name: &str) -> Option<usize> {
    name.strip_prefix('s')?.parse::<usize>().ok()?.checked_sub(1)
}

/// A number that need not be whole, within bounds.
struct Decimal {
    min: f64,
    max: f64,
}

const fn decimal(min: f64, max: f64) -> Decimal {
    Decimal { min, max }
}

impl Decimal {
    fn parse(&self, value: &Value) -> Result<f64, String> {
        let number = match value {
            Value::NumberLit(number) => number.value.parse::<f64>().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| wrong(value, &format!("a number, {}", self.expected())))?;
        match (self.min..=self.max).contains(&number) {
            true => Ok(number),
            false => Err(format!("{number} is out of range; expected {}", self.expected())),
        }
    }
}

impl Describe for Decimal {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "number", "minimum": self.min, "maximum": self.max })
    }

    fn expected(&self) -> String {
        format!("{} to {}", self.min, self.max)
    }
}

impl Kind for Decimal {
    type Value = f64;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<f64> {
        self.parse(value).map_err(|message| reader.problems.add(value.start(), place, message)).ok()
    }

    fn write(&self, value: &f64, _: &Style) -> String {
        value.to_string()
    }
}

/// Numbers of servers, by their names.
struct Numbers(Decimal);

const fn numbers(min: f64, max: f64) -> Numbers {
    Numbers(decimal(min, max))
}

impl Describe for Numbers {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "object", "additionalProperties": self.0.schema() })
    }

    fn expected(&self) -> String {
        format!("numbers of servers, such as {{\"s1\": 2}}, {}", self.0.expected())
    }

    fn tables(&self, _: &str) -> Vec<(String, Table)> {
        Vec::new()
    }
}

impl Kind for Numbers {
    type Value = BTreeMap<String, f64>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        let Value::Object(object) = value else {
            reader.problems.add(value.start(), place, wrong(value, &self.expected()));
            return None;
        };
        let mut numbers = BTreeMap::new();
        for property in &object.properties {
            let name = property.name.as_str();
            let number = self.0.read(reader, &Place::Key(place, name), &property.value)?;
            numbers.insert(name.to_owned(), number);
        }
        Some(numbers)
    }

    fn write(&self, value: &Self::Value, _: &Style) -> String {
        let numbers: Vec<String> = value.iter().map(|(name, number)| format!("{}: {number}", quoted(name))).collect();
        format!("{{ {} }}", numbers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        parse_scenario(text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_scenario_says_only_what_differs() {
        let scenario = parse_scenario(
            r#"{ // as small as can be
                "until": "5m", "servers": [ { "count": 2, "serve": "queue", "speed": 0.5 }, {} ],
                "durations": { "kind": "lognormal", "mean": "20ms" },
                "events": [ { "at": "1m", "add": { "weight": 3 } }, { "at": "2m", "slow": { "s4": 0.1 } } ], }"#,
        )
        .unwrap();
        let [two, one] = &scenario.servers[..] else { panic!("{scenario:?}") };
        assert_eq!((two.count, two.serve, two.speed, one.count, one.serve), (2, "queue", 0.5, 1, "hold"));
        assert_eq!((scenario.durations.kind, scenario.durations.mean), ("lognormal", Duration::from_millis(20)));
        assert_eq!(scenario.events[0].add.as_ref().unwrap().weight, 3);
        assert_eq!(Scenario::default().servers[0].count, 10);
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        assert_eq!(
            mistakes(
                "{\n  \"untill\": \"5m\",\n  \"warm_up\": \"11m\",\n  \"servers\": [ { \"serve\": \"cpu\", \"speed\": 0 } ]\n}"
            ),
            [
                "2:3: untill: unknown key \"untill\"; expected one of scenario, seed, until, warm_up, servers, arrivals, durations, \
                 clients, connect_attempts, events (did you mean until?)",
                "3:14: warm_up: is not shorter than `until`; expected less",
                "4:27: servers[0].serve: unknown serve \"cpu\"; expected hold, queue, share",
                "4:43: servers[0].speed: 0 is out of range; expected 0.001 to 1000",
            ]
        );
        assert_eq!(mistakes("{\"warm_up\": \"11m\"}"), ["1:13: warm_up: is not shorter than `until`; expected less"]);
        assert_eq!(
            mistakes(
                "{\"events\": [{\"at\": \"1m\"}, {\"at\": \"1h\", \"kill\": \"s1\"},\n{\"at\": \"1s\", \"kill\": \"s11\"}]}"
            ),
            [
                "1:13: events[0]: says 0 things; expected one of kill, revive, drain, ready, add, weight, slow",
                "1:27: events[1]: comes after the end; expected a time before `until`",
                "2:1: events[2]: no server is called \"s11\"; expected s1 to s10",
            ]
        );
        assert_eq!(mistakes("{"), ["1:1: not valid JSON: unterminated object"]);
    }
}
