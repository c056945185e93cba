//! What to do when the first choice is closed, shared by the policies.
//!
//! Nearly always every server is open and the first look decides. When it is closed a policy looks at a
//! bounded number of further candidates ([`probe`]) and only then at every server, once
//! ([`fair_open`], [`nearest_open`]): so an answer is missing if and only if no server is open, and each
//! costs at most one walk. Whether a server is open may change during the walk (another session fills
//! it), so each walk decides in one go and never counts first and looks again.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::hash::client_hash;
use crate::base::random::{SplitMix64, below};
use crate::policy::balance::PickRequest;

/// How many candidates are looked at before every server is: with half of the servers closed, one pick
/// in 65,536 needs the walk.
pub(super) const PROBES: usize = 16;

/// The first open server among the first [`PROBES`] candidates. One that is no index of the set is passed
/// over.
pub(super) fn probe(request: &PickRequest<'_>, candidates: impl Iterator<Item = usize>) -> Option<usize> {
    candidates.take(PROBES).find(|&index| index < request.len() && request.is_open(index))
}

/// One of the open servers at random, in proportion to their weights; `None` when none is open.
///
/// Each open server takes the place of the one chosen so far with the chance of its weight among those
/// seen (Chao's reservoir sampling, 1982).
pub(super) fn fair_open(request: &PickRequest<'_>, draws: &mut SplitMix64) -> Option<usize> {
    let (mut chosen, mut seen) = (None, 0);
    for index in (0..request.len()).filter(|&index| request.is_open(index)) {
        let weight = u64::from(request.servers.servers[index].settings.weight.max(1));
        seen += weight;
        if below(draws.draw(), seen).0 < weight {
            chosen = Some(index);
        }
    }
    chosen
}

/// The server of a policy that hashes the client: `home` turns a hash into an index.
///
/// The client's hash is tried first, then the numbers of splitmix64 seeded with it, so that the clients
/// of a closed server spread over all others, and each of them always goes to the same one.
pub(super) fn by_client(request: &PickRequest<'_>, home: impl Fn(u64) -> usize) -> Option<usize> {
    let hash = client_hash(request.client);
    let hashes = std::iter::once(hash).chain(SplitMix64::new(hash));
    probe(request, hashes.map(home)).or_else(|| nearest_open(request, hash))
}

/// The open server whose address text has the greatest XXH3-64 with the client's hash as the seed
/// (highest random weight; Thaler and Ravishankar, 1998); `None` when none is open.
fn nearest_open(request: &PickRequest<'_>, hash: u64) -> Option<usize> {
    let score =
        |&index: &usize| xxh3_64_with_seed(request.servers.servers[index].settings.addr.as_str().as_bytes(), hash);
    (0..request.len()).filter(|&index| request.is_open(index)).max_by_key(score)
}
