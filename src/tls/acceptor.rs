//! What makes a client's connection one of TLS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ALL_VERSIONS, Connection, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::settings::{ClientAuth, TlsSettings, TlsVersion};

/// The most of one connection's that waits to be encrypted or sent.
pub(super) const BUFFER_MAX: usize = 64 << 10;

/// How a group speaks TLS to its clients, made ready for many connections.
#[derive(Debug)]
pub struct Acceptor {
    settings: Arc<TlsSettings>,
    config: Arc<ServerConfig>,
    ticketer: Option<Arc<dyn ProducesTickets>>,
}

impl Acceptor {
    /// The one for these settings: the `former` one, where they are the same. Tickets that it has given stay good.
    pub fn after(settings: Option<&Arc<TlsSettings>>, former: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let settings = settings?;
        if let Some(former) = former
            && (Arc::ptr_eq(&former.settings, settings) || former.settings == *settings)
        {
            return Some(Arc::clone(former));
        }
        let ticketer = match settings.tickets {
            false => None,
            // Without random numbers nothing of TLS works, and handshakes will say so.
            true => former_ticketer(settings, former).or_else(|| Ticketer::new().ok()),
        };
        let config = Arc::new(server_config(settings, ticketer.as_ref()));
        Some(Arc::new(Self { settings: Arc::clone(settings), config, ticketer }))
    }

    /// How long a handshake may take.
    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.settings.handshake_timeout
    }

    /// The server's end of a new connection.
    ///
    /// # Errors
    ///
    /// No random numbers are to be had.
    pub(crate) fn accept(&self) -> Result<Connection, rustls::Error> {
        let mut connection = ServerConnection::new(Arc::clone(&self.config))?;
        connection.set_buffer_limit(Some(BUFFER_MAX));
        Ok(connection.into())
    }
}

/// What has given tickets until now, whose tickets stay good unless other clients are let in from now on: a ticket stands for
/// the certificate with which it was got.
fn former_ticketer(settings: &TlsSettings, former: Option<&Arc<Acceptor>>) -> Option<Arc<dyn ProducesTickets>> {
    let former = former?;
    let clients = |of: &TlsSettings| (of.client_auth, of.trusted.clone(), of.revoked.clone());
    (clients(&former.settings) == clients(settings)).then(|| former.ticketer.clone())?
}

/// What makes sure who clients are; `None` where they are not asked.
fn verifier(settings: &TlsSettings) -> Result<Option<Arc<dyn ClientCertVerifier>>, VerifierBuilderError> {
    let Some(trusted) = settings.trusted.as_ref().filter(|_| settings.client_auth != ClientAuth::None) else {
        return Ok(None);
    };
    let provider = Arc::new(default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(trusted.store()), provider);
    if let Some(revoked) = &settings.revoked {
        // The lists of all authorities need not be there: those that are count.
        builder = builder.with_crls(revoked.lists().iter().cloned()).allow_unknown_revocation_status();
    }
    if settings.client_auth == ClientAuth::Request {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map(Some)
}

/// Finds out whether it can be made sure who clients are.
///
/// # Errors
///
/// What is wrong with the lists of authorities or of revoked certificates.
pub fn check_clients(settings: &TlsSettings) -> Result<(), String> {
    verifier(settings).map(drop).map_err(|error| error.to_string())
}

/// This version and those after it.
pub(super) fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static LATEST: [&SupportedProtocolVersion; 1] = [&TLS13];
    match min {
        TlsVersion::V12 => ALL_VERSIONS,
        TlsVersion::V13 => &LATEST,
    }
}

fn server_config(settings: &TlsSettings, ticketer: Option<&Arc<dyn ProducesTickets>>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions(settings.min_version))
        .expect("the provider has suites for both versions");
    let builder = match verifier(settings).expect("it was made when the file was read") {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates::new(settings)));
    config.alpn_protocols = settings.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    // Tickets hold all that is needed: nothing is kept for clients that may come back.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match ticketer {
        Some(ticketer) => config.ticketer = Arc::clone(ticketer),
        None => config.send_tls13_tickets = 0,
    }
    config
}

/// Finds the certificate for the name that a client asks for.
#[derive(Debug)]
struct Certificates {
    /// By name; those for `*.example.com` by `example.com` in the second map. Those of the same name are in the order of
    /// the file: one of them may have a kind of key that a client does not know.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn new(settings: &TlsSettings) -> Self {
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for certificate in &settings.certificates {
            for name in certificate.pair.names() {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcard, parent),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(name.to_owned()).or_insert_with(Vec::new).push(Arc::clone(certificate.pair.key()));
            }
        }
        let default = settings.default.and_then(|index| settings.certificates.get(index as usize));
        let default = default.map(|certificate| Arc::clone(certificate.pair.key()));
        Self { exact, wildcard, default }
    }

    /// The certificates for a host name.
    fn of(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.to_ascii_lowercase();
        // A wildcard covers exactly one label.
        let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(&name).or_else(parent).map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().map_or(&[][..], |name| self.of(name));
        let can_use = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        found.iter().find(can_use).or(found.first()).or(self.default.as_ref()).cloned()
    }
}
