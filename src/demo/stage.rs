//! What the demonstration is played with: the file, the proxy, the servers and the clients.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use tempfile::TempDir;

use super::admin::Admin;
use super::clients::Clients;
use super::echo::{EchoServer, SERVERS};
use super::port::Port;
use crate::config;
use crate::proxy::Proxy;

/// Everything but the proxy.
pub(super) struct Stage {
    /// Holds the file; gone with this value.
    pub(super) folder: TempDir,
    pub(super) admin: Admin,
    pub(super) group: Port,
    /// Keeps the admin's port ours.
    _admin_port: Port,
    pub(super) servers: Vec<EchoServer>,
    pub(super) clients: Option<Clients>,
}

impl Stage {
    pub(super) fn new() -> anyhow::Result<Self> {
        let admin_port = Port::reserve()?;
        Ok(Self {
            folder: tempfile::Builder::new().prefix("goproxy-demo-").tempdir()?,
            admin: Admin(admin_port.addr),
            group: Port::reserve()?,
            _admin_port: admin_port,
            servers: (1..=SERVERS).map(EchoServer::new).collect::<Result<_, _>>()?,
            clients: None,
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(config::FILE_NAME)
    }

    /// Writes the file and starts the proxy from it.
    pub(super) async fn start_proxy(&self) -> anyhow::Result<Proxy> {
        let (path, text) = (self.path(), file(self.admin.0, self.group.addr));
        std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        let config = config::parse(&path, &text)
            .map_err(|problems| anyhow!("the demonstration's own file is wrong: {:?}", problems.first()))?;
        let proxy = Proxy::start(path, &text, config).await?;
        proxy.refuse_upgrades().await;
        Ok(proxy)
    }

    pub(super) async fn clear(&mut self) {
        if let Some(clients) = self.clients.take() {
            clients.stop().await;
        }
        for server in &mut self.servers {
            server.kill().await;
        }
    }
}

/// The file the proxy starts with. Its comments are there to survive.
fn file(admin: SocketAddr, group: SocketAddr) -> String {
    format!(
        r#"{{
  // Written by `goproxy demo`. What is changed over HTTP is written here, and what is edited here takes effect.
  "admin": {{ "listen": "{admin}" }},
  "policies_dir": "policies",      // within this folder
  "threads": 2,
  "groups": [
    {{
      "listen": "{group}",
      "policy": "round_robin",     // how the next server is picked
      "heartbeat_timeout": "2s",   // a server is believed that long
      "servers": []                // they register themselves
    }}
  ]
}}
"#
    )
}
