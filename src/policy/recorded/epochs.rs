//! Numbers of picks as epochs, so that whoever is told what became of a pick knows which one it was.
//!
//! A session keeps the epoch of its pick and gives it back with every report. A policy that is recorded hands out an
//! epoch of its own for each pick, and passes on the one that the policy inside gave.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::policy::balance::Epoch;

/// Set in these epochs and in no other.
const TAG: u64 = 1 << 63;

/// The policy inside wants to hear of the pick.
const IS_HEARD: u64 = 1 << NUMBER_BITS;

/// How many picks can be told apart.
const NUMBER_BITS: u32 = 39;

/// Where it stands who handed out the epoch.
const OWNER_SHIFT: u32 = NUMBER_BITS + 1;

/// The epochs of one recording.
#[derive(Clone, Debug)]
pub struct Epochs {
    owner: u64,
    /// The epochs inside, each from the pick on that was the first to have it: of the servers, and of the backups. There
    /// is one for each instance.
    inside: [Vec<(u64, Epoch)>; 2],
}

/// A pick, as an epoch tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickNumber {
    /// Picks before it.
    pub number: u64,
    /// The policy inside wants to hear of it.
    pub is_heard: bool,
}

impl Default for Epochs {
    fn default() -> Self {
        static OWNERS: AtomicU64 = AtomicU64::new(0);
        let owner = OWNERS.fetch_add(1, Relaxed) << OWNER_SHIFT & !TAG;
        Self { owner: TAG | owner, inside: Default::default() }
    }
}

impl Epochs {
    /// The epoch of this pick, whose epoch inside is this.
    pub fn give(&mut self, number: u64, is_backup: bool, inside: Option<Epoch>) -> Epoch {
        let known = &mut self.inside[usize::from(is_backup)];
        if let Some(inside) = inside.filter(|inside| known.last().is_none_or(|(_, last)| last != inside)) {
            known.push((number, inside));
        }
        let heard = if inside.is_some() { IS_HEARD } else { 0 };
        Epoch::from_number(self.owner | heard | number & (IS_HEARD - 1)).expect("the tag is not 0")
    }

    /// Which pick has this epoch; `None` when it is another's.
    pub fn read(&self, epoch: Epoch) -> Option<PickNumber> {
        let (owner, rest) = (epoch.get() >> OWNER_SHIFT << OWNER_SHIFT, epoch.get());
        let number = PickNumber { number: rest & (IS_HEARD - 1), is_heard: rest & IS_HEARD != 0 };
        (owner == self.owner).then_some(number)
    }

    /// The epoch inside of a pick; `None` when nobody wants to hear of it.
    pub fn inside(&self, pick: PickNumber, is_backup: bool) -> Option<Epoch> {
        let known = &self.inside[usize::from(is_backup)];
        let count = known.partition_point(|(first, _)| *first <= pick.number);
        known.get(count.checked_sub(1)?).filter(|_| pick.is_heard).map(|(_, epoch)| *epoch)
    }

    /// True when somebody may want to hear of a pick.
    pub fn are_heard(&self) -> bool {
        self.inside.iter().any(|known| !known.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pick_leads_back_to_the_instance_that_made_it() {
        let (mut epochs, other) = (Epochs::default(), Epochs::default());
        let [first, second] = [Epoch::next(), Epoch::next()];
        let mut given = Vec::new();
        for (number, inside) in [None, Some(first), Some(first), None, Some(second)].into_iter().enumerate() {
            given.push((epochs.give(number as u64, false, inside), inside));
        }
        for (number, (epoch, inside)) in given.iter().enumerate() {
            let pick = epochs.read(*epoch).unwrap();
            assert_eq!((pick.number, pick.is_heard), (number as u64, inside.is_some()));
            assert_eq!(epochs.inside(pick, false), *inside);
            assert_eq!((epochs.inside(pick, true), other.read(*epoch)), (None, None));
        }
        assert!(epochs.are_heard() && !other.are_heard());
        assert_eq!(epochs.read(first), None, "not one of ours");
    }
}
