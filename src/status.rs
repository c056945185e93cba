//! The status line: who is online, every `status_interval`.
//!
//! One line per process, for people who watch a terminal or read the log the next morning. It is
//! built from the same views as the admin API, off the data path, and only when *info* is on. Where
//! the views and the interval come from is the caller's business; nothing here can fail.

use std::fmt::{Display, Write};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::base::label::GroupLabel;
use crate::data::session::SessionList;
use crate::events::{ConfigEvent, Event, Subscription};
use crate::group::view::{GroupView, ServerView};

/// How many addresses, and how many groups, one line names.
pub const NAMED_MAX: usize = 20;

/// Who is online at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Online {
    /// Every group with its servers.
    pub groups: Vec<(GroupView, Vec<ServerView>)>,
    /// The newest [`NAMED_MAX`] sessions of all groups.
    pub sessions: SessionList,
}

/// The fields of the status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Sessions in all groups.
    pub clients: usize,
    /// Servers that may be picked, in all groups.
    pub servers: usize,
    /// `8081 clients=3 servers=2/3`, comma-separated: online servers of all servers.
    pub groups: String,
    /// The newest clients.
    pub client_addrs: String,
    /// The first servers that are online.
    pub server_addrs: String,
}

impl Status {
    /// Sums `online` up.
    pub fn new(online: &Online) -> Self {
        let servers = || online.groups.iter().flat_map(|(_, servers)| servers).filter(|server| server.online);
        let servers_online = online.groups.iter().map(|(group, _)| group.servers_online).sum();
        let groups = online.groups.iter().map(|(group, _)| {
            let GroupView { group, name, sessions, servers_online, servers_total, .. } = group;
            let group = GroupLabel::new(*group, name.as_deref());
            format!("{group} clients={sessions} servers={servers_online}/{servers_total}")
        });
        Self {
            clients: online.sessions.total,
            servers: servers_online,
            groups: first(groups, online.groups.len()),
            client_addrs: first(online.sessions.sessions.iter().map(|session| session.client), online.sessions.total),
            server_addrs: first(servers().map(|server| &server.addr), servers().count()),
        }
    }

    fn log(&self) {
        tracing::info!(
            clients = self.clients,
            servers = self.servers,
            groups = self.groups,
            client.addrs = self.client_addrs,
            server.addrs = self.server_addrs,
            "online"
        );
    }
}

/// Writes the line at every interval until `shutdown` is cancelled; never while the interval is zero.
///
/// `interval` is asked again when the configuration `changes`, and another one counts from that moment. `online` is asked
/// once per line.
pub async fn run(
    mut changes: Subscription,
    interval: impl Fn() -> Duration,
    online: impl Fn() -> Online,
    shutdown: CancellationToken,
) {
    let mut every = interval();
    let mut next = Instant::now() + every;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changes.wait_for(|event| matches!(event, Event::Config(ConfigEvent::Applied))) => {
                let new = interval();
                if new != every {
                    every = new;
                    next = Instant::now() + every;
                }
            }
            () = sleep_until(next), if !every.is_zero() => {
                if tracing::enabled!(tracing::Level::INFO) {
                    Status::new(&online()).log();
                }
                next = Instant::now() + every;
            }
        }
    }
}

