//! Keeps the addresses of servers that are known by name, off the data path.
//!
//! A name is looked up when it turns up, again every half minute, and sooner while it does not resolve. A
//! lookup that hangs holds up no other: a few run at a time, each with a time-out. What was known before
//! stays in use until an answer comes.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::heartbeat::lookup;
use super::{Running, rules};
use crate::group::Group;
use crate::server::{Origin, ServerAddr};

/// Between two lookups of a name that resolves.
const REFRESH: Duration = Duration::from_secs(30);

/// Between two lookups of a name that does not.
const RETRY: Duration = Duration::from_secs(5);

/// Longest time for one lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Lookups at a time: each takes a thread while it lasts.
const LOOKUPS_MAX: usize = 8;

/// A server of one group: the same name may be allowed in one and not in another.
type Key = (u16, ServerAddr);

type Answer = (Key, Result<Vec<SocketAddr>, String>);

/// Looks names up until `shutdown`.
pub(crate) async fn run(running: Arc<Running>, shutdown: CancellationToken) {
    let mut due: HashMap<Key, Instant> = HashMap::new();
    let mut lookups: JoinSet<Answer> = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = running.names_changed.notified() => {}
            _ = tick.tick() => {}
            Some(answer) = lookups.join_next() => {
                // A lookup that panicked is due again after its time-out.
                if let Ok((key, outcome)) = answer {
                    let pause = if outcome.is_ok() { REFRESH } else { RETRY };
                    due.insert(key.clone(), Instant::now() + pause);
                    if let Some(group) = running.groups.load().get(&key.0) {
                        tell(group, &key.1, outcome);
                    }
                }
            }
        }
        start_due(&running, &mut due, &mut lookups);
    }
}

/// Starts what is due and forgets names that are gone.
fn start_due(running: &Arc<Running>, due: &mut HashMap<Key, Instant>, lookups: &mut JoinSet<Answer>) {
    let groups = running.groups.load();
    let names: BTreeMap<Key, Origin> = groups
        .iter()
        .flat_map(|(port, group)| group.names().into_iter().map(|(name, origin)| ((*port, name), origin)))
        .collect();
    due.retain(|key, _| names.contains_key(key));
    let now = Instant::now();
    for (key, origin) in names {
        if lookups.len() >= LOOKUPS_MAX {
            return;
        }
        if due.get(&key).is_none_or(|at| *at <= now) {
            // Not again before this one can be over.
            due.insert(key.clone(), now + LOOKUP_TIMEOUT + RETRY);
            let running = Arc::clone(running);
            lookups.spawn(async move {
                let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, resolve(&running, &key.1, origin)).await;
                let outcome = lookup.unwrap_or_else(|_| Err(format!("no answer within {LOOKUP_TIMEOUT:?}")));
                (key, outcome)
            });
        }
    }
}

/// The addresses of `name` that a server may have; those that may not register are left out.
async fn resolve(running: &Running, name: &ServerAddr, origin: Origin) -> Result<Vec<SocketAddr>, String> {
    let mut addresses = lookup(name).await.map_err(|error| error.to_string())?;
    if origin == Origin::Heartbeat {
        let (groups, config) = (running.groups.load_full(), running.config.load_full());
        let mut refusal = None;
        addresses.retain(|addr| match rules::check(*addr, &config.admin, &groups) {
            Ok(()) => true,
            Err(why) => {
                refusal = Some(why);
                false
            }
        });
        if let (true, Some(why)) = (addresses.is_empty(), refusal) {
            return Err(why);
        }
    }
    Ok(addresses)
}

fn tell(group: &Arc<Group>, name: &ServerAddr, outcome: Result<Vec<SocketAddr>, String>) {
    match &outcome {
        Ok(addresses) => {
            tracing::debug!(group = group.port(), server.addr = name.as_str(), ?addresses, "name resolved")
        }
        Err(error) => tracing::warn!(group = group.port(), server.addr = name.as_str(), error, "name not resolved"),
    }
    group.resolved(name, outcome);
}
