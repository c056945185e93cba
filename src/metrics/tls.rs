//! The metrics of TLS.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use super::families::{Families, Labels};
use super::groups::GroupSample;
use crate::base::text::one_line;
use crate::counters::{TlsResult, TlsSide};

/// The longest name of a certificate in a label, in characters.
const NAME_CHARS_MAX: usize = 100;

pub(super) fn write(groups: &[GroupSample], families: &mut Families<'_>) -> fmt::Result {
    let speaking = || groups.iter().filter(|group| group.settings.tls.is_some());
    let names: Vec<(&GroupSample, String, f64)> = speaking().flat_map(certificates).collect();
    let ends = names.iter().map(|(group, name, not_after_s)| {
        let labels: Labels<'_> = vec![group.label(), ("name", name)];
        (labels, *not_after_s)
    });
    let help = "Until when each certificate is valid, in seconds since 1970";
    families.gauge("tls_certificate_not_after_seconds", help, ends)?;
    let sides = || {
        groups
            .iter()
            .flat_map(|group| TlsSide::ALL.map(|side| (group, side)))
            .filter(|(group, side)| speaks(group, *side))
    };
    let handshakes = sides().flat_map(|(group, side)| {
        TlsResult::ALL.map(|result| {
            let (version, word) = result.as_words();
            let labels: Labels<'_> =
                vec![group.label(), ("side", side.as_str()), ("version", version), ("result", word)];
            (labels, group.counters.tls(side).count(result))
        })
    });
    families.counter("tls_handshakes", "TLS handshakes, by side, version and result", handshakes)?;
    let resumed = sides().map(|of| (labels_of(of.0, of.1), of.0.counters.tls(of.1).resumed.load(Relaxed)));
    families.counter("tls_resumed", "TLS handshakes that went on from an earlier one", resumed)?;
    let time = sides().map(|of| (labels_of(of.0, of.1), &of.0.counters.tls(of.1).time));
    families.histogram("tls_handshake_seconds", "How long TLS handshakes took that are over", time)?;
    let truncated = speaking().map(|group| (vec![group.label()], group.counters.tls_truncated.load(Relaxed)));
    families.counter("tls_truncated", "TLS connections that clients ended without saying so", truncated)
}

fn labels_of(group: &GroupSample, side: TlsSide) -> Labels<'_> {
    vec![group.label(), ("side", side.as_str())]
}

/// True when the group speaks TLS with this side.
fn speaks(group: &GroupSample, side: TlsSide) -> bool {
    match side {
        TlsSide::Client => group.settings.tls.is_some(),
        TlsSide::Server => group.settings.server_tls.is_some(),
    }
}

/// Each certificate of a group by its name, of which the first one counts where several have the same.
fn certificates(group: &GroupSample) -> Vec<(&GroupSample, String, f64)> {
    let mut seen = BTreeSet::new();
    let certificates = group.settings.tls.iter().flat_map(|tls| &tls.certificates);
    let named = certificates.map(|certificate| {
        let name = one_line(certificate.pair.name(), NAME_CHARS_MAX);
        (group, name, certificate.pair.not_after().as_secs_f64())
    });
    named.filter(|(_, name, _)| seen.insert(name.clone())).collect()
}
