//! Figures of several runs, and how sure they are.

use serde::Serialize;

use super::condition::METRICS;
use super::report::Simulated;

/// A figure of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean of the runs.
    pub mean: f64,
    /// The true mean is no farther from it, in 95 of 100 cases.
    pub half_width: f64,
}

impl Estimate {
    /// Of these runs; the half-width of one run is 0.
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let half_width = match values.len() {
            0 | 1 => 0.0,
            runs => student(runs - 1) * (squares / (count - 1.0) / count).sqrt(),
        };
        Self { mean, half_width }
    }
}

/// The 97.5 % quantile of Student's distribution.
fn student(freedom: usize) -> f64 {
    const FIRST: [f64; 12] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179];
    FIRST.get(freedom - 1).copied().unwrap_or(1.96 + 2.5 / freedom as f64)
}

/// Each metric of several runs of one policy.
pub fn estimates(runs: &[Simulated]) -> Vec<(&'static str, Estimate)> {
    let metrics = METRICS.iter();
    metrics
        .filter_map(|metric| {
            let values: Option<Vec<f64>> = runs.iter().map(|run| (metric.value)(run)).collect();
            Some((metric.name, Estimate::of(&values?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_half_width_is_student_s() {
        assert_eq!(Estimate::of(&[3.0]), Estimate { mean: 3.0, half_width: 0.0 });
        let Estimate { mean, half_width } = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        // 2.776 × √2.5 ÷ √5.
        assert!((mean - 3.0).abs() < 1e-12 && (half_width - 1.963).abs() < 1e-3, "{mean} ± {half_width}");
        assert!((student(30) - 2.042).abs() < 0.01 && (student(1_000) - 1.962).abs() < 0.01);
    }
}
