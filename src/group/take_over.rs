//! An upgrade, as a group sees it: what the next process has to know, and what this one is told by the process before.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::carried::{GroupCarried, GroupSessions, ServerCarried};
use super::members::Members;
use super::{Group, GroupId};
use crate::base::clock;
use crate::counters::GroupCounters;
use crate::server::{Live, ServerAddr};

impl Group {
    /// What the next process has to know.
    pub fn carry(&self) -> GroupCarried {
        GroupCarried { id: self.id.to_string(), servers: self.members().carry(clock::coarse_ms()) }
    }

    /// Begins with what the process before has known. Servers that are not in the file any more are passed over.
    pub fn take_over(&self, carried: &GroupCarried) {
        let mut members = self.members();
        let timeout = self.snapshot().settings.heartbeat_timeout;
        members.take_over(&carried.servers, clock::coarse_ms(), timeout);
        self.republish(&mut members);
    }

    /// The sessions of this moment.
    pub fn sessions(&self) -> GroupSessions {
        let (id, sessions) = (self.id.to_string(), self.counters.sessions_active.load(Relaxed));
        GroupSessions { id, sessions, servers: self.members().sessions() }
    }
}

impl Members {
    fn carry(&self, now_ms: u64) -> Vec<ServerCarried> {
        self.all_members().map(|member| member.carry(now_ms)).collect()
    }

    fn sessions(&self) -> Vec<(String, u32)> {
        let sessions = self.all_members().map(|member| &member.server);
        let sessions = sessions.map(|server| (server.settings.addr.to_string(), server.live.sessions()));
        sessions.filter(|(_, sessions)| *sessions > 0).collect()
    }

    fn take_over(&mut self, carried: &[ServerCarried], now_ms: u64, timeout: Duration) {
        let addr = |one: &ServerCarried| one.addr.parse::<ServerAddr>().ok();
        // First, because the servers that a name is expanded to come with its addresses.
        for (addr, one) in carried.iter().filter_map(|one| Some((addr(one)?, one))) {
            let addresses: &[SocketAddr] = &one.live.addresses;
            if addr.literal().is_none() && !addresses.is_empty() {
                self.resolved(&addr, Ok(addresses.to_vec()), now_ms);
            }
        }
        for (addr, one) in carried.iter().filter_map(|one| Some((addr(one)?, one))) {
            if let Some((member, common)) = self.member(&addr) {
                member.change(common, |member| member.take_over(one, now_ms, timeout));
            }
        }
    }
}

/// Sessions of the process before, counted here as if they were this one's, so that limits and policies go by the sum.
#[derive(Debug, Default)]
pub struct ForeignSessions {
    /// By where the counters are.
    groups: HashMap<usize, (Arc<GroupCounters>, u64)>,
    servers: HashMap<usize, (Arc<Live>, u32)>,
}

impl ForeignSessions {
    /// From now on these are the sessions of the other process, instead of those of the last call. Groups and servers that
    /// are not here are passed over.
    pub fn set(&mut self, sessions: &[GroupSessions], group: impl Fn(&GroupId) -> Option<Arc<Group>>) {
        let mut now = Self::default();
        for of_group in sessions {
            let Some(found) = group(&GroupId::named(&of_group.id)) else { continue };
            let counters = Arc::clone(&found.counters);
            now.groups.insert(Arc::as_ptr(&counters).addr(), (counters, of_group.sessions));
            for (addr, sessions) in &of_group.servers {
                if let Some(live) = addr.parse().ok().and_then(|addr: ServerAddr| found.live(&addr)) {
                    now.servers.insert(Arc::as_ptr(&live).addr(), (live, *sessions));
                }
            }
        }
        // Only the differences: in between, no limit has less room than it should have, or more.
        for (at, (counters, sessions)) in &now.groups {
            let before = self.groups.remove(at).map_or(0, |(_, before)| before);
            change(&counters.sessions_active, before, *sessions);
        }
        for (at, (live, sessions)) in &now.servers {
            let before = self.servers.remove(at).map_or(0, |(_, before)| before);
            live.add_foreign(sessions.saturating_sub(before));
            live.remove_foreign(before.saturating_sub(*sessions));
        }
        // What is left of the last call has none any more.
        drop(std::mem::replace(self, now));
    }
}

