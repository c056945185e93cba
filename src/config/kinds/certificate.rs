//! Certificates: files that are read with `proxy.json`, as their content is a part of what it means.
//!
//! A certificate whose files have the contents they had is not read again. While a certificate and its key do not belong
//! together, as between the two steps of a renewal, or cannot be read, the pair in force may stay.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::plain::{path_of, report, wrong};
use super::section::{elements, object_schema};
use crate::config::declare::Fields;
use crate::config::key::{Describe, Kind, Style, Table};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::tls::{self, Authorities, Certificate, Pair, Revocations, ServerTlsName, TrustedBy};

/// Most certificates of a group.
const CERTIFICATES_MAX: usize = 1_000;

/// A file that must be there; a relative one starts from the folder of `proxy.json`.
pub(in crate::config) struct FilePath;

pub(in crate::config) const fn file_path() -> FilePath {
    FilePath
}

impl Describe for FilePath {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }

    fn expected(&self) -> String {
        "the path of a file".to_owned()
    }
}

impl Kind for FilePath {
    type Value = PathBuf;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<PathBuf> {
        let path = path_of(value, &self.expected()).map(|text| reader.folder.join(text));
        report(reader, place, value, path)
    }

    fn write(&self, value: &PathBuf, style: &Style) -> String {
        let below = style.folder.as_deref().and_then(|folder| value.strip_prefix(folder).ok());
        quoted(&below.unwrap_or(value).display().to_string())
    }
}

/// The files of a certificate, as `F` declares them.
pub(in crate::config) trait CertificateKeys: Fields {
    /// The file with the certificate, and the one with its key where that is another.
    fn files(self) -> (PathBuf, Option<PathBuf>);

    /// Those of a certificate.
    fn of(certificate: &Certificate) -> Self;
}

/// A list of certificates.
pub(in crate::config) struct Certificates<F>(std::marker::PhantomData<fn() -> F>);

pub(in crate::config) const fn certificates<F>() -> Certificates<F> {
    Certificates(std::marker::PhantomData)
}

impl<F: CertificateKeys> Describe for Certificates<F> {
    fn schema(&self) -> serde_json::Value {
        json!({
            "type": "array",
            "minItems": 1,
            "maxItems": CERTIFICATES_MAX,
            "items": object_schema(F::TABLE, false),
        })
    }

    fn expected(&self) -> String {
        format!("a list of 1 to {CERTIFICATES_MAX}")
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        vec![(format!("{name}[]."), F::TABLE)]
    }
}

impl<F: CertificateKeys> Kind for Certificates<F> {
    type Value = Vec<Certificate>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        let list = elements(reader, place, value, CERTIFICATES_MAX)?;
        if list.is_empty() {
            reader.problems.add(value.start(), place, "the list is empty; expected at least one certificate");
        }
        // All of them are read, so that each mistake is told.
        let read = list.iter().enumerate().map(|(index, value)| {
            let place = Place::Index(place, index);
            let object = Object::open(reader, value, &place, F::TABLE, false)?;
            let (cert, key) = F::read(reader, &object, None)?.files();
            load(reader, &place, value, cert, key)
        });
        let read: Vec<_> = read.collect();
        read.into_iter().collect()
    }

    fn write(&self, value: &Self::Value, style: &Style) -> String {
        let objects = value.iter().map(|certificate| {
            let keys = F::of(certificate).write(style).into_iter().filter(|(_, value)| value != "null");
            let keys: Vec<String> = keys.map(|(name, value)| format!("\"{name}\": {value}")).collect();
            format!("{{ {} }}", keys.join(", "))
        });
        format!("[{}]", objects.collect::<Vec<_>>().join(", "))
    }
}

/// Reads a certificate and its key. What is wrong with them is told, or the pair in force stays.
fn load(reader: &mut Reader, place: &Place, value: &Value, cert: PathBuf, key: Option<PathBuf>) -> Option<Certificate> {
    reader.other_files.push(cert.clone());
    reader.other_files.extend(key.clone());
    let known: Vec<_> = reader.known_certificates.iter().map(|known| Arc::clone(&known.pair)).collect();
    match tls::load_pair(&cert, key.as_deref(), &known) {
        Ok(pair) => Some(Certificate { cert, key, pair }),
        Err(error) => {
            let in_force = reader.known_certificates.iter().find(|known| known.cert == cert && known.key == key);
            if let Some(in_force) = in_force.filter(|_| reader.known_lists.may_stay).cloned() {
                reader.kept_certificates.push(format!("{place}: {error}"));
                return Some(in_force);
            }
            reader.problems.add(value.start(), place, error);
            None
        }
    }
}

/// A value that a build without TLS refuses.
pub(in crate::config) struct WithTls<K>(K);

pub(in crate::config) const fn with_tls<K: Kind>(kind: K) -> WithTls<K> {
    WithTls(kind)
}

impl<K: Kind> Describe for WithTls<K> {
    fn schema(&self) -> serde_json::Value {
        self.0.schema()
    }

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn is_more_than_its_schema(&self) -> bool {
        self.0.is_more_than_its_schema()
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        self.0.tables(name)
    }
}

