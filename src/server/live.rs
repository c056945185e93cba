//! The live figures of a server, in atomics that all threads share.

mod carried;
mod ejection;
mod facts;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::addresses::Addresses;
use super::downtime::Reason;
use super::itself;
use super::last_session::LastSession;
use super::outage::Outage;
use super::standing::{Avoided, Patience, Recovery, flag};
use super::trouble::Trouble;
use crate::base::clock;
pub use carried::LiveCarried;
pub use facts::Facts;

/// A connect time counts half when none has been measured for this long.
const LATENCY_HALVED: Duration = Duration::from_secs(10);

/// A connect that has no answer for this long is slow, unless the server's connects always take long.
pub const SLOW_CONNECT: Duration = Duration::from_millis(250);

/// How many times the usual time a connect has to take to be slow.
const SLOW_FACTOR: u64 = 4;

/// Counts, suspicion and addresses of one backend.
///
/// No value here has to be consistent with another, so every access is relaxed.
#[derive(Debug)]
pub struct Live {
    sessions: AtomicU32,
    /// Sessions whose connect is slow and that wait for it to the end.
    waiting: AtomicU8,
    flags: AtomicU8,
    sessions_total: AtomicU64,
    connect_errors: AtomicU64,
    connect_latency_us: AtomicU32,
    /// The low bits of the time in milliseconds at which a connect succeeded last; 0 before the first.
    answered_at: AtomicU32,
    addresses: ArcSwap<Addresses>,
    rare: Box<Rare>,
}

/// What no session needs before its end, kept off the cache line of the rest.
#[derive(Debug, Default)]
struct Rare {
    /// Bytes client → server.
    bytes_up: AtomicU64,
    /// Bytes server → client.
    bytes_down: AtomicU64,
    /// What is wrong with it; `None` when nothing ever was.
    trouble: ArcSwapOption<Trouble>,
    last_session: LastSession,
    /// From which address of this machine it is reached; `None` for the one that the system picks.
    source: ArcSwapOption<IpAddr>,
}

