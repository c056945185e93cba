//! Certificates that are about to end.
//!
//! A certificate is told of when it is first found to have at most so many days left, for each of [`DAYS`], and then every
//! day. Nothing is kept over a restart, after which it is told again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Control;
use crate::base::clock;
use crate::events::{self, ConfigEvent, Event};
use crate::tls::Certificate;

/// Between two looks.
const ROUND: Duration = Duration::from_secs(60);

/// A certificate with so many days left is told of.
const DAYS: [u64; 5] = [30, 14, 7, 3, 1];

const DAY_S: u64 = 86_400;

/// Looks after certificates until `stop`.
pub(crate) async fn look_after_certificates(control: Control, stop: CancellationToken) {
    let keep = async {
        let mut told = BTreeMap::new();
        loop {
            for certificate in ending(&control, clock::wall_ms() / 1_000, &mut told) {
                tell(&certificate, clock::wall_ms() / 1_000);
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    stop.run_until_cancelled(keep).await;
}

/// The days before the end at which a certificate with so much time left has been told of last; `None` while it has more.
fn told_at(left_s: u64) -> Option<u64> {
    let days = left_s.div_ceil(DAY_S);
    match left_s {
        0 => Some(0),
        _ => DAYS.into_iter().rev().find(|at| days <= *at),
    }
}

/// Those that have to be told of now. `told` are those that were, with their end and at which day.
fn ending(control: &Control, now_s: u64, told: &mut BTreeMap<PathBuf, (u64, u64, u64)>) -> Vec<Certificate> {
    let groups = control.groups();
    let settings = groups.values().filter_map(|group| group.snapshot().settings.tls.clone());
    let mut found = BTreeMap::new();
    for tls in settings {
        for certificate in &tls.certificates {
            found.entry(certificate.cert.clone()).or_insert_with(|| certificate.clone());
        }
    }
    told.retain(|path, _| found.contains_key(path));
    let due = |certificate: &Certificate| {
        let not_after_s = certificate.pair.not_after().as_secs();
        let at = told_at(not_after_s.saturating_sub(now_s))?;
        Some((not_after_s, at, now_s / DAY_S))
    };
    found.into_values().filter(|certificate| is_news(told, certificate, due(certificate))).collect()
}

/// True when this is to be said of a certificate, and was not yet.
fn is_news(
    told: &mut BTreeMap<PathBuf, (u64, u64, u64)>,
    certificate: &Certificate,
    due: Option<(u64, u64, u64)>,
) -> bool {
    match due {
        None => {
            told.remove(&certificate.cert);
            false
        }
        Some(due) => told.insert(certificate.cert.clone(), due) != Some(due),
    }
}

fn tell(certificate: &Certificate, now_s: u64) {
    let not_after_s = certificate.pair.not_after().as_secs();
    let not_after = i64::try_from(not_after_s).ok().and_then(|second| Timestamp::from_second(second).ok());
    let not_after = not_after.map_or_else(String::new, |not_after| not_after.to_string()).into();
    let name = certificate.pair.name().into();
    let file = certificate.cert.display().to_string().into();
    events::publish(Event::Config(match not_after_s.checked_sub(now_s) {
        Some(left_s) if left_s > 0 => {
            ConfigEvent::CertificateExpires { name, not_after, days: left_s.div_ceil(DAY_S), file }
        }
        _ => ConfigEvent::CertificateExpired { name, not_after, file },
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_in_its_last_days() {
        for (days, expected) in [
            (31.0, None),
            (30.0, Some(30)),
            (14.5, Some(30)),
            (14.0, Some(14)),
            (6.9, Some(7)),
            (2.0, Some(3)),
            (0.5, Some(1)),
            (0.0, Some(0)),
        ] {
            assert_eq!(told_at((days * DAY_S as f64) as u64), expected, "{days}");
        }
    }
}
