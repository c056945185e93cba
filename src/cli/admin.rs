//! Which running proxy a command asks.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::file::read;
use crate::admin_client::{AdminAddr, AdminClient};
use crate::base::secret::Secret;
use crate::config::{self, flags};

/// Where a proxy is asked that nobody has named.
const DEFAULT_ADMIN: &str = "127.0.0.1:8080";

/// How a running proxy is reached.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// The admin port of the running proxy: HOST:PORT or unix:PATH [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", env = "GOPROXY_ADMIN")]
    pub admin: Option<AdminAddr>,
    /// Its token: env:NAME, file:PATH or the token itself, which others see in the list of processes
    #[arg(long, value_name = "TOKEN", env = "GOPROXY_TOKEN", hide_env_values = true, value_parser = flags::token)]
    pub token: Option<Secret>,
    /// Take address and token from this proxy.json, or from the one in this folder
    #[arg(short = 'c', long = "config", value_name = "PATH")]
    pub config: Option<PathBuf>,
}

impl AdminArgs {
    /// The proxy that is meant.
    ///
    /// # Errors
    ///
    /// The file that was named cannot be read.
    pub fn client(&self) -> anyhow::Result<AdminClient> {
        let (mut addr, mut token) = (self.admin.clone(), self.token.clone());
        if let Some(named) = &self.config {
            let path = config::find(Some(named))?;
            // A mistake elsewhere in the file is no reason not to look at the proxy, rather the contrary.
            let inspected = config::inspect(&path, &read(&path)?);
            let Some(config) = inspected.config else {
                // Where the proxy is cannot be known; what is wrong with the file can.
                let first = inspected.problems.first().map(|problem| format!("{}; ", problem.in_file(&path)));
                let first = first.unwrap_or_else(|| format!("{}: cannot be read; ", path.display()));
                anyhow::bail!("{first}expected a file without that, or --admin, and --token if needed");
            };
            addr = addr.or_else(|| Some(AdminAddr::from(&config.admin.listen)));
            token = token.or(config.admin.token);
        }
        let default = || DEFAULT_ADMIN.parse().expect("an address");
        Ok(AdminClient::new(addr.unwrap_or_else(default), token))
    }

    /// True when the token that stands in the file is the one that counts.
    pub(super) fn has_token_of_file(&self) -> bool {
        self.config.is_some() && self.token.is_none()
    }

    /// Asks the proxy that is meant.
    ///
    /// # Errors
    ///
    /// The file that was named cannot be read, or those of `work`.
    pub(super) fn ask<T>(&self, work: impl AsyncFnOnce(AdminClient) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let client = self.client()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        runtime.block_on(work(client))
    }
}
