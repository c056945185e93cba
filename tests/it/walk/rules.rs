//! What the file says at the moment, and what becomes of a client by it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::Served;

/// The address of which nobody is let in while `deny` is set.
const DENIED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);

/// Keys of the group, as the walk has set them.
#[derive(Default)]
pub(super) struct Rules(BTreeMap<&'static str, Value>);

/// A client that comes.
pub(super) struct Coming {
    /// What it sends before everything else.
    pub(super) header: Vec<u8>,
    /// Whom its header names.
    pub(super) named: Option<SocketAddr>,
    pub(super) is_bad: bool,
}

impl Rules {
    /// Sets some key; its name and its value.
    pub(super) fn change(&mut self, random: &mut fastrand::Rng) -> (&'static str, Value) {
        let check = json!({ "kind": "tcp", "interval": "200ms", "start": random.choice(["up", "down"]) });
        let or_null = |is_set: bool, value: Value| if is_set { value } else { Value::Null };
        let is_set = random.bool();
        let (key, value) = match random.u8(..13) {
            0 => ("check", or_null(is_set, check)),
            1 => ("eject", or_null(is_set, json!({ "failures": 2, "time": "300ms" }))),
            2 => ("fail_open", is_set.into()),
            3 => ("recheck_max", random.choice(["250ms", "2s"]).into()),
            4 => ("connect_timeout", random.choice(["300ms", "2s"]).into()),
            5 => ("idle_timeout", random.choice(["10m", "1h"]).into()),
            6 | 7 => ("accept_proxy", or_null(is_set, json!({ "from": ["127.0.0.0/8"], "timeout": "30s" }))),
            8 => ("send_proxy", random.choice(["none", "v1", "v2"]).into()),
            9 => ("client", or_null(is_set, json!({ "sessions": 2 }))),
            10 => ("max_sessions", random.choice([0, 4, 8]).into()),
            11 => ("deny", if is_set { json!([DENIED.to_string()]) } else { json!([]) }),
            _ => {
                let both = json!({ "maint": "close", "check": "close" });
                let ways = [json!("keep"), json!({ "maint": "close" }), both];
                ("on_down", random.choice(ways).into())
            }
        };
        self.0.insert(key, value.clone());
        (key, value)
    }

    /// The file with these keys.
    pub(super) fn written_into(&self, text: &str) -> String {
        let mut file: Value = serde_json::from_str(text).expect("the proxy writes JSON as it found it");
        for (key, value) in &self.0 {
            file["groups"][0][*key] = value.clone();
        }
        serde_json::to_string_pretty(&file).expect("JSON")
    }

    /// True while a server gets a header.
    pub(super) fn tells_servers(&self) -> bool {
        self.0.get("send_proxy").is_some_and(|version| version != "none")
    }

    /// True while the sessions of a server that goes for this cause are closed.
    pub(super) fn closes(&self, cause: &str) -> bool {
        self.0.get("on_down").is_some_and(|on_down| on_down[cause] == "close")
    }

    /// True while sessions are counted by client.
    pub(super) fn counts_clients(&self) -> bool {
        self.0.get("client").is_some_and(Value::is_object)
    }

    /// Some client, with the header that it has to send now; now and then with one that is none.
    pub(super) fn coming(&self, random: &mut fastrand::Rng) -> Coming {
        if !self.0.get("accept_proxy").is_some_and(Value::is_object) {
            return Coming { header: Vec::new(), named: None, is_bad: false };
        }
        let ip = Ipv4Addr::new(10, 0, 0, random.u8(1..=4));
        let port = random.u16(1..);
        let named = Some(SocketAddr::from((ip, port)));
        let (header, is_bad) = match random.u8(..5) {
            0 => (b"PROXY TCP4 nobody\r\n".to_vec(), true),
            1 | 2 => (format!("PROXY TCP4 {ip} 192.0.2.1 {port} 80\r\n").into_bytes(), false),
            _ => {
                let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
                (
                    Vec::from_iter([&head[..], &ip.octets(), &[192, 0, 2, 1], &port.to_be_bytes(), &[0, 80]].concat()),
                    false,
                )
            }
        };
        Coming { header, named, is_bad }
    }

    /// Why this client is turned away while those are there; `None` when it is not.
    pub(super) fn refusal(&self, coming: &Coming, kept: &[Served]) -> Option<&'static str> {
        let max = self.0.get("max_sessions").and_then(Value::as_u64).unwrap_or(0);
        if max > 0 && kept.len() as u64 >= max {
            return Some("limit");
        }
        if coming.is_bad {
            return Some("bad_header");
        }
        let ip = coming.named.map(|named| named.ip());
        let denies = self.0.get("deny").is_some_and(|deny| *deny != json!([]));
        if denies && ip == Some(DENIED.into()) {
            return Some("denied");
        }
        let of_client = || kept.iter().filter(|served| served.is_counted && ip.is_none_or(|ip| served.addr.ip() == ip));
        let local = |served: &&Served| ip.is_some() || served.addr.ip().is_loopback();
        (self.counts_clients() && of_client().filter(local).count() >= 2).then_some("limit")
    }
}
