//! What makes a connection to a server one of TLS.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, SignatureScheme};

use super::acceptor::{BUFFER_MAX, versions};
use super::settings::{ServerTlsName, ServerTlsSettings};

/// How many sessions are kept for coming back to servers.
const SESSIONS_MAX: usize = 1_024;

/// How a group speaks TLS to its servers, made ready for many connections.
#[derive(Debug)]
pub struct Connector {
    settings: Arc<ServerTlsSettings>,
    config: Arc<ClientConfig>,
    /// The same without sessions to come back to, made when it is needed.
    anew: OnceLock<Arc<ClientConfig>>,
}

impl Connector {
    /// The one for these settings: the `former` one, where they are the same.
    pub fn after(settings: Option<&Arc<ServerTlsSettings>>, former: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let settings = settings?;
        if let Some(former) = former
            && (Arc::ptr_eq(&former.settings, settings) || former.settings == *settings)
        {
            return Some(Arc::clone(former));
        }
        let config = Arc::new(client_config(settings));
        Some(Arc::new(Self { settings: Arc::clone(settings), config, anew: OnceLock::new() }))
    }

    /// The client's end of a new connection to a server that is configured with this host. `asked_for` is the name that
    /// the client has asked us for.
    ///
    /// # Errors
    ///
    /// The server's name is none for TLS, or no random numbers are to be had.
    pub(crate) fn connect(&self, host: &str, asked_for: Option<&str>) -> Result<Connection, Error> {
        let name = match &self.settings.name {
            ServerTlsName::Host => host,
            ServerTlsName::Client => asked_for.unwrap_or(host),
            ServerTlsName::Fixed(name) => name,
        };
        connection(&self.config, name)
    }

    /// The same of a connection of our own, which speaks for no client. Its handshake is always a whole one: a server that is
    /// come back to does not show its certificate.
    ///
    /// # Errors
    ///
    /// As those of [`Connector::connect`].
    pub(crate) fn probe(&self, host: &str) -> Result<Connection, Error> {
        let config = self.anew.get_or_init(|| {
            let mut config = ClientConfig::clone(&self.config);
            config.resumption = Resumption::disabled();
            Arc::new(config)
        });
        let name = match &self.settings.name {
            ServerTlsName::Host | ServerTlsName::Client => host,
            ServerTlsName::Fixed(name) => name,
        };
        connection(config, name)
    }

    /// True when a server has to be whom a client asks for, so that without one nobody can tell.
    pub(crate) fn is_by_client(&self) -> bool {
        self.settings.name == ServerTlsName::Client
    }
}

/// The client's end of a connection to a server of this name.
fn connection(config: &Arc<ClientConfig>, name: &str) -> Result<Connection, Error> {
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Error::General(format!("\"{name}\" is no name that a certificate can have")))?;
    let mut connection = ClientConnection::new(Arc::clone(config), name)?;
    connection.set_buffer_limit(Some(BUFFER_MAX));
    Ok(connection.into())
}

/// True for a name that a certificate can have: of a host, or its address.
pub fn is_name(text: &str) -> bool {
    ServerName::try_from(text).is_ok()
}

fn client_config(settings: &ServerTlsSettings) -> ClientConfig {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(settings.min_version))
        .expect("the provider has suites for both versions");
    let builder = match &settings.trusted {
        Some(trusted) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(trusted.store()), provider).build();
            builder.with_webpki_verifier(verifier.expect("some authority is trusted, and nothing is revoked"))
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
    };
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(pair.key()))))
        }
    };
    config.alpn_protocols = settings.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    config
}

/// Trusts any certificate whose key the server has: with `verify` false.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
