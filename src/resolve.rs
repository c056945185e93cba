//! Keeps the addresses of servers that are known by name, off the data path.
//!
//! A name is looked up when it turns up, again every half minute, and sooner while it does not resolve. A
//! lookup that hangs holds up no other: a few run at a time, each with a time-out. What was known before
//! stays in use until an answer comes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
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

type Answer = (Key, Result<Vec<std::net::SocketAddr>, String>);

/// Looks names up until `shutdown`.
pub(crate) async fn run(control: Control, shutdown: CancellationToken) {
    let mut due: HashMap<Key, Instant> = HashMap::new();
    let mut lookups: JoinSet<Answer> = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = control.names_changed() => {}
            _ = tick.tick() => {}
            Some(answer) = lookups.join_next() => {
                // A lookup that panicked is due again after its time-out.
                if let Ok((key, outcome)) = answer {
                    let pause = if outcome.is_ok() { REFRESH } else { RETRY };
                    due.insert(key.clone(), Instant::now() + pause);
                    if let Ok(group) = control.group(key.0) {
                        tell(&group, &key.1, outcome);
                    }
                }
            }
        }
        start_due(&control, &mut due, &mut lookups);
    }
}

/// Starts what is due and forgets names that are gone.
fn start_due(control: &Control, due: &mut HashMap<Key, Instant>, lookups: &mut JoinSet<Answer>) {
    let groups = control.groups();
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
            let control = control.clone();
            lookups.spawn(async move {
                let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, control.resolve(&key.1, origin)).await;
                let outcome = lookup.unwrap_or_else(|_| Err(format!("no answer within {LOOKUP_TIMEOUT:?}")));
                (key, outcome)
            });
        }
    }
}

fn tell(group: &Arc<Group>, name: &ServerAddr, outcome: Result<Vec<std::net::SocketAddr>, String>) {
    match &outcome {
        Ok(addresses) => {
            tracing::debug!(group = group.port(), server.addr = name.as_str(), ?addresses, "name resolved")
        }
        Err(error) => tracing::warn!(group = group.port(), server.addr = name.as_str(), error, "name not resolved"),
    }
    group.resolved(name, outcome);
}
