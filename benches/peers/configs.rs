//! The configurations of the peers: the same semantics, logs off unless they are wanted, each tuned for what is
//! measured.

use std::{fmt::Write, net::SocketAddr, path::Path};

use serde_json::json;

/// What a peer makes of its clients' bytes.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only with TLS"))]
pub(crate) enum Speaks<'a> {
    /// It passes them on.
    Tcp,
    /// It speaks TLS with the certificate and the key in this file, and has buffers for bulk.
    Tls { pem: &'a Path, is_bulk: bool },
    /// It passes them on where the name in their TLS hello leads.
    ByName,
    /// It passes them on; they begin with a hello, too, at which nobody looks.
    Unread,
}

/// The names that lead somewhere.
const NAMES: &str = "*.example.com";

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
    pub(crate) speaks: Speaks<'a>,
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
    let group = |target: &SocketAddr| {
        let mut group =
            json!({ "listen": target.to_string(), "policy": policy, "servers": servers, "idle_timeout": "10m" });
        match settings.speaks {
            Speaks::Tcp | Speaks::Unread => {}
            Speaks::Tls { pem, .. } => group["tls"] = json!({ "certificates": [{ "cert": pem }] }),
            Speaks::ByName => {
                group["routes"] = json!([{ "sni": [NAMES], "group": "behind" }]);
                group["route_default"] = json!("close");
            }
        }
        group
    };
    let mut groups: Vec<_> = settings.targets.iter().map(group).collect();
    if let Speaks::ByName = settings.speaks {
        let listen = SocketAddr::new(settings.targets[0].ip(), 1);
        groups.push(json!({ "name": "behind", "listen": listen.to_string(), "open": false, "policy": policy,
                            "servers": servers, "idle_timeout": "10m" }));
    }
    let config = json!({
        "admin": { "listen": settings.admin.to_string() },
        "log": { "level": if settings.has_logs { "info" } else { "error" }, "format": "json" },
        "policies_dir": concat!(env!("CARGO_MANIFEST_DIR"), "/policies"),
        "drain_timeout": "1s",
        "threads": settings.cores,
        "groups": groups,
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
    let (buffers, tls, by_name) = match settings.speaks {
        Speaks::Tcp | Speaks::Unread => ("", String::new(), String::new()),
        Speaks::Tls { pem, is_bulk } => {
            (if is_bulk { "  tune.bufsize 65536\n" } else { "" }, format!(" ssl crt {}", pem.display()), String::new())
        }
        Speaks::ByName => {
            let rules = "  tcp-request inspect-delay 5s\n  tcp-request content accept if { req.ssl_hello_type 1 }\n";
            let name = NAMES.trim_start_matches('*');
            let leads = format!("  use_backend servers if {{ req.ssl_sni -m end {name} }}\nbackend servers\n");
            ("", String::new(), format!("{rules}{leads}"))
        }
    };
    let kind = if by_name.is_empty() { "listen" } else { "frontend" };
    let mut config = format!(
        "global\n{log}  nbthread {}\n  maxconn {}\n  tune.pipesize 1048576\n{buffers}\
         defaults\n{option}  mode tcp\n  {splice}\n  maxconn {}\n  backlog 4096\n  balance roundrobin\n  \
         timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n\
         {kind} group\n  bind {}{tls}\n{by_name}",
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
    let (ssl, tls, map, to) = match settings.speaks {
        Speaks::Tcp | Speaks::Unread => ("", String::new(), String::new(), "servers"),
        Speaks::Tls { pem, is_bulk } => {
            let (pem, buffer) = (pem.display(), if is_bulk { "    proxy_buffer_size 256k;\n" } else { "" });
            let keys = format!("    ssl_certificate {pem};\n    ssl_certificate_key {pem};\n");
            (" ssl", format!("{keys}    ssl_protocols TLSv1.2 TLSv1.3;\n{buffer}"), String::new(), "servers")
        }
        Speaks::ByName => {
            let map = format!("  map $ssl_preread_server_name $found {{\n    hostnames;\n    {NAMES} servers;\n  }}\n");
            ("", "    ssl_preread on;\n".to_owned(), map, "$found")
        }
    };
    format!(
        "{module}{user}daemon off;\nworker_processes {};\npid nginx.pid;\nerror_log stderr crit;\n\
         events {{\n  worker_connections {};\n}}\n\
         stream {{\n  {log}\n{map}  upstream servers {{\n{servers}  }}\n  server {{\n{tls}    \
         listen {}{ssl} reuseport backlog=4096;\n    proxy_pass {to};\n    proxy_half_close on;\n    \
         proxy_timeout 10m;\n  }}\n}}\n",
        settings.cores,
        settings.sessions_max() * 2,
        settings.targets[0],
    )
}
