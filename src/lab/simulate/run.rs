//! The simulation itself: one policy, one scenario, one event after the other.
//!
//! The group is a real one, so picks, suspicion, limits, backups and changes of servers are those of the proxy. What is
//! made up is everything around it: clients, servers and time. Nothing here reads a clock or the system's randomness.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use slab::Slab;

use super::books::Books;
use super::moves::{self, Moves};
use super::sessions::{Session, Sessions, client, normal, stream};
use super::station::{Key, Later, Station};
use super::trace::Trace;
use crate::base::random::SplitMix64;
use crate::config::{Happening, Scenario, ServerPlan, server_index};
use crate::group::{Group, GroupSettings, Outcome, ServerSlot};
use crate::policy::IBalancePolicy;
use crate::server::{Origin, ServerId, ServerSettings, State};

/// The beginning of a simulation on the clock that policies are shown: later than any real time, which modules were told
/// when they were started.
const BEGIN_MS: u64 = 1 << 40;

/// A time on the same clock after any simulation.
pub(super) const END_MS: u64 = BEGIN_MS << 1;

/// The proxy tries a server that has failed again after this time, and then after twice as long each time.
const PROBE_FIRST_NS: u64 = 1_000_000_000;

/// How often the sessions of all servers are counted while it is measured.
const SAMPLES: u64 = 2_000;

/// How often they are kept for a picture.
pub(super) const SERIES: u64 = 200;

/// A session at a server.
struct Active {
    session: Session,
    server: usize,
    /// Gives the place back when it is dropped.
    slot: ServerSlot,
}

/// What happens at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// Counted first, so that what happens at that moment is not seen yet.
    Sample,
    Series,
    Event(usize),
    Probe(usize),
    Look {
        server: usize,
        stamp: u64,
    },
    /// With the session's number: its key may be another's by then.
    End {
        key: Key,
        number: u64,
    },
}

/// A simulation under way.
pub(super) struct Run<'s> {
    scenario: &'s Scenario,
    settings: GroupSettings,
    group: Group,
    stations: Vec<Station>,
    active: Slab<Active>,
    /// By time, then in the order in which they were foreseen.
    due: BinaryHeap<Reverse<(u64, u64, What)>>,
    foreseen: u64,
    now_ns: u64,
    /// What policies draw from.
    random: SplitMix64,
    /// How long connects take.
    connects: SplitMix64,
    books: Books,
    moves: Moves,
    tried: Vec<ServerId>,
    /// The place in our list of the server with this id.
    by_id: Vec<usize>,
    /// Where sessions come from, if they are not made up.
    trace: Option<&'s Trace>,
}

impl<'s> Run<'s> {
    /// A group of these settings with the scenario's servers.
    pub(super) fn new(scenario: &'s Scenario, settings: GroupSettings, policy: Arc<dyn IBalancePolicy>) -> Self {
        let mut stations = Vec::new();
        for plan in &scenario.servers {
            add(&mut stations, plan);
        }
        let servers = stations.iter().map(|station| station.settings.clone()).collect();
        let group = Group::new(settings.clone(), servers, policy);
        let books = Books::new(scenario, stations.len());
        let mut run = Self {
            scenario,
            settings,
            group,
            stations,
            active: Slab::new(),
            due: BinaryHeap::new(),
            foreseen: 0,
            now_ns: 0,
            random: stream(scenario.seed, "policy"),
            connects: stream(scenario.seed, "connects"),
            books,
            moves: Moves::default(),
            tried: Vec::new(),
            by_id: Vec::new(),
            trace: None,
        };
        run.foresee_all();
        run
    }

    fn foresee_all(&mut self) {
        let (until, warm_up) = (self.books.until_ns, self.books.warm_up_ns);
        (1..=SAMPLES).for_each(|number| self.foresee(warm_up + (until - warm_up) / SAMPLES * number, What::Sample));
        (1..=SERIES).for_each(|number| self.foresee(until / SERIES * number, What::Series));
        for (index, event) in self.scenario.events.iter().enumerate() {
            self.foresee(event.at.as_nanos() as u64, What::Event(index));
        }
    }

