//! Names of which each address is a server of its own.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::Members;
use crate::group::claim::Claim;
use crate::group::member::Member;
use crate::server::ServerAddr;

impl Members {
    /// Takes the addresses of a server's name.
    pub(in crate::group) fn resolved(
        &mut self,
        addr: &ServerAddr,
        outcome: Result<Vec<SocketAddr>, String>,
        now_ms: u64,
    ) -> bool {
        let Some(&at) = self.by_addr.get(addr) else {
            return false;
        };
        let member = &mut self.list[at];
        let before = member.expanded().to_vec();
        let mut is_other = member.change(&self.common, |member| member.resolved(outcome, now_ms));
        if member.expanded() != before {
            is_other |= self.expand();
            self.index();
        }
        is_other
    }

    /// Puts the servers that a name is expanded to behind it, in the order of their addresses, but for those that have
    /// a place of their own in the file. Those that no name resolves to any more leave the list.
    pub(super) fn expand(&mut self) -> bool {
        let is_concerned = |member: &Member| {
            let settings = &member.server.settings;
            settings.expand || settings.addr.is_one_of_name()
        };
        if !self.list.iter().any(is_concerned) {
            return false;
        }
        let common = self.common.clone();
        let is_expansion =
            |member: &Member| member.server.settings.addr.is_one_of_name() && !member.claims.is_in_file();
        let (old, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.list).into_iter().partition(is_expansion);
        let mut old: HashMap<ServerAddr, Member> = by_addr(old);
        let addrs = rest.iter().map(|member| &member.server.settings.addr);
        let in_file: HashSet<ServerAddr> = addrs.filter(|addr| addr.is_one_of_name()).cloned().collect();
        let (mut resolved, mut is_other) = (HashSet::new(), false);
        for member in rest {
            let expansion = member.expansion();
            self.list.push(member);
            for settings in expansion {
                if in_file.contains(&settings.addr) {
                    resolved.insert(settings.addr);
                    continue;
                }
                let known = old.remove(&settings.addr);
                let mut one = known.unwrap_or_else(|| self.new_member(settings.clone(), Vec::new()));
                is_other |= one.change(&common, |one| one.take_one_of_name(settings));
                self.list.push(one);
            }
        }
        for member in self.list.iter_mut().filter(|member| in_file.contains(&member.server.settings.addr)) {
            is_other |= member.change(&common, |member| match resolved.contains(&member.server.settings.addr) {
                true => member.claims.set(Claim::Resolved),
                false => _ = member.claims.withdraw(&Claim::Resolved),
            });
        }
        let mut gone: Vec<Member> = old.into_values().collect();
        gone.sort_by_key(|member| member.server.id);
        gone.iter().fold(is_other, |is_other, member| member.tell_removed(&common) | is_other)
    }

    /// The server at this address, and those that its name is expanded to.
    pub(in crate::group) fn with_expansion(&self, addr: &ServerAddr) -> Vec<ServerAddr> {
        let expanded = self.by_addr.get(addr).map_or(&[][..], |&at| self.list[at].expanded());
        std::iter::once(addr.clone()).chain(expanded.iter().map(|ip| addr.at(*ip))).collect()
    }

    /// Connects that have failed in a row at a server, or at all that its name is expanded to.
    pub(in crate::group) fn failures(&self, addr: &ServerAddr) -> u64 {
        let failures_at = |at: usize| self.list[at].server.live.outage().map_or(0, |outage| outage.failures());
        let Some(&at) = self.by_addr.get(addr) else { return 0 };
        let ones = self.list[at].expanded().iter().filter_map(|ip| self.by_addr.get(&addr.at(*ip)));
        failures_at(at) + ones.map(|&at| failures_at(at)).sum::<u64>()
    }
}

fn by_addr(members: Vec<Member>) -> HashMap<ServerAddr, Member> {
    members.into_iter().map(|member| (member.server.settings.addr.clone(), member)).collect()
}
