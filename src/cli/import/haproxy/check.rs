//! How servers are checked: the options of a backend and of its servers as one `check`.

use serde_json::{Value, json};

use super::words::{Directive, time};
use crate::cli::import::draft::{Keys, duration};

/// Why a kind of check is left out.
const NO_KIND: &str = "no such check here; without another kind a connect is all that is asked for";

/// What is known of a group's checks.
#[derive(Debug, Default)]
pub(super) struct Check {
    kind: Option<&'static str>,
    keys: Keys,
    steps: Vec<Value>,
    /// The pause while a server is up, in milliseconds.
    interval_ms: Option<u64>,
    /// What `timeout check` says.
    timeout_ms: Option<u64>,
}

impl Check {
    /// Reads `option NAME …` if it says how to check; `None` when it is another option.
    pub(super) fn option(&mut self, line: &Directive) -> Option<Result<(), String>> {
        let user = line.words.iter().position(|word| word == "user").map(|at| line.word(at + 1).to_owned());
        Some(match line.word(1) {
            "tcp-check" => self.set_kind("exchange"),
            "redis-check" => self.set_kind("redis"),
            "pgsql-check" => {
                self.keys.extend(user.map(|user| ("user".to_owned(), json!(user))));
                self.set_kind("postgresql")
            }
            "mysql-check" => match user {
                None => {
                    Err("a check of MySQL logs in, so that the proxy is not locked out: it needs a user".to_owned())
                }
                Some(user) => {
                    self.keys.insert("user".to_owned(), json!(user));
                    self.set_kind("mysql")
                }
            },
            "httpchk" => self.http(&line.rest(2)),
            "smtpchk" | "ldap-check" | "spop-check" | "external-check" => Err(NO_KIND.to_owned()),
            "ssl-hello-chk" => Err("not taken over: write kind tls with server_tls into check; docs/tls.md".to_owned()),
            _ => return None,
        })
    }

    fn set_kind(&mut self, kind: &'static str) -> Result<(), String> {
        self.kind = Some(kind);
        Ok(())
    }

    fn http(&mut self, words: &[&str]) -> Result<(), String> {
        let (method, path) = match words {
            [] => ("OPTIONS", "/"),
            [path] => ("OPTIONS", *path),
            [method, path, ..] => (*method, *path),
        };
        self.keys.insert("method".to_owned(), json!(method));
        self.keys.insert("path".to_owned(), json!(path));
        self.set_kind("http")?;
        match words.len() > 3 {
            true => Err("headers of the check are written under check.headers".to_owned()),
            false => Ok(()),
        }
    }

    /// Reads `http-check …`.
    pub(super) fn http_check(&mut self, line: &Directive) -> Result<(), String> {
        let not_all = || "only meth, uri and hdr of send, and one expect, have an equivalent".to_owned();
        match line.word(1) {
            "expect" => {
                let (is_not, words) = negated(line.rest(2));
                match words[..] {
                    ["status", status] if !is_not => {
                        self.keys.insert("status".to_owned(), json!(status));
                    }
                    [how, text] => {
                        self.keys.insert("body".to_owned(), expected(how, text, is_not).ok_or_else(not_all)?);
                    }
                    _ => return Err(not_all()),
                }
                Ok(())
            }
            "send" => {
                let words = line.rest(2);
                let mut words = words.iter();
                while let Some(word) = words.next() {
                    match (*word, words.next()) {
                        ("meth", Some(method)) => _ = self.keys.insert("method".to_owned(), json!(method)),
                        ("uri", Some(path)) => _ = self.keys.insert("path".to_owned(), json!(path)),
                        ("ver", Some(_)) => {}
                        ("hdr", Some(name)) => {
                            let value = words.next().ok_or_else(not_all)?;
                            match name.eq_ignore_ascii_case("host") {
                                true => _ = self.keys.insert("host".to_owned(), json!(value)),
                                false => {
                                    let headers = self.keys.entry("headers").or_insert_with(|| json!({}));
                                    headers[*name] = json!(value);
                                }
                            }
                        }
                        _ => return Err(not_all()),
                    }
                }
                Ok(())
            }
            _ => Err(not_all()),
        }
    }

