//! Whose signatures are trusted, and which certificates are not any more.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use xxhash_rust::xxh3::xxh3_64;

use super::files::{not_pem, read};

/// Whose signatures are trusted.
#[derive(Clone)]
pub struct Authorities {
    store: Arc<RootCertStore>,
    /// Of the content of the file; 0 for those of the system.
    hash: u64,
}

impl Authorities {
    pub(super) fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }

    /// Those of a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds none.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = read(path)?;
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| format!("{}: {}", path.display(), not_pem(&error)))?;
            store.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if store.is_empty() {
            return Err(format!("{}: no certificate is in it; expected PEM with BEGIN CERTIFICATE", path.display()));
        }
        Ok(Self { store: Arc::new(store), hash: xxh3_64(&text) })
    }

    /// Those that the system trusts, as they were when somebody asked first.
    ///
    /// # Errors
    ///
    /// It trusts none.
    pub fn of_system() -> Result<Self, String> {
        static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
        let store = SYSTEM.get_or_init(|| {
            let mut store = RootCertStore::empty();
            // What cannot be read or understood is left out, as programs do that use the system's list.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(store)
        });
        match store.is_empty() {
            true => Err("the system trusts no authority; expected a file with some".to_owned()),
            false => Ok(Self { store: Arc::clone(store), hash: 0 }),
        }
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("count", &self.store.len()).finish_non_exhaustive()
    }
}

/// Lists of certificates that are not valid any more.
#[derive(Clone)]
pub struct Revocations {
    lists: Vec<CertificateRevocationListDer<'static>>,
    hash: u64,
}

impl Revocations {
    pub(super) fn lists(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.lists
    }

    /// Those of a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds none.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = read(path)?;
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
        let lists = lists.map_err(|error| format!("{}: {}", path.display(), not_pem(&error)))?;
        if lists.is_empty() {
            return Err(format!("{}: no list is in it; expected PEM with BEGIN X509 CRL", path.display()));
        }
        Ok(Self { lists, hash: xxh3_64(&text) })
    }
}

impl PartialEq for Revocations {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Revocations {}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("count", &self.lists.len()).finish_non_exhaustive()
    }
}
