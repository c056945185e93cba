//! Random numbers that follow from a seed: the same in every process, on every machine and in every version.
//!
//! Policies and modules draw from them, so that a request that is replayed with its seed gets the same answer.

/// The endless numbers of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The numbers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Iterator for SplitMix64 {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        Some(self.draw())
    }
}

/// Maps a random number to `0..bound` by its upper bits, and says how far it lies within its share: a
/// second random number, nearly independent of the first. `bound` 0 gives 0.
///
/// Without a division and without redraws; the bias is below `bound / 2^64`.
pub fn below(random: u64, bound: u64) -> (u64, u64) {
    let wide = u128::from(random) * u128::from(bound);
    ((wide >> 64) as u64, wide as u64)
}

/// Spreads consecutive numbers over the whole range, each to a place of its own (Knuth's multiplicative hashing): for
/// made-up clients whose addresses are not to be neighbours.
pub fn scatter(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(SplitMix64::new(1_234_567).take(3).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn numbers_below_a_bound_reach_its_ends_and_never_pass_it() {
        assert_eq!(below(0, 10), (0, 0));
        assert_eq!(below(u64::MAX, 10).0, 9);
        assert_eq!(below(u64::MAX, 0).0, 0);
        assert_eq!(below(u64::MAX, u64::MAX).0, u64::MAX - 1);
    }
}
