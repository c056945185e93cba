//! Ends the sessions of servers that have gone, where `on_down` of their group or an operator wants that.
//!
//! Which servers those are is learned from events. Their sessions end evenly over `close_spread`, and only while the
//! server is gone: the rest is kept when it is back. A session whose connect was under way is found a moment later. After
//! a gap in the events, the server of every session is looked at.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ChangeError, Control};
use crate::base::clock;
use crate::config::Edit;
use crate::counters::EndReason;
use crate::data::session::{ProxySessionService, SessionRef};
use crate::events::{self, Event, Received, ServerChange, Subscription};
use crate::group::{Group, GroupId, OnDown};
use crate::server::{Live, ServerAddr};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(50);

/// Between two looks for sessions that were still connecting; doubles up to the longest.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(2);

/// Nothing is due for so long at most.
const IDLE: Duration = Duration::from_secs(3_600);

/// A server that has gone, and its sessions.
#[derive(Debug)]
struct Lost {
    group: Arc<Group>,
    addr: ServerAddr,
    /// Known as soon as it has a session.
    live: Option<Arc<Live>>,
    /// Those that are to end, the next one last.
    sessions: Vec<SessionRef>,
    /// How many they were.
    total: usize,
    begun: Instant,
    spread: Duration,
    /// Sessions that have begun after this, on the coarse clock, came to a server that was known to have gone (`fail_open`), and
    /// go on.
    begun_until_ms: u64,
    /// When to look for more of them, once these have been told.
    look_at: Instant,
    /// By then no connect is under way any more that began before.
    look_until: Option<Instant>,
    pause: Duration,
}

/// Groups by their address in memory, which stays as long as the group is held here.
type ByServer = HashMap<*const Group, HashMap<ServerAddr, usize>>;

/// Ends sessions until `stop`.
pub(crate) async fn close_sessions_of_lost(control: Control, stop: CancellationToken) {
    let mut changes = events::subscribe();
    let mut lost: Vec<Lost> = Vec::new();
    loop {
        let now = Instant::now();
        let next = lost.iter().map(Lost::due).min().map_or(now + IDLE, |due| due.max(now + TICK));
        tokio::select! {
            () = stop.cancelled() => return,
            received = changes.next() => take(received, &mut changes, &control, &mut lost),
            () = tokio::time::sleep_until(next) => {}
        }
        end_due(&control, &mut lost);
    }
}

/// Takes what has come to be known, all of it together: finding the sessions of one server looks at every session.
fn take(received: Received, changes: &mut Subscription, control: &Control, lost: &mut Vec<Lost>) {
    let (mut found, mut has_gap) = (Vec::new(), false);
    for received in std::iter::once(received).chain(std::iter::from_fn(|| changes.try_next())) {
        match received {
            Received::Gap(_) => has_gap = true,
            Received::Event(published) => {
                if let Event::Server { group, addr, change: ServerChange::Lost { .. } } = &published.event {
                    let groups = control.groups();
                    let group = groups.values().find(|known| known.label().is_same(group));
                    found.extend(group.map(Arc::clone).zip(addr.parse::<ServerAddr>().ok()));
                }
            }
        }
    }
    if has_gap {
        found.extend(lost_servers(control.sessions()));
    }
    // One that has gone once more, perhaps after it was back, begins anew.
    let mut new: HashMap<(*const Group, ServerAddr), Lost> = HashMap::new();
    for (group, addr) in found {
        new.insert((Arc::as_ptr(&group), addr.clone()), Lost::new(group, addr));
    }
    lost.retain(|known| !new.contains_key(&(Arc::as_ptr(&known.group), known.addr.clone())));
    let mut new: Vec<Lost> = new.into_values().collect();
    find_sessions(control.sessions(), &mut new);
    lost.extend(new);
}

/// The servers of sessions that are to end, as far as that can be told without an event.
fn lost_servers(sessions: &ProxySessionService) -> Vec<(Arc<Group>, ServerAddr)> {
    let mut servers: HashMap<(*const Group, ServerAddr), Arc<Group>> = HashMap::new();
    let of_closing = sessions.find(|record| {
        let group = record.group();
        let may_close = group.snapshot().settings.on_down != OnDown::default();
        may_close.then(|| Some((Arc::clone(group), record.server_addr()?.clone()))).flatten()
    });
    for (_, (group, addr)) in of_closing {
        servers.entry((Arc::as_ptr(&group), addr)).or_insert(group);
    }
    let servers = servers.into_iter().map(|((_, addr), group)| (group, addr));
    servers.filter(|(group, addr)| group.has_lost(addr)).collect()
}