    /// With the sessions of a trace.
    pub(super) fn on(self, trace: Option<&'s Trace>) -> Self {
        Self { trace, ..self }
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> (Books, Moves, Group) {
        let mut sessions = Sessions::new(self.scenario).of(self.trace.map(|trace| &trace.sessions[..]));
        while let Some(session) = sessions.next().filter(|session| session.at_ns < self.books.until_ns) {
            self.do_due(session.at_ns);
            self.now_ns = session.at_ns;
            self.serve(session);
        }
        self.do_due(self.books.until_ns);
        self.books.end(&self.stations);
        (self.books, self.moves, self.group)
    }

    fn do_due(&mut self, until_ns: u64) {
        while let Some(Reverse((at_ns, _, what))) = self.due.peek().copied().filter(|Reverse((at, ..))| *at <= until_ns)
        {
            self.due.pop();
            self.now_ns = at_ns;
            match what {
                What::Sample => self.books.sample(&self.stations),
                What::Series => self.books.keep(&self.stations),
                What::Event(index) => self.happen(&self.scenario.events[index]),
                What::Probe(server) => self.probe(server),
                What::Look { server, stamp } => self.look(server, stamp),
                What::End { key, number } => {
                    if self.active.get(key).is_some_and(|active| active.session.number == number) {
                        self.end(key);
                    }
                }
            }
        }
    }

    fn foresee(&mut self, at_ns: u64, what: What) {
        self.foreseen += 1;
        self.due.push(Reverse((at_ns, self.foreseen, what)));
    }

    fn now_ms(&self) -> u64 {
        BEGIN_MS + self.now_ns / 1_000_000
    }

    /// A client comes: a server is picked, another one where that fails, as the proxy does.
    fn serve(&mut self, session: Session) {
        self.books.came(&session);
        self.tried.clear();
        let client = match self.trace {
            Some(trace) => trace.clients[session.client as usize],
            None => client(session.client),
        };
        for attempt in 1.. {
            let picked = self.group.snapshot().pick(client, &self.tried, self.now_ms(), self.random.draw());
            let Ok(slot) = picked else { break };
            let server = self.index_of(&slot);
            if self.stations[server].is_up {
                return self.connected(session, server, slot);
            }
            self.books.failed_picks += 1;
            self.refused(server, &slot);
            self.tried.push(slot.server.id);
            if attempt == self.scenario.connect_attempts {
                break;
            }
        }
        self.books.not_served(&session, self.tried.is_empty());
    }

    fn connected(&mut self, session: Session, server: usize, slot: ServerSlot) {
        let station = &mut self.stations[server];
        let micros = station.connect_ns * libm::exp(station.connect_sigma * normal(&mut self.connects)) / 1e3;
        let outcome = Outcome::Connected { micros: micros as u64 };
        let now_ms = BEGIN_MS + self.now_ns / 1_000_000;
        self.group.report(&slot.server, slot.epoch, outcome, now_ms);
        let entry = self.active.vacant_entry();
        let key = entry.key();
        entry.insert(Active { session, server, slot });
        let (begins, later) = station.take(key, session.work_ns, self.now_ns);
        self.books.served(&session, server, &self.stations);
        if begins {
            self.books.begins(&session, self.now_ns);
        }
        self.later(server, later, session.number);
    }

    fn later(&mut self, server: usize, later: Later, number: u64) {
        match later {
            Later::Nothing => {}
            Later::Ends(key, in_ns) => self.foresee(self.now_ns + in_ns, What::End { key, number }),
            Later::Look { in_ns, stamp } => self.foresee(self.now_ns + in_ns, What::Look { server, stamp }),
        }
    }

    /// A session of `hold` or `queue` is over.
    fn end(&mut self, key: Key) {
        let active = self.active.remove(key);
        let server = active.server;
        self.close(active);
        let Some(next) = self.stations[server].end() else { return };
        let session = self.active[next].session;
        self.books.begins(&session, self.now_ns);
        let in_ns = self.stations[server].service_ns(session.work_ns);
        self.foresee(self.now_ns + in_ns, What::End { key: next, number: session.number });
    }

    /// A session of `share` may be over.
    fn look(&mut self, server: usize, stamp: u64) {
        let Some((key, later)) = self.stations[server].look(stamp, self.now_ns) else { return };
        let active = self.active.remove(key);
        self.close(active);
        self.later(server, later, 0);
    }

    fn close(&mut self, active: Active) {
        self.books.ended(&active.session, self.now_ns);
        self.report_end(&active);
    }

    fn report_end(&mut self, Active { session, slot, .. }: &Active) {
        let millis = (self.now_ns - session.at_ns) / 1_000_000;
        self.group.report(&slot.server, slot.epoch, Outcome::Closed { millis, bytes: 0 }, self.now_ms());
    }

    /// A server refuses a connect: it is suspect, until the proxy itself reaches it.
    fn refused(&mut self, server: usize, slot: &ServerSlot) {
        let now_ms = self.now_ms();
        let outcome = Outcome::Failed { why: "refused", is_servers: true, since_ms: now_ms };
        self.group.report(&slot.server, slot.epoch, outcome, now_ms);
        if self.stations[server].probe_ns == 0 {
            self.stations[server].probe_ns = PROBE_FIRST_NS;
            self.foresee(self.now_ns + PROBE_FIRST_NS, What::Probe(server));
            self.moves.known(server, &self.group, self.now_ms());
        }
    }

    fn probe(&mut self, server: usize) {
        let (now_ms, most) = (self.now_ms(), self.settings.recheck_max.as_nanos() as u64);
        let station = &mut self.stations[server];
        let Some(known) = &station.server else { return };
        if station.is_up {
            station.probe_ns = 0;
            known.live.answered((station.connect_ns / 1e3) as u64, now_ms);
            return self.moves.known(server, &self.group, now_ms);
        }
        known.live.probe_failed("refused", now_ms, now_ms);
        station.probe_ns = (station.probe_ns * 2).min(most.max(PROBE_FIRST_NS));
        let at_ns = self.now_ns + station.probe_ns;
        self.foresee(at_ns, What::Probe(server));
    }

    fn happen(&mut self, event: &Happening) {
        let index = |name: &Option<String>| name.as_deref().and_then(server_index);
        self.moves.before(event, &self.group, self.now_ms());
        if let Some(server) = index(&event.kill) {
            return self.kill(server);
        }
        if let Some(server) = index(&event.revive) {
            self.stations[server].is_up = true;
            if self.stations[server].probe_ns > 0 {
                return self.moves.wait_for(server);
            }
        } else if let Some(server) = index(&event.drain) {
            self.stations[server].settings.state = State::Drain;
        } else if let Some(server) = index(&event.ready) {
            self.stations[server].settings.state = State::Ready;
        } else if let Some(plan) = &event.add {
            add(&mut self.stations, plan);
            self.books.add_servers(self.stations.len());
        }
        for (name, weight) in event.weight.iter().flatten() {
            let server = server_index(name).expect("it was checked");
            self.stations[server].settings.weight = *weight as u16;
        }
        for (name, speed) in event.slow.iter().flatten() {
            let server = server_index(name).expect("it was checked");
            let later = self.stations[server].set_speed(*speed, self.now_ns);
            self.later(server, later, 0);
        }
        let servers = self.stations.iter().map(|station| station.settings.clone()).collect();
        self.group.apply(self.settings.clone(), servers, None, &[], &[]);
        self.moves.after(&self.group, self.now_ms());
    }

    /// A server is gone, and its sessions with it. That it is gone, the proxy finds out by the next connect.
    fn kill(&mut self, server: usize) {
        let station = &mut self.stations[server];
        station.is_up = false;
        station.clear();
        let keys: Vec<Key> =
            self.active.iter().filter(|(_, active)| active.server == server).map(|(key, _)| key).collect();
        self.books.broken += keys.len() as u64;
        for key in keys {
            let active = self.active.remove(key);
            self.report_end(&active);
        }
        self.moves.wait_for(server);
    }

    /// The place of a server in our list, which its address tells.
    fn index_of(&mut self, slot: &ServerSlot) -> usize {
        let id = slot.server.id.0 as usize;
        if id >= self.by_id.len() {
            self.by_id.resize(id + 1, usize::MAX);
        }
        if self.by_id[id] == usize::MAX {
            self.by_id[id] = moves::index_of(&slot.server);
        }
        let index = self.by_id[id];
        let station = &mut self.stations[index];
        if station.server.is_none() {
            station.server = Some(Arc::clone(&slot.server));
        }
        index
    }
}

/// Adds the servers of a plan.
fn add(stations: &mut Vec<Station>, plan: &ServerPlan) {
    for _ in 0..plan.count {
        let ip = Ipv4Addr::from(moves::IP_FIRST + stations.len() as u32);
        let addr = SocketAddr::from((ip, 9_000));
        let settings = ServerSettings {
            weight: plan.weight,
            max_sessions: plan.max_sessions,
            backup: plan.backup,
            labels: plan.labels.clone(),
            ..ServerSettings::new(addr.into(), Origin::File)
        };
        stations.push(Station::new(plan, settings));
    }
}
