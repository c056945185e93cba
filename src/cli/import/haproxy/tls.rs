//! What lines `bind` and `server` say of TLS.

use serde_json::{Value, json};

use super::words::Directive;
use crate::cli::import::draft::Keys;
use crate::cli::import::tls::{CIPHERS, certificate, server_name, set_min_version};

/// The folders of certificates and of those of authorities, from `global`.
#[derive(Clone, Debug, Default)]
pub(super) struct Bases {
    crt: String,
    ca: String,
}

/// What lines `bind` say of clients.
#[derive(Debug, Default)]
pub(super) struct ClientTls {
    pub(super) bases: Bases,
    ends_here: bool,
    certs: Vec<String>,
    keys: Keys,
}

/// What a line `server` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServerTls {
    pub(super) begins_here: bool,
    pub(super) keys: Keys,
}

/// How many words a parameter takes, and why it has no equivalent.
pub(super) type Taken = (usize, Result<(), String>);

impl Bases {
    /// Reads a line of `global`; false when it is another.
    pub(super) fn read(&mut self, line: &Directive) -> bool {
        let base = match line.word(0) {
            "crt-base" => &mut self.crt,
            "ca-base" => &mut self.ca,
            _ => return false,
        };
        line.word(1).clone_into(base);
        true
    }

    fn crt(&self, file: &str) -> String {
        at(&self.crt, file)
    }

    fn ca(&self, file: &str) -> String {
        at(&self.ca, file)
    }
}

fn at(base: &str, file: &str) -> String {
    match file.starts_with('/') || base.is_empty() {
        true => file.to_owned(),
        false => format!("{}/{file}", base.trim_end_matches('/')),
    }
}

fn list(value: &str) -> Value {
    json!(value.split(',').collect::<Vec<_>>())
}

impl ClientTls {
    /// Reads a parameter of `bind`; `None` when it says nothing of TLS.
    pub(super) fn read(&mut self, name: &str, value: Option<&str>) -> Option<Taken> {
        let mut set = |key: &str, value: Value| {
            self.keys.insert(key.to_owned(), value);
            Ok(())
        };
        Some(match (name, value) {
            ("ssl", _) => {
                self.ends_here = true;
                (1, Ok(()))
            }
            ("no-sslv3" | "no-tlsv10" | "no-tlsv11", _) => (1, Ok(())),
            ("no-tls-tickets", _) => (1, set("tickets", json!(false))),
            ("strict-sni", _) => (1, set("default", Value::Null)),
            ("crt", Some(file)) => {
                self.certs.push(self.bases.crt(file));
                (2, Ok(()))
            }
            ("ca-file", Some(file)) => (2, set("client_ca", json!(self.bases.ca(file)))),
            ("crl-file", Some(file)) => (2, set("client_crl", json!(self.bases.ca(file)))),
            ("alpn", Some(protocols)) => (2, set("alpn", list(protocols))),
            ("ssl-min-ver", Some(version)) => (2, set_min_version(&mut self.keys, [version])),
            ("verify", Some("required")) => (2, set("client_auth", json!("require"))),
            ("verify", Some("optional")) => (2, set("client_auth", json!("request"))),
            ("verify", Some("none")) => (2, Ok(())),
            ("ciphers" | "ciphersuites" | "curves" | "ecdhe", Some(_)) => (2, Err(CIPHERS.to_owned())),
            ("crt-list", Some(_)) => (2, Err("certificates gives each file by itself".to_owned())),
            _ => return None,
        })
    }

    /// Writes the keys. What is to be said of them.
    pub(super) fn finish(self, keys: &mut Keys) -> Option<String> {
        if !self.ends_here {
            return None;
        }
        let certificates: Vec<Value> = self.certs.iter().map(|cert| certificate(cert, None)).collect();
        let doubt = certificates.is_empty().then(|| "it speaks TLS and has no crt".to_owned());
        let mut tls: Keys = [("certificates".to_owned(), json!(certificates))].into_iter().collect();
        tls.extend(self.keys);
        keys.insert("tls".to_owned(), Value::Object(tls));
        doubt
    }
}

impl ServerTls {
    /// Reads a parameter of `server`; `None` when it says nothing of TLS.
    pub(super) fn read(&mut self, bases: &Bases, name: &str, value: Option<&str>) -> Option<Taken> {
        let mut set = |key: &str, value: Value| {
            self.keys.insert(key.to_owned(), value);
            Ok(())
        };
        let fixed = |name: &str| server_name(name).filter(|(_, doubt)| doubt.is_none()).map(|(name, _)| name);
        Some(match (name, value) {
            ("ssl", _) => {
                self.begins_here = true;
                (1, Ok(()))
            }
            ("no-ssl", _) => {
                self.begins_here = false;
                (1, Ok(()))
            }
            ("no-sslv3" | "no-tlsv10" | "no-tlsv11", _) => (1, Ok(())),
            ("verify", Some("none")) => (2, set("verify", json!(false))),
            ("verify", Some("required")) => (2, Ok(())),
            ("ca-file", Some("@system-ca")) => (2, Ok(())),
            ("ca-file", Some(file)) => (2, set("ca", json!(bases.ca(file)))),
            ("crt", Some(file)) => (2, set("cert", json!(bases.crt(file)))),
            ("alpn", Some(protocols)) => (2, set("alpn", list(protocols))),
            ("ssl-min-ver", Some(version)) => (2, set_min_version(&mut self.keys, [version])),
            // What is compared with the certificate; the name that is asked for is the same here.
            ("verifyhost", Some(host)) => (2, set("name", json!(host))),
            ("sni", Some("req.ssl_sni" | "req_ssl_sni" | "ssl_fc_sni")) => (2, set("name", json!("client"))),
            ("sni", Some(expression)) => {
                let name = expression.strip_prefix("str(").and_then(|rest| rest.strip_suffix(')')).and_then(fixed);
                match name {
                    Some(name) => {
                        self.keys.entry("name").or_insert_with(|| json!(name));
                        (2, Ok(()))
                    }
                    None => (2, Err("server_tls.name is a name, or the one that the client asks for".to_owned())),
                }
            }
            ("ciphers" | "ciphersuites" | "curves", Some(_)) => (2, Err(CIPHERS.to_owned())),
            _ => return None,
        })
    }

    /// True where HAProxy takes any name in the certificate of a server, and here its host has to be in it.
    pub(super) fn takes_any_name(&self) -> bool {
        self.keys.get("verify").is_none() && !self.keys.contains_key("name")
    }
}
