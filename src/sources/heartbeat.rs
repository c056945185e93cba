//! Heartbeats: what a server says of itself.
//!
//! The heartbeat of a known server renews its lease at once, and what it says of the server counts at once. What is
//! new, and the first heartbeat of a server, are proposed to `control`, which writes them into the file. `leases` ends
//! what has not been renewed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Running, rules};
use crate::base::clock;
use crate::config::Edit;
use crate::events::{self, Event, ServerChange};
use crate::group::view::ServerView;
use crate::group::{Caller, Group, GroupId, Registration, Said, Trial};
use crate::health;
use crate::server::{Origin, ServerAddr, ServerSettings};

/// How long a registration waits for its name to resolve; after that it goes on being resolved beside.
const RESOLVE_WAIT: Duration = Duration::from_secs(1);

/// Servers that are tried at a time: each takes a descriptor.
const TRIALS_MAX: usize = 64;

/// Between two checks of leases.
const CHECK_PAUSE_MIN: Duration = Duration::from_millis(10);

/// A check of leases that is late by less has not missed any heartbeat.
const LATENESS_MIN_MS: u64 = 50;

/// A server's heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Keepalive {
    /// What is persisted when it changes.
    pub said: Said,
    /// The server's own idea of its load, 0 to 100; kept in memory only.
    pub load: Option<u32>,
    /// Who sends it.
    pub caller: Caller,
}

/// What a heartbeat means.
#[derive(Debug)]
pub enum Heard {
    /// The server is known and its lease is renewed.
    Renewed(Box<ServerView>),
    /// The same, and what it said is to be written into the file when that is due.
    Later(Box<ServerView>),
    /// The same, and what it said is to be written into the file now.
    News(Said, Edit),
    /// Nobody has heard of it: it is to be registered.
    Stranger,
}

/// Takes a heartbeat of a server of this group.
pub fn hear(group: &Group, server: &ServerAddr, keepalive: &Keepalive) -> Heard {
    hear_known(group, server, keepalive).unwrap_or(Heard::Stranger)
}

/// `None` for a server that is not known, or is removed in this moment.
fn hear_known(group: &Group, server: &ServerAddr, keepalive: &Keepalive) -> Option<Heard> {
    let view = group.renew(server, keepalive.load)?;
    if keepalive.said.is_empty() {
        return Some(Heard::Renewed(Box::new(view)));
    }
    let (news, is_due) = group.hear(server, &keepalive.said, keepalive.caller)?;
    if news.is_empty() {
        return Some(Heard::Renewed(Box::new(view)));
    }
    Some(match is_due {
        true => {
            let edit = edit(group.id(), &group.server_settings(server)?, &news);
            Heard::News(news, edit)
        }
        false => Heard::Later(Box::new(group.server(server)?)),
    })
}

/// The edit that tells the file what heartbeats have said of a server; `settings` are what counts.
pub fn edit(group: &GroupId, settings: &ServerSettings, said: &Said) -> Edit {
    let addr = settings.addr.clone();
    let labels = said.zone.as_ref().map(|_| settings.labels.clone());
    Edit::SetServer { group: group.clone(), addr, weight: said.weight, state: said.state, labels }
}

/// What registers a server nobody has heard of, if its addresses may register.
///
/// # Errors
///
/// Which rule refuses it, as the end of a sentence.
pub async fn registration(
    running: &Running,
    server: &ServerAddr,
    keepalive: &Keepalive,
) -> Result<Registration, String> {
    let addresses = match server.literal() {
        Some(addr) => vec![addr],
        // A name that does not resolve in time registers all the same; it is offline until it does.
        None => {
            let answer = running.lookups.within(RESOLVE_WAIT, server.host()).await;
            let ips = answer.and_then(Result::ok).unwrap_or_default();
            ips.into_iter().map(|ip| SocketAddr::new(ip, server.port())).collect()
        }
    };
    for addr in &addresses {
        rules::check(*addr, &running.config.load().admin, &running.groups.load())?;
    }
    let mut settings = ServerSettings::new(server.clone(), Origin::Heartbeat);
    keepalive.said.apply(&mut settings);
    Ok(Registration { server: settings, addresses })
}

