//! Heartbeats: what a server says of itself.
//!
//! The heartbeat of a known server renews its lease at once, and what it says of the server counts at once. What is
//! new, and the first heartbeat of a server, are proposed to `control`, which writes them into the file. `leases` ends
//! what has not been renewed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Running, rules};
use crate::base::clock;
use crate::config::Edit;
use crate::group::view::ServerView;
use crate::group::{Caller, Group, GroupId, Registration, Said};
use crate::server::{Origin, ServerAddr, ServerSettings};

/// How long a registration waits for its name to resolve; after that it goes on being resolved beside.
const RESOLVE_WAIT: Duration = Duration::from_secs(1);

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
    if server.is_one_of_name() {
        return Err("it is one address of a name; expected host:port".to_owned());
    }
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

/// Lets leases run out in every group, until `stop`.
pub(crate) async fn leases(running: Arc<Running>, stop: CancellationToken) {
    let mut late_ms = 0;
    loop {
        let pause = check_leases(&running, late_ms);
        let planned_ms = clock::coarse_ms() + clock::as_ms(pause);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let behind_ms = clock::coarse_ms().saturating_sub(planned_ms);
        late_ms = if behind_ms < LATENESS_MIN_MS { 0 } else { behind_ms };
    }
}

/// Lets leases run out everywhere. Answers how long nothing will change by itself.
fn check_leases(running: &Running, late_ms: u64) -> Duration {
    let now_ms = clock::coarse_ms();
    let groups = running.groups.load();
    let shortest = groups.values().map(|group| group.snapshot().settings.heartbeat_timeout).min();
    // A server may register at any moment and its lease must not be overslept.
    let longest_sleep = (shortest.unwrap_or(Duration::from_secs(4)) / 4).min(Duration::from_secs(1));
    let next_ms = groups.values().filter_map(|group| group.check_leases(late_ms).next_ms).min();
    let sleep = next_ms.map_or(longest_sleep, |next| Duration::from_millis(next.saturating_sub(now_ms)));
    sleep.clamp(CHECK_PAUSE_MIN, longest_sleep.max(CHECK_PAUSE_MIN))
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