impl Live {
    /// A server without any connect so far. `addresses` is empty for a name that is not resolved yet.
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            sessions: AtomicU32::new(0),
            waiting: AtomicU8::new(0),
            flags: AtomicU8::new(flag::UNTRIED | flags_of(&addresses)),
            sessions_total: AtomicU64::new(0),
            connect_errors: AtomicU64::new(0),
            connect_latency_us: AtomicU32::new(0),
            answered_at: AtomicU32::new(0),
            addresses: ArcSwap::from_pointee(Addresses::new(addresses)),
            rare: Box::default(),
        }
    }

    /// Sessions that are connected to it or are connecting.
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Relaxed)
    }

    /// Takes a place unless `max` (0: no limit) are taken; give it back with [`Live::release`].
    pub fn try_acquire(&self, max: u32) -> bool {
        if max == 0 {
            self.sessions.fetch_add(1, Relaxed);
            return true;
        }
        self.sessions.fetch_update(Relaxed, Relaxed, |held| (held < max).then_some(held + 1)).is_ok()
    }

    /// Gives back the place of one [`Live::try_acquire`].
    pub fn release(&self) {
        // Ordered against `all_ended`: one of the two sees what the other has done.
        if self.sessions.fetch_sub(1, SeqCst) == 1 && self.flags.load(SeqCst) & flag::AWAITED != 0 {
            self.rare.last_session.has_ended();
        }
    }

    /// Waits until it has no session.
    pub async fn all_ended(&self) {
        self.flags.fetch_or(flag::AWAITED, SeqCst);
        self.rare.last_session.wait(|| self.sessions.load(SeqCst) == 0).await;
    }

    /// Sessions that ever reached it.
    pub fn sessions_total(&self) -> u64 {
        self.sessions_total.load(Relaxed)
    }

    /// So many bytes more went to it and came from it.
    pub fn count_bytes(&self, up: u64, down: u64) {
        self.rare.bytes_up.fetch_add(up, Relaxed);
        self.rare.bytes_down.fetch_add(down, Relaxed);
    }

    /// Bytes that ever went from clients to it, and from it to clients; those of a running session to the second.
    pub fn bytes(&self) -> (u64, u64) {
        (self.rare.bytes_up.load(Relaxed), self.rare.bytes_down.load(Relaxed))
    }

    /// For how long it could not be picked because something was wrong with it, in milliseconds.
    pub fn down_ms(&self, now_ms: u64) -> u64 {
        self.rare.trouble.load().as_ref().map_or(0, |trouble| trouble.downtime.total_ms(now_ms))
    }

    /// Its group hides it from policies, because something is wrong with it or an operator wants it so, or does not.
    pub fn set_hidden(&self, is_faulty: bool, is_unwanted: bool, now_ms: u64) {
        let downtime = self.rare.trouble.load().as_ref().map(|trouble| trouble.downtime).unwrap_or_default();
        if (downtime.has(Reason::Hidden), downtime.has(Reason::Unwanted)) != (is_faulty, is_unwanted) {
            self.change_trouble(|trouble| {
                trouble.downtime.set(Reason::Hidden, is_faulty, now_ms);
                trouble.downtime.set(Reason::Unwanted, is_unwanted, now_ms);
            });
        }
    }

    /// Sessions' connects that failed.
    pub fn connect_errors(&self) -> u64 {
        self.connect_errors.load(Relaxed)
    }

    /// Smoothed time to connect in microseconds (a new one counts an eighth, as TCP's own round-trip
    /// estimate in RFC 6298); 0 when not yet known.
    pub fn connect_latency_us(&self) -> u32 {
        self.connect_latency_us.load(Relaxed)
    }

    /// The same, halved for each ten seconds since it was measured, because old times say little. 0 when not known, or
    /// too old.
    pub fn recent_connect_latency_us(&self, now_ms: u64) -> u32 {
        // Measured a moment after `now_ms` was read, or on a clock that runs ahead: that is now.
        let age_ms =
            u64::from(low(now_ms).wrapping_sub(self.answered_at.load(Relaxed)).cast_signed().max(0).cast_unsigned());
        let halvings = age_ms / clock::as_ms(LATENCY_HALVED);
        self.connect_latency_us().checked_shr(halvings as u32).unwrap_or(0)
    }

    /// A session's connect succeeded after `micros`, at `now_ms` of the coarse clock. Tells if that is news.
    pub fn connected(&self, micros: u64, now_ms: u64) -> Option<Recovery> {
        self.sessions_total.fetch_add(1, Relaxed);
        self.answered(micros, now_ms)
    }

    /// A connect, of a session or of the proxy, succeeded after `micros`, at `now_ms` of the coarse clock: the server is
    /// not suspect. Tells if that is news.
    pub fn answered(&self, micros: u64, now_ms: u64) -> Option<Recovery> {
        let sample = u32::try_from(micros).unwrap_or(u32::MAX).max(1);
        let old = self.recent_connect_latency_us(now_ms);
        self.answered_at.store(low(now_ms), Relaxed);
        let new = if old == 0 { sample } else { (u64::from(old) * 7 / 8 + u64::from(sample) / 8) as u32 };
        self.connect_latency_us.store(new.max(1), Relaxed);
        match self.has_flag(flag::SUSPECT | flag::UNTRIED) {
            false => None,
            true => self.recovered(now_ms),
        }
    }

    #[cold]
    fn recovered(&self, now_ms: u64) -> Option<Recovery> {
        let before = self.flags.fetch_and(!(flag::SUSPECT | flag::UNTRIED), Relaxed);
        let outage = self.outage();
        self.change_trouble(|trouble| {
            trouble.outage = None;
            trouble.downtime.set(Reason::Suspect, false, now_ms);
        });
        let recovery = Recovery {
            is_first: before & flag::UNTRIED != 0,
            suspect_for: outage.filter(|_| before & flag::SUSPECT != 0).map(|outage| outage.lasted(now_ms)),
        };
        // Of several that notice it at the same time, one tells.
        (recovery.is_first || recovery.suspect_for.is_some()).then_some(recovery)
    }

    /// A connect that began at `since_ms` failed at `now_ms`, for this reason: suspect until one succeeds. Returns true when
    /// this call made the server suspect. One that got no answer says nothing of a server that has answered another since.
    pub fn connect_failed(&self, why: &str, since_ms: u64, now_ms: u64) -> bool {
        self.connect_errors.fetch_add(1, Relaxed);
        self.probe_failed(why, since_ms, now_ms)
    }

    /// The same for a connect of the proxy's own, which is no client's.
    pub fn probe_failed(&self, why: &str, since_ms: u64, now_ms: u64) -> bool {
        !self.has_answered_since(since_ms) && self.suspect(why, now_ms)
    }

    fn suspect(&self, why: &str, now_ms: u64) -> bool {
        self.change_trouble(|trouble| {
            trouble.outage = Some(Arc::new(Outage::more(trouble.outage.as_deref(), why, now_ms)));
            trouble.downtime.set(Reason::Suspect, true, now_ms);
        });
        self.flags.fetch_or(flag::SUSPECT, Relaxed) & flag::SUSPECT == 0
    }

    /// True when the last connect failed. Nothing but a connect that succeeds changes that.
    pub fn is_suspect(&self) -> bool {
        self.has_flag(flag::SUSPECT)
    }

    /// True until the first connect succeeds.
    pub fn is_untried(&self) -> bool {
        self.has_flag(flag::UNTRIED)
    }

    /// What has failed since the last connect that succeeded.
    pub fn outage(&self) -> Option<Arc<Outage>> {
        self.rare.trouble.load().as_ref()?.outage.clone()
    }

    /// Changes what is wrong with it.
    fn change_trouble(&self, change: impl Fn(&mut Trouble)) {
        self.rare.trouble.rcu(|trouble| {
            let mut trouble = trouble.as_deref().cloned().unwrap_or_default();
            change(&mut trouble);
            Some(Arc::new(trouble))
        });
    }

    /// From now on the faults of its sessions are counted, or no longer.
    pub fn set_judged(&self, is_judged: bool) {
        match is_judged {
            true => self.flags.fetch_or(flag::IS_JUDGED, Relaxed),
            false => self.flags.fetch_and(!(flag::IS_JUDGED | flag::HAS_FAULTS), Relaxed),
        };
    }

    /// True when the faults of its sessions are counted.
    pub fn is_judged(&self) -> bool {
        self.has_flag(flag::IS_JUDGED)
    }

    /// True when a pick that avoids such servers passes it over.
    pub fn is_avoided(&self, avoided: Avoided) -> bool {
        self.has_flag(avoided.flags())
    }

    /// How long a connect may take before it is slow, in milliseconds.
    pub fn slow_connect_ms(&self) -> u64 {
        let usual_ms = u64::from(self.connect_latency_us()) / 1_000;
        clock::as_ms(SLOW_CONNECT).max(usual_ms * SLOW_FACTOR)
    }

    /// What a session does whose connect, which began at `since_ms`, is slow.
    ///
    /// A single connect proves nothing: one lost packet costs a second. But when two in a row have no answer and nobody
    /// else has had one since, the server is most likely gone, and clients need not all wait to find that out.
    pub fn slow_connect(&self, why: &str, since_ms: u64, now_ms: u64) -> Patience {
        /// Sessions that wait to find out.
        const FINDERS: u8 = 2;
        if self.has_answered_since(since_ms) {
            return Patience::Wait;
        }
        let join = |waiting: u8| (waiting < FINDERS).then_some(waiting + 1);
        match self.waiting.fetch_update(Relaxed, Relaxed, join) {
            Err(_) => Patience::Leave,
            Ok(others) if others + 1 < FINDERS => Patience::FindOut { is_suspect_now: false },
            Ok(_) => Patience::FindOut { is_suspect_now: self.suspect(why, now_ms) },
        }
    }

    /// The connect of a session that was to [`Patience::FindOut`] is over.
    pub fn stop_waiting(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// True when a connect has succeeded after this time, of the coarse clock.
    fn has_answered_since(&self, since_ms: u64) -> bool {
        !self.is_untried() && low(since_ms).wrapping_sub(self.answered_at.load(Relaxed)).cast_signed() < 0
    }

    /// Where to connect to; empty for a name that is not resolved.
    pub fn addresses(&self) -> Arc<Addresses> {
        self.addresses.load_full()
    }

    /// From which address of this machine it is reached; `None` for the one that the system picks.
    pub fn source(&self) -> Option<IpAddr> {
        self.rare.source.load().as_deref().copied()
    }

    /// It is reached from this address from now on.
    pub fn set_source(&self, source: Option<IpAddr>) {
        if self.source() != source {
            self.rare.source.store(source.map(Arc::new));
        }
    }

    /// True when one of its addresses is this machine's own.
    pub fn is_here(&self) -> bool {
        self.has_flag(flag::IS_HERE)
    }

    /// True when a connect has to be checked, because it may have connected a socket to itself; see `itself`.
    pub fn may_meet_itself(&self) -> bool {
        self.has_flag(flag::MAY_MEET_ITSELF)
    }

    /// Takes the addresses a name resolves to now.
    pub fn resolved(&self, addresses: Vec<SocketAddr>) {
        let known = self.addresses.load();
        if known.all() != addresses {
            self.flags.fetch_and(!(flag::MAY_MEET_ITSELF | flag::IS_HERE), Relaxed);
            self.flags.fetch_or(flags_of(&addresses), Relaxed);
            self.addresses.store(Arc::new(known.followed_by(addresses)));
        }
    }

    fn has_flag(&self, flags: u8) -> bool {
        self.flags.load(Relaxed) & flags != 0
    }
}

