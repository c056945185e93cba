//! What tests of TLS need: an authority of their own, and clients that check what they are shown.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustix::event::{PollFd, PollFlags};
use rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore,
    ServerConfig, SupportedProtocolVersion,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, Ended, FakeServer};

/// Signs certificates, which it keeps in a folder.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two of the same name would be taken for one whose signatures are wrong.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("authority {} for tests", NEXT.fetch_add(1, Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The text of a new certificate for these names, and of its key.
    pub(crate) fn sign(&self, names: &[&str]) -> (String, String) {
        self.sign_until(names, (2096, 1, 1))
    }

    /// The same that is valid until this year, month and day.
    pub(crate) fn sign_until(&self, names: &[&str], (year, month, day): (i32, u8, u8)) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0].clone());
        params.not_after = rcgen::date_time_ymd(year, month, day);
        params.serial_number = Some(number_of(&names[0]));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    /// Writes a certificate for these names into `NAME.pem` and `NAME.key`, and gives its entry in `proxy.json`.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Value {
        self.write(file, self.sign(names))
    }

    /// The same with a year, a month and a day until which it is valid.
    pub(crate) fn issue_until(&self, file: &str, names: &[&str], (year, month, day): (i32, u8, u8)) -> Value {
        self.write(file, self.sign_until(names, (year, month, day)))
    }

    fn write(&self, file: &str, (cert, key): (String, String)) -> Value {
        let paths = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        fs::write(&paths.0, cert).unwrap();
        fs::write(&paths.1, key).unwrap();
        json!({ "cert": paths.0, "key": paths.1 })
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    /// The same client with a certificate of this authority for itself.
    pub(crate) fn showing(&self, trusting: impl Fn() -> ClientConfig, name: &str) -> ClientConfig {
        let (cert, key) = self.sign(&[name]);
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let signing = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let mut config = trusting();
        let identity = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, signing));
        config.client_auth_cert_resolver = Arc::new(identity);
        config
    }

    /// The text of a list that revokes the certificates of [`Authority::showing`] for these names.
    pub(crate) fn revoking(&self, names: &[&str]) -> String {
        let revoked = names.iter().map(|name| RevokedCertParams {
            serial_number: number_of(name),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: rcgen::date_time_ymd(2096, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// What a client wants that trusts this authority, and speaks these versions.
    pub(crate) fn trusting(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap();
        builder.with_root_certificates(self.roots()).with_no_client_auth()
    }

    /// The same with both versions.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.trusting(rustls::ALL_VERSIONS))
    }
}

/// A client that speaks TLS: blocking, with a deadline on everything.
pub(crate) struct TlsClient {
    pub(crate) connection: ClientConnection,
    pub(crate) tcp: TcpStream,
}

impl TlsClient {
    /// Connects and shakes hands.
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::try_connect(addr, config, name).unwrap_or_else(|error| panic!("no handshake with {name}: {error}"))
    }

    pub(crate) fn try_connect(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        Self::over(Client::try_connect(addr)?, config, name)
    }

    /// Shakes hands over a connection that is there.
    pub(crate) fn over(client: Client, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut client = Self { connection, tcp: client.stream };
        while client.connection.is_handshaking() {
            client.connection.complete_io(&mut client.tcp)?;
        }
        Ok(client)
    }

    /// The certificate that it was shown.
    pub(crate) fn shown(&self) -> &CertificateDer<'static> {
        &self.connection.peer_certificates().unwrap()[0]
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        rustls::Stream::new(&mut self.connection, &mut self.tcp).write_all(bytes).expect("the other side takes it");
    }

    #[track_caller]
    pub(crate) fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut stream = rustls::Stream::new(&mut self.connection, &mut self.tcp);
        stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("{length} bytes were promised: {error}"));
        bytes
    }

    /// Sends and expects the same back; the session may be over.
    pub(crate) fn try_echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = rustls::Stream::new(&mut self.connection, &mut self.tcp);
        stream.write_all(bytes)?;
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back)?;
        if back == bytes { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Sends and expects the same back.
    #[track_caller]
    pub(crate) fn echo(&mut self, bytes: &[u8]) {
        self.send(bytes);
        assert_eq!(self.receive(bytes.len()), bytes);
    }

    /// Says that nothing more comes, and sends nothing more.
    pub(crate) fn finish(&mut self) {
        self.connection.send_close_notify();
        // A peer that is gone needs not be told.
        while self.connection.wants_write() && self.connection.write_tls(&mut self.tcp).is_ok() {}
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Reads until the end: what came, and which end it was. One that was not announced is a panic.
    #[track_caller]
    pub(crate) fn receive_all(&mut self) -> (Vec<u8>, Ended) {
        let mut bytes = Vec::new();
        let ended = match rustls::Stream::new(&mut self.connection, &mut self.tcp).read_to_end(&mut bytes) {
            Ok(_) => Ended::InOrder,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ended::Reset,
            Err(error) => panic!("no end came after {} bytes: {error}", bytes.len()),
        };
        (bytes, ended)
    }

    /// Sends all of this and receives as much at the same time.
    #[track_caller]
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.tcp.set_nonblocking(true).unwrap();
        let (mut sent, mut received) = (0, Vec::with_capacity(bytes.len()));
        let mut buffer = vec![0; 64 << 10];
        let blocks = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        while received.len() < bytes.len() {
            if sent < bytes.len() && !self.connection.wants_write() {
                sent += self.connection.writer().write(&bytes[sent..]).unwrap();
            }
            let mut wanted = PollFlags::IN;
            while self.connection.wants_write() {
                match self.connection.write_tls(&mut self.tcp) {
                    Ok(_) => {}
                    Err(error) if blocks(&error) => {
                        wanted |= PollFlags::OUT;
                        break;
                    }
                    Err(error) => panic!("{sent} of {} sent: {error}", bytes.len()),
                }
            }
            if sent == bytes.len() || wanted.contains(PollFlags::OUT) {
                rustix::event::poll(&mut [PollFd::new(&self.tcp, wanted)], None).unwrap();
            }
            match self.connection.read_tls(&mut self.tcp) {
                Ok(0) => panic!("an end after {} of {}", received.len(), bytes.len()),
                Ok(_) => _ = self.connection.process_new_packets().unwrap(),
                Err(error) if blocks(&error) => {}
                Err(error) => panic!("{} of {} received: {error}", received.len(), bytes.len()),
            }
            while let Ok(read @ 1..) = self.connection.reader().read(&mut buffer) {
                received.extend_from_slice(&buffer[..read]);
            }
        }
        self.tcp.set_nonblocking(false).unwrap();
        received
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        Client::new(self.tcp).reset();
    }
}

