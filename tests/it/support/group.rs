//! A group of `proxy.json`, as short as a test can say it.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use super::FakeServer;

/// A group without its address.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    keys: Map<String, Value>,
    servers: Vec<Value>,
    pub(super) ip: Option<IpAddr>,
}

impl Group {
    pub(crate) fn new(policy: &str, servers: &[&FakeServer]) -> Self {
        let keys = Map::from_iter([("policy".to_owned(), policy.into())]);
        Self { keys, servers: servers.iter().map(|server| server.addr.to_string().into()).collect(), ip: None }
    }

    /// Sets a key of the group.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.keys.insert(key.to_owned(), value.into());
        self
    }

    /// Listens on this address instead of the proxy's own.
    pub(crate) fn on(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// One more server, with settings of its own.
    pub(crate) fn server(self, server: &FakeServer, settings: Value) -> Self {
        self.server_at(server.addr, settings)
    }

    /// The same of a server that is no fake.
    pub(crate) fn server_at(mut self, addr: SocketAddr, settings: Value) -> Self {
        let mut entry = json!({ "addr": addr.to_string() });
        let keys = entry.as_object_mut().expect("made an object a line ago");
        keys.extend(settings.as_object().expect("settings are an object").clone());
        self.servers.push(entry);
        self
    }

    pub(super) fn to_json(&self, listen: SocketAddr) -> Value {
        let mut keys = self.keys.clone();
        keys.insert("listen".to_owned(), listen.to_string().into());
        keys.insert("servers".to_owned(), self.servers.clone().into());
        Value::Object(keys)
    }
}
