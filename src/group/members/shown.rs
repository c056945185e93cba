//! What is shown of the members: to policies, and to people.

use std::sync::Arc;

use super::Members;
use crate::group::member::Member;
use crate::group::offline::Offline;
use crate::group::settings::GroupSettings;
use crate::group::snapshot::{Snapshot, Tier};
use crate::group::view::ServerView;
use crate::policy::ServerSet;
use crate::server::{Server, ServerAddr};

impl Members {
    /// All but names that stand for servers of their own.
    fn servers(&self) -> impl Iterator<Item = &Member> {
        self.list.iter().filter(|member| member.expanded().is_empty())
    }

    pub(in crate::group) fn views(&self, now_ms: u64) -> Vec<ServerView> {
        self.servers().map(|member| member.view(now_ms)).collect()
    }

    pub(in crate::group) fn view_of(&self, addr: &ServerAddr, now_ms: u64) -> Option<ServerView> {
        self.by_addr.get(addr).map(|&at| self.list[at].view(now_ms))
    }

    /// Every server, and why it is not shown to the policy.
    pub(in crate::group) fn all(&self) -> impl Iterator<Item = (&Arc<Server>, Option<Offline>)> {
        self.servers().map(|member| (&member.server, member.hidden()))
    }

    /// Servers online, and all.
    pub(in crate::group) fn count(&self) -> (usize, usize) {
        let online = self.servers().filter(|member| member.offline().is_none());
        (online.count(), self.servers().count())
    }

    /// Makes the snapshot of this moment.
    pub(in crate::group) fn publish(&mut self, settings: GroupSettings) -> Snapshot {
        self.generation += 1;
        let [mut shown, mut down]: [[Vec<Arc<Server>>; 2]; 2] = Default::default();
        for member in &self.list {
            let server = &member.server;
            server.live.set_judged(settings.eject.is_some());
            if settings.eject.is_none() && server.live.is_ejected() {
                server.live.end_ejection();
            }
            match member.hidden() {
                None => shown[usize::from(server.settings.backup)].push(Arc::clone(server)),
                Some(Offline::Down(_)) => down[usize::from(server.settings.backup)].push(Arc::clone(server)),
                Some(_) => {}
            }
        }
        let generation = self.generation;
        let set = |servers, backup| Arc::new(ServerSet { generation, backup, servers });
        let tiers = [false, true].map(|backup| {
            let set = set(std::mem::take(&mut shown[usize::from(backup)]), backup);
            Tier { policy: self.policy.for_servers(&set), set }
        });
        let has_last_resort = settings.fail_open && down.iter().any(|servers| !servers.is_empty());
        let last_resort = has_last_resort.then(|| {
            Box::new([false, true].map(|backup| {
                let set = set(std::mem::take(&mut down[usize::from(backup)]), backup);
                Tier { policy: self.policy.for_last_resort(&set), set }
            }))
        });
        Snapshot {
            settings,
            generation,
            tiers,
            last_resort,
            limits: None,
            tls: None,
            server_tls: None,
            check_tls: None,
        }
    }
}