/// Finds the sessions of these servers.
fn find_sessions(sessions: &ProxySessionService, lost: &mut [Lost]) {
    if lost.is_empty() {
        return;
    }
    let mut by_server = ByServer::new();
    for (index, lost) in lost.iter().enumerate() {
        by_server.entry(Arc::as_ptr(&lost.group)).or_default().insert(lost.addr.clone(), index);
    }
    let begun_until_ms: Vec<u64> = lost.iter().map(|lost| lost.begun_until_ms).collect();
    let found = sessions.find(|record| {
        let index = *by_server.get(&Arc::as_ptr(record.group()))?.get(record.server_addr()?)?;
        record.has_begun_by(begun_until_ms[index]).then_some((index, record.live()?))
    });
    let now = Instant::now();
    for lost in lost.iter_mut() {
        let snapshot = lost.group.snapshot();
        (lost.begun, lost.spread) = (now, snapshot.settings.close_spread);
        lost.look_until.get_or_insert(now + lost.spread + snapshot.settings.connect_timeout + LOOK_AGAIN_MAX);
        lost.live = lost.live.take().or_else(|| lost.group.live(&lost.addr));
    }
    for (session, (index, live)) in found {
        lost[index].sessions.push(session);
        lost[index].live = Some(live);
    }
    lost.iter_mut().for_each(|lost| lost.total = lost.sessions.len());
}

/// Ends the sessions whose turn it is, and forgets the servers that are back or have none left.
fn end_due(control: &Control, lost: &mut Vec<Lost>) {
    let now = Instant::now();
    let mut ended = Vec::new();
    let mut again = Vec::new();
    for mut one in std::mem::take(lost) {
        if one.due() > now {
            lost.push(one);
        } else if one.group.has_lost(&one.addr) {
            let was_told = one.sessions.is_empty();
            ended.extend(one.take_due(now));
            match was_told {
                false => lost.push(one),
                true if one.live.as_ref().is_some_and(|live| live.sessions() > 0) => again.push(one),
                true => {}
            }
        }
    }
    control.sessions().end_these(EndReason::ServerDown, ended.into_iter());
    find_sessions(control.sessions(), &mut again);
    again.retain(|one| !one.sessions.is_empty() || one.look_until.is_some_and(|until| now < until));
    for one in &mut again {
        one.spread = Duration::ZERO;
        one.look_at = now + one.pause;
        one.pause = (one.pause * 2).min(LOOK_AGAIN_MAX);
    }
    lost.extend(again);
}

impl Control {
    /// Takes a server out of its group. Its sessions go on or end, as `closes_sessions` says, or else the group's `on_down`.
    /// Answers its live figures, which tell of the sessions that are left; with a name that is expanded go the servers of its
    /// addresses, and their figures are told, too.
    ///
    /// # Errors
    ///
    /// Group or server unknown, or the file cannot be written.
    pub async fn remove_server(
        &self,
        group: &GroupId,
        server: &ServerAddr,
        closes_sessions: Option<bool>,
    ) -> Result<Vec<Arc<Live>>, ChangeError> {
        let running = self.group_at(group)?;
        let (lives, addrs) = (running.lives(server), running.with_expansion(server));
        if lives.is_empty() {
            return Err(ChangeError::ServerNotFound { group: group.clone(), server: server.clone() });
        }
        // What is asked for here takes the place of `on_down`.
        running.set_keeps_sessions(server, closes_sessions.is_some());
        if let Err(error) = self.edit(Edit::RemoveServer { group: group.clone(), addr: server.clone() }).await {
            running.set_keeps_sessions(server, false);
            return Err(error);
        }
        if closes_sessions == Some(true) {
            running.close_sessions_of(&addrs);
        }
        Ok(lives)
    }
}

impl Lost {
    fn new(group: Arc<Group>, addr: ServerAddr) -> Self {
        let now = Instant::now();
        Self {
            group,
            addr,
            live: None,
            sessions: Vec::new(),
            total: 0,
            begun: now,
            spread: Duration::ZERO,
            begun_until_ms: clock::coarse_ms(),
            look_at: now + LOOK_AGAIN,
            look_until: None,
            pause: LOOK_AGAIN,
        }
    }

    /// When something is to be done.
    fn due(&self) -> Instant {
        match self.sessions.len() {
            0 => self.look_at,
            left => self.begun + self.spread.mul_f64((self.total - left) as f64 / self.total as f64),
        }
    }

    /// The sessions whose turn has come.
    fn take_due(&mut self, now: Instant) -> Vec<SessionRef> {
        let part = match self.spread.is_zero() {
            true => 1.0,
            false => now.duration_since(self.begun).as_secs_f64() / self.spread.as_secs_f64(),
        };
        // The first one at once, the others evenly.
        let due = ((self.total as f64 * part) as usize + 1).min(self.total);
        let left = self.sessions.len().min(self.total - due);
        if left == 0 {
            self.look_at = now + self.pause;
        }
        self.sessions.split_off(left)
    }
}
