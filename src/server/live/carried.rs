//! What the next process of an upgrade has to know of a server, and cannot find out at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use serde::{Deserialize, Serialize};

use super::{Live, flag, low};
use crate::server::downtime::Reason;
use crate::server::outage::Outage;
use crate::server::trouble::Ejection;

/// Figures of one server. Times are spans, so that nothing depends on the clock they are told by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveCarried {
    /// Sessions that it has.
    pub sessions: u32,
    /// A connect has succeeded before.
    is_tried: bool,
    /// Smoothed time to connect, and how long ago it was measured.
    latency_us: u32,
    latency_ago_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    outage: Option<OutageCarried>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ejection: Option<EjectionCarried>,
    /// What its name resolves to; empty where it is an address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SocketAddr>,
    /// Those that have failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<SocketAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct OutageCarried {
    why: String,
    failures: u64,
    for_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct EjectionCarried {
    /// It is kept out for so long; 0 when it is not, or not any more.
    left_ms: u64,
    is_out: bool,
    faults: u32,
    why: String,
    doublings: u32,
    count: u64,
    spared: u64,
}

impl Live {
    /// What the next process has to know, at `now_ms` of the coarse clock.
    pub fn carry(&self, now_ms: u64) -> LiveCarried {
        let addresses = self.addresses();
        let (outage, ejection) = (self.outage(), self.ejection());
        let age_ms = low(now_ms).wrapping_sub(self.answered_at.load(Relaxed)).cast_signed().max(0).cast_unsigned();
        LiveCarried {
            sessions: self.sessions(),
            is_tried: !self.is_untried(),
            latency_us: self.connect_latency_us(),
            latency_ago_ms: age_ms.into(),
            outage: outage.map(|outage| OutageCarried {
                why: outage.why().to_owned(),
                failures: outage.failures(),
                for_ms: u64::try_from(outage.lasted(now_ms).as_millis()).unwrap_or(u64::MAX),
            }),
            ejection: (ejection != Ejection::default()).then(|| EjectionCarried {
                left_ms: ejection.until_ms.saturating_sub(now_ms),
                is_out: self.is_ejected(),
                faults: ejection.faults,
                why: ejection.why,
                doublings: ejection.doublings,
                count: ejection.count,
                spared: ejection.spared,
            }),
            addresses: addresses.all().to_vec(),
            failed: addresses.failed(),
        }
    }

    /// Begins with what the process before has known, but for addresses and sessions.
    pub fn take_over(&self, carried: &LiveCarried, now_ms: u64) {
        if carried.is_tried {
            self.flags.fetch_and(!flag::UNTRIED, Relaxed);
            self.connect_latency_us.store(carried.latency_us, Relaxed);
            self.answered_at.store(low(now_ms.saturating_sub(carried.latency_ago_ms)), Relaxed);
        }
        if let Some(outage) = &carried.outage {
            let outage = Outage::carried(&outage.why, outage.failures, outage.for_ms, now_ms);
            self.change_trouble(|trouble| {
                trouble.outage = Some(Arc::new(outage.clone()));
                trouble.downtime.set(Reason::Suspect, true, now_ms);
            });
            self.flags.fetch_or(flag::SUSPECT, Relaxed);
        }
        if let Some(ejection) = &carried.ejection {
            let until_ms = if ejection.is_out { now_ms.saturating_add(ejection.left_ms) } else { 0 };
            let EjectionCarried { faults, why, doublings, count, spared, .. } = ejection.clone();
            let past = Ejection { faults, why, until_ms, doublings, count, spared };
            self.change_trouble(|trouble| trouble.ejection = past.clone());
            if faults > 0 {
                self.flags.fetch_or(flag::HAS_FAULTS, Relaxed);
            }
            if ejection.is_out {
                self.eject(&past);
            }
        }
        let addresses = self.addresses();
        let failed = carried.failed.iter().filter_map(|addr| addresses.all().iter().position(|known| known == addr));
        failed.for_each(|at| _ = addresses.fail(at));
    }

    /// Another process has so many sessions more, or less, with it: they count like those of this process.
    pub fn add_foreign(&self, more: u32) {
        self.sessions.fetch_add(more, Relaxed);
    }

    /// The opposite of [`Live::add_foreign`].
    pub fn remove_foreign(&self, fewer: u32) {
        if fewer > 0 && self.sessions.fetch_sub(fewer, SeqCst) == fewer && self.has_flag(flag::AWAITED) {
            self.rare.last_session.has_ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it comes out at the other side.
    fn passed_on(live: &Live, now_ms: u64) -> LiveCarried {
        serde_json::from_str(&serde_json::to_string(&live.carry(now_ms)).unwrap()).unwrap()
    }

    #[test]
    fn what_speaks_against_a_server_and_its_latency_survive() {
        let addresses: Vec<SocketAddr> = vec!["10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap()];
        let live = Live::new(addresses.clone());
        live.connected(800, 5_000);
        live.connect_failed("refused", 6_000, 6_000);
        live.connect_failed("refused", 7_000, 7_000);
        live.addresses().fail(1);
        let ejection = Ejection { until_ms: 9_000, doublings: 2, count: 3, why: "reset".into(), ..Ejection::default() };
        live.eject(&ejection);
        let carried = passed_on(&live, 8_000);

        // On a clock of its own.
        let next = Live::new(addresses);
        next.take_over(&carried, 100_000);
        assert!(next.is_suspect() && next.is_ejected() && !next.is_untried());
        let outage = next.outage().unwrap();
        assert_eq!((outage.failures(), outage.why()), (2, "refused"));
        assert_eq!(outage.lasted(100_000).as_millis(), 2_000);
        assert_eq!(next.ejection(), Ejection { until_ms: 101_000, ..ejection });
        assert_eq!(next.recent_connect_latency_us(100_000), 800);
        assert_eq!(next.addresses().failed(), ["10.0.0.2:1".parse().unwrap()]);
        assert_eq!(passed_on(&next, 100_000).ejection, carried.ejection);
    }

    #[test]
    fn nothing_known_is_a_cold_start() {
        let (live, fresh) = (Live::new(Vec::new()), Live::new(Vec::new()));
        live.take_over(&serde_json::from_str(r#"{"unheard_of": 1}"#).unwrap(), 5_000);
        assert_eq!(live.carry(5_000), fresh.carry(5_000));
        assert!(live.is_untried());
    }

    #[test]
    fn sessions_of_another_process_count_for_limits_until_they_are_gone() {
        let live = Live::new(Vec::new());
        live.add_foreign(2);
        assert!(live.try_acquire(3) && !live.try_acquire(3));
        live.remove_foreign(1);
        assert!(live.try_acquire(3));
        live.remove_foreign(1);
        assert_eq!(live.sessions(), 2);
    }
}