/// Lets leases run out in every group, and tries servers whose leases are kept, until `stop`.
pub(crate) async fn leases(running: Arc<Running>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(TRIALS_MAX));
    // Those under way end with this task.
    let mut trials = JoinSet::new();
    let mut changes = events::subscribe();
    let is_failure = |event: &Event| matches!(event, Event::Server { change: ServerChange::Suspect { .. }, .. });
    let mut late_ms = 0;
    loop {
        // Whatever has failed until now, the check sees.
        while changes.try_next().is_some() {}
        let (pause, due) = check_leases(&running, late_ms);
        for (group, trial) in due {
            trials.spawn(try_server(group, trial, Arc::clone(&places)));
        }
        while trials.try_join_next().is_some() {}
        let planned_ms = clock::coarse_ms() + clock::as_ms(pause);
        let failure = async {
            // Those that fail together are looked at together.
            tokio::time::sleep(CHECK_PAUSE_MIN).await;
            loop {
                changes.wait_for(is_failure).await;
                // A client's connect counts only against a server whose lease is kept.
                if running.groups.load().values().any(|group| group.counters.is_self_preserving.load(Relaxed)) {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = failure => {}
        }
        let behind_ms = clock::coarse_ms().saturating_sub(planned_ms);
        late_ms = if behind_ms < LATENESS_MIN_MS { 0 } else { behind_ms };
    }
}

/// Lets leases run out everywhere. Answers how long nothing will change by itself, and the servers to try.
fn check_leases(running: &Running, late_ms: u64) -> (Duration, Vec<(Arc<Group>, Trial)>) {
    let now_ms = clock::coarse_ms();
    let groups = running.groups.load();
    let shortest = groups.values().map(|group| group.snapshot().settings.heartbeat_timeout).min();
    // A server may register at any moment and its lease must not be overslept.
    let longest_sleep = (shortest.unwrap_or(Duration::from_secs(4)) / 4).min(Duration::from_secs(1));
    let mut next_ms = None;
    let mut due = Vec::new();
    for group in groups.values() {
        let check = group.check_leases(late_ms);
        next_ms = next_ms.into_iter().chain(check.next_ms).min();
        due.extend(check.trials.into_iter().map(|trial| (Arc::clone(group), trial)));
    }
    let sleep = next_ms.map_or(longest_sleep, |next| Duration::from_millis(next.saturating_sub(now_ms)));
    (sleep.clamp(CHECK_PAUSE_MIN, longest_sleep.max(CHECK_PAUSE_MIN)), due)
}

/// Tries one server and tells its group.
async fn try_server(group: Arc<Group>, trial: Trial, places: Arc<Semaphore>) {
    // Never closed.
    let Ok(_place) = places.acquire().await else {
        return;
    };
    let outcome = health::connect(&trial.addresses, trial.timeout).await;
    let (told, stream) = match outcome {
        Some(Ok(stream)) => (Some(Ok(())), Some(stream)),
        Some(Err(why)) => (Some(Err(why)), None),
        None => (None, None),
    };
    group.tried(&trial.server, told);
    if let Some(stream) = stream {
        health::end_in_order(stream).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::lookup::testing::Hanging;
    use super::*;

    #[tokio::test]
    async fn names_that_hang_hold_up_no_other_registration() {
        let hanging = Hanging::new();
        let config = crate::config::parse(std::path::Path::new("proxy.json"), "{}").unwrap();
        let running = Arc::new(Running::with_lookups(config, hanging.lookups.clone()));
        let register = |name: String| {
            let running = Arc::clone(&running);
            async move { registration(&running, &name.parse().unwrap(), &Keepalive::default()).await.unwrap().addresses }
        };
        let waiting: Vec<_> = (0..150).map(|number| tokio::spawn(register(format!("hang{number}:1")))).collect();
        for addresses in waiting {
            assert!(addresses.await.unwrap().is_empty(), "it registers all the same");
        }
        assert!(hanging.asked() > 16);
        assert_eq!(register("known:7".to_owned()).await, ["10.0.0.1:7".parse().unwrap()]);
    }
}
