//! What is shown of a group and its servers.

use std::sync::atomic::Ordering::Relaxed;

use super::{Group, view};
use crate::base::clock;
use crate::server::ServerAddr;

impl Group {
    /// What `worker-list.do` shows, in order.
    pub fn servers(&self) -> Vec<view::ServerView> {
        self.members().views(clock::coarse_ms())
    }

    /// What is shown of one server.
    pub fn server(&self, addr: &ServerAddr) -> Option<view::ServerView> {
        self.members().view_of(addr, clock::coarse_ms())
    }

    /// What `group-list.do` shows.
    pub fn view(&self) -> view::GroupView {
        let snapshot = self.snapshot();
        let (servers_online, servers_total) = self.members().count();
        view::GroupView {
            group: snapshot.settings.listen.port(),
            name: snapshot.settings.name.as_deref().map(str::to_owned),
            listen: snapshot.settings.listen.to_string(),
            open: snapshot.settings.open,
            policy: snapshot.settings.policy.to_string(),
            sessions: self.counters.sessions_active.load(Relaxed),
            limits: view::LimitsView::new(&snapshot.settings, &self.counters),
            routes: view::RoutesView::new(&snapshot.settings, &self.counters),
            servers_online,
            servers_total,
            shadow: self.shadow().filter(|it| it.is_active()).map(|it| it.candidate.to_string()),
            records: self.recording().filter(|it| it.is_active()).map(|it| it.file.display().to_string()),
        }
    }
}
