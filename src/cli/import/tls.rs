//! What other proxies say of TLS, as `tls` and `server_tls` say it.

use serde_json::{Value, json};

use super::draft::Keys;

/// Why ciphers are not taken over.
pub(super) const CIPHERS: &str = "ciphers and curves cannot be chosen: all that are offered are good";
/// Why settings of sessions that are kept are not taken over.
pub(super) const SESSIONS: &str = "nothing is kept for clients that come back: their tickets hold all that is needed";

/// Notes the lowest of these versions, written as `TLSv1.2`.
///
/// # Errors
///
/// One of them is not spoken here.
pub(super) fn set_min_version<'a>(keys: &mut Keys, versions: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let versions: Vec<&str> = versions.into_iter().collect();
    if versions.iter().all(|version| *version == "TLSv1.3") {
        keys.insert("min_version".to_owned(), json!("1.3"));
    }
    match versions.iter().find(|version| !["TLSv1.2", "TLSv1.3"].contains(version)) {
        Some(old) => Err(format!("{old} is not spoken; min_version is 1.2")),
        None => Ok(()),
    }
}

/// A name as routes have it, and what is to be said of it. `None` where it stands for no name of a host.
pub(super) fn server_name(text: &str) -> Option<(String, Option<String>)> {
    let name = text.to_ascii_lowercase();
    let parent = name.strip_prefix("*.").unwrap_or(&name);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    let doubt = (parent.len() < name.len()).then(|| format!("{name} takes one label here: not a.b.{parent}"));
    parent.split('.').all(is_label).then_some((name, doubt))
}

/// A certificate and its key, which may be in the same file.
pub(super) fn certificate(cert: &str, key: Option<&str>) -> Value {
    match key {
        Some(key) if key != cert => json!({ "cert": cert, "key": key }),
        _ => json!({ "cert": cert }),
    }
}
