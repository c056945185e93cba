//! Lists of networks: is an address in one of them?
//!
//! The networks are merged into ranges that do not touch, in order, so a look-up is a binary search: 17 steps for
//! 100,000 networks. A list is immutable and shared by all who hold it. Reading it, from the file or from a file of its
//! own, is left to `config`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// Networks as sorted ranges, the first and the last address of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    /// All of these. An IPv4 network in IPv6 form is one of IPv4.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match (network.network().to_canonical(), network.broadcast().to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((u32::from(first), u32::from(last))),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((u128::from(first), u128::from(last))),
                // It is larger than all of IPv4 and covers it, as `::/0` does: the IPv6 part is meant.
                _ => {
                    if let IpNet::V6(network) = network {
                        v6.push((u128::from(network.network()), u128::from(network.broadcast())));
                    }
                }
            }
        }
        Self { v4: merged(v4, |end| end.checked_add(1)), v6: merged(v6, |end| end.checked_add(1)) }
    }

    /// True when `ip`, which is canonical, is in one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => is_within(&self.v4, u32::from(ip)),
            IpAddr::V6(ip) => is_within(&self.v6, u128::from(ip)),
        }
    }

    /// True when no address is.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Sorts ranges and joins those that overlap or touch. `after` is what follows an end, if something does.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if after(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

fn is_within<T: Copy + Ord>(ranges: &[(T, T)], at: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= at);
    after > 0 && at <= ranges[after - 1].1
}

/// A list of networks as it is configured and what it means. Cheap to clone.
#[derive(Clone, Default)]
pub struct AddressList(Option<Arc<List>>);

#[derive(PartialEq, Eq)]
struct List {
    written: Vec<String>,
    /// Of the content of each file that the list names.
    hashes: Vec<u64>,
    networks: Networks,
}

impl AddressList {
    /// A list that is written so, names files with contents of these hashes, and means these networks.
    pub fn new(written: Vec<String>, hashes: Vec<u64>, networks: Networks) -> Self {
        Self((!written.is_empty()).then(|| Arc::new(List { written, hashes, networks })))
    }

    /// How it is written.
    pub fn written(&self) -> &[String] {
        self.0.as_deref().map_or(&[], |list| &list.written)
    }

    /// The hashes of the contents of the files that it names.
    pub fn hashes(&self) -> &[u64] {
        self.0.as_deref().map_or(&[], |list| &list.hashes)
    }

    /// True when something is written and means no address.
    pub fn means_nobody(&self) -> bool {
        self.0.as_deref().is_some_and(|list| list.networks.is_empty())
    }

    /// True when nothing is written.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// True when `ip`, which is canonical, is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.as_deref().is_some_and(|list| list.networks.contains(ip))
    }
}

impl PartialEq for AddressList {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // They may be long, and mostly are the same.
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Eq for AddressList {}

/// As it is written: what it means may be long.
impl fmt::Debug for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(texts.iter().map(|text| text.parse::<IpNet>().unwrap()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse::<IpAddr>().unwrap().to_canonical()
    }

    #[test]
    fn an_address_is_found_in_whichever_form_it_or_its_network_is_written() {
        let list = networks(&["10.0.0.0/8", "::ffff:192.0.2.0/120", "2001:db8::/32"]);
        for within in ["10.0.0.0", "10.255.255.255", "::ffff:10.0.0.1", "192.0.2.7", "2001:db8:ffff::"] {
            assert!(list.contains(ip(within)), "{within}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.3.0", "2001:db9::", "::", "::10.0.0.1"] {
            assert!(!list.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn neighbours_become_one_range_up_to_the_last_address_there_is() {
        let list = networks(&["10.0.0.0/9", "10.128.0.0/9", "10.1.2.3/32", "255.255.255.255/32", "255.0.0.0/8"]);
        assert_eq!(list.v4.len(), 2);
        assert!(list.contains(ip("255.255.255.255")) && !list.contains(ip("254.255.255.255")));
        let all = networks(&["::/1", "8000::/1", "ffff::/16"]);
        assert_eq!(all.v6.len(), 1);
        assert!(all.contains(ip("ffff:ffff::1")) && !all.contains(ip("1.2.3.4")));
        assert!(networks(&["::/0"]).contains(ip("2001:db8::1")));
    }

    #[test]
    fn lists_are_equal_when_they_are_written_alike_and_mean_the_same() {
        let list = |network: &str| AddressList::new(vec!["file:a".to_owned()], vec![1], networks(&[network]));
        assert_eq!(list("10.0.0.0/8"), list("10.0.0.0/8"));
        assert_ne!(list("10.0.0.0/8"), list("10.0.0.0/9"));
        assert_ne!(list("10.0.0.0/8"), AddressList::default());
        assert_eq!(AddressList::new(Vec::new(), Vec::new(), Networks::default()), AddressList::default());
    }

    /// Networks close to one another, so that many overlap.
    fn any_network() -> impl Strategy<Value = IpNet> {
        let v4 = (0_u32..1 << 12, 18_u8..=32).prop_map(|(low, bits)| {
            IpNet::new(IpAddr::V4((0x0a00_0000 | low).into()), bits).expect("the bits are of IPv4")
        });
        let v6 = (0_u128..1 << 12, 100_u8..=128)
            .prop_map(|(low, bits)| IpNet::new(IpAddr::V6((0xfc00 << 112 | low).into()), bits).expect("of IPv6"));
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn an_address_is_within_the_list_when_it_is_within_one_of_its_networks(
            networks in proptest::collection::vec(any_network(), 0..40),
            lows in proptest::collection::vec(0_u32..1 << 13, 1..60),
        ) {
            let list = Networks::new(networks.iter().copied());
            let edges = networks.iter().flat_map(|network| [network.network(), network.broadcast()]);
            let inside = lows.iter().flat_map(|low| {
                [IpAddr::V4((0x0a00_0000 | low).into()), IpAddr::V6((0xfc00 << 112 | u128::from(*low)).into())]
            });
            for ip in edges.chain(inside) {
                prop_assert_eq!(list.contains(ip), networks.iter().any(|network| network.contains(&ip)), "{}", ip);
            }
        }
    }
}
