//! Checks servers as their groups want it: when each is due, how many at a time, and who is told.
//!
//! Pauses count from the end of a check, and each is a little longer or shorter, so that the checks of many servers
//! spread. At most [`IN_FLIGHT_MAX`] run at a time; a quarter of the places is kept for servers whose last check passed, so
//! that a fleet of dead servers, each of which takes its whole time-out, delays no living one. The state of a server is
//! its group's; policies see what many results have changed together, [`PUBLISH_PAUSE`] after each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Attempt, Manner};
use super::plan::Plan;
use crate::base::clock;
use crate::counters::ProcessCounters;
use crate::events::{self, ConfigEvent, Event, GroupChange, Received, ServerChange, Subscription};
use crate::group::check::{CheckResult, CheckStart, CheckTarget};
use crate::group::{CHECK_LINES, Group, GroupId};
use crate::server::{ServerAddr, ServerId};
use crate::sources::Running;

/// Checks at a time: each takes a descriptor.
pub(crate) const IN_FLIGHT_MAX: usize = 512;

/// Places that only servers get whose last check passed.
const PLACES_FOR_PASSING: usize = IN_FLIGHT_MAX / 4;

/// Between two snapshots of a group for the sake of checks.
const PUBLISH_PAUSE: Duration = Duration::from_millis(100);

/// Between two lines that say how many others were left out.
const SAY_MORE_PAUSE: Duration = Duration::from_secs(1);

/// Where the process waits for the first checks, they are spread over so long at most.
const AWAITED_WITHIN: Duration = Duration::from_secs(1);

/// A check that begins later than this has waited for a place.
const DELAY_MIN: Duration = Duration::from_millis(100);

/// Nothing is due for so long at most.
const IDLE: Duration = Duration::from_secs(3_600);

type Key = (GroupId, ServerAddr);

/// A server that is checked.
#[derive(Debug)]
struct Check {
    group: Arc<Group>,
    target: CheckTarget,
    /// When the next check is due; `None` while one is under way.
    due: Option<Instant>,
    /// The check that is under way is not the last that somebody has asked for.
    is_asked_again: bool,
    has_passed: bool,
    started: Option<Instant>,
    /// Sessions that had reached the server at its last check.
    sessions: u64,
}

/// A check that is over.
struct Done {
    key: Key,
    id: ServerId,
    has_reserved_place: bool,
    attempt: Attempt,
}

struct Checker {
    running: Arc<Running>,
    counters: Arc<ProcessCounters>,
    checks: HashMap<Key, Check>,
    /// Those whose last check passed.
    passing: Plan<Key>,
    /// Those whose last check failed, or that were never checked.
    others: Plan<Key>,
    tasks: JoinSet<Done>,
    /// Of those under way, the ones of `others`.
    others_under_way: usize,
    ends: JoinSet<Option<Arc<Group>>>,
    /// Groups with changes that policies do not see yet.
    unpublished: HashMap<GroupId, Arc<Group>>,
    published: HashMap<GroupId, Instant>,
    publish_at: Option<Instant>,
    /// When it may be said again how many lines were left out of the log.
    say_more_at: Instant,
}

