//! One group: a `server` block with its `upstream`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::tls::Tls;
use super::words::{Directive, note, time};
use crate::cli::import::draft::{GroupDraft, Keys, Note, ServerDraft, duration};

/// Where the servers of a group are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Servers<'a> {
    /// In this block.
    Upstream(&'a Directive),
    /// There is one, with this address.
    One(&'a str),
    /// All clients go to other groups.
    None,
}

/// A group that is being read.
#[derive(Debug)]
pub(super) struct Import<'a> {
    pub(super) group: GroupDraft,
    zones: &'a BTreeMap<&'a str, &'a Directive>,
    listens: Vec<String>,
    port: Option<u16>,
    policy: Option<&'static str>,
    keys: Keys,
    client_sessions: Option<u32>,
    allow: Vec<String>,
    deny: Vec<String>,
    /// Everybody else is denied.
    denies_all: bool,
    accepts_proxy: bool,
    proxies: Vec<String>,
    sends_proxy: bool,
    proxy_version: &'static str,
    tls: Tls,
    line: usize,
}

impl<'a> Import<'a> {
    /// Of this `server` block.
    pub(super) fn new(server: &Directive, zones: &'a BTreeMap<&'a str, &'a Directive>) -> Self {
        Self {
            group: GroupDraft::default(),
            zones,
            listens: Vec::new(),
            port: None,
            policy: None,
            keys: Keys::new(),
            client_sessions: None,
            allow: Vec::new(),
            deny: Vec::new(),
            denies_all: false,
            accepts_proxy: false,
            proxies: Vec::new(),
            sends_proxy: false,
            proxy_version: "v1",
            tls: Tls::default(),
            line: server.line,
        }
    }

    fn set(&mut self, key: &str, value: Value) -> Result<(), String> {
        self.keys.insert(key.to_owned(), value);
        Ok(())
    }

    /// Reads a directive of `stream` or of its `server`.
    ///
    /// # Errors
    ///
    /// Why it has no equivalent.
    pub(super) fn read(&mut self, line: &Directive) -> Result<(), String> {
        let value = line.word(1);
        let millis =
            || time(value).ok_or_else(|| format!("\"{value}\" is not a time; expected one such as 500ms or 2s"));
        match line.word(0) {
            "listen" => self.listen(line),
            "proxy_pass" => Ok(()),
            "proxy_connect_timeout" => self.set("connect_timeout", json!(duration(millis()?))),
            "proxy_timeout" => self.set("idle_timeout", json!(duration(millis()?))),
            "proxy_next_upstream_tries" => match value.parse::<u32>() {
                Ok(0) => {
                    Err("0 means without a limit; here a session tries as many servers as connect_attempts".to_owned())
                }
                Ok(tries) => self.set("connect_attempts", json!(tries.min(100))),
                Err(_) => Err(format!("\"{value}\" is not a number")),
            },
            "proxy_next_upstream" if value == "off" => self.set("connect_attempts", json!(1)),
            // Both are always so.
            "proxy_next_upstream" | "proxy_half_close" if value == "on" => Ok(()),
            "proxy_half_close" => Err("an end of one side is always passed on, and the other may go on".to_owned()),
            "proxy_protocol" => {
                self.sends_proxy = value == "on";
                Ok(())
            }
            "proxy_protocol_version" => {
                self.proxy_version = if value == "2" { "v2" } else { "v1" };
                Ok(())
            }
            "proxy_bind" if value.parse::<IpAddr>().is_ok() && line.words.len() == 2 => {
                self.set("server_tcp", json!({ "source": value }))
            }
            "set_real_ip_from" => {
                self.proxies.push(value.to_owned());
                Ok(())
            }
            "allow" | "deny" => {
                self.access(line.word(0) == "allow", value);
                Ok(())
            }
            "limit_conn" => match (self.zones.contains_key(value), line.word(2).parse::<u32>()) {
                (true, Ok(most)) => {
                    self.client_sessions = Some(most);
                    Ok(())
                }
                _ => Err("only a zone of $binary_remote_addr or $remote_addr has an equivalent".to_owned()),
            },
            "proxy_socket_keepalive" | "tcp_nodelay" => Ok(()),
            // Whether it chooses the servers is seen at `proxy_pass`.
            "ssl_preread" => Ok(()),
            name if name.starts_with("ssl_") => self.tls.read_client(line),
            name if name.starts_with("proxy_ssl") => self.tls.read_server(line),
            "access_log" | "log_format" | "error_log" => {
                Err("the log goes to stderr, and has all of each session".to_owned())
            }
            "resolver" | "resolver_timeout" => Err("names are looked up by the system".to_owned()),
            "include" => Err("other files are not read: import them by themselves".to_owned()),
            "preread_buffer_size" | "preread_timeout" | "js_filter" | "js_preread" | "js_access" | "return" => {
                Err("what a client says is not looked at: its bytes go to the server as they are".to_owned())
            }
            "proxy_buffer_size" | "proxy_upload_rate" | "proxy_download_rate" => Err("no equivalent".to_owned()),
            _ => Err("no equivalent".to_owned()),
        }
    }

