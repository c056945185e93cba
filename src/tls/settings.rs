//! What a group's key `tls` says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Authorities, Pair, Revocations};

/// The lowest version that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2, and 1.3.
    V12,
    /// TLS 1.3 alone.
    V13,
}

impl TlsVersion {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

/// Whether clients have to prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked, and let in without a certificate, but not with one that is not valid.
    Request,
    /// They have to.
    Require,
}

impl ClientAuth {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Request => "request",
            Self::Require => "require",
        }
    }
}

/// One certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The file with the certificate and those that lead to its authority.
    pub cert: PathBuf,
    /// The file with the key; `None` when it is the same.
    pub key: Option<PathBuf>,
    /// What they hold.
    pub pair: Arc<Pair>,
}

/// How a group speaks TLS to its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// What it shows its clients.
    pub certificates: Vec<Certificate>,
    /// Which of them a client gets whose name none of them has; `None`: such a client is refused.
    pub default: Option<u32>,
    /// The lowest version.
    pub min_version: TlsVersion,
    /// The protocols that it speaks, the best one first.
    pub alpn: Vec<String>,
    /// Clients get tickets, with which they come back at less cost.
    pub tickets: bool,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Whether clients have to prove who they are.
    pub client_auth: ClientAuth,
    /// The file with those whose signatures under clients' certificates are trusted.
    pub client_ca: Option<PathBuf>,
    /// The file with the lists of clients' certificates that are not valid any more.
    pub client_crl: Option<PathBuf>,
    /// What is in the first of these files.
    pub trusted: Option<Authorities>,
    /// What is in the second.
    pub revoked: Option<Revocations>,
}

/// Which name the certificate of a server has to have, and which one it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTlsName {
    /// The host of the server, as it is configured.
    Host,
    /// The name that the client has asked for; the host where it has asked for none.
    Client,
    /// This one.
    Fixed(String),
}

/// Whose signatures are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedBy {
    /// Those whom the system trusts.
    System,
    /// Those in a file.
    File(PathBuf),
}

/// How a group speaks TLS to its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsSettings {
    /// Which name their certificates have to have.
    pub name: ServerTlsName,
    /// Whose signatures are trusted.
    pub ca: TrustedBy,
    /// False: any certificate will do.
    pub verify: bool,
    /// The file with the certificate that is shown to servers.
    pub cert: Option<PathBuf>,
    /// The file with its key; `None` when it is the same.
    pub key: Option<PathBuf>,
    /// The protocols that are offered to servers, the best one first.
    pub alpn: Vec<String>,
    /// The lowest version.
    pub min_version: TlsVersion,
    /// Those whose signatures are trusted; `None` when nothing is verified.
    pub trusted: Option<Authorities>,
    /// What is shown to servers that ask for it.
    pub identity: Option<Arc<Pair>>,
}
