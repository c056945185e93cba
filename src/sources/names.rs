//! Keeps the addresses of servers that are known by name, off the data path.
//!
//! A name is looked up when it turns up, again every half minute, and sooner while it does not resolve, but less
//! and less often. A connect that fails has it looked up at once, because its server may have moved. Whoever has been due for longest comes first. A lookup that hangs holds up no other (see
//! [`lookup`](super::lookup)), and its answer counts however late it comes. What was known before stays in use until
//! then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lookup::{Answer, FRESH, Lane, PLACE_PAUSE};
use super::{Running, rules};
use crate::events::{self, ConfigEvent, Event, Received, ServerChange};
use crate::group::GroupId;
use crate::server::{Origin, ServerAddr};

/// Between two lookups of a name that resolves.
const REFRESH: Duration = Duration::from_secs(30);

/// Before the second lookup of a name that does not; doubled with each failure up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(5);

/// The longest time between two lookups of a name that does not resolve.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Between two lookups of a name that are made because connects fail.
const MOVED_PAUSE: Duration = Duration::from_secs(1);

/// When a lookup has taken so long, its servers are told so.
const LATE: Duration = Duration::from_secs(10);

/// Names that are due within this time are looked up together: looking through thousands of them takes a while.
const GATHER: Duration = Duration::from_secs(1);

/// A server of one group: the same name may be allowed in one and not in another.
type Key = (GroupId, ServerAddr);

/// A host, how long its lookup took, and what came of it.
type Done = (String, Duration, Answer);

/// When a host is looked up.
#[derive(Debug)]
struct Schedule {
    due: Instant,
    /// When the last lookup began.
    asked: Option<Instant>,
    /// A connect has failed while a lookup was under way, which may not know of the move yet.
    is_wanted_again: bool,
    /// Since when a lookup is under way.
    since: Option<Instant>,
    /// Its servers have been told that the lookup is late.
    is_late: bool,
    failures_in_a_row: u32,
    /// The last lookup took long.
    is_slow: bool,
}

/// All names of all groups.
#[derive(Debug)]
struct Names {
    running: Arc<Running>,
    /// Several servers may be on one host.
    servers: BTreeMap<String, Vec<(Key, Origin)>>,
    known: HashSet<Key>,
    schedules: HashMap<String, Schedule>,
    /// Hosts of servers that do not answer, and the connects that had failed there when they were last looked at.
    failing: HashMap<String, u64>,
    lookups: JoinSet<Done>,
}

/// Looks names up until `shutdown`.
pub(crate) async fn run(running: Arc<Running>, shutdown: CancellationToken) {
    let mut names = Names {
        running: Arc::clone(&running),
        servers: BTreeMap::new(),
        known: HashSet::new(),
        schedules: HashMap::new(),
        failing: HashMap::new(),
        lookups: JoinSet::new(),
    };
    let mut changes = events::subscribe();
    names.refresh();
    let mut next = names.start_due();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            received = changes.next() => {
                if !names.hear(&received) {
                    continue;
                }
            }
            () = sleep_until(next) => {
                names.refresh();
                names.look_at_failing();
            }
            Some(done) = names.lookups.join_next() => {
                // Those tasks only wait; none of them panics. Thousands may be done at once: the list is not looked
                // through for each of them.
                if let Ok(done) = done {
                    let due = names.take(done);
                    next = next.into_iter().chain(due).min();
                }
                continue;
            }
        }
        next = names.start_due();
    }
}

/// Sleeps until then, or for ever.
async fn sleep_until(next: Option<Instant>) {
    match next {
        Some(next) => tokio::time::sleep_until(next).await,
        None => std::future::pending().await,
    }
}

impl Names {
    /// Reads the names that the groups have now. A server that is new has its name looked up at once.
    fn refresh(&mut self) {
        let now = Instant::now();
        self.servers.clear();
        let mut known = HashSet::new();
        for (id, group) in self.running.groups.load().iter() {
            for (addr, origin) in group.names() {
                let key = (id.clone(), addr);
                let host = key.1.host().to_owned();
                if !self.known.contains(&key) {
                    self.schedules.entry(host.clone()).or_insert_with(|| Schedule::new(now)).due = now;
                }
                known.insert(key.clone());
                self.servers.entry(host).or_default().push((key, origin));
            }
        }
        self.known = known;
        self.schedules.retain(|host, _| self.servers.contains_key(host));
    }

