//! A member as it is shown.

use super::Member;
use crate::group::offline::Offline;
use crate::group::view::ServerView;
use crate::server::Server;

impl Member {
    pub(in crate::group) fn view(&self, now_ms: u64) -> ServerView {
        let Server { settings, live, .. } = &*self.server;
        let offline = self.offline();
        let lease = self.claims.lease();
        let (bytes_up, bytes_down) = live.bytes();
        let is_leased = lease.is_some() || self.claims.is_remembered();
        ServerView {
            addr: settings.addr.to_string(),
            state: settings.state,
            online: offline.is_none(),
            since_ms: offline.as_ref().and_then(Offline::since_ms).unwrap_or(self.turned_ms),
            cause: offline.map(|cause| cause.to_string()),
            origin: settings.origin,
            weight: settings.weight.into(),
            backup: settings.backup,
            max_sessions: settings.max_sessions,
            labels: settings.labels.clone(),
            sessions: live.sessions(),
            sessions_total: live.sessions_total(),
            bytes_up,
            bytes_down,
            connect_errors: live.connect_errors(),
            connect_latency_us: live.connect_latency_us(),
            suspect: live.is_suspect(),
            ejected_ms: live.is_ejected().then(|| live.ejection().until_ms.saturating_sub(now_ms)),
            ejections: live.is_judged().then(|| live.ejection()).map(|ejection| (ejection.count, ejection.spared)),
            untried: live.is_untried(),
            down_ms: live.down_ms(now_ms),
            lease_ms: is_leased.then(|| lease.map_or(0, |lease| lease.left_ms(now_ms))),
            load: lease.and_then(|lease| lease.load),
            last_check: self.check.as_ref().and_then(|check| check.view(now_ms)),
            check: self.check.as_ref().map(|check| check.figures()),
        }
    }
}
