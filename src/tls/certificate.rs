//! Certificates and their keys, out of files.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, crypto::aws_lc_rs};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use xxhash_rust::xxh3::Xxh3Default;

use super::files::{not_pem, read};

/// Of RSA keys (`rsaEncryption`).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// The attribute `commonName`.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// What a public key of 3,072 bits takes.
const SLOW_RSA_BYTES: usize = 3_072 / 8;

/// A certificate with its key, which belong together.
pub struct Pair {
    key: Arc<CertifiedKey>,
    /// Host names, in lower case; one may begin with `*.`.
    names: Vec<String>,
    not_after: Duration,
    /// A signature with the key takes long.
    is_slow: bool,
    /// Of the content of both files.
    hash: u64,
}

impl Pair {
    /// What a connection is made with.
    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// The host names that it is for, in lower case; one may begin with `*.`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What it is called: the first of its names.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// True for RSA keys of 3,072 bits and more: a handshake with one takes milliseconds.
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Until when it is valid, since 1970.
    pub fn not_after(&self) -> Duration {
        self.not_after
    }
}

/// They are the same when their files were.
impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Pair {}

/// Without the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("names", &self.names).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Reads a certificate and its key, which may be in the same file. Where their contents are those of a pair that is `known`,
/// that one is taken.
///
/// # Errors
///
/// A file cannot be read, holds something else, or the two do not belong together.
pub fn load_pair(cert: &Path, key: Option<&Path>, known: &[Arc<Pair>]) -> Result<Arc<Pair>, String> {
    let cert_pem = read(cert)?;
    let key_pem = key.map(read).transpose()?;
    let key_pem = key_pem.as_deref().unwrap_or(&cert_pem);
    let mut hash = Xxh3Default::new();
    hash.update(&cert_pem);
    hash.update(key_pem);
    let hash = hash.digest();
    if let Some(known) = known.iter().find(|known| known.hash == hash) {
        return Ok(Arc::clone(known));
    }
    let key_path = key.unwrap_or(cert);
    let chain = chain(&cert_pem).map_err(|wrong| format!("{}: {wrong}", cert.display()))?;
    let Facts { names, not_after, is_slow } =
        facts(&chain[0]).map_err(|wrong| format!("{}: {wrong}", cert.display()))?;
    let der = private_key(key_pem).map_err(|wrong| format!("{}: {wrong}", key_path.display()))?;
    let certified = CertifiedKey::from_der(chain, der, &aws_lc_rs::default_provider());
    let key = certified.map_err(|error| match error {
        Error::InconsistentKeys(_) => format!(
            "{}: the key is not that of the certificate in {}; expected its private key",
            key_path.display(),
            cert.display()
        ),
        error => format!("{}: the key cannot be used: {error}", key_path.display()),
    })?;
    Ok(Arc::new(Pair { key: Arc::new(key), names, not_after, is_slow, hash }))
}

/// The certificate and those that lead to its authority.
fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(|error| not_pem(&error))?;
    match chain.is_empty() {
        true => Err("no certificate is in it; expected PEM with BEGIN CERTIFICATE".to_owned()),
        false => Ok(chain),
    }
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    const ENCRYPTED: &[u8] = b"ENCRYPTED";
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if text.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) => {
            "the key is encrypted; expected one without a passphrase".to_owned()
        }
        pem::Error::NoItemsFound => "no key is in it; expected PEM with BEGIN PRIVATE KEY".to_owned(),
        error => not_pem(&error),
    })
}

/// What a certificate says.
struct Facts {
    names: Vec<String>,
    not_after: Duration,
    is_slow: bool,
}

fn facts(der: &[u8]) -> Result<Facts, String> {
    let certificate = Certificate::from_der(der).map_err(|error| format!("not a certificate: {error}"))?;
    let body = certificate.tbs_certificate;
    let not_after = body.validity.not_after.to_unix_duration();
    let names = body.get::<SubjectAltName>().map_err(|error| format!("its names cannot be read: {error}"))?;
    let names = names.map_or_else(Vec::new, |(_, names)| names.0);
    let names = names.into_iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    });
    let names = names.collect();
    let key = body.subject_public_key_info;
    let is_slow = key.algorithm.oid == RSA && key.subject_public_key.raw_bytes().len() >= SLOW_RSA_BYTES;
    Ok(Facts { names, not_after, is_slow })
}

/// Whom a certificate names: the first common name, or else the first alternative name.
pub(crate) fn subject(der: &[u8]) -> Option<String> {
    common_name(der).or_else(|| facts(der).ok()?.names.into_iter().next())
}

/// The first common name in a certificate.
pub(crate) fn common_name(der: &[u8]) -> Option<String> {
    let body = Certificate::from_der(der).ok()?.tbs_certificate;
    let mut attributes = body.subject.0.iter().flat_map(|part| part.0.iter());
    let common = attributes.find(|attribute| attribute.oid == COMMON_NAME)?;
    std::str::from_utf8(common.value.value()).ok().map(str::to_owned)
}
