//! Why TLS with a peer has failed, in words.

use std::io;

use rustls::{AlertDescription, Error, PeerIncompatible};

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
        Error::InvalidMessage(_) => "what the peer sends is not TLS".to_owned(),
        Error::NoApplicationProtocol => "the peer wants none of the protocols in alpn".to_owned(),
        Error::NoCertificatesPresented => "the peer has sent no certificate".to_owned(),
        Error::General(why) if why == NO_CERTIFICATE => {
            "no certificate for the name that the client asks for".to_owned()
        }
        other => other.to_string(),
    }
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
    use super::*;

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