    /// nginx takes the first rule that fits; here `deny` wins, whatever the order.
    fn access(&mut self, is_allowed: bool, network: &str) {
        match (is_allowed, network) {
            (true, "all") => {}
            (false, "all") => self.denies_all = true,
            (true, network) => self.allow.push(network.to_owned()),
            (false, network) => self.deny.push(network.to_owned()),
        }
    }

    fn listen(&mut self, line: &Directive) -> Result<(), String> {
        let words = line.rest(2);
        if words.contains(&"udp") {
            return Err("UDP is not there".to_owned());
        }
        let address = line.word(1);
        if address.starts_with("unix:") {
            return Err("only an IP and a port can be listened on".to_owned());
        }
        let (host, port) = match address.parse::<u16>() {
            Ok(port) => ("0.0.0.0", port),
            Err(_) => {
                let (host, port) = address.rsplit_once(':').ok_or("it has no port")?;
                (host, port.parse().map_err(|_| "it has no port")?)
            }
        };
        let host = if host == "*" { "0.0.0.0" } else { host };
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .map_err(|_| "a group listens on an IP, not on a name")?;
        self.listens.push(format!("{host}:{port}"));
        self.port.get_or_insert(port);
        self.accepts_proxy |= words.contains(&"proxy_protocol");
        self.tls.ends_here |= words.contains(&"ssl");
        Ok(())
    }

    /// Reads a directive of the `upstream`.
    ///
    /// # Errors
    ///
    /// Why it has no equivalent.
    fn read_upstream(&mut self, line: &Directive) -> Result<(), String> {
        let is_client = ["$remote_addr", "$binary_remote_addr"].contains(&line.word(1));
        self.policy = Some(match line.word(0) {
            "server" => return self.server(line),
            // Memory that its workers share, and what is so anyway.
            "zone" => return Ok(()),
            "least_conn" => "least_sessions",
            "hash" if is_client && line.word(2) == "consistent" => "maglev",
            "hash" if is_client => "ip_hash",
            "random" if line.word(1) == "two" => "p2c",
            "random" => "random",
            "hash" => return Err("only the client's address is hashed".to_owned()),
            "least_time" => return Err("the module least_latency of policies/ does this".to_owned()),
            _ => return Err("no equivalent".to_owned()),
        });
        Ok(())
    }

