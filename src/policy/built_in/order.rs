//! Whose turn it is: the smooth weighted order, and the counter that walks along it.
//!
//! A *round* has one turn for each unit of weight, after the weights are divided by their greatest common
//! divisor. Over a round every server gets exactly its weight in turns, and they lie as far apart as
//! whole turns allow.
//!
//! The order is computed, not stored. Servers of equal weight form a class and take the class's turns one
//! after the other. The classes are halved again and again; at each halving the turns of one half are laid
//! evenly among those of the other, as the steps of a line drawn on a grid. So a turn costs one
//! multiplication for each halving (none with equal weights, at most 8 with 256 different weights), no
//! order is too long to be exact, and preparing for 10,000 servers is one sort. Each halving misplaces a
//! turn by half a turn at most: a server is never more than 5 turns ahead of or behind its share.

use std::hint::select_unpredictable;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::policy::balance::ServerSet;

/// The smooth weighted order of some servers.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// Turns in a round.
    round: u64,
    /// Servers of equal weight, lightest first.
    classes: Vec<Class>,
    /// The servers, class by class; empty while there is one class only, which is then in order.
    members: Vec<u32>,
}

/// Servers of equal weight.
#[derive(Clone, Debug)]
struct Class {
    /// Where its servers begin in `members`.
    first: usize,
    /// How many they are.
    count: u64,
    /// Their turns in a round.
    turns: u64,
    /// In the halving that begins its upper half with this class: that half's share of the turns, in
    /// 2⁻⁶⁴. Rounding it costs no exactness: a round is far too short for the error to reach one turn.
    upper_share: u64,
}

impl Order {
    /// The order of servers with these weights; a weight of 0 counts as 1.
    pub(super) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let mut servers: Vec<(u32, u32)> = weights.map(|weight| weight.max(1)).zip(0..).collect();
        let divisor = servers.iter().fold(0, |divisor, &(weight, _)| common_divisor(divisor, weight));
        servers.sort_unstable();
        let mut order = Self::default();
        for class in servers.chunk_by(|one, next| one.0 == next.0) {
            let (first, count) = (order.members.len(), class.len() as u64);
            let turns = count * u64::from(class[0].0 / divisor);
            order.classes.push(Class { first, count, turns, upper_share: 0 });
            order.round += turns;
            order.members.extend(class.iter().map(|&(_, index)| index));
        }
        halve(&mut order.classes);
        if order.classes.len() == 1 {
            order.members = Vec::new();
        }
        order
    }

    /// The index of the server that has this turn, counted from 0 and on through all rounds; `None`
    /// without servers.
    pub(super) fn at(&self, turn: u64) -> Option<usize> {
        let mut turn = turn.checked_rem(self.round)?;
        if self.members.is_empty() {
            return Some(turn as usize);
        }
        let (mut low, mut high) = (0, self.classes.len());
        while high - low > 1 {
            let middle = low.midpoint(high);
            let share = self.classes[middle].upper_share;
            // Before this turn the upper half has had its share of them, rounded to the nearest; this turn
            // is its own when by the end of it the next whole number is reached.
            let due = u128::from(turn) * u128::from(share) + (1 << 63);
            let upper_turns = (due >> 64) as u64;
            let is_upper = (due as u64).checked_add(share).is_none();
            // The processor could only guess at a branch here, and be wrong every other time.
            turn = select_unpredictable(is_upper, upper_turns, turn - upper_turns);
            low = select_unpredictable(is_upper, middle, low);
            high = select_unpredictable(is_upper, high, middle);
        }
        let class = &self.classes[low];
        Some(self.members[class.first + (turn % class.count) as usize] as usize)
    }
}

/// Fills in the shares of the upper halves, as [`Order::at`] will halve the classes.
fn halve(classes: &mut [Class]) {
    if classes.len() < 2 {
        return;
    }
    let middle = classes.len() / 2;
    let turns = |classes: &[Class]| classes.iter().map(|class| u128::from(class.turns)).sum::<u128>();
    let (upper, all) = (turns(&classes[middle..]), turns(classes));
    classes[middle].upper_share = (((upper << 64) + all / 2) / all) as u64;
    let (lower, upper) = classes.split_at_mut(middle);
    halve(lower);
    halve(upper);
}

/// An order and the place reached in it. The counter is shared with the turns of the sets before and
/// after, so a change of servers does not send everybody back to the first one.
#[derive(Debug, Default)]
pub(super) struct Turns {
    counter: Arc<AtomicU64>,
    order: Order,
}

impl Turns {
    /// The same counter with the order of another set.
    pub(super) fn for_servers(&self, servers: &ServerSet) -> Self {
        let order = Order::new(servers.servers.iter().map(|server| u32::from(server.settings.weight)));
        Self { counter: Arc::clone(&self.counter), order }
    }

    /// The same place with a counter of its own: turns taken from it are taken from nobody.
    pub(super) fn rehearsal(&self) -> Self {
        Self { counter: Arc::new(AtomicU64::new(self.counter.load(Relaxed))), order: self.order.clone() }
    }

    /// The server whose turn it is, which ends with this call; `None` without servers.
    pub(super) fn take(&self) -> Option<usize> {
        self.order.at(self.counter.fetch_add(1, Relaxed))
    }
}

/// Euclid's algorithm; 0 leaves the other number.
fn common_divisor(mut one: u32, mut other: u32) -> u32 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(weights: &[u32]) -> Vec<usize> {
        let order = Order::new(weights.iter().copied());
        (0..order.round).map(|turn| order.at(turn).unwrap()).collect()
    }

    #[test]
    fn equal_weights_are_served_in_order_and_keep_no_table() {
        assert_eq!(round(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(round(&[7, 7]), [0, 1]);
        assert!(Order::new([7, 7].into_iter()).members.is_empty());
    }

    #[test]
    fn no_servers_have_no_turn() {
        assert_eq!(Order::new(std::iter::empty()).at(5), None);
    }

    #[test]
    fn turns_of_a_heavy_server_are_spread_among_those_of_the_light() {
        assert_eq!(round(&[5, 1, 1]), [0, 1, 0, 0, 0, 2, 0]);
        assert_eq!(round(&[2, 4, 2]), [1, 0, 1, 2]);
    }

    #[test]
    fn the_largest_weights_of_very_many_servers_do_not_overflow() {
        let count = 1_000_000;
        let order = Order::new((0..count).map(|index| 255 + index % 2));
        assert_eq!(order.round, u64::from(count / 2) * (255 + 256));
        assert!((0..1_000).all(|turn| order.at(u64::MAX - turn).unwrap() < count as usize));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Half a turn for each of at most 8 halvings, and less than one within the class.
        #[test]
        fn every_server_gets_its_weight_each_round_and_is_never_far_from_its_share(
            weights in proptest::collection::vec(1_u32..=256, 1..40),
        ) {
            let order = Order::new(weights.iter().copied());
            let divisor = weights.iter().fold(0, |divisor, &weight| common_divisor(divisor, weight));
            let mut taken = vec![0_i64; weights.len()];
            for turn in 0..order.round as i64 {
                taken[order.at(turn as u64).unwrap()] += 1;
                let server = (turn as usize * 7) % weights.len();
                let share = (turn + 1) as f64 * f64::from(weights[server] / divisor) / order.round as f64;
                prop_assert!((taken[server] as f64 - share).abs() <= 5.0, "turn {turn} of server {server}");
            }
            for (server, weight) in weights.iter().enumerate() {
                prop_assert_eq!(taken[server], i64::from(weight / divisor));
            }
        }
    }
}
