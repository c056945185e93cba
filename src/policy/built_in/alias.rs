//! Drawing a server at random in proportion to its weight, in one look.
//!
//! The alias method (Walker 1977; built as by Vose 1991): as many columns as servers, all equally high.
//! Each holds a server's own share and, above it, what it lends to one heavier server. A draw picks a
//! column and a height in it. Probabilities are kept to 2⁻³², which no traffic can tell from exact.

use crate::base::random::below;
use crate::policy::balance::ServerSet;

/// The weights of a set, made ready for drawing.
#[derive(Clone, Debug, Default)]
pub(super) struct Weighted {
    len: u64,
    /// Empty when all weights are equal: every column would be its own server's.
    columns: Vec<Column>,
}

/// One server's column.
#[derive(Clone, Debug)]
struct Column {
    /// The height, of 2³², up to which the column is the server's own.
    own: u32,
    /// Whose the rest is.
    alias: u32,
}

impl Weighted {
    /// Makes the weights of a set ready.
    pub(super) fn new(servers: &ServerSet) -> Self {
        let weights: Vec<u64> = servers.servers.iter().map(|server| u64::from(server.settings.weight)).collect();
        let is_equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        Self { len: weights.len() as u64, columns: if is_equal { Vec::new() } else { columns(&weights) } }
    }

    /// The index that a random number stands for; `None` without servers.
    pub(super) fn draw(&self, random: u64) -> Option<usize> {
        let (index, fraction) = below(random, self.len);
        match self.columns.get(index as usize) {
            Some(column) if (fraction >> 32) as u32 >= column.own => Some(column.alias as usize),
            _ => (self.len > 0).then_some(index as usize),
        }
    }
}

/// Fills columns as high as the average weight: whatever a light server leaves free is lent to a heavy
/// one, which is light itself once it has nothing above the average left.
fn columns(weights: &[u64]) -> Vec<Column> {
    let (count, height) = (weights.len() as u64, weights.iter().sum::<u64>());
    let mut left: Vec<u64> = weights.iter().map(|weight| weight * count).collect();
    let (mut light, mut heavy): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|&index| left[index] < height);
    let mut columns: Vec<Column> =
        (0..weights.len()).map(|index| Column { own: u32::MAX, alias: index as u32 }).collect();
    while let (Some(&to), Some(from)) = (heavy.last(), light.pop()) {
        columns[from] = Column { own: ((u128::from(left[from]) << 32) / u128::from(height)) as u32, alias: to as u32 };
        left[to] -= height - left[from];
        if left[to] < height {
            heavy.pop();
            light.push(to);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::testing::set;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What the columns hold, added up for each server, is its share: to rounding, 2⁻³² a column.
        #[test]
        fn the_columns_hold_every_weight_exactly(weights in proptest::collection::vec(1_u32..=256, 1..200)) {
            let weighted = Weighted::new(&set(&weights));
            let count = weights.len();
            let mut shares = vec![0.0; count];
            for index in 0..count {
                match weighted.columns.get(index) {
                    None => shares[index] += 1.0,
                    Some(column) => {
                        let own = f64::from(column.own) / 2_f64.powi(32);
                        shares[index] += own;
                        shares[column.alias as usize] += 1.0 - own;
                    }
                }
            }
            let total: u32 = weights.iter().sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let expected = f64::from(*weight) * count as f64 / f64::from(total);
                prop_assert!((share - expected).abs() < 1e-6, "{share} for {expected}");
            }
        }
    }

    #[test]
    fn nothing_is_drawn_from_no_servers() {
        assert_eq!(Weighted::new(&set(&[])).draw(u64::MAX), None);
    }
}
