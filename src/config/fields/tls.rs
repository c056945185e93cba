//! The keys of `tls`.

use std::path::PathBuf;
use std::time::Duration;

use super::MINUTE_MS;
use crate::config::declare::settings;
use crate::config::kinds::{
    CertificateKeys, Section, certificates, file_path, list, load_revoked, load_trusted, optional, section_completed,
    switch, text, time, whole, word,
};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::tls::{Certificate, ClientAuth, TlsSettings, TlsVersion, TrustedBy, check_clients};

/// The longest name of a protocol, in bytes.
const PROTOCOL_LEN_MAX: usize = 255;
/// Most protocols.
pub(super) const PROTOCOLS_MAX: usize = 32;

settings! {
    /// The files of a certificate.
    pub(in crate::config) struct CertificateFiles {
        /// The file with the certificate and those that lead to its authority, as PEM (relative to the folder of this file). It is
        /// read again when it changes.
        cert: PathBuf as file_path(), NewSessions;
        /// The file with its private key, as PEM without a passphrase; null: it is in the same file.
        key: Option<PathBuf> as optional(file_path()), NewSessions;
    }
}

impl CertificateKeys for CertificateFiles {
    fn files(self) -> (PathBuf, Option<PathBuf>) {
        (self.cert, self.key)
    }

    fn of(certificate: &Certificate) -> Self {
        Self { cert: certificate.cert.clone(), key: certificate.key.clone() }
    }
}

settings! {
    impl TlsSettings {
        /// The certificates. A client gets the one with the name that it asks for.
        certificates as certificates::<CertificateFiles>(), NewSessions;
        /// Which of them, counted from 0, a client gets that asks for no name, or for one that none of them has; null: it is
        /// refused.
        default as optional(whole::<u32>(0, 999)) => Some(0), NewSessions;
        /// The lowest version that clients may speak.
        min_version as word::<TlsVersion>() => TlsVersion::V12, NewSessions;
        /// The protocols that are offered with ALPN, the best one first. A client that wants others is refused. An empty list: ALPN
        /// is not answered.
        alpn as list(text(), PROTOCOLS_MAX) => Vec::new(), NewSessions;
        /// True: clients get tickets, with which they come back at less cost.
        tickets as switch() => true, NewSessions;
        /// How long a handshake may take.
        handshake_timeout as time(100, MINUTE_MS) => Duration::from_secs(5), NewSessions;
        /// Whether clients have to show a certificate: none, they are not asked; request, they are asked and let in without one, but
        /// not with one that is not valid; require, they have to.
        client_auth as word::<ClientAuth>() => ClientAuth::None, NewSessions;
        /// The file with the certificates of those whose signatures under clients' certificates are trusted, as PEM; needed with
        /// request and require. It is read again when it changes.
        client_ca as optional(file_path()), NewSessions;
        /// The file with lists of certificates that their authorities have revoked, as PEM; null for none. It is read again when it
        /// changes.
        client_crl as optional(file_path()), NewSessions;
        beside:
        trusted = None;
        revoked = None;
    }
}

/// How a group speaks TLS to its clients.
pub(in crate::config) const fn tls() -> Section<TlsSettings> {
    section_completed(complete)
}

/// Reads the files of authorities, and reports what does not fit together.
fn complete(reader: &mut Reader, object: &Object, tls: &mut TlsSettings) {
    complete_clients(reader, object, tls);
    // An empty list is a mistake of its own.
    if let Some(last) = tls.certificates.len().checked_sub(1)
        && let Some(index) = tls.default.filter(|index| *index as usize > last)
    {
        let message = format!("{index} is out of range; expected 0 to {last}, or null");
        reader.problems.add(object.offset("default"), Place::Key(object.place, "default"), message);
    }
    check_alpn(reader, object, &tls.alpn);
}

/// The same of clients.
fn complete_clients(reader: &mut Reader, object: &Object, tls: &mut TlsSettings) {
    if let Some(path) = &tls.client_ca {
        let former = reader.known_tls.iter().find(|known| known.client_ca == tls.client_ca);
        let former = former.and_then(|former| former.trusted.clone());
        tls.trusted = load_trusted(reader, (object, "client_ca"), &TrustedBy::File(path.clone()), former);
    } else if tls.client_auth != ClientAuth::None {
        let message = format!("{} needs client_ca; expected the file of an authority there", tls.client_auth.as_str());
        reader.problems.add(object.offset("client_auth"), Place::Key(object.place, "client_auth"), message);
    }
    if let Some(path) = &tls.client_crl {
        let former = reader.known_tls.iter().find(|known| known.client_crl == tls.client_crl);
        let former = former.and_then(|former| former.revoked.clone());
        tls.revoked = load_revoked(reader, (object, "client_crl"), path, former);
    }
    if let Err(error) = check_clients(tls) {
        reader.problems.add(object.offset("client_crl"), Place::Key(object.place, "client_crl"), error);
    }
}

/// Reports names of protocols that ALPN cannot carry.
pub(super) fn check_alpn(reader: &mut Reader, object: &Object, alpn: &[String]) {
    if alpn.iter().any(|protocol| protocol.len() > PROTOCOL_LEN_MAX) {
        let message = format!("a name is too long; expected at most {PROTOCOL_LEN_MAX} bytes");
        reader.problems.add(object.offset("alpn"), Place::Key(object.place, "alpn"), message);
    }
}
