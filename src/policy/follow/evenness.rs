//! How evenly sessions lie. The same for whatever is measured, so that figures may be compared.

use serde::Serialize;

/// How evenly sessions lie on servers at one moment, each counted by its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evenness {
    /// The fullest server, as a multiple of the mean.
    pub busiest: f64,
    /// Jain's index: 1 when all have the same, 1/n when one has everything.
    pub jain: f64,
    /// The standard deviation, as a part of the mean.
    pub cov: f64,
}

/// How evenly these sessions lie, by the weight of their server. `None` when there are none.
pub fn evenness(held: impl Iterator<Item = (u32, u16)> + Clone) -> Option<Evenness> {
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
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// 0 without any.
    pub fn mean(&self) -> f64 {
        self.0.iter().fold(0.0, |sum, value| sum + value) / self.0.len().max(1) as f64
    }

    /// The mean square of the distance from the mean.
    pub fn variance(&self) -> f64 {
        let mean = self.mean();
        self.0.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / self.0.len().max(1) as f64
    }

    /// Forgets the older half where there are more than so many.
    pub fn forget_beyond(&mut self, max: usize) {
        if self.0.len() > max {
            self.0.drain(..max / 2);
        }
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mean, and how far it went.
    pub fn spread(&self) -> Spread {
        Spread { mean: self.mean(), p99: self.quantile(0.99), max: self.quantile(1.0) }
    }

    /// The value that this part of all do not exceed; 0 without any.
    pub fn quantile(&self, part: f64) -> f64 {
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
