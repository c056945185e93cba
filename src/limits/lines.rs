//! How many clients that get no server the log names, so that a flood of them cannot fill the disk.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::rate::{Bucket, Pace, Rate};
use crate::counters::{EndReason, Limit};

/// Lines a second, and as many at once beside them: never more than a hundred in any second.
const LINES: u32 = 50;

/// Says of each client that gets no server whether the log may name it, and counts the others.
#[derive(Debug)]
pub(super) struct RefusedLines {
    bucket: Bucket,
    /// By limit; then those who were denied, those whose PROXY header was bad or late, those whose hello was or led nowhere,
    /// those whose TLS handshake has failed, those who came round to their own group, and those for whom there was no server.
    unsaid: [AtomicU64; Limit::ALL.len() + 6],
}

/// Clients that got no server and that the log has not named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsaid {
    /// All of them.
    pub clients: u64,
    /// Those who were denied.
    pub denied: u64,
    /// Those whose PROXY header was bad or late.
    pub headers: u64,
    /// Those whose TLS hello was bad or late, or led nowhere.
    pub hellos: u64,
    /// Those whose TLS handshake has failed or was late.
    pub handshakes: u64,
    /// Those who were connections of our own and came round.
    pub loops: u64,
    /// Those who were let in and for whom no server was found.
    pub no_server: u64,
    /// Those who were over each limit, in the order of [`Limit::ALL`].
    pub limited: [u64; Limit::ALL.len()],
}

impl Default for RefusedLines {
    fn default() -> Self {
        let rate = Rate { per: Duration::from_secs(1), sessions: LINES, burst: None };
        Self { bucket: Bucket::new(Pace::new(&rate)), unsaid: Default::default() }
    }
}

impl RefusedLines {
    /// True when the log may name a client that got no server and has this `end`, because it was over `limit` if there
    /// is one.
    pub(super) fn may_name(&self, end: EndReason, limit: Option<Limit>, now_ns: u64) -> bool {
        let may = self.bucket.take(now_ns);
        if !may {
            let cause = match (limit, end) {
                (Some(limit), _) => limit as usize,
                (None, EndReason::Denied) => Limit::ALL.len(),
                (None, EndReason::BadHeader | EndReason::HeaderTimeout) => Limit::ALL.len() + 1,
                (None, EndReason::BadHello | EndReason::HelloTimeout | EndReason::NoRoute) => Limit::ALL.len() + 2,
                (None, EndReason::TlsFailed | EndReason::HandshakeTimeout) => Limit::ALL.len() + 3,
                (None, EndReason::Loop) => Limit::ALL.len() + 4,
                (None, _) => Limit::ALL.len() + 5,
            };
            self.unsaid[cause].fetch_add(1, Relaxed);
        }
        may
    }

    /// Those whom the log has not named since the last call.
    pub(super) fn take_unsaid(&self) -> Unsaid {
        let mut unsaid = Unsaid::default();
        let causes = unsaid.limited.iter_mut().chain([
            &mut unsaid.denied,
            &mut unsaid.headers,
            &mut unsaid.hellos,
            &mut unsaid.handshakes,
            &mut unsaid.loops,
            &mut unsaid.no_server,
        ]);
        for (counted, taken) in self.unsaid.iter().zip(causes) {
            *taken = counted.swap(0, Relaxed);
            unsaid.clients += *taken;
        }
        unsaid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn no_second_has_more_than_a_hundred_lines_and_the_rest_is_counted_by_its_cause() {
        let lines = RefusedLines::default();
        let (mut named, step) = (Vec::new(), SECOND_NS / 20_000);
        for number in 0..60_000 {
            let (end, limit) = [
                (EndReason::Denied, None),
                (EndReason::Limit, Some(Limit::ClientRate)),
                (EndReason::BadHeader, None),
                (EndReason::NoServer, None),
                (EndReason::NoRoute, None),
                (EndReason::Loop, None),
            ][number % 6];
            let now = SECOND_NS + number as u64 * step;
            if lines.may_name(end, limit, now) {
                named.push(now);
            }
        }
        let in_a_second = |from: u64| named.iter().filter(|at| (from..from + SECOND_NS).contains(at)).count();
        assert!(named.iter().all(|from| in_a_second(*from) <= 100));
        assert!(named.len() >= 190, "{}", named.len());
        let unsaid = lines.take_unsaid();
        assert_eq!(unsaid.clients + named.len() as u64, 60_000);
        let Unsaid { denied, headers, hellos, loops, no_server, limited, .. } = unsaid;
        assert_eq!(unsaid.clients, denied + headers + hellos + loops + no_server + limited.iter().sum::<u64>());
        for count in [denied, headers, hellos, loops, no_server, limited[Limit::ClientRate as usize]] {
            assert!(count > 9_000, "{count}");
        }
        assert_eq!((limited[Limit::GroupRate as usize], lines.take_unsaid()), (0, Unsaid::default()));
    }
}