/// What depends on a server's addresses alone.
fn flags_of(addresses: &[SocketAddr]) -> u8 {
    let may_meet_itself = if itself::may_be_met(addresses) { flag::MAY_MEET_ITSELF } else { 0 };
    may_meet_itself | if itself::is_here(addresses) { flag::IS_HERE } else { 0 }
}

/// The low bits of a time in milliseconds, which repeat after 49 days.
fn low(ms: u64) -> u32 {
    ms as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_suspect_until_a_connect_succeeds_however_long_that_takes() {
        let live = Live::new(Vec::new());
        assert!(live.is_untried() && !live.is_suspect());
        assert!(live.connect_failed("refused", 1_000, 1_000));
        assert!(!live.connect_failed("refused", 1_100, 1_100), "it was before");
        assert!(live.is_suspect() && live.is_untried());
        assert_eq!(live.outage().unwrap().failures(), 2);
        let suspect_for = Some(Duration::from_secs(59));
        assert_eq!(live.connected(10, 60_000), Some(Recovery { is_first: true, suspect_for }));
        assert!(!live.is_suspect() && !live.is_untried() && live.outage().is_none());
        assert_eq!(live.connected(10, 60_001), None, "no news");
        assert!(live.connect_failed("refused", 70_000, 70_000));
        let suspect_for = Some(Duration::from_secs(1));
        assert_eq!(live.answered(10, 71_000), Some(Recovery { is_first: false, suspect_for }));
        assert_eq!((live.sessions_total(), live.connect_errors()), (2, 3));
        assert_eq!(live.down_ms(80_000), 60_000, "59 s, and 1 s");
    }

    #[test]
    fn a_connect_without_answer_says_nothing_of_a_server_that_has_answered_since() {
        let live = Live::new(Vec::new());
        live.connected(10, 2_000);
        assert!(!live.connect_failed("no answer", 1_000, 3_000));
        assert!(!live.is_suspect() && live.outage().is_none());
        assert!(live.connect_failed("no answer", 2_000, 4_000));
    }

    #[test]
    fn two_sessions_find_out_whether_a_silent_server_answers_and_the_others_leave() {
        let live = Live::new(Vec::new());
        assert_eq!(live.slow_connect("", 0, 250), Patience::FindOut { is_suspect_now: false });
        assert!(!live.is_suspect(), "it may be one lost packet");
        assert_eq!(live.slow_connect("", 100, 350), Patience::FindOut { is_suspect_now: true });
        assert!(live.is_suspect());
        assert_eq!(live.slow_connect("", 200, 450), Patience::Leave);
        live.stop_waiting();
        assert_eq!(live.slow_connect("", 300, 550), Patience::FindOut { is_suspect_now: false });
        live.connected(1_000_000, 1_000);
        assert_eq!(live.slow_connect("", 900, 1_150), Patience::Wait, "only the packet is lost");
        assert_eq!(live.slow_connect_ms(), 4_000, "it is far away");
    }

    #[test]
    fn a_limit_of_sessions_is_exact() {
        let live = Live::new(Vec::new());
        assert!(live.try_acquire(2) && live.try_acquire(2) && !live.try_acquire(2));
        live.release();
        assert!(live.try_acquire(2));
        assert!(live.try_acquire(0), "0 means no limit");
        assert_eq!(live.sessions(), 3);
    }

    #[test]
    fn connect_latency_follows_slowly_and_fades() {
        let live = Live::new(Vec::new());
        live.connected(800, 5_000);
        assert_eq!(live.connect_latency_us(), 800);
        live.connected(1_600, 5_000);
        assert_eq!(live.connect_latency_us(), 900);
        let recent = [4_000, 14_999, 15_000, 25_000, 1_000_000].map(|now_ms| live.recent_connect_latency_us(now_ms));
        assert_eq!(recent, [900, 900, 450, 225, 0]);
    }
}