    fn server(&mut self, line: &Directive) -> Result<(), String> {
        let address = line.word(1);
        if address.starts_with("unix:") || !address.contains(':') {
            return Err("a server is host:port".to_owned());
        }
        let mut server = ServerDraft::default();
        server.keys.insert("addr".to_owned(), json!(address));
        for word in line.rest(2) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let why = match (name, value.parse::<u32>()) {
                ("weight", Ok(weight)) => {
                    server.keys.insert("weight".to_owned(), json!(weight));
                    continue;
                }
                ("max_conns", Ok(most)) => {
                    server.keys.insert("max_sessions".to_owned(), json!(most));
                    continue;
                }
                ("backup", _) => {
                    server.keys.insert("backup".to_owned(), json!(true));
                    continue;
                }
                ("down", _) => {
                    server.keys.insert("state".to_owned(), json!("maint"));
                    continue;
                }
                ("resolve", _) => continue,
                ("max_fails" | "fail_timeout", _) => {
                    "a server that fails a connect is passed over until the proxy itself has reached it again"
                }
                ("slow_start", _) => "a server that comes back gets its share at once",
                _ => "no equivalent",
            };
            server.notes.push(Note::new(line.line, word, why));
        }
        if self.group.servers.iter().any(|known| known.keys["addr"] == server.keys["addr"]) {
            return Err("a server with this address is in the group already".to_owned());
        }
        self.group.servers.push(server);
        Ok(())
    }

    /// The group and its port.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub(super) fn finish(self, servers: Servers<'_>) -> Result<(GroupDraft, u16), String> {
        let port = self.port.ok_or("it listens on no IP and port")?;
        Ok((self.group(servers)?, port))
    }

    /// The group as one that only routes lead to.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub(super) fn finish_target(mut self, servers: Servers<'_>) -> Result<GroupDraft, String> {
        // What is asked of clients, the group asks that they come to; what is to be said of it is said there.
        self.group.notes.clear();
        (self.client_sessions, self.denies_all, self.accepts_proxy, self.tls.ends_here) = (None, false, false, false);
        self.deny.clear();
        let mut group = self.group(servers)?;
        group.keys.remove("listen");
        Ok(group)
    }

    fn group(mut self, servers: Servers<'_>) -> Result<GroupDraft, String> {
        match servers {
            Servers::Upstream(upstream) => {
                for line in upstream.inside() {
                    if let Err(why) = self.read_upstream(line) {
                        self.group.notes.push(note(line, why));
                    }
                }
            }
            Servers::One(address) => {
                if address.contains('$') || !address.contains(':') || address.starts_with("unix:") {
                    return Err(format!("\"{address}\" is not a server; servers are not chosen by what a client says"));
                }
                let keys = [("addr".to_owned(), json!(address))].into_iter().collect();
                self.group.servers.push(ServerDraft { keys, ..ServerDraft::default() });
            }
            Servers::None => {}
        }
        let has_servers = !matches!(servers, Servers::None);
        if self.group.servers.is_empty() && has_servers {
            return Err("it passes sessions to nobody".to_owned());
        }
        let mut group = self.group;
        let mut doubt = |why: &str| group.notes.push(Note::new(self.line, "server", why));
        let keys = &mut group.keys;
        let listen = if let [one] = &self.listens[..] { json!(one) } else { json!(self.listens) };
        keys.insert("listen".to_owned(), listen);
        if has_servers {
            keys.insert("policy".to_owned(), json!(self.policy.unwrap_or("round_robin")));
        }
        keys.append(&mut self.keys);
        keys.extend(self.client_sessions.map(|most| ("client".to_owned(), json!({ "sessions": most }))));
        // Without `deny all`, what is allowed is so anyway.
        if self.denies_all && !self.allow.is_empty() {
            keys.insert("allow".to_owned(), json!(self.allow));
        } else if self.denies_all {
            doubt("it denies everybody");
            keys.insert("deny".to_owned(), json!(["0.0.0.0/0", "::/0"]));
        }
        if !self.deny.is_empty() {
            keys.insert("deny".to_owned(), json!(self.deny));
            if !self.allow.is_empty() {
                doubt(
                    "nginx takes the first of its allow and deny lines that fits; here deny wins, whatever the order",
                );
            }
        }
        if self.accepts_proxy {
            if self.proxies.is_empty() {
                doubt("accept_proxy.from lets everybody claim any address: name the proxies in front");
                self.proxies = ["0.0.0.0/0", "::/0"].map(str::to_owned).into();
            }
            keys.insert("accept_proxy".to_owned(), json!({ "from": self.proxies }));
        }
        if self.sends_proxy && has_servers {
            keys.insert("send_proxy".to_owned(), json!(self.proxy_version));
        }
        let upstream = if let Servers::Upstream(upstream) = servers { Some(upstream.word(1)) } else { None };
        self.tls.finish(keys, upstream, has_servers).into_iter().for_each(|why| doubt(&why));
        group.notes.sort_by_key(|note| note.line);
        Ok(group)
    }
}