fn change(counter: &AtomicU64, before: u64, now: u64) {
    counter.fetch_add(now.wrapping_sub(before), Relaxed);
}

impl Drop for ForeignSessions {
    fn drop(&mut self) {
        self.groups.values().for_each(|(counters, sessions)| change(&counters.sessions_active, *sessions, 0));
        self.servers.values().for_each(|(live, sessions)| live.remove_foreign(*sessions));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupSettings;
    use crate::server::{Origin, ServerSettings};

    fn server(addr: &str, origin: Origin) -> ServerSettings {
        ServerSettings::new(addr.parse().unwrap(), origin)
    }

    fn group(servers: Vec<ServerSettings>) -> Arc<Group> {
        let mut settings = GroupSettings::for_tests("round_robin");
        settings.heartbeat_timeout = Duration::from_secs(3_600);
        Arc::new(Group::for_tests(settings, servers))
    }

    #[test]
    fn a_group_goes_on_with_what_it_knew_of_its_servers() {
        let servers = || vec![server("10.0.0.1:1", Origin::Heartbeat), server("db.example:5", Origin::File)];
        let (before, after) = (group(servers()), group(servers()));
        let [first, name] = ["10.0.0.1:1", "db.example:5"].map(|addr| addr.parse::<ServerAddr>().unwrap());
        before.resolved(&name, Ok(vec!["10.0.0.9:5".parse().unwrap()]));
        before.live(&name).unwrap().connect_failed("refused", 0, clock::coarse_ms());
        before.renew(&first, Some(40));
        let text = serde_json::to_string(&before.carry()).unwrap();
        // As from a version that knows more, of a server that is not there any more as well.
        let text = text.replacen("{\"addr\"", "{\"addr\":\"10.0.0.8:1\",\"more\":[1]},{\"new\":{},\"addr\"", 1);
        after.take_over(&serde_json::from_str(&text).unwrap());
        let (one, two) = (after.server(&first).unwrap(), after.live(&name).unwrap());
        assert_eq!(one.load, Some(40));
        assert_eq!(two.addresses().all(), ["10.0.0.9:5".parse().unwrap()]);
        assert!(two.is_suspect());
        assert_eq!(after.servers().len(), 2);
    }

    #[test]
    fn sessions_of_the_process_before_count_until_they_are_gone() {
        let here = group(vec![server("10.0.0.1:1", Origin::File), server("10.0.0.2:1", Origin::File)]);
        let lives = ["10.0.0.1:1", "10.0.0.2:1"].map(|addr| here.live(&addr.parse().unwrap()).unwrap());
        let figures = || {
            let [one, two] = lives.each_ref().map(|live| live.sessions());
            (here.counters.sessions_active.load(Relaxed), one, two)
        };
        let sessions = |sessions, servers: &[(&str, u32)]| GroupSessions {
            id: here.id().to_string(),
            sessions,
            servers: servers.iter().map(|(addr, sessions)| ((*addr).to_owned(), *sessions)).collect(),
        };
        let find = |id: &GroupId| (id == here.id()).then(|| Arc::clone(&here));
        assert!(lives[0].try_acquire(0));
        let mut foreign = ForeignSessions::default();
        let elsewhere = GroupSessions { id: "elsewhere".into(), sessions: 9, servers: Vec::new() };
        foreign.set(&[sessions(5, &[("10.0.0.1:1", 3), ("10.0.0.2:1", 2)]), elsewhere], find);
        assert_eq!(figures(), (5, 4, 2));
        foreign.set(&[sessions(4, &[("10.0.0.1:1", 4), ("10.0.0.3:1", 7)])], find);
        assert_eq!(figures(), (4, 5, 0));
        drop(foreign);
        assert_eq!(figures(), (0, 1, 0));
    }
}
