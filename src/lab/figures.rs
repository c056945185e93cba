//! Figures: how evenly sessions lie, and how long they wait. The same for whatever is measured, so that they may be compared.

use serde::Serialize;

/// How evenly sessions lie on servers at one moment, each counted by its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::lab) struct Evenness {
    /// The fullest server, as a multiple of the mean.
    pub(in crate::lab) busiest: f64,
    /// Jain's index: 1 when all have the same, 1/n when one has everything.
    pub(in crate::lab) jain: f64,
    /// The standard deviation, as a part of the mean.
    pub(in crate::lab) cov: f64,
}

/// How evenly these sessions lie, by the weight of their server. `None` when there are none.
pub(in crate::lab) fn evenness(held: impl Iterator<Item = (u32, u16)> + Clone) -> Option<Evenness> {
    let loads = held.clone().map(|(sessions, weight)| f64::from(sessions) / f64::from(weight));
    let (count, sum, squares, max) = loads.fold((0.0, 0.0, 0.0, 0.0_f64), |(count, sum, squares, max), load| {
        (count + 1.0, sum + load, squares + load * load, max.max(load))
    });
    if sum == 0.0 {
        return None;
    }
    let (sessions, weights) = held.fold((0.0, 0.0), |(sessions, weights), (held, weight)| {
        (sessions + f64::from(held), weights + f64::from(weight))
    });
    let mean = sum / count;
    let variance = (squares / count - mean * mean).max(0.0);
    Some(Evenness {
        busiest: max * weights / sessions,
        jain: sum * sum / (count * squares),
        cov: variance.sqrt() / mean,
    })
}

/// A mean, and how far it went.
#[derive(Clone, Debug, Default)]
pub(in crate::lab) struct Samples(Vec<f64>);

impl Samples {
    pub(in crate::lab) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// 0 without any.
    pub(in crate::lab) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    pub(in crate::lab) fn variance(&self) -> f64 {
        let mean = self.mean();
        self.0.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / self.0.len().max(1) as f64
    }

    /// True without any.
    pub(in crate::lab) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mean, and how far it went.
    pub(in crate::lab) fn spread(&self) -> Spread {
        Spread { mean: self.mean(), p99: self.quantile(0.99), max: self.quantile(1.0) }
    }

    /// The value that this part of all do not exceed; 0 without any.
    pub(in crate::lab) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (part * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

/// A figure over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// On average.
    pub mean: f64,
    /// Ninety-nine hundredths of the time it is at most this.
    pub p99: f64,
    /// At worst.
    pub max: f64,
}

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
    fn servers_are_compared_by_their_weights() {
        let even = evenness([(10, 1), (20, 2), (30, 3)].into_iter()).unwrap();
        assert!((even.busiest - 1.0).abs() < 1e-12 && (even.jain - 1.0).abs() < 1e-12 && even.cov < 1e-6, "{even:?}");
        let one = evenness([(8, 1), (0, 1), (0, 1), (0, 1)].into_iter()).unwrap();
        assert_eq!((one.busiest, one.jain), (4.0, 0.25));
        assert!((one.cov - 3.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(evenness([(0, 1), (0, 1)].into_iter()), None);
    }

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

    #[test]
    fn a_quantile_of_samples_is_one_of_them() {
        let mut samples = Samples::default();
        assert_eq!((samples.mean(), samples.quantile(0.99)), (0.0, 0.0));
        (1..=4).for_each(|value| samples.add(f64::from(value)));
        assert_eq!(
            (samples.mean(), samples.variance(), samples.quantile(0.5), samples.quantile(0.99)),
            (2.5, 1.25, 2.0, 4.0)
        );
    }
}
