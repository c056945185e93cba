//! The status line: who is online, every `status_interval`.
//!
//! One line per process, for people who watch a terminal or read the log the next morning. It is
//! built from the same views as the admin API, off the data path, and only when *info* is on. Where
//! the views and the interval come from is the caller's business; nothing here can fail.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::base::label::GroupLabel;
use crate::data::session::SessionList;
use crate::events::{self, ConfigEvent, Event, ProcessEvent, Subscription};
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

impl Online {
    /// Sums it up, as the fields of the status line.
    fn sum_up(&self) -> ProcessEvent {
        let servers = || self.groups.iter().flat_map(|(_, servers)| servers).filter(|server| server.online);
        let servers_online = self.groups.iter().map(|(group, _)| group.servers_online).sum();
        let groups = self.groups.iter().map(|(group, _)| {
            let GroupView { group, name, sessions, servers_online, servers_total, .. } = group;
            let group = GroupLabel::new(*group, name.as_deref());
            format!("{group} clients={sessions} servers={servers_online}/{servers_total}")
        });
        let (groups, groups_more) = first(groups, self.groups.len());
        let clients = self.sessions.sessions.iter().map(|session| session.client);
        let (client_addrs, client_addrs_more) = first(clients, self.sessions.total);
        let (server_addrs, server_addrs_more) = first(servers().map(|server| &server.addr), servers().count());
        ProcessEvent::Online {
            clients: self.sessions.total,
            servers: servers_online,
            groups,
            groups_more,
            client_addrs,
            client_addrs_more,
            server_addrs,
            server_addrs_more,
        }
    }
}

/// Writes the line. `online` is asked only when the log takes it. It comes every few seconds, and who wants to know what
/// runs asks: it is for the log alone.
pub fn write(online: impl FnOnce() -> Online) {
    events::log_only(Level::INFO, || Event::Process(online().sum_up()));
}

/// Writes the line at every interval until `shutdown` is cancelled; never while the interval is zero.
///
/// `interval` is asked again when the configuration `changes`, and another one counts from that moment.
pub async fn run(
    mut changes: Subscription,
    interval: impl Fn() -> Duration,
    write_line: impl Fn(),
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
                write_line();
                next = Instant::now() + every;
            }
        }
    }
}

/// The first [`NAMED_MAX`] of `total` items, and how many more there are.
fn first(items: impl Iterator<Item = impl Display>, total: usize) -> (Box<[Box<str>]>, Option<usize>) {
    let named: Box<[Box<str>]> = items.take(NAMED_MAX).map(|item| item.to_string().into()).collect();
    let more = total.saturating_sub(named.len());
    (named, (more > 0).then_some(more))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::data::session::SessionView;
    use crate::events::Visitor;
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
            bytes_up: 0,
            bytes_down: 0,
            connect_errors: 0,
            connect_latency_us: 0,
            suspect: false,
            ejected_ms: None,
            ejections: None,
            untried: false,
            down_ms: 0,
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
            routes: None,
            servers_online: servers.iter().filter(|server| server.online).count(),
            servers_total: servers.len(),
            shadow: None,
            records: None,
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
            listener: None,
            sni: None,
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
        let fields = fields(&online);
        let expected = [
            ("clients", "2".to_owned()),
            ("servers", "3".to_owned()),
            (
                "groups",
                r#"["8081 clients=2 servers=2/3","8082 clients=0 servers=1/1","8083 clients=0 servers=0/0"]"#
                    .to_owned(),
            ),
            ("client.addrs", r#"["10.1.0.1:1","10.1.0.1:2"]"#.to_owned()),
            ("server.addrs", r#"["10.0.0.1:9000","10.0.0.3:9000","10.0.0.4:9000"]"#.to_owned()),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn at_most_twenty_are_named_and_the_rest_is_counted() {
        let groups = (0..30).map(|n| group(8000 + n, 0, vec![server(1, true)])).collect();
        let fields = fields(&Online { groups, sessions: sessions(21) });
        let field = |name: &str| fields.iter().find(|(field, _)| *field == name).unwrap().1.as_str();
        assert_eq!((field("clients"), field("servers")), ("21", "30"));
        assert!(field("groups").ends_with(r#""8019 clients=0 servers=1/1"]"#), "{}", field("groups"));
        assert!(field("client.addrs").ends_with(r#""10.1.0.1:20"]"#), "{}", field("client.addrs"));
        assert_eq!(field("server.addrs").matches("10.0.0.1:9000").count(), 20);
        assert_eq!((field("groups.more"), field("client.addrs.more"), field("server.addrs.more")), ("10", "1", "10"));
    }

    /// The fields of the line, as JSON.
    fn fields(online: &Online) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        let event = Event::Process(online.sum_up());
        event.show(&mut Visitor::new(&mut |name, value| {
            let mut json = Vec::new();
            value.write_json(&mut json);
            fields.push((name, String::from_utf8(json).unwrap()));
        }));
        fields
    }

    #[tokio::test]
    async fn the_interval_follows_its_owner_and_zero_is_never() {
        let lines = Cell::new(0);
        let shutdown = CancellationToken::new();
        let every = Cell::new(Duration::ZERO);
        let set = |interval| {
            every.set(interval);
            events::publish(Event::Config(ConfigEvent::Applied));
        };
        let write_line = || {
            lines.set(lines.get() + 1);
            match lines.get() {
                1 => set(Duration::from_millis(1)),
                3 => shutdown.cancel(),
                _ => {}
            }
        };
        let task = run(events::subscribe(), || every.get(), write_line, shutdown.clone());
        let set = async {
            assert_eq!(lines.get(), 0);
            set(Duration::from_millis(2));
        };
        let both = async { tokio::join!(task, set) };
        assert!(tokio::time::timeout(Duration::from_secs(20), both).await.is_ok());
        assert_eq!(lines.get(), 3);
    }
}