    /// Reads `tcp-check …`.
    pub(super) fn tcp_check(&mut self, line: &Directive) -> Result<(), String> {
        let step = match (line.word(1), line.words.len()) {
            ("connect", 2) => return Ok(()),
            ("send", 3) => json!({ "send": line.word(2) }),
            ("send-binary", 3) => json!({ "send": { "hex": line.word(2) } }),
            ("expect", _) => {
                let (is_not, words) = negated(line.rest(2));
                let [how, text] = words[..] else { return Err("only one pattern has an equivalent".to_owned()) };
                let expected =
                    expected(how, text, is_not).ok_or("only string, rstring and binary have an equivalent")?;
                // What is sent and what is expected of it are one step.
                match self.steps.last_mut().filter(|step| step["expect"].is_null()) {
                    Some(step) => {
                        step["expect"] = expected;
                        return Ok(());
                    }
                    None => json!({ "expect": expected }),
                }
            }
            _ => return Err("no equivalent".to_owned()),
        };
        self.steps.push(step);
        Ok(())
    }

    /// Reads a parameter of a server, which here is one of the group.
    pub(super) fn parameter(&mut self, name: &str, value: &str) -> Result<(), String> {
        let (key, value) = match name {
            "rise" | "fall" => (name, json!(value.parse::<u32>().map_err(|_| format!("\"{value}\" is not a number"))?)),
            _ => {
                let millis = time(value)
                    .ok_or_else(|| format!("\"{value}\" is not a time; expected one such as 500ms or 2s"))?;
                match name {
                    "inter" => {
                        self.interval_ms.get_or_insert(millis);
                        ("interval", json!(duration(millis)))
                    }
                    "fastinter" => ("fast_interval", json!(duration(millis))),
                    _ => ("down_interval", json!(duration(millis))),
                }
            }
        };
        match self.keys.get(key) {
            Some(before) if *before != value => {
                Err(format!("check.{key} is one for the whole group, and {before} was said before"))
            }
            _ => {
                self.keys.insert(key.to_owned(), value);
                Ok(())
            }
        }
    }

    pub(super) fn set_timeout(&mut self, millis: u64) {
        self.timeout_ms = Some(millis);
    }

    /// The value of the key; and what has no place in it.
    pub(super) fn finish(mut self) -> (Value, Option<String>) {
        let kind = match (self.kind, self.steps.is_empty()) {
            (Some("exchange"), true) | (None, _) => "tcp",
            (Some(kind), _) => kind,
        };
        let mut check = Keys::new();
        check.insert("kind".to_owned(), json!(kind));
        check.append(&mut self.keys);
        if kind == "exchange" {
            check.insert("steps".to_owned(), json!(self.steps));
        }
        let mut doubt = None;
        if let Some(millis) = self.timeout_ms {
            let interval_ms = self.interval_ms.unwrap_or(2_000);
            check.insert("timeout".to_owned(), json!(duration(millis.min(interval_ms))));
            doubt = (millis > interval_ms).then(|| {
                format!("a check is over before the next begins, so check.timeout is {}", duration(interval_ms))
            });
        }
        (Value::Object(check), doubt)
    }
}

fn negated(words: Vec<&str>) -> (bool, Vec<&str>) {
    match words.split_first() {
        Some((&"!", rest)) => (true, rest.to_vec()),
        _ => (false, words),
    }
}

/// What an answer has to be like.
fn expected(how: &str, text: &str, is_not: bool) -> Option<Value> {
    let mut expected = match how {
        "string" => json!({ "contains": text }),
        "rstring" => json!({ "regex": text }),
        "binary" => json!({ "contains": { "hex": text } }),
        _ => return None,
    };
    if is_not {
        expected["not"] = json!(true);
    }
    Some(expected)
}