    /// Takes an event. False when it changes nothing here.
    fn hear(&mut self, received: &Received) -> bool {
        let event = match received {
            Received::Event(published) => &published.event,
            Received::Gap(_) => {
                self.refresh();
                self.find_failing();
                return true;
            }
        };
        match event {
            // A server may have a name that nobody has looked up yet.
            Event::Config(ConfigEvent::Applied) => self.refresh(),
            Event::Server {
                addr,
                change:
                    ServerChange::Suspect { .. }
                    | ServerChange::AddressFailed { .. }
                    | ServerChange::CheckFailed { .. }
                    | ServerChange::CheckFailedAgain { .. },
                ..
            } => match addr.parse::<ServerAddr>() {
                Ok(addr) if addr.has_name() => self.hasten(addr.host()),
                _ => return false,
            },
            _ => return false,
        }
        true
    }

    /// Has a host looked up as soon as may be, because a connect to one of its servers failed.
    fn hasten(&mut self, host: &str) {
        let Some(schedule) = self.schedules.get_mut(host) else { return };
        schedule.hasten(Instant::now());
        let failures = self.failures(host);
        self.failing.insert(host.to_owned(), failures);
    }

    /// Hastens the hosts where more connects have failed since the last look; forgets those whose servers answer.
    fn look_at_failing(&mut self) {
        for (host, seen) in self.failing.clone() {
            match self.failures(&host) {
                0 => drop(self.failing.remove(&host)),
                failures if failures != seen => self.hasten(&host),
                _ => {}
            }
        }
    }

    /// Finds the hosts of servers that do not answer, after a gap in the events.
    fn find_failing(&mut self) {
        let hosts: Vec<String> = self.servers.keys().filter(|host| self.failures(host) > 0).cloned().collect();
        hosts.iter().for_each(|host| self.hasten(host));
    }

    /// Connects that have failed at the servers of a host since one succeeded.
    fn failures(&self, host: &str) -> u64 {
        let groups = self.running.groups.load();
        let servers = self.servers.get(host).into_iter().flatten();
        servers.filter_map(|((id, addr), _)| Some(groups.get(id)?.failures(addr))).sum()
    }