/// Checks servers until `stop`.
pub(super) async fn run(
    running: Arc<Running>,
    counters: Arc<ProcessCounters>,
    mut changes: Subscription,
    stop: CancellationToken,
) {
    let mut checker = Checker::new(running, counters);
    checker.look_everywhere();
    loop {
        checker.start_due();
        checker.publish_due();
        let next = checker.next_due();
        tokio::select! {
            () = stop.cancelled() => return,
            received = changes.next() => checker.take(received, &mut changes),
            Some(done) = checker.tasks.join_next() => {
                checker.done(done.expect("a check neither panics nor is aborted"));
            }
            Some(ended) = checker.ends.join_next() => {
                checker.ended(ended.expect("an end neither panics nor is aborted"));
            }
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

impl Checker {
    fn new(running: Arc<Running>, counters: Arc<ProcessCounters>) -> Self {
        Self {
            running,
            counters,
            checks: HashMap::new(),
            passing: Plan::new(),
            others: Plan::new(),
            tasks: JoinSet::new(),
            others_under_way: 0,
            ends: JoinSet::new(),
            unpublished: HashMap::new(),
            published: HashMap::new(),
            publish_at: None,
            say_more_at: Instant::now(),
        }
    }

    fn take(&mut self, received: Received, changes: &mut Subscription) {
        let event = match &received {
            Received::Event(published) => &published.event,
            Received::Gap(_) => {
                // One look sees all that was missed, and all that has come since.
                while changes.try_next().is_some() {}
                return self.look_everywhere();
            }
        };
        let (group, addr, change) = match event {
            Event::Config(ConfigEvent::Applied) => return self.look_everywhere(),
            Event::Server { group, addr, change } => (group, addr, change),
            _ => return,
        };
        let is_asked = match change {
            ServerChange::CheckWanted => false,
            ServerChange::CheckAsked | ServerChange::Suspect { .. } => true,
            _ => return,
        };
        let groups = self.running.groups.load();
        let found = groups.iter().find(|(_, known)| known.label().is_same(group));
        let (Some((id, group)), Ok(addr)) = (found, addr.parse::<ServerAddr>()) else { return };
        let (key, group) = ((id.clone(), addr), Arc::clone(group));
        if let Some(target) = group.check_target(&key.1) {
            let is_by_client = matches!(change, ServerChange::Suspect { .. });
            self.note(key.clone(), &group, target);
            if is_asked {
                self.hurry(&key, is_by_client);
            }
        }
    }

    /// Asks every group for servers to be checked. Those that are not any more are forgotten when they are due.
    fn look_everywhere(&mut self) {
        let groups = Arc::clone(&self.running.groups.load());
        for (id, group) in groups.iter().filter(|(_, group)| group.snapshot().settings.check.is_some()) {
            for target in group.check_targets() {
                self.note((id.clone(), target.server.settings.addr.clone()), group, target);
            }
        }
    }

    /// Plans the first check of a server, or takes what is new of one that is checked already.
    fn note(&mut self, key: Key, group: &Arc<Group>, target: CheckTarget) {
        let now = Instant::now();
        let settings = Arc::clone(&target.settings);
        let spread = |within: Duration| now + within.mul_f64(fastrand::f64());
        let same = |known: &Check| known.target.id() == target.id() && Arc::ptr_eq(&known.group, group);
        match self.checks.get_mut(&key).filter(|known| same(known)) {
            Some(known) => {
                let (is_other, resumes) =
                    (known.target.settings != settings, target.is_undecided && !known.target.is_undecided);
                known.target = target;
                if is_other || resumes {
                    let within = if resumes { Duration::ZERO } else { settings.fast_interval() };
                    self.plan(key, spread(within), true);
                }
            }
            None => {
                let within = match (target.is_resumed, settings.start) {
                    (true, _) => Duration::ZERO,
                    (false, CheckStart::Checked) => settings.interval.min(AWAITED_WITHIN),
                    (false, CheckStart::Up | CheckStart::Down) => settings.interval,
                };
                let (group, sessions) = (Arc::clone(group), target.server.live.sessions_total());
                let check = Check {
                    group,
                    target,
                    due: None,
                    is_asked_again: false,
                    has_passed: false,
                    started: None,
                    sessions,
                };
                self.checks.insert(key.clone(), check);
                self.plan(key, spread(within), true);
            }
        }
    }

    /// Has a server checked now; for the sake of a client that could not connect only if the last check is not too recent.
    fn hurry(&mut self, key: &Key, is_by_client: bool) {
        let Some(check) = self.checks.get_mut(key) else { return };
        let now = Instant::now();
        if check.due.is_none() {
            check.is_asked_again = !is_by_client;
            return;
        }
        let recent = check.started.map(|started| started + check.target.settings.fast_interval());
        let due = recent.filter(|_| is_by_client).map_or(now, |recent| recent.max(now));
        // What a session has shown must not stand in for what was asked for.
        check.sessions = u64::MAX;
        self.plan(key.clone(), due, true);
    }

    /// Plans the next check of a server; if it is planned for earlier, and `only_earlier`, that stays.
    fn plan(&mut self, key: Key, due: Instant, only_earlier: bool) {
        let Some(check) = self.checks.get_mut(&key) else { return };
        if only_earlier && (check.started.is_some() && check.due.is_none() || check.due.is_some_and(|at| at <= due)) {
            return;
        }
        check.due = Some(due);
        let next_ms = clock::coarse_ms() + clock::as_ms(due.saturating_duration_since(Instant::now()));
        check.group.set_next_check(&key.1, next_ms);
        let plan = if check.has_passed { &mut self.passing } else { &mut self.others };
        plan.add(due, key);
    }

    /// Starts the checks that are due, as far as there is room.
    fn start_due(&mut self) {
        let now = Instant::now();
        while self.has_room() {
            let passing = self.passing.take_due(now).map(|due| (due, true));
            let next = passing.or_else(|| {
                let has_room = self.others_under_way < IN_FLIGHT_MAX - PLACES_FOR_PASSING;
                has_room.then(|| self.others.take_due(now)).flatten().map(|due| (due, false))
            });
            let Some(((due, key), is_passing)) = next else { break };
            if self.checks.get(&key).is_some_and(|check| check.due == Some(due)) {
                self.start(key, now.saturating_duration_since(due), is_passing);
            }
        }
        self.counters.checks.in_flight.store(self.tasks.len() as u64, Relaxed);
    }

    /// Checks a server, unless a session has shown as much or nobody wants to know any more.
    fn start(&mut self, key: Key, late: Duration, is_passing: bool) {
        let Some(check) = self.checks.get_mut(&key) else { return };
        let groups = self.running.groups.load();
        let is_running = groups.get(&key.0).is_some_and(|group| Arc::ptr_eq(group, &check.group));
        let target = is_running.then(|| check.group.check_target(&key.1)).flatten();
        let Some(target) = target.filter(|target| target.id() == check.target.id()) else {
            self.checks.remove(&key);
            return;
        };
        check.target = target;
        self.counters.checks.late_us.store(late.as_micros() as u64, Relaxed);
        self.counters.checks.delayed.fetch_add(u64::from(late >= DELAY_MIN), Relaxed);
        check.due = None;
        check.started = Some(Instant::now());
        let CheckTarget { server, settings, .. } = &check.target;
        let id = server.id;
        let manner = Manner::new(settings, server, &check.group.snapshot());
        let sessions = server.live.sessions_total();
        if check.has_passed && settings.is_proven_by_traffic() && !server.live.is_suspect() && sessions > check.sessions
        {
            check.sessions = sessions;
            let result = CheckResult { outcome: Ok(()), micros: 0, connect_us: None, code: None };
            return self.tell(&key, id, Some(result));
        }
        check.sessions = sessions;
        self.others_under_way += usize::from(!is_passing);
        let checking = attempt::check(Arc::clone(server), Arc::clone(settings), manner);
        self.tasks.spawn(async move { Done { key, id, has_reserved_place: is_passing, attempt: checking.await } });
    }

    fn done(&mut self, done: Done) {
        let Done { key, id, has_reserved_place, attempt } = done;
        self.others_under_way -= usize::from(!has_reserved_place);
        if let (Some(end), Some(check)) = (attempt.end, self.checks.get(&key)) {
            let group = Arc::clone(&check.group);
            self.ends.spawn(async move { end.greets_as_mysql().await.then_some(group) });
        }
        self.tell(&key, id, attempt.result);
    }

    /// Tells the group a result, `None` when it says nothing of the server, and plans the next check.
    fn tell(&mut self, key: &Key, id: ServerId, result: Option<CheckResult>) {
        let Some(check) = self.checks.get_mut(key).filter(|check| check.target.id() == id) else { return };
        let pause = match result {
            None => check.target.settings.fast_interval(),
            Some(result) => {
                let passes = result.outcome.is_ok();
                let Some((pause, has_changed)) = check.group.checked(&key.1, id, result) else {
                    self.checks.remove(key);
                    return;
                };
                check.has_passed = passes;
                check.target.is_undecided = false;
                if has_changed {
                    self.unpublished.insert(key.0.clone(), Arc::clone(&check.group));
                }
                pause
            }
        };
        let jitter = f64::from(check.target.settings.jitter) / 100.0;
        let pause = match std::mem::take(&mut check.is_asked_again) {
            true => Duration::ZERO,
            false => pause.mul_f64(1.0 + jitter * (2.0 * fastrand::f64() - 1.0)),
        };
        self.plan(key.clone(), Instant::now() + pause, false);
        self.publish_due();
    }

    /// A connection of a check has ended; answers the group whose server showed that it speaks MySQL.
    fn ended(&mut self, warned: Option<Arc<Group>>) {
        if let Some(group) = warned.filter(|group| group.counters.is_said_mysql.swap(true, Relaxed).eq(&false)) {
            events::publish(Event::Group { group: group.label().clone(), change: GroupChange::ChecksLockOut });
        }
    }

    /// Has policies see what was found, group by group, not too often.
    fn publish_due(&mut self) {
        let now = Instant::now();
        let Self { unpublished, published, .. } = self;
        unpublished.retain(|id, group| {
            let may_be_at = published.get(id).map_or(now, |at| *at + PUBLISH_PAUSE);
            if may_be_at > now {
                return true;
            }
            group.publish_checked();
            published.insert(id.clone(), now);
            false
        });
        let waiting = unpublished.keys().filter_map(|id| published.get(id));
        self.publish_at = waiting.min().map(|at| *at + PUBLISH_PAUSE);
        if unpublished.is_empty() {
            // Those that are long past need not be remembered.
            published.retain(|_, at| *at + PUBLISH_PAUSE > now);
        }
        if now >= self.say_more_at {
            let lines = CHECK_LINES.take_left_out();
            if lines > 0 {
                events::publish(Event::Process(events::ProcessEvent::MoreChecked { lines }));
            }
            self.say_more_at = now + SAY_MORE_PAUSE;
        }
    }

    fn has_room(&self) -> bool {
        self.tasks.len() + self.ends.len() < IN_FLIGHT_MAX
    }

    /// When something has to be done next, whatever happens until then.
    fn next_due(&self) -> Instant {
        let passing = self.passing.first().filter(|_| self.has_room());
        let has_room = self.has_room() && self.others_under_way < IN_FLIGHT_MAX - PLACES_FOR_PASSING;
        let others = self.others.first().filter(|_| has_room);
        let first = passing.into_iter().chain(others).chain(self.publish_at).min();
        first.unwrap_or_else(|| Instant::now() + IDLE)
    }
}
