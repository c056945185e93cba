//! What `ssl_…` and `proxy_ssl_…` say.

use serde_json::{Value, json};

use super::words::{Directive, time};
use crate::cli::import::draft::{Keys, duration};
use crate::cli::import::tls::{CIPHERS, SESSIONS, certificate, server_name, set_min_version};

/// What is said of TLS, of clients and of servers.
#[derive(Debug, Default)]
pub(super) struct Tls {
    /// TLS of clients ends here.
    pub(super) ends_here: bool,
    certs: Vec<String>,
    cert_keys: Vec<String>,
    client: Keys,
    /// Servers are spoken to in TLS.
    begins_here: bool,
    is_verified: bool,
    server: Keys,
}

impl Tls {
    /// Reads `ssl_…`.
    ///
    /// # Errors
    ///
    /// Why it has no equivalent.
    pub(super) fn read_client(&mut self, line: &Directive) -> Result<(), String> {
        let value = line.word(1);
        let mut set = |key: &str, value: Value| _ = self.client.insert(key.to_owned(), value);
        match line.word(0) {
            "ssl_certificate" | "ssl_certificate_key" if value.contains('$') || value.contains("data:") => {
                return Err("a certificate is in a file, which has one name".to_owned());
            }
            "ssl_certificate" => self.certs.push(value.to_owned()),
            "ssl_certificate_key" => self.cert_keys.push(value.to_owned()),
            "ssl_protocols" => return set_min_version(&mut self.client, line.rest(1)),
            "ssl_alpn" => set("alpn", json!(line.rest(1))),
            "ssl_handshake_timeout" => match time(value) {
                Some(millis) => set("handshake_timeout", json!(duration(millis.clamp(100, 60_000)))),
                None => return Err(format!("\"{value}\" is not a time; expected one such as 500ms or 2s")),
            },
            "ssl_session_tickets" => set("tickets", json!(value == "on")),
            "ssl_verify_client" => match value {
                "on" => set("client_auth", json!("require")),
                "optional" => set("client_auth", json!("request")),
                "off" => {}
                _ => return Err("a certificate that is shown has to be valid".to_owned()),
            },
            "ssl_client_certificate" | "ssl_trusted_certificate" => set("client_ca", json!(value)),
            "ssl_crl" => set("client_crl", json!(value)),
            "ssl_ciphers" | "ssl_prefer_server_ciphers" | "ssl_ecdh_curve" | "ssl_dhparam" | "ssl_conf_command" => {
                return Err(CIPHERS.to_owned());
            }
            "ssl_session_cache" | "ssl_session_timeout" => return Err(SESSIONS.to_owned()),
            "ssl_password_file" => {
                return Err("a key has no passphrase here; its file is for the proxy alone".to_owned());
            }
            _ => return Err("no equivalent".to_owned()),
        }
        Ok(())
    }

    /// Reads `proxy_ssl…`.
    ///
    /// # Errors
    ///
    /// Why it has no equivalent.
    pub(super) fn read_server(&mut self, line: &Directive) -> Result<(), String> {
        let value = line.word(1);
        let mut set = |key: &str, value: Value| _ = self.server.insert(key.to_owned(), value);
        match line.word(0) {
            "proxy_ssl" => self.begins_here = value == "on",
            "proxy_ssl_verify" => self.is_verified = value == "on",
            "proxy_ssl_trusted_certificate" => set("ca", json!(value)),
            "proxy_ssl_certificate" => set("cert", json!(value)),
            "proxy_ssl_certificate_key" => set("key", json!(value)),
            "proxy_ssl_name" if ["$ssl_preread_server_name", "$ssl_server_name"].contains(&value) => {
                set("name", json!("client"));
            }
            "proxy_ssl_name" if !value.contains('$') => set("name", json!(value)),
            "proxy_ssl_protocols" => return set_min_version(&mut self.server, line.rest(1)),
            "proxy_ssl_alpn" => set("alpn", json!(line.rest(1))),
            // Always so.
            "proxy_ssl_server_name" | "proxy_ssl_session_reuse" if value == "on" => {}
            "proxy_ssl_server_name" => return Err("servers are always told the name".to_owned()),
            "proxy_ssl_ciphers" | "proxy_ssl_conf_command" => return Err(CIPHERS.to_owned()),
            _ => return Err("no equivalent".to_owned()),
        }
        Ok(())
    }

    /// Writes the keys, in a group with this upstream. What is to be said of it.
    pub(super) fn finish(mut self, keys: &mut Keys, upstream: Option<&str>, has_servers: bool) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.ends_here {
            // A key that is missing is in the file of its certificate.
            let pairs = self.certs.iter().enumerate();
            let pairs: Vec<Value> =
                pairs.map(|(at, cert)| certificate(cert, self.cert_keys.get(at).map(String::as_str))).collect();
            if pairs.is_empty() {
                doubts.push("it speaks TLS and has no ssl_certificate".to_owned());
            }
            let mut tls: Keys = [("certificates".to_owned(), json!(pairs))].into_iter().collect();
            tls.append(&mut self.client);
            keys.insert("tls".to_owned(), Value::Object(tls));
        }
        if self.begins_here && has_servers {
            if !self.is_verified {
                self.server.insert("verify".to_owned(), json!(false));
                let why = "nginx takes any server for the right one without proxy_ssl_verify, and so does verify false";
                doubts.push(why.to_owned());
            } else if let Some(name) = upstream.and_then(server_name).map(|(name, _)| name) {
                // nginx compares the name of the upstream.
                self.server.entry("name").or_insert_with(|| json!(name));
            }
            keys.insert("server_tls".to_owned(), Value::Object(self.server));
        }
        doubts
    }
}
