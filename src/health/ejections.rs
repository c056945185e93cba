//! Lets servers in again whose ejection is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use crate::base::clock;
use crate::events::{ConfigEvent, Event, Received, ServerChange, Subscription};
use crate::group::GroupId;
use crate::server::ServerAddr;
use crate::sources::Running;

/// Nothing is due for so long at most.
const IDLE: Duration = Duration::from_secs(3_600);

/// Ends ejections until `stop`.
pub(super) async fn run(running: Arc<Running>, mut changes: Subscription, stop: CancellationToken) {
    let mut plan: Plan<(GroupId, ServerAddr)> = Plan::new();
    loop {
        let next = plan.first().unwrap_or_else(|| Instant::now() + IDLE);
        let is_news = tokio::select! {
            () = stop.cancelled() => return,
            received = changes.next() => is_news(&received),
            () = tokio::time::sleep_until(next) => false,
        };
        let groups = running.groups.load();
        while let Some((_, (id, addr))) = plan.take_due(Instant::now()) {
            if let Some(group) = groups.get(&id) {
                group.end_ejection(&addr);
            }
        }
        if is_news {
            // Few are ejected at a time; one that is planned twice is ended once.
            plan = Plan::new();
            let now_ms = clock::coarse_ms();
            for (id, group) in groups.iter().filter(|(_, group)| group.snapshot().settings.eject.is_some()) {
                for (addr, until_ms) in group.ejected() {
                    let left = Duration::from_millis(until_ms.saturating_sub(now_ms) + 1);
                    plan.add(Instant::now() + left, (id.clone(), addr));
                }
            }
        }
    }
}

/// True when another server may be ejected now.
fn is_news(received: &Received) -> bool {
    match received {
        Received::Gap(_) => true,
        Received::Event(published) => matches!(
            published.event,
            Event::Config(ConfigEvent::Applied) | Event::Server { change: ServerChange::Ejected { .. }, .. }
        ),
    }
}
