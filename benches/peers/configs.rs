//! The configurations of the peers: the same semantics, logs off unless they are wanted, each tuned for what is
//! measured.

use std::{fmt::Write, net::SocketAddr, path::Path};

use serde_json::json;

/// What every peer is told.
pub(crate) struct Settings<'a> {
    /// Where its groups listen. The other proxies have one.
    pub(crate) targets: &'a [SocketAddr],
    pub(crate) admin: SocketAddr,
    pub(crate) servers: &'a [SocketAddr],
    pub(crate) cores: usize,
    pub(crate) descriptors: u64,
    /// Every session is logged, into a file.
    pub(crate) has_logs: bool,
}

impl Settings<'_> {
    /// Sessions a peer must be able to hold: each has two sockets, and HAProxy counts half a descriptor more for pipes.
    fn sessions_max(&self) -> u64 {
        (self.descriptors.saturating_sub(500) * 2 / 5).min(20_000)
    }
}

/// When HAProxy splices.
#[derive(Clone, Copy)]
pub(crate) enum Splice {
    /// When it takes a stream for bulk. Version 2.6 never does here, later ones do.
    Auto,
    /// From the first byte on.
    Always,
}

/// Its log is stderr, which is a file.
pub(crate) fn goproxy(settings: &Settings<'_>, policy: &str) -> String {
    let servers: Vec<String> = settings.servers.iter().map(SocketAddr::to_string).collect();
    let group = |target: &SocketAddr| json!({ "listen": target.to_string(), "policy": policy, "servers": servers, "idle_timeout": "10m" });
    let config = json!({
        "admin": { "listen": settings.admin.to_string() },
        "log": { "level": if settings.has_logs { "info" } else { "error" }, "format": "json" },
        "policies_dir": concat!(env!("CARGO_MANIFEST_DIR"), "/policies"),
        "drain_timeout": "1s",
        "threads": settings.cores,
        "groups": settings.targets.iter().map(group).collect::<Vec<_>>(),
    });
    format!("{config:#}\n")
}

/// Without 1 MiB pipes HAProxy's splicing costs almost three times as much on bulk.
pub(crate) fn haproxy(settings: &Settings<'_>, splice: Splice) -> String {
    let splice = match splice {
        Splice::Auto => "option splice-auto",
        Splice::Always => "option splice-request\n  option splice-response",
    };
    // Its standard output is a file.
    let (log, option) = if settings.has_logs {
        ("  log stdout format raw local0\n", "  log global\n  option tcplog\n")
    } else {
        ("", "")
    };
    let mut config = format!(
        "global\n{log}  nbthread {}\n  maxconn {}\n  tune.pipesize 1048576\n\
         defaults\n{option}  mode tcp\n  {splice}\n  maxconn {}\n  backlog 4096\n  balance roundrobin\n  \
         timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n\
         listen group\n  bind {}\n",
        settings.cores,
        settings.sessions_max(),
        settings.sessions_max(),
        settings.targets[0],
    );
    for (index, server) in settings.servers.iter().enumerate() {
        let _infallible = writeln!(config, "  server s{index} {server}");
    }
    config
}

/// Without `proxy_half_close` nginx truncates what the server still sends to a client that has finished: cheaper,
/// but not the same work.
pub(crate) fn nginx(settings: &Settings<'_>, module: Option<&Path>) -> String {
    let module = module.map(|file| format!("load_module {};\n", file.display())).unwrap_or_default();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let log = if settings.has_logs {
        "log_format session '$remote_addr:$remote_port $upstream_addr $status $bytes_received $bytes_sent \
         $session_time $upstream_connect_time';\n  access_log access.log session;"
    } else {
        "access_log off;"
    };
    let servers: String = settings.servers.iter().map(|server| format!("    server {server};\n")).collect();
    format!(
        "{module}{user}daemon off;\nworker_processes {};\npid nginx.pid;\nerror_log stderr crit;\n\
         events {{\n  worker_connections {};\n}}\n\
         stream {{\n  {log}\n  upstream servers {{\n{servers}  }}\n  server {{\n    \
         listen {} reuseport backlog=4096;\n    proxy_pass servers;\n    proxy_half_close on;\n    \
         proxy_timeout 10m;\n  }}\n}}\n",
        settings.cores,
        settings.sessions_max() * 2,
        settings.targets[0],
    )
}
