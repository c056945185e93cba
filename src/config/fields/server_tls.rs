//! The keys of `server_tls`.

use std::sync::Arc;

use super::tls::{PROTOCOLS_MAX, check_alpn};
use crate::config::declare::settings;
use crate::config::kinds::{
    Section, file_path, list, load_identity, load_trusted, optional, section_completed, server_name, switch, text,
    trusted_by, word,
};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::tls::{ServerTlsSettings, TlsVersion, TrustedBy};

settings! {
    impl ServerTlsSettings {
        /// The name that a server's certificate has to have, and that it is asked for (SNI): null for the server's host as it is
        /// configured, client for the name that the client has asked for (with tls), or a name.
        name as server_name(), NewSessions;
        /// Whose signatures are trusted: system, or a file with certificates of authorities as PEM (relative to the folder of this
        /// file), which is read again when it changes. Those of the system are read once.
        ca as trusted_by() => TrustedBy::System, NewSessions;
        /// False: any certificate will do, so whoever is in between can read and change everything.
        verify as switch() => true, NewSessions;
        /// The file with the certificate that is shown to servers which ask for one, as in tls; null for none.
        cert as optional(file_path()), NewSessions;
        /// The file with its key; null: it is in the same file.
        key as optional(file_path()), NewSessions;
        /// The protocols that are offered to servers with ALPN, the best one first; an empty list for none.
        alpn as list(text(), PROTOCOLS_MAX) => Vec::new(), NewSessions;
        /// The lowest version that servers may speak.
        min_version as word::<TlsVersion>() => TlsVersion::V12, NewSessions;
        beside:
        trusted = None;
        identity = None;
    }
}

/// How a group speaks TLS to its servers.
pub(in crate::config) const fn server_tls() -> Section<ServerTlsSettings> {
    section_completed(complete)
}

/// Reads the files, and reports what does not fit together.
fn complete(reader: &mut Reader, object: &Object, tls: &mut ServerTlsSettings) {
    let former = reader.known_server_tls.iter().find(|known| known.ca == tls.ca && known.trusted.is_some());
    let former = former.and_then(|former| former.trusted.clone());
    if tls.verify {
        tls.trusted = load_trusted(reader, (object, "ca"), &tls.ca, former);
    }
    match &tls.cert {
        Some(cert) => {
            let former = reader.known_server_tls.iter().find(|known| known.cert == tls.cert && known.key == tls.key);
            let former = former.and_then(|former| former.identity.as_ref().map(Arc::clone));
            tls.identity = load_identity(reader, (object, "cert"), (cert, tls.key.as_deref()), former);
        }
        None if tls.key.is_some() => {
            let message = "the key has no certificate; expected cert, too";
            reader.problems.add(object.offset("key"), Place::Key(object.place, "key"), message);
        }
        None => {}
    }
    check_alpn(reader, object, &tls.alpn);
}
