//! Keeping servers out for a while that fail the sessions they get, and letting them in again when nobody else is left.
//!
//! An ejected server stays in the snapshot, as a suspect one does, and picks pass it over. So nothing is published, and
//! sessions that go on know nothing of it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Group;
use super::ejection::{EjectSettings, faults_text};
use super::snapshot::{PickError, Question, ServerSlot, Snapshot};
use crate::base::clock;
use crate::events::{self, Event, GroupChange, ServerChange};
use crate::server::{Avoided, Server, ServerAddr};

impl Group {
    /// Takes what a session has shown of its server: a fault and what it was, or none. To be called only for a server whose
    /// faults are counted.
    #[cold]
    pub fn judge(&self, server: &Server, fault: Option<&str>, now_ms: u64) {
        let Some(why) = fault else { return server.live.had_good_session() };
        let faults = server.live.had_fault(why);
        let snapshot = self.snapshot();
        if let Some(eject) = snapshot.settings.eject.filter(|eject| faults >= eject.failures) {
            self.eject(&snapshot, server, eject, now_ms);
        }
    }

    fn eject(&self, snapshot: &Snapshot, server: &Server, eject: EjectSettings, now_ms: u64) {
        // One at a time, so that the limit is exact.
        let _one = self.ejecting.lock();
        let servers = || snapshot.tiers.iter().flat_map(|tier| &tier.set.servers);
        let ejected = servers().filter(|known| known.live.is_ejected()).count();
        // Counted with this one.
        if (ejected + 1) * 100 > servers().count() * eject.max_percent as usize {
            return server.live.spare();
        }
        let ejection = eject.next(&server.live.ejection(), now_ms);
        if server.live.eject(&ejection) {
            let eject_for = Duration::from_millis(ejection.until_ms - now_ms);
            let error = faults_text(&ejection).into();
            self.tell_soon(server, ServerChange::Ejected { eject_for, error });
        }
    }

    /// The servers that are ejected, and until when, on the coarse clock.
    pub fn ejected(&self) -> Vec<(ServerAddr, u64)> {
        let snapshot = self.snapshot();
        let servers =
            snapshot.tiers.iter().flat_map(|tier| &tier.set.servers).filter(|server| server.live.is_ejected());
        servers.map(|server| (server.settings.addr.clone(), server.live.ejection().until_ms)).collect()
    }

    /// Lets a server in again whose time is over.
    pub fn end_ejection(&self, addr: &ServerAddr) {
        let Some(server) = self.members().server_at(addr).cloned() else { return };
        if server.live.ejection().until_ms <= clock::coarse_ms() && server.live.end_ejection() {
            self.tell_soon(&server, ServerChange::EjectionOver);
            self.look_at_fail_open();
        }
    }

    /// Picks among the servers that only checks or ejections keep out, when nobody else is left.
    #[cold]
    pub(super) fn pick_last_resort(&self, question: Question<'_>) -> Result<ServerSlot, PickError> {
        let slot = self.snapshot().find_last_resort(question, Snapshot::take)?;
        if !self.counters.is_fail_open.swap(true, Relaxed) {
            events::publish_soon(Event::Group { group: self.label().clone(), change: GroupChange::FailOpen });
        }
        Ok(slot)
    }

    /// Tells that a group is no longer open for want of better servers, if so.
    pub(super) fn look_at_fail_open(&self) {
        if !self.counters.is_fail_open.load(Relaxed) {
            return;
        }
        let snapshot = self.snapshot();
        let mut servers = snapshot.tiers.iter().flat_map(|tier| &tier.set.servers);
        if servers.any(|server| !server.live.is_avoided(Avoided::DOUBTFUL))
            && self.counters.is_fail_open.swap(false, Relaxed)
        {
            events::publish_soon(Event::Group { group: self.label().clone(), change: GroupChange::FailOpenEnded });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{file, settings, shown};
    use super::*;
    use crate::group::GroupSettings;

    const EJECT: EjectSettings = EjectSettings {
        failures: 3,
        time: Duration::from_secs(10),
        max_time: Duration::from_secs(60),
        max_percent: 50,
    };

    fn group(servers: usize) -> (Group, Vec<String>) {
        let addrs: Vec<String> = (1..=servers).map(|number| format!("10.0.0.{number}:1")).collect();
        let names: Vec<&str> = addrs.iter().map(String::as_str).collect();
        let settings = GroupSettings { eject: Some(EJECT), ..settings("ha") };
        (Group::for_tests(settings, file(&names)), addrs)
    }

    fn faults(group: &Group, addr: &str, count: usize) {
        let server = shown(group, addr);
        (0..count).for_each(|_| group.judge(&server, Some("reset before a byte came"), clock::coarse_ms()));
    }

    #[test]
    fn a_server_is_ejected_after_so_many_faults_in_a_row() {
        let (group, addrs) = group(2);
        faults(&group, &addrs[0], 2);
        let server = shown(&group, &addrs[0]);
        group.judge(&server, None, 0);
        faults(&group, &addrs[0], 2);
        assert!(!server.live.is_ejected(), "a good session begins the count anew");
        faults(&group, &addrs[0], 1);
        assert!(server.live.is_ejected());
        let view = group.server(&addrs[0].parse().unwrap()).unwrap();
        let cause = view.cause.unwrap();
        assert!(
            cause.starts_with("ejected for ")
                && cause.ends_with(": 3 faults in a row, the last: reset before a byte came"),
            "{cause}"
        );
        assert!(!view.online && view.ejected_ms.unwrap() > 9_000);
        let picked =
            |group: &Group| group.pick("10.9.9.9:1".parse().unwrap(), &[], 0).unwrap().server.settings.addr.to_string();
        assert_eq!(picked(&group), addrs[1]);
        assert_eq!(group.ejected().len(), 1);
    }

    #[test]
    fn no_more_servers_are_ejected_than_the_limit_allows_counted_with_the_last() {
        for (servers, ejected) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
            let (group, addrs) = group(servers);
            addrs.iter().for_each(|addr| faults(&group, addr, 3));
            assert_eq!(group.ejected().len(), ejected, "of {servers}");
        }
    }

    #[test]
    fn ejected_servers_are_the_last_resort_unless_the_group_says_otherwise() {
        for fail_open in [true, false] {
            let addrs = ["10.0.0.1:1", "10.0.0.2:1"];
            let settings = GroupSettings { eject: Some(EJECT), fail_open, ..settings("ha") };
            let group = Group::for_tests(settings, file(&addrs));
            faults(&group, addrs[0], 3);
            let other = shown(&group, addrs[1]);
            let picked = group.pick("10.9.9.9:1".parse().unwrap(), &[other.id], 0);
            assert_eq!(picked.is_ok(), fail_open);
            assert_eq!(group.counters.is_fail_open.load(Relaxed), fail_open);
        }
    }

    #[test]
    fn without_the_setting_nobody_is_judged_and_who_was_ejected_is_back() {
        let (group, addrs) = group(2);
        faults(&group, &addrs[0], 3);
        let server = shown(&group, &addrs[0]);
        assert!(server.live.is_judged() && server.live.is_ejected());
        let names: Vec<&str> = addrs.iter().map(String::as_str).collect();
        group.apply(settings("ha"), file(&names), None, &[], &[]);
        assert!(!server.live.is_judged() && !server.live.is_ejected());
    }
}