impl<K: Kind> Kind for WithTls<K> {
    type Value = K::Value;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        if !tls::IS_BUILT_IN {
            let message = "this goproxy was built without TLS; expected null, or a build with the feature tls";
            reader.problems.add(value.start(), place, message);
            return None;
        }
        self.0.read(reader, place, value)
    }

    fn write(&self, value: &Self::Value, style: &Style) -> String {
        self.0.write(value, style)
    }
}

/// `system`, or a file with the certificates of authorities.
pub(in crate::config) struct TrustedByKind;

pub(in crate::config) const fn trusted_by() -> TrustedByKind {
    TrustedByKind
}

/// The word for those whom the system trusts.
const SYSTEM: &str = "system";

impl Describe for TrustedByKind {
    fn schema(&self) -> serde_json::Value {
        FilePath.schema()
    }

    fn expected(&self) -> String {
        "system or a file".to_owned()
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for TrustedByKind {
    type Value = TrustedBy;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<TrustedBy> {
        match value.as_string_lit() {
            Some(text) if text.value == SYSTEM => Some(TrustedBy::System),
            _ => FilePath.read(reader, place, value).map(TrustedBy::File),
        }
    }

    fn write(&self, value: &TrustedBy, style: &Style) -> String {
        match value {
            TrustedBy::System => quoted(SYSTEM),
            TrustedBy::File(path) => FilePath.write(path, style),
        }
    }
}

/// `null` for the host of the server, `client` for what the client asks for, or a name.
pub(in crate::config) struct ServerName;

pub(in crate::config) const fn server_name() -> ServerName {
    ServerName
}

/// The word for what the client asks for.
const CLIENT: &str = "client";

impl Describe for ServerName {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": ["string", "null"], "minLength": 1 })
    }

    fn expected(&self) -> String {
        "null, client or a host name".to_owned()
    }

    fn implied_default(&self) -> Option<String> {
        Some("null".to_owned())
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for ServerName {
    type Value = ServerTlsName;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<ServerTlsName> {
        let name = match value {
            Value::NullKeyword(_) => Ok(ServerTlsName::Host),
            Value::StringLit(text) if text.value == CLIENT => Ok(ServerTlsName::Client),
            Value::StringLit(text) if tls::is_name(&text.value) => Ok(ServerTlsName::Fixed(text.value.to_string())),
            _ => Err(wrong(value, &self.expected())),
        };
        report(reader, place, value, name)
    }

    fn absent(&self, _: &mut Reader, _: &Place) -> Option<ServerTlsName> {
        Some(ServerTlsName::Host)
    }

    fn write(&self, value: &ServerTlsName, _: &Style) -> String {
        match value {
            ServerTlsName::Host => "null".to_owned(),
            ServerTlsName::Client => quoted(CLIENT),
            ServerTlsName::Fixed(name) => quoted(name),
        }
    }
}

/// Reads a certificate and its key, of which the first is written under `key` of this object; one that cannot be used is told,
/// or `in_force` stays.
pub(in crate::config) fn load_identity(
    reader: &mut Reader,
    (object, key): (&Object, &str),
    (cert, cert_key): (&Path, Option<&Path>),
    in_force: Option<Arc<Pair>>,
) -> Option<Arc<Pair>> {
    reader.other_files.push(cert.to_owned());
    reader.other_files.extend(cert_key.map(Path::to_owned));
    let known: Vec<_> = in_force.iter().cloned().collect();
    let pair = tls::load_pair(cert, cert_key, &known);
    or_in_force(reader, (object, key), pair, in_force)
}

/// The authorities that are meant, in the same way.
pub(in crate::config) fn load_trusted(
    reader: &mut Reader,
    (object, key): (&Object, &str),
    by: &TrustedBy,
    in_force: Option<Authorities>,
) -> Option<Authorities> {
    let trusted = match by {
        TrustedBy::System => Authorities::of_system(),
        TrustedBy::File(path) => {
            reader.other_files.push(path.clone());
            Authorities::read(path)
        }
    };
    or_in_force(reader, (object, key), trusted, in_force)
}

/// The lists of revoked certificates in a file, in the same way.
pub(in crate::config) fn load_revoked(
    reader: &mut Reader,
    (object, key): (&Object, &str),
    path: &Path,
    in_force: Option<Revocations>,
) -> Option<Revocations> {
    reader.other_files.push(path.to_owned());
    or_in_force(reader, (object, key), Revocations::read(path), in_force)
}

fn or_in_force<T>(
    reader: &mut Reader,
    (object, key): (&Object, &str),
    read: Result<T, String>,
    in_force: Option<T>,
) -> Option<T> {
    let place = Place::Key(object.place, key);
    match (read, in_force) {
        (Ok(read), _) => Some(read),
        (Err(error), Some(in_force)) if reader.known_lists.may_stay => {
            reader.kept_certificates.push(format!("{place}: {error}"));
            Some(in_force)
        }
        (Err(error), _) => {
            reader.problems.add(object.offset(key), place, error);
            None
        }
    }
}
