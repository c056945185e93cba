//! Why TLS with a peer has failed, in words.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Why TLS with a peer has failed.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {}", worded_tls(.0))]
pub(crate) struct TlsFailure(pub(crate) Error);

impl TlsFailure {
    /// The cause behind an error of a socket, if it is one of TLS.
    pub(crate) fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref::<Self>()
    }

    /// True when there is no certificate for the name that the client asks for.
    pub(crate) fn is_of_name(&self) -> bool {
        matches!(&self.0, Error::General(why) if why == NO_CERTIFICATE)
    }
}

impl From<TlsFailure> for io::Error {
    fn from(failure: TlsFailure) -> Self {
        Self::new(io::ErrorKind::InvalidData, failure)
    }
}

/// What rustls says when no certificate was found for a client.
const NO_CERTIFICATE: &str = "no server certificate chain resolved";

/// What has gone wrong, in words that help whoever looks after one of the two sides.
fn worded_tls(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => format!("the peer says: {}", alert_words(*alert)),
        Error::PeerIncompatible(why) => match why {
            PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
                "the peer speaks no version that is allowed here".to_owned()
            }
            PeerIncompatible::NoCipherSuitesInCommon => "no cipher in common".to_owned(),
            PeerIncompatible::NoKxGroupsInCommon => "no key exchange in common".to_owned(),
            PeerIncompatible::NoSignatureSchemesInCommon => {
                "the peer cannot check signatures of this certificate's kind of key".to_owned()
            }
            other => other_words(&format!("{other:?}")),
        },
        Error::InvalidCertificate(why) => certificate_words(why),
        Error::InvalidMessage(_) => "what the peer sends is not TLS".to_owned(),
        Error::PeerMisbehaved(why) => format!("the peer misbehaves: {}", other_words(&format!("{why:?}"))),
        Error::PeerSentOversizedRecord => "a record is too large".to_owned(),
        Error::NoApplicationProtocol => "the peer wants none of the protocols in alpn".to_owned(),
        Error::NoCertificatesPresented => "the peer has sent no certificate".to_owned(),
        Error::General(why) if why == NO_CERTIFICATE => {
            "no certificate for the name that the client asks for".to_owned()
        }
        other => other.to_string(),
    }
}

/// Names of a certificate that a message shows.
const NAMES_SHOWN: usize = 3;

/// What is wrong with the peer's certificate.
fn certificate_words(why: &CertificateError) -> String {
    let between = |from: u64, to: u64| worded_span(Duration::from_secs(to.saturating_sub(from)));
    match why {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("the peer's certificate expired {} ago", between(not_after.as_secs(), time.as_secs()))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("the peer's certificate is not valid for another {}", between(time.as_secs(), not_before.as_secs()))
        }
        CertificateError::UnknownIssuer => "the peer's certificate is signed by no authority trusted here".to_owned(),
        CertificateError::Revoked => "the peer's certificate is revoked".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            // As in `DnsName("db.example.com")`.
            let name = |shown: &String| shown.split('"').nth(1).unwrap_or(shown).to_owned();
            let names: Vec<String> = presented.iter().take(NAMES_SHOWN).map(name).collect();
            let more = if presented.len() > NAMES_SHOWN { ", …" } else { "" };
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            format!("the peer's certificate is not for {}, but for {names}{more}", expected.to_str())
        }
        other => format!("the peer's certificate is not valid: {other}"),
    }
}

/// A time in its largest unit: `3 days`, `1 hour`.
fn worded_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// An alert as its name says it: `unknown CA`, `bad certificate`.
fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => "unknown CA".to_owned(),
        AlertDescription::Unknown(number) => format!("alert {number}"),
        known => other_words(&format!("{known:?}")),
    }
}

/// `BadCertificate` as `bad certificate`.
fn other_words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_with_the_facts() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let name = |name: &str| ServerName::try_from(name.to_owned()).unwrap();
        let presented = |count: usize| (0..count).map(|at| format!("DnsName(\"{at}.example.com\")")).collect();
        for (why, words) in [
            (
                CertificateError::ExpiredContext { time: at(3 * 86_400 + 7_500), not_after: at(500) },
                "the peer's certificate expired 3 days ago",
            ),
            (
                CertificateError::NotValidYetContext { time: at(0), not_before: at(3_601) },
                "the peer's certificate is not valid for another 1 hour",
            ),
            (CertificateError::UnknownIssuer, "the peer's certificate is signed by no authority trusted here"),
            (
                CertificateError::NotValidForNameContext { expected: name("db.example.com"), presented: presented(4) },
                "the peer's certificate is not for db.example.com, but for 0.example.com, 1.example.com, 2.example.com, …",
            ),
            (
                CertificateError::NotValidForNameContext { expected: name("10.0.0.1"), presented: presented(0) },
                "the peer's certificate is not for 10.0.0.1, but for nobody",
            ),
        ] {
            assert_eq!(TlsFailure(Error::InvalidCertificate(why)).to_string(), format!("TLS: {words}"));
        }
    }

    #[test]
    fn failures_are_told_in_words() {
        for (error, words) in [
            (Error::AlertReceived(AlertDescription::UnknownCA), "TLS: the peer says: unknown CA"),
            (Error::AlertReceived(AlertDescription::BadCertificate), "TLS: the peer says: bad certificate"),
            (
                Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled),
                "TLS: the peer speaks no version that is allowed here",
            ),
            (Error::PeerIncompatible(PeerIncompatible::NullCompressionRequired), "TLS: null compression required"),
        ] {
            assert_eq!(TlsFailure(error).to_string(), words);
        }
    }
}
