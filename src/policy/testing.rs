//! Sets, requests and measures that the tests of the policies share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::balance::{IBalancePolicy, PickRequest, ServerSet};
use super::built_in;
use crate::base::random::scatter;
use crate::server::{Avoided, Live, Origin, Server, ServerId, ServerSettings};

/// For tests to which only the server matters.
pub(super) trait PickIndex {
    /// The index of the server that is picked.
    fn pick_index(&self, request: &PickRequest<'_>) -> Option<usize>;
}

impl<P: IBalancePolicy + ?Sized> PickIndex for P {
    fn pick_index(&self, request: &PickRequest<'_>) -> Option<usize> {
        self.pick(request).map(|picked| picked.index)
    }
}

/// A server as the tests want it; ids are not indexes, so that mixing them up shows.
pub(super) fn server(index: u32, weight: u32, max_sessions: u32) -> Arc<Server> {
    let addr = SocketAddr::from((Ipv4Addr::from(0x0a01_0000 + index), 9_000));
    let settings =
        ServerSettings { weight: weight as u16, max_sessions, ..ServerSettings::new(addr.into(), Origin::File) };
    Arc::new(Server { id: ServerId(1_000 + index), settings, live: Arc::new(Live::new(vec![addr])) })
}

/// Servers of these weights, all open.
pub(super) fn set(weights: &[u32]) -> Arc<ServerSet> {
    set_of((0..).zip(weights).map(|(index, &weight)| server(index, weight, 0)))
}

/// These servers as a set.
pub(super) fn set_of(servers: impl Iterator<Item = Arc<Server>>) -> Arc<ServerSet> {
    Arc::new(ServerSet { generation: 1, backup: false, servers: servers.collect() })
}

/// A built-in policy, ready for `set`.
pub(super) fn prepared(name: &str, set: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
    built_in::make(name).unwrap().for_servers(set)
}

/// A first request; tests change what they are about.
pub(super) fn request(servers: &ServerSet) -> PickRequest<'_> {
    let client = SocketAddr::from(([192, 0, 2, 1], 40_000));
    PickRequest {
        client,
        group: 8_081,
        attempt: 0,
        servers,
        tried: &[],
        avoided: Avoided::DOUBTFUL,
        now_ms: 1_000,
        random: 7,
    }
}

/// One of many clients, each with its own IP.
pub(super) fn client(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(scatter(number))), 40_000)
}

/// The ids of the servers at these indexes.
pub(super) fn ids(set: &ServerSet, indexes: impl IntoIterator<Item = usize>) -> Vec<ServerId> {
    indexes.into_iter().map(|index| set.servers[index].id).collect()
}

/// How often each server was picked.
pub(super) fn counts(servers: usize, picks: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut counts = vec![0; servers];
    picks.into_iter().for_each(|index| counts[index] += 1);
    counts
}

/// Picks lie within 5 standard deviations of the shares that `weights` give (and one more, for shares
/// that are all or nothing). By chance that fails once in a million; the inputs are fixed, so a test that
/// passes once passes always.
pub(super) fn assert_shares(counts: &[usize], weights: &[u32]) {
    let (picks, total) = (counts.iter().sum::<usize>() as f64, f64::from(weights.iter().sum::<u32>()));
    for (count, weight) in counts.iter().zip(weights) {
        let share = f64::from(*weight) / total;
        let tolerance = 5.0 * (picks * share * (1.0 - share)).sqrt() + 1.0;
        assert!((*count as f64 - picks * share).abs() <= tolerance, "{counts:?} for weights {weights:?}");
    }
}
