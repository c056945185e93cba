//! A source of servers that exists for tests: it shows what a further source takes, which is this file and its
//! variant of [`Claim`].

use std::collections::BTreeSet;

use crate::group::{Claim, Group};
use crate::server::{Origin, ServerAddr, ServerSettings};

/// Somebody who lists servers, such as DNS or an orchestrator.
#[derive(Default)]
struct Discovery {
    known: BTreeSet<ServerAddr>,
}

impl Discovery {
    /// Takes the list of this moment.
    fn listed(&mut self, group: &Group, addrs: &[&str]) {
        let listed: BTreeSet<ServerAddr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        for gone in self.known.difference(&listed) {
            group.withdraw(gone, &Claim::Discovered);
        }
        for addr in &listed {
            group.claim(ServerSettings::new(addr.clone(), Origin::File), Vec::new(), Claim::Discovered);
        }
        self.known = listed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupSettings;
    use crate::server::State;

    fn file(addrs: &[&str]) -> Vec<ServerSettings> {
        addrs.iter().map(|addr| ServerSettings::new(addr.parse().unwrap(), Origin::File)).collect()
    }

    /// Every server, and those that are offline with a mark.
    fn shown(group: &Group) -> Vec<String> {
        let servers = group.servers().into_iter();
        servers.map(|it| if it.online { it.addr } else { format!("!{}", it.addr) }).collect()
    }

    fn picks(group: &Group) -> BTreeSet<String> {
        let pick = |_| Some(group.pick("10.9.9.9:1".parse().unwrap(), &[], 0).ok()?.server.settings.addr.to_string());
        (0..8).filter_map(pick).collect()
    }

    #[test]
    fn a_server_that_is_discovered_serves_until_it_is_no_longer_listed() {
        let settings = || GroupSettings::for_tests("round_robin");
        let group = Group::for_tests(settings(), file(&["10.0.0.1:1"]));
        let mut discovery = Discovery::default();
        discovery.listed(&group, &["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        assert_eq!(shown(&group), ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        assert_eq!(picks(&group).len(), 3);
        // A reload forgets none of them, and the order is the file's first.
        group.apply(settings(), file(&["10.0.0.3:1"]), None, &[], &[]);
        assert_eq!(shown(&group), ["10.0.0.3:1", "10.0.0.1:1", "10.0.0.2:1"]);
        // What an operator says holds for servers of any source that the file names.
        let mut drained = file(&["10.0.0.3:1"]);
        drained[0].state = State::Drain;
        group.apply(settings(), drained, None, &[], &[]);
        assert_eq!(shown(&group), ["!10.0.0.3:1", "10.0.0.1:1", "10.0.0.2:1"]);
        discovery.listed(&group, &["10.0.0.2:1"]);
        assert_eq!(shown(&group), ["!10.0.0.3:1", "10.0.0.2:1"], "the file still names the first");
        assert_eq!(picks(&group), BTreeSet::from(["10.0.0.2:1".to_owned()]));
        discovery.listed(&group, &[]);
        assert_eq!(shown(&group), ["!10.0.0.3:1"]);
        assert_eq!(picks(&group).len(), 0);
    }

    #[test]
    fn what_was_discovered_may_register_too_and_outlives_either_claim() {
        let group = Group::for_tests(GroupSettings::for_tests("ha"), Vec::new());
        let mut discovery = Discovery::default();
        discovery.listed(&group, &["10.0.0.2:1"]);
        let registered = ServerSettings::new("10.0.0.2:1".parse().unwrap(), Origin::Heartbeat);
        let registration = crate::group::Registration { server: registered.clone(), addresses: Vec::new() };
        group.apply(GroupSettings::for_tests("ha"), vec![registered], None, &[registration], &[]);
        discovery.listed(&group, &[]);
        assert_eq!(shown(&group), ["10.0.0.2:1"], "its lease goes on");
        discovery.listed(&group, &["10.0.0.2:1"]);
        group.apply(GroupSettings::for_tests("ha"), Vec::new(), None, &[], &["10.0.0.2:1".parse().unwrap()]);
        assert_eq!(shown(&group), [""; 0], "removed by an operator");
        discovery.listed(&group, &["10.0.0.2:1"]);
        assert_eq!(shown(&group), ["10.0.0.2:1"], "and found again");
    }
}