/// A client of TLS 1.3 that has shaken hands, and writes records of its own making.
pub(crate) struct Records {
    tcp: TcpStream,
    encrypter: Box<dyn MessageEncrypter>,
    number: u64,
}

impl Records {
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr, authority: &Authority, name: &str) -> Self {
        let suite = aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
        let provider = CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut config = builder.with_root_certificates(authority.roots()).with_no_client_auth();
        config.enable_secret_extraction = true;
        let TlsClient { connection, tcp } = TlsClient::connect(addr, &Arc::new(config), name);
        let (number, secrets) = connection.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("it is the only suite") };
        let encrypter = suite.tls13().expect("it is one of TLS 1.3").aead_alg.encrypter(key, iv);
        Self { tcp, encrypter, number }
    }

    /// Sends a record, if somebody is still there.
    pub(crate) fn send(&mut self, typ: ContentType, bytes: &[u8]) {
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload: bytes.into() };
        let record = self.encrypter.encrypt(message, self.number).unwrap().encode();
        self.number += 1;
        let _ = self.tcp.write_all(&record);
    }

    /// Waits until the other side has ended, in whatever way.
    pub(crate) fn wait_for_end(self) {
        Client::new(self.tcp).receive_all();
    }
}

/// How a server speaks TLS that shows a certificate for these names, and asks for those of `clients` if there are any.
pub(crate) fn speaking(authority: &Authority, names: &[&str], clients: Option<&Authority>) -> Arc<ServerConfig> {
    showing(authority.sign(names), clients)
}

/// The same with the texts of a certificate and its key.
pub(crate) fn showing((cert, key): (String, String), clients: Option<&Authority>) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients.roots()), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"echo".to_vec()];
    Arc::new(config)
}

/// Sends back what it gets, over TLS, and ends when the client does. `seen` is called when hands are shaken.
pub(crate) fn echo_with(
    config: Arc<ServerConfig>,
    seen: impl Fn(&rustls::ServerConnection) + Send + Sync + 'static,
) -> FakeServer {
    FakeServer::start(move |mut client, _| {
        let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        while connection.is_handshaking() {
            if connection.complete_io(&mut client.stream).is_err() {
                return;
            }
        }
        seen(&connection);
        let mut buffer = vec![0; 64 << 10];
        let mut stream = rustls::Stream::new(&mut connection, &mut client.stream);
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
        connection.send_close_notify();
        let _ = connection.complete_io(&mut client.stream);
    })
}

/// The number of a certificate whose first name is this.
fn number_of(name: &str) -> SerialNumber {
    SerialNumber::from(name.as_bytes().to_vec())
}

/// The first certificate in a text.
pub(crate) fn first_of(pem: &[u8]) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem).unwrap().to_vec()
}