    /// Starts the lookups that are due, as far as there are places. Answers when something is to be done again, unless
    /// a lookup ends before.
    fn start_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut due: Vec<(&String, &mut Schedule)> = Vec::new();
        let mut late = Vec::new();
        for (host, schedule) in &mut self.schedules {
            match schedule.since {
                None if schedule.due <= now => due.push((host, schedule)),
                Some(since) if !schedule.is_late && since + LATE <= now => {
                    schedule.is_late = true;
                    late.push(host.clone());
                }
                None | Some(_) => {}
            }
        }
        due.sort_by_key(|(_, schedule)| schedule.due);
        let mut is_waiting = false;
        for (host, schedule) in due {
            let lane = if schedule.is_slow { Lane::Slow } else { Lane::Known };
            let Some(lookup) = self.running.lookups.start(host, lane) else {
                is_waiting = true;
                continue;
            };
            (schedule.since, schedule.is_late, schedule.asked) = (Some(now), false, Some(now));
            let host = host.clone();
            self.lookups.spawn(async move {
                let answer = lookup.answer().await;
                (host, now.elapsed(), answer)
            });
        }
        for host in late {
            self.tell(&host, &Err(format!("no answer within {LATE:?}")), true);
        }
        // A place may become free because time has passed, which nobody tells.
        let place = is_waiting.then_some(now + PLACE_PAUSE);
        let next = self.schedules.values().filter_map(Schedule::next).min().map(|next| next.max(now + GATHER));
        let failing = (!self.failing.is_empty()).then_some(now + MOVED_PAUSE);
        next.into_iter().chain(place).chain(failing).min()
    }

    /// Takes what came of a lookup. Answers when the next one is due; `None` when its last server is gone.
    fn take(&mut self, (host, took, answer): Done) -> Option<Instant> {
        let schedule = self.schedules.get_mut(&host)?;
        let was_told = schedule.is_late || schedule.failures_in_a_row > 0;
        schedule.done(Instant::now(), took, answer.is_ok());
        let due = schedule.due;
        self.tell(&host, &answer, !was_told);
        Some(due)
    }

    /// Tells the servers on a host what its name resolves to.
    fn tell(&self, host: &str, answer: &Answer, is_news: bool) {
        let groups = self.running.groups.load();
        for ((id, addr), origin) in self.servers.get(host).into_iter().flatten() {
            let Some(group) = groups.get(id) else { continue };
            let outcome = answer.clone().and_then(|ips| self.allowed(&ips, addr, *origin));
            let name = addr.as_str();
            match &outcome {
                Ok(addresses) => tracing::debug!(group = %id, server.addr = name, ?addresses, "name resolved"),
                Err(error) if is_news => events::publish(Event::Server {
                    group: group.label().clone(),
                    addr: addr.shared(),
                    change: ServerChange::NotResolved { error: error.as_str().into() },
                }),
                Err(error) => tracing::debug!(group = %id, server.addr = name, error, "name not resolved"),
            }
            group.resolved(addr, outcome);
        }
    }

    /// The addresses that a server may have; those that may not register are left out.
    fn allowed(&self, ips: &[IpAddr], addr: &ServerAddr, origin: Origin) -> Result<Vec<SocketAddr>, String> {
        let mut addresses: Vec<SocketAddr> = ips.iter().map(|ip| SocketAddr::new(*ip, addr.port())).collect();
        if origin == Origin::Heartbeat {
            let (groups, config) = (self.running.groups.load(), self.running.config.load());
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
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self {
            due: now,
            asked: None,
            is_wanted_again: false,
            since: None,
            is_late: false,
            failures_in_a_row: 0,
            is_slow: false,
        }
    }

    /// A connect has failed: what is known may be out of date.
    fn hasten(&mut self, now: Instant) {
        match self.since {
            Some(_) => self.is_wanted_again = true,
            None => self.due = self.due.min(self.asked.map_or(now, |asked| now.max(asked + MOVED_PAUSE))),
        }
    }

    /// When something is to be done: the lookup, or telling that it is late. `None` while only its end is waited for.
    fn next(&self) -> Option<Instant> {
        match self.since {
            None => Some(self.due),
            Some(since) => (!self.is_late).then_some(since + LATE),
        }
    }

    fn done(&mut self, now: Instant, took: Duration, is_resolved: bool) {
        self.failures_in_a_row = if is_resolved { 0 } else { self.failures_in_a_row.saturating_add(1) };
        let pause = match self.failures_in_a_row {
            0 => REFRESH,
            failures => RETRY.saturating_mul(1 << (failures - 1).min(8)).min(RETRY_MAX),
        };
        (self.due, self.since, self.is_late) = (now + pause, None, false);
        self.is_slow = took >= FRESH;
        if std::mem::take(&mut self.is_wanted_again) {
            self.hasten(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

    use super::super::lookup::Lookups;
    use super::super::lookup::testing::Hanging;
    use super::*;
    use crate::base::clock;
    use crate::group::{Group, GroupSettings, Groups};
    use crate::server::ServerSettings;

    const DEADLINE: Duration = Duration::from_secs(120);

    /// Groups of servers with names, and the task that looks them up.
    fn running(hanging: &Hanging, groups: &[&[String]]) -> Arc<Running> {
        let config = crate::config::parse(std::path::Path::new("proxy.json"), "{}").unwrap();
        let running = Arc::new(Running::with_lookups(config, hanging.lookups.clone()));
        publish(&running, groups);
        running
    }

    fn publish(running: &Running, groups: &[&[String]]) {
        let group = |(port, names): (u16, &&[String])| {
            let server = |name: &String| ServerSettings::new(name.parse().unwrap(), Origin::File);
            (
                GroupId::from(port),
                Arc::new(Group::for_tests(GroupSettings::for_tests("ha"), names.iter().map(server).collect())),
            )
        };
        let groups: Groups = (1..).zip(groups).map(group).collect();
        running.publish(groups, running.config.load().as_ref().clone());
    }

    async fn eventually(what: &str, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
    }

    fn online(running: &Running, port: u16) -> usize {
        running.groups.load()[&port.into()].view().servers_online
    }

    fn hosts(prefix: &str, count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{prefix}{number}:1")).collect()
    }

    #[tokio::test]
    async fn names_that_hang_hold_up_no_other_name() {
        let hanging = Hanging::new();
        // They come first, also in the order of the alphabet.
        let running = running(&hanging, &[&hosts("hang", 100), &["known:1".to_owned()]]);
        let task = tokio::spawn(run(Arc::clone(&running), CancellationToken::new()));
        eventually("the one that answers is online", || online(&running, 2) == 1).await;
        assert_eq!(online(&running, 1), 0);
        // New ones neither, nor servers on a host that hangs already, nor those that come and go.
        for round in 0..3 {
            let more = [hosts("hang", 100), hosts(&format!("hang-{round}-"), 10)].concat();
            publish(&running, &[&more, &[format!("known-{round}:1")]]);
            eventually("the new one is online", || online(&running, 2) == 1).await;
        }
        eventually("every name is looked up", || hanging.asked() >= 134).await;
        hanging.release();
        eventually("an answer counts however late it is", || online(&running, 1) == 110).await;
        assert_eq!(hanging.asked(), 134, "one lookup for each name");
        task.abort();
    }

    #[tokio::test]
    async fn servers_on_one_host_share_its_lookup() {
        let hanging = Hanging::new();
        let ports: Vec<String> = (1..=50).map(|port| format!("known:{port}")).collect();
        let running = running(&hanging, &[&ports, &ports]);
        let task = tokio::spawn(run(Arc::clone(&running), CancellationToken::new()));
        eventually("all are online", || online(&running, 1) + online(&running, 2) == 100).await;
        assert_eq!(hanging.asked(), 1);
        task.abort();
    }

    /// A resolver that answers with `ip`, and how often it was asked.
    fn moving(ip: &Arc<AtomicU8>) -> (Lookups, Arc<AtomicUsize>) {
        let (asked, ip) = (Arc::new(AtomicUsize::new(0)), Arc::clone(ip));
        let counter = Arc::clone(&asked);
        let lookups = Lookups::new(move |_| {
            counter.fetch_add(1, Relaxed);
            Ok(vec![IpAddr::from([10, 0, 0, ip.load(Relaxed)])])
        });
        (lookups, asked)
    }

    #[tokio::test]
    async fn a_server_that_has_moved_is_followed_after_the_first_connect_that_fails_and_as_long_as_they_do() {
        let ip = Arc::new(AtomicU8::new(1));
        let (lookups, asked) = moving(&ip);
        let config = crate::config::parse(std::path::Path::new("proxy.json"), "{}").unwrap();
        let running = Arc::new(Running::with_lookups(config, lookups));
        publish(&running, &[&["db:1".to_owned(), "db:2".to_owned()]]);
        let task = tokio::spawn(run(Arc::clone(&running), CancellationToken::new()));
        eventually("it is resolved", || online(&running, 1) == 2).await;
        assert_eq!(asked.load(Relaxed), 1);
        let group = Arc::clone(&running.groups.load()[&1.into()]);
        let addr = "db:1".parse().unwrap();
        let leads_to = |last: u8| {
            let slot = group.pick("10.9.9.9:1".parse().unwrap(), &[], 0).unwrap();
            slot.server.live.addresses().all()[0].ip() == IpAddr::from([10, 0, 0, last])
        };
        // Its name says the same as before, at first.
        group.tried(&addr, Err("connection refused"), clock::coarse_ms());
        eventually("it is looked up anew", || asked.load(Relaxed) == 2).await;
        // Measures that nothing happens, for longer than the pause between two lookups of a name that fails.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(asked.load(Relaxed), 2, "no connect has failed since");
        let start = Instant::now();
        ip.store(2, Relaxed);
        for _ in 0..100 {
            group.tried(&addr, Err("connection refused"), clock::coarse_ms());
        }
        eventually("it is followed", || leads_to(2)).await;
        let lookups = asked.load(Relaxed) - 2;
        assert!(lookups as u64 <= 2 + start.elapsed().as_secs(), "{lookups} lookups: once a second at most");
        task.abort();
    }

    #[tokio::test]
    async fn a_name_that_is_expanded_is_looked_up_when_one_of_its_addresses_fails() {
        let ip = Arc::new(AtomicU8::new(1));
        let (lookups, _) = moving(&ip);
        let config = crate::config::parse(std::path::Path::new("proxy.json"), "{}").unwrap();
        let running = Arc::new(Running::with_lookups(config, lookups));
        let server = ServerSettings { expand: true, ..ServerSettings::new("db:1".parse().unwrap(), Origin::File) };
        let group = Arc::new(Group::for_tests(GroupSettings::for_tests("ha"), vec![server]));
        let groups = Groups::from([(1.into(), Arc::clone(&group))]);
        running.publish(groups, running.config.load().as_ref().clone());
        let task = tokio::spawn(run(Arc::clone(&running), CancellationToken::new()));
        let is_at = |last: u8| group.servers().iter().any(|it| it.online && it.addr == format!("db:1@10.0.0.{last}"));
        eventually("it is resolved", || is_at(1)).await;
        ip.store(2, Relaxed);
        group.tried(&"db:1@10.0.0.1".parse().unwrap(), Err("connection refused"), clock::coarse_ms());
        eventually("it is followed", || is_at(2)).await;
        assert_eq!(group.servers().len(), 1);
        task.abort();
    }

    #[tokio::test]
    async fn a_connect_that_fails_hastens_a_lookup_once_a_second_at_most() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now + REFRESH);
        schedule.hasten(now);
        assert_eq!(schedule.due, now);
        (schedule.asked, schedule.since) = (Some(now), Some(now));
        schedule.hasten(now);
        schedule.done(now, Duration::ZERO, true);
        assert_eq!(schedule.due, now + MOVED_PAUSE, "what was under way may have come too early");
        (schedule.asked, schedule.since) = (Some(now + MOVED_PAUSE), Some(now + MOVED_PAUSE));
        schedule.done(now + MOVED_PAUSE, Duration::ZERO, true);
        assert_eq!(schedule.due, now + MOVED_PAUSE + REFRESH);
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_says_why() {
        let hanging = Hanging::new();
        let running = running(&hanging, &[&["unknown:1".to_owned()]]);
        let task = tokio::spawn(run(Arc::clone(&running), CancellationToken::new()));
        let cause = || running.groups.load()[&1.into()].servers()[0].cause.clone().unwrap();
        eventually("the reason is shown", || cause() == "its name is not resolved: no such host").await;
        task.abort();
    }

    #[tokio::test]
    async fn a_name_is_looked_at_again_when_it_is_due_and_a_lookup_when_it_is_late() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        assert_eq!(schedule.next(), Some(now));
        schedule.since = Some(now);
        assert_eq!(schedule.next(), Some(now + LATE));
        schedule.is_late = true;
        assert_eq!(schedule.next(), None, "its end wakes");
        schedule.done(now, Duration::ZERO, true);
        assert_eq!(schedule.next(), Some(now + REFRESH));
    }

    #[tokio::test]
    async fn a_name_that_keeps_failing_is_looked_up_less_and_less_often() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut pauses = Vec::new();
        for is_resolved in [false, false, false, false, false, false, true, false] {
            schedule.done(start, Duration::ZERO, is_resolved);
            pauses.push((schedule.due - start).as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60, 30, 5]);
        assert!(!schedule.is_slow);
        schedule.done(start, FRESH, true);
        assert!(schedule.is_slow, "it is looked up beside those that answer fast");
    }
}