/// The first [`NAMED_MAX`] of `total` items, and how many more there are.
fn first(items: impl Iterator<Item = impl Display>, total: usize) -> String {
    let mut text = String::new();
    let mut named = 0;
    for item in items.take(NAMED_MAX) {
        let separator = if named == 0 { "" } else { ", " };
        // Writing into a String cannot fail.
        let _ = write!(text, "{separator}{item}");
        named += 1;
    }
    if total > named {
        let _ = write!(text, "{}{} more", if named == 0 { "" } else { ", and " }, total - named);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::data::session::SessionView;
    use crate::events;
    use crate::group::view::LimitsView;
    use crate::server::{Origin, State};

    fn server(n: usize, online: bool) -> ServerView {
        ServerView {
            addr: format!("10.0.0.{n}:9000"),
            state: State::Ready,
            online,
            cause: None,
            since_ms: 0,
            origin: Origin::File,
            weight: 1,
            backup: false,
            max_sessions: 0,
            labels: BTreeMap::new(),
            sessions: 0,
            sessions_total: 0,
            connect_errors: 0,
            connect_latency_us: 0,
            suspect: false,
            ejected_ms: None,
            ejections: None,
            untried: false,
            lease_ms: None,
            load: None,
            last_check: None,
            check: None,
        }
    }

    fn group(port: u16, sessions: u64, servers: Vec<ServerView>) -> (GroupView, Vec<ServerView>) {
        let view = GroupView {
            group: port,
            name: None,
            listen: format!("0.0.0.0:{port}"),
            open: true,
            policy: "ha".into(),
            sessions,
            limits: LimitsView { sessions: 0, rate: None, refused: 0 },
            servers_online: servers.iter().filter(|server| server.online).count(),
            servers_total: servers.len(),
        };
        (view, servers)
    }

    fn sessions(total: usize) -> SessionList {
        let session = |id: usize| SessionView {
            id: id as u64,
            group: 8081,
            name: None,
            client: ([10, 1, 0, 1], id as u16).into(),
            via: None,
            server: None,
            age_ms: 0,
            idle_ms: 0,
            bytes_up: 0,
            bytes_down: 0,
        };
        SessionList { sessions: (1..=total.min(NAMED_MAX)).map(session).collect(), total }
    }

    #[test]
    fn counts_are_given_per_group_and_in_all() {
        let online = Online {
            groups: vec![
                group(8081, 2, vec![server(1, true), server(2, false), server(3, true)]),
                group(8082, 0, vec![server(4, true)]),
                group(8083, 0, vec![]),
            ],
            sessions: sessions(2),
        };
        let expected = Status {
            clients: 2,
            servers: 3,
            groups: "8081 clients=2 servers=2/3, 8082 clients=0 servers=1/1, 8083 clients=0 servers=0/0".into(),
            client_addrs: "10.1.0.1:1, 10.1.0.1:2".into(),
            server_addrs: "10.0.0.1:9000, 10.0.0.3:9000, 10.0.0.4:9000".into(),
        };
        assert_eq!(Status::new(&online), expected);
    }

    #[test]
    fn at_most_twenty_are_named_and_the_rest_is_counted() {
        let groups = (0..30).map(|n| group(8000 + n, 0, vec![server(1, true)])).collect();
        let status = Status::new(&Online { groups, sessions: sessions(21) });
        assert_eq!((status.clients, status.servers), (21, 30));
        assert!(status.groups.ends_with("8019 clients=0 servers=1/1, and 10 more"), "{}", status.groups);
        assert!(status.client_addrs.ends_with("10.1.0.1:20, and 1 more"), "{}", status.client_addrs);
        assert_eq!(status.server_addrs.matches("10.0.0.1:9000").count(), 20);
        assert!(status.server_addrs.ends_with(", and 10 more"));
        let nobody = Status::new(&Online { groups: vec![], sessions: sessions(0) });
        assert_eq!((nobody.groups.as_str(), nobody.client_addrs.as_str()), ("", ""));
    }

    #[tokio::test]
    async fn the_interval_follows_its_owner_and_zero_is_never() {
        let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
        let _scope = tracing::subscriber::set_default(subscriber);
        let lines = Cell::new(0);
        let shutdown = CancellationToken::new();
        let every = Cell::new(Duration::ZERO);
        let set = |interval| {
            every.set(interval);
            events::publish(Event::Config(ConfigEvent::Applied));
        };
        let online = || {
            lines.set(lines.get() + 1);
            match lines.get() {
                1 => set(Duration::from_millis(1)),
                3 => shutdown.cancel(),
                _ => {}
            }
            Online { groups: vec![], sessions: sessions(0) }
        };
        let task = run(events::subscribe(), || every.get(), online, shutdown.clone());
        let set = async {
            assert_eq!(lines.get(), 0);
            set(Duration::from_millis(2));
        };
        let both = async { tokio::join!(task, set) };
        assert!(tokio::time::timeout(Duration::from_secs(20), both).await.is_ok());
        assert_eq!(lines.get(), 3);
    }
}
