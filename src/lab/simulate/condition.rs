//! `--fail-if`: what must not come out.

use std::fmt;
use std::str::FromStr;

use super::report::Simulated;
use crate::base::text::{did_you_mean, echo};

/// A figure that can be asked for.
#[derive(Debug)]
pub(super) struct Metric {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is.
    is: &'static str,
    /// Its value; `None` when there is none.
    pub(super) value: fn(&Simulated) -> Option<f64>,
}

/// All of them.
pub(super) const METRICS: &[Metric] = &[
    Metric { name: "busiest", is: "fullest server ÷ mean", value: |run| Some(run.busiest_over_mean.mean) },
    Metric {
        name: "busiest_p99",
        is: "the same, 99 % of the time at most",
        value: |run| Some(run.busiest_over_mean.p99),
    },
    Metric { name: "busiest_max", is: "the same, at worst", value: |run| Some(run.busiest_over_mean.max) },
    Metric { name: "jain", is: "Jain's index", value: |run| Some(run.jain) },
    Metric { name: "cov", is: "deviation between servers ÷ mean", value: |run| Some(run.cov) },
    Metric {
        name: "refused",
        is: "part of the sessions that no server would take",
        value: |run| part(run.refused, run),
    },
    Metric { name: "failed", is: "part of the sessions whose connects all failed", value: |run| part(run.failed, run) },
    Metric {
        name: "failed_picks",
        is: "picks of servers that were not reached",
        value: |run| Some(run.failed_picks as f64),
    },
    Metric { name: "faults", is: "calls of a module that failed", value: |run| Some(run.faults as f64) },
    Metric {
        name: "moved",
        is: "part of the clients that an event moved, the worst",
        value: |run| run.changes.iter().filter_map(|change| change.moved).reduce(f64::max),
    },
    Metric {
        name: "sticky_breaks",
        is: "part of the returns that got another server",
        value: |run| Some(run.sticky_breaks as f64 / run.returns.max(1) as f64),
    },
    Metric {
        name: "smallest_share",
        is: "part of the sessions of the server with the fewest",
        value: |run| run.share.iter().copied().reduce(f64::min),
    },
    Metric { name: "wait_mean", is: "milliseconds", value: |run| Some(run.wait_ms.mean) },
    Metric { name: "wait_p99", is: "milliseconds", value: |run| Some(run.wait_ms.p99) },
    Metric { name: "response_mean", is: "milliseconds", value: |run| Some(run.response_ms.mean) },
    Metric { name: "response_p99", is: "milliseconds", value: |run| Some(run.response_ms.p99) },
];

fn part(count: u64, run: &Simulated) -> Option<f64> {
    Some(count as f64 / run.sessions.max(1) as f64)
}

/// A metric, how it is compared, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    metric: &'static Metric,
    operator: &'static str,
    number: f64,
    is_percent: bool,
}

const OPERATORS: [&str; 4] = [">=", "<=", ">", "<"];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("\"{}\": expected METRIC, one of > >= < <=, and a number: busiest>1.2", echo(text));
        let at = text.find(['<', '>']).ok_or_else(expected)?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let operator = *OPERATORS.iter().find(|operator| rest.starts_with(**operator)).ok_or_else(expected)?;
        let number = rest[operator.len()..].trim();
        let (number, is_percent) = match number.strip_suffix('%') {
            Some(number) => (number.trim(), true),
            None => (number, false),
        };
        let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(expected)?;
        let metric = METRICS.iter().find(|metric| metric.name == name).ok_or_else(|| {
            let known = METRICS.iter().map(|metric| format!("{} ({})", metric.name, metric.is)).collect::<Vec<_>>();
            let near = did_you_mean(name, METRICS.iter().map(|metric| metric.name));
            format!("unknown metric \"{}\"; expected {}{near}", echo(name), known.join(", "))
        })?;
        Ok(Self { metric, operator, number: if is_percent { number / 100.0 } else { number }, is_percent })
    }
}

impl Condition {
    /// Why a policy fails, for people; `None` when it does not.
    pub fn complaint(&self, run: &Simulated) -> Option<String> {
        let value = (self.metric.value)(run)?;
        let fails = match self.operator {
            ">" => value > self.number,
            ">=" => value >= self.number,
            "<" => value < self.number,
            _ => value <= self.number,
        };
        let shown = match self.is_percent {
            true => format!("{:.2} %", 100.0 * value),
            false => format!("{:.3}", value),
        };
        fails.then(|| format!("{}: {} is {shown}; not allowed: {self}", run.policy, self.metric.name))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, operator) = (self.metric.name, self.operator);
        match self.is_percent {
            true => write!(f, "{name} {operator} {} %", self.number * 100.0),
            false => write!(f, "{name} {operator} {}", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_a_metric_an_operator_and_a_number() {
        for (text, shown) in
            [("busiest>1.2", "busiest > 1.2"), (" cov >= 5% ", "cov >= 5 %"), ("jain<0.99", "jain < 0.99")]
        {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), shown);
        }
        for text in ["", "busiest", "busiest>", "busiest=1", "busiest>x", "busiest>inf", ">1"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
        let error = "busyest>1".parse::<Condition>().unwrap_err();
        assert!(
            error.starts_with("unknown metric \"busyest\"; expected busiest (fullest server ÷ mean), ")
                && error.ends_with("(did you mean busiest?)"),
            "{error}"
        );
    }
}
