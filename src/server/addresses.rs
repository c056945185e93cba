//! The addresses of a server, and whose turn it is.
//!
//! The addresses of a name take turns. One that has failed while another one was left is passed over until a connect to
//! it succeeds again, of the proxy's own or of a client that had no other choice. A server with a single address costs
//! nothing of this.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Addresses of one name that are used.
pub(super) const ADDRESSES_MAX: usize = 64;

/// Where a server can be reached. What has failed is remembered until the name resolves to other addresses.
#[derive(Debug, Default)]
pub struct Addresses {
    all: Vec<SocketAddr>,
    turn: AtomicU32,
    /// A bit for each address that has failed.
    failed: AtomicU64,
}

impl Addresses {
    /// The first [`ADDRESSES_MAX`] of these.
    pub(super) fn new(mut all: Vec<SocketAddr>) -> Self {
        all.truncate(ADDRESSES_MAX);
        Self { all, turn: AtomicU32::new(0), failed: AtomicU64::new(0) }
    }

    /// The same of a name that resolves to `all` from now on: an address that has failed has failed still.
    pub(super) fn followed_by(&self, all: Vec<SocketAddr>) -> Self {
        let next = Self::new(all);
        let failed = next.all.iter().enumerate().filter(|(_, addr)| self.has_failed_at(**addr));
        next.failed.store(failed.map(|(at, _)| 1 << at).sum(), Relaxed);
        next.turn.store(self.turn.load(Relaxed), Relaxed);
        next
    }

    /// All of them, in the order of the answer.
    pub fn all(&self) -> &[SocketAddr] {
        &self.all
    }

    /// True for a name that is not resolved.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, those last that have failed.
    pub fn in_order(&self) -> Vec<SocketAddr> {
        let (failed, mut good): (Vec<_>, Vec<_>) = self.all.iter().partition(|addr| self.has_failed_at(**addr));
        good.extend(failed);
        good
    }

    /// Those that have failed.
    pub fn failed(&self) -> Vec<SocketAddr> {
        match self.failed.load(Relaxed) {
            0 => Vec::new(),
            failed => (0..self.all.len()).filter(|at| failed & 1 << at != 0).map(|at| self.all[at]).collect(),
        }
    }

    /// The index of the address whose turn it is.
    pub fn take_turn(&self) -> usize {
        if self.all.len() < 2 {
            return 0;
        }
        let mut candidates = self.all_bits() & !self.failed.load(Relaxed);
        if candidates == 0 {
            candidates = self.all_bits();
        }
        let turn = self.turn.fetch_add(1, Relaxed) % candidates.count_ones();
        for _ in 0..turn {
            candidates &= candidates - 1;
        }
        candidates.trailing_zeros() as usize
    }

    /// The index of the address to be tried after those with a bit in `tried`; `None` when none is left.
    pub fn next(&self, tried: u64) -> Option<usize> {
        let left = self.all_bits() & !tried;
        let good = left & !self.failed.load(Relaxed);
        let candidates = if good != 0 { good } else { left };
        (candidates != 0).then(|| candidates.trailing_zeros() as usize)
    }

    /// True when one that has not failed is left after those with a bit in `tried`.
    pub fn has_good_one_left(&self, tried: u64) -> bool {
        self.all_bits() & !tried & !self.failed.load(Relaxed) != 0
    }

    /// A connect to this one failed. True when that is news; never of the only one.
    pub fn fail(&self, at: usize) -> bool {
        self.all.len() > 1 && self.failed.fetch_or(1 << at, Relaxed) & 1 << at == 0
    }

    /// A connect to this one succeeded. True when it had failed before.
    pub fn answer(&self, at: usize) -> bool {
        self.failed.load(Relaxed) & 1 << at != 0 && self.failed.fetch_and(!(1 << at), Relaxed) & 1 << at != 0
    }

    /// The same for the address itself.
    pub fn answer_at(&self, addr: SocketAddr) -> bool {
        self.all.iter().position(|known| *known == addr).is_some_and(|at| self.answer(at))
    }

    fn has_failed_at(&self, addr: SocketAddr) -> bool {
        let failed = self.failed.load(Relaxed);
        failed != 0 && self.all.iter().position(|known| *known == addr).is_some_and(|at| failed & 1 << at != 0)
    }

    fn all_bits(&self) -> u64 {
        u64::MAX.checked_shr((ADDRESSES_MAX - self.all.len()) as u32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|last| SocketAddr::from(([10, 0, 0, last], 1))).collect()
    }

    fn turns(addresses: &Addresses, count: usize) -> Vec<usize> {
        std::iter::repeat_with(|| addresses.take_turn()).take(count).collect()
    }

    #[test]
    fn addresses_take_turns_and_one_that_failed_is_passed_over_until_it_answers() {
        let three = Addresses::new(addresses(3));
        assert_eq!(turns(&three, 6), [0, 1, 2, 0, 1, 2]);
        assert!(three.fail(1) && !three.fail(1), "it had failed before");
        assert_eq!(turns(&three, 4), [0, 2, 0, 2]);
        assert_eq!((three.failed(), three.in_order()[2]), (vec![addresses(3)[1]], addresses(3)[1]));
        assert!(three.answer_at(addresses(3)[1]) && !three.answer(1));
        assert_eq!(turns(&three, 3).len(), 3);
        assert!(three.failed().is_empty());
    }

    #[test]
    fn the_next_one_is_one_that_has_not_failed_while_there_is_one() {
        let four = Addresses::new(addresses(4));
        four.fail(0);
        assert_eq!(four.next(0b0010), Some(2));
        assert_eq!(four.next(0b0110), Some(3));
        assert_eq!((four.next(0b1110), four.has_good_one_left(0b1110)), (Some(0), false));
        assert_eq!(four.next(0b1111), None);
    }

    #[test]
    fn when_all_have_failed_all_take_turns() {
        let two = Addresses::new(addresses(2));
        assert!(two.fail(0) && two.fail(1));
        assert_eq!(turns(&two, 4), [0, 1, 0, 1]);
    }

    #[test]
    fn the_only_one_never_fails_and_none_is_no_mistake() {
        let one = Addresses::new(addresses(1));
        assert!(!one.fail(0) && one.failed().is_empty());
        assert_eq!((one.take_turn(), one.next(1)), (0, None));
        let none = Addresses::default();
        assert_eq!((none.take_turn(), none.next(0), none.is_empty()), (0, None, true));
        let most = Addresses::new(addresses(200));
        assert_eq!((most.all().len(), most.next(u64::MAX >> 1)), (ADDRESSES_MAX, Some(63)));
    }

    #[test]
    fn what_failed_has_failed_still_when_the_answer_comes_in_another_order() {
        let before = Addresses::new(addresses(3));
        before.fail(0);
        let mut other = addresses(4);
        other.rotate_left(1);
        let after = before.followed_by(other);
        assert_eq!(after.failed(), [addresses(1)[0]]);
        assert!(!after.has_good_one_left(0b0111), "it is the last one now");
    }
}
