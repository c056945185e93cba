//! Figures: how long sessions wait.

use serde::Serialize;

/// Steps of a [`Times`] from a time to its double: a quantile is 0.3 % too large at most.
const STEPS: u64 = 256;

/// Times in nanoseconds, in steps that grow with them.
#[derive(Clone, Debug, Default)]
pub(in crate::lab) struct Times {
    count: u64,
    sum: f64,
    steps: Vec<u64>,
    max: u64,
}

impl Times {
    pub(in crate::lab) fn add(&mut self, ns: u64) {
        let step = step_of(ns);
        if step >= self.steps.len() {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += 1;
        self.count += 1;
        self.sum += ns as f64;
        self.max = self.max.max(ns);
    }

    /// In milliseconds; zeros without any.
    pub(in crate::lab) fn quantiles(&self) -> Quantiles {
        let quantile = |part: f64| {
            let wanted = (part * self.count as f64).ceil() as u64;
            let mut seen = 0;
            let step = self.steps.iter().position(|count| {
                seen += count;
                seen >= wanted.max(1)
            });
            step.map_or(0, |step| top_of(step).min(self.max)) as f64 / 1e6
        };
        Quantiles {
            mean: self.sum / self.count.max(1) as f64 / 1e6,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: self.max as f64 / 1e6,
        }
    }
}

/// How long things took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// On average.
    pub mean: f64,
    /// Half of them at most.
    pub p50: f64,
    /// Nine of ten at most.
    pub p90: f64,
    /// Ninety-nine of a hundred at most.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

fn step_of(ns: u64) -> usize {
    let octave = u64::from((ns | STEPS).ilog2() - STEPS.ilog2());
    (octave * STEPS + (ns >> octave)) as usize
}

/// The longest time of a step.
fn top_of(step: usize) -> u64 {
    let step = step as u64;
    let octave = (step / STEPS).saturating_sub(1);
    ((step - octave * STEPS + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_third_of_a_percent_too_large() {
        let mut times = Times::default();
        (1..=100_000_u64).for_each(|number| times.add(number * 1_000));
        let found = times.quantiles();
        for (found, exact) in [(found.p50, 50.0), (found.p90, 90.0), (found.p99, 99.0), (found.max, 100.0)] {
            assert!((exact..exact * 1.004).contains(&found), "{found} instead of {exact}");
        }
        assert!((found.mean - 50.0005).abs() < 1e-6, "{found:?}");
        for ns in [0, 1, 255, 256, 257, 511, 512, 513, 1_000_003, u64::MAX / 2] {
            assert!(top_of(step_of(ns)) >= ns && (ns == 0 || top_of(step_of(ns) - 1) < ns), "{ns}");
        }
    }
}
