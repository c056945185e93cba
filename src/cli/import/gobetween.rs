//! gobetween's configuration, in TOML: each `[servers.NAME]` is a group.
//!
//! What a server does not say, `[defaults]` says.

mod entry;

use serde_json::{Value, json};
use toml::de::DeTable;

use super::draft::{Draft, GroupDraft, Keys, Note, ServerDraft, duration};
use entry::{Entry, entries, line_at};

/// What `[defaults]` may say for a server.
const SHARED: [&str; 4] =
    ["max_connections", "client_idle_timeout", "backend_idle_timeout", "backend_connection_timeout"];

/// Reads the text.
///
/// # Errors
///
/// What makes no sense, and in which line.
pub(super) fn read(text: &str) -> Result<Draft, String> {
    let file = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        format!("line {line}: {}", error.message())
    })?;
    let mut draft = Draft::default();
    let mut names = Vec::new();
    let all = entries(file.get_ref(), text);
    let defaults = all.iter().find(|it| it.key == "defaults").map(|it| it.inside()).unwrap_or_default();
    for entry in &all {
        match entry.key {
            "servers" => {
                for server in entry.inside() {
                    match group(&server, &defaults) {
                        Ok(group) => {
                            names.push(server.key.to_owned());
                            draft.groups.push(group);
                        }
                        Err(why) => draft.notes.push(server.note(why)),
                    }
                }
            }
            "defaults" => {
                let others = defaults.iter().filter(|it| !SHARED.contains(&it.key));
                draft.notes.extend(others.map(|it| it.note("no equivalent")));
            }
            _ => process(entry, &mut draft),
        }
    }
    draft.notes.sort_by_key(|note| note.line);
    draft.name_groups(names);
    Ok(draft)
}

/// What is about the whole process.
fn process(entry: &Entry, draft: &mut Draft) {
    let why = match entry.key {
        "logging" => {
            for line in entry.inside() {
                match (line.key, line.str()) {
                    ("level", Some(level @ ("debug" | "info" | "warn" | "error"))) => {
                        draft.keys.insert("log".to_owned(), json!({ "level": level }));
                    }
                    ("level", Some("fatal" | "panic")) => {
                        draft.keys.insert("log".to_owned(), json!({ "level": "error" }));
                    }
                    ("output", Some("stderr")) => {}
                    _ => draft.notes.push(line.note("the log goes to stderr, as log.format says")),
                }
            }
            return;
        }
        "api" => {
            for line in entry.inside() {
                match line.str().and_then(|bind| bind.parse::<std::net::SocketAddr>().ok()) {
                    Some(bind) if line.key == "bind" && bind.ip().is_loopback() => {
                        draft.keys.insert("admin".to_owned(), json!({ "listen": bind.to_string() }));
                    }
                    _ if line.key == "bind" => draft.notes.push(line.note(
                        "the admin port is on 127.0.0.1:8080; admin.listen and admin.token open it to other machines",
                    )),
                    _ if line.key == "enabled" => {}
                    _ => draft.notes.push(line.note("see admin.token; requests and answers are others")),
                }
            }
            return;
        }
        "metrics" => "/metrics of the admin port, or admin.metrics_listen",
        "profiler" => "/debug/pprof of the admin port, or admin.pprof_listen",
        "acme" => "certificates are got by another program",
        _ => "no equivalent",
    };
    draft.notes.push(entry.note(why));
}

/// A group that is being read.
#[derive(Default)]
struct Import {
    group: GroupDraft,
    keys: Keys,
    listen: Option<String>,
    policy: Option<&'static str>,
    /// The idle times of both sides, in milliseconds, and where they stand.
    idle: Vec<(u64, Note)>,
    check: Option<Keys>,
    /// The servers' priorities: the lowest is served first.
    priorities: Vec<u32>,
}

/// Reads `[servers.NAME]`.
///
/// # Errors
///
/// Why it is no group.
fn group(server: &Entry, defaults: &[Entry]) -> Result<GroupDraft, String> {
    let mut import = Import::default();
    let own = server.inside();
    let inherited = defaults.iter().filter(|it| SHARED.contains(&it.key));
    let inherited = inherited.filter(|it| own.iter().all(|own| own.key != it.key));
    for entry in own.iter().chain(inherited) {
        if entry.key == "protocol" && entry.str() != Some("tcp") {
            return Err("only protocol = \"tcp\" is there".to_owned());
        }
        if let Err(why) = import.read(entry) {
            import.group.notes.push(entry.note(why));
        }
    }
    import.finish()
}

impl Import {
    fn read(&mut self, entry: &Entry) -> Result<(), String> {
        match entry.key {
            "protocol" => {}
            "bind" => self.listen = Some(listen(entry.text()?)?),
            "balance" => {
                self.policy = Some(match entry.text()? {
                    "weight" | "roundrobin" => "round_robin",
                    "leastconn" => "least_sessions",
                    "iphash" => "ip_hash",
                    "iphash1" => "maglev",
                    "leastbandwidth" => return Err("no policy counts bytes; a module of your own can".to_owned()),
                    _ => return Err("no equivalent".to_owned()),
                });
            }
            "max_connections" => self.set("max_sessions", json!(entry.number()?)),
            "client_idle_timeout" | "backend_idle_timeout" => self.idle.push((entry.time()?, entry.note(""))),
            "backend_connection_timeout" => match entry.time()? {
                0 => return Err("0 means without a limit; connect_timeout is 2s".to_owned()),
                millis => self.set("connect_timeout", json!(duration(millis))),
            },
            "access" => return self.access(entry),
            "proxy_protocol" => {
                let version = entry.inside().iter().find(|it| it.key == "version").and_then(|it| it.str());
                self.set("send_proxy", json!(if version == Some("2") { "v2" } else { "v1" }));
            }
            "discovery" => return self.discovery(entry),
            "healthcheck" => return self.check(entry),
            "tls" | "sni" | "backends_tls" => {
                return Err("not taken over: write tls, server_tls or routes for the group; docs/tls.md".to_owned());
            }
            _ => return Err("no equivalent".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value) {
        self.keys.insert(key.to_owned(), value);
    }

    /// gobetween takes the first rule that fits; here `deny` wins, whatever the order.
    fn access(&mut self, access: &Entry) -> Result<(), String> {
        let (mut allow, mut deny, mut denies_others) = (Vec::new(), Vec::new(), false);
        for entry in access.inside() {
            match entry.key {
                "default" => denies_others = entry.text()? == "deny",
                "rules" => {
                    let rules = entry.array().ok_or("expected a list of rules")?;
                    for rule in rules.iter() {
                        match rule.get_ref().as_str().map(|rule| rule.split_whitespace().collect::<Vec<_>>()).as_deref()
                        {
                            Some(["allow", network]) => allow.push(json!(network)),
                            Some(["deny", network]) => deny.push(json!(network)),
                            _ => self.group.notes.push(entry.note("expected allow or deny and a network")),
                        }
                    }
                }
                _ => self.group.notes.push(entry.note("no equivalent")),
            }
        }
        let is_mixed = !deny.is_empty() && !allow.is_empty();
        if denies_others && allow.is_empty() {
            deny = vec![json!("0.0.0.0/0"), json!("::/0")];
        }
        if denies_others && !allow.is_empty() {
            self.set("allow", json!(allow));
        }
        if !deny.is_empty() {
            self.set("deny", json!(deny));
        }
        if is_mixed {
            return Err("gobetween takes the first rule that fits; here deny wins, whatever the order".to_owned());
        }
        Ok(())
    }

    fn discovery(&mut self, discovery: &Entry) -> Result<(), String> {
        let inside = discovery.inside();
        let kind = inside.iter().find(|it| it.key == "kind").and_then(|it| it.str()).unwrap_or("static");
        if kind != "static" {
            return Err(match kind {
                "dns" | "srv" => "write the name as a server, with \"expand\": true".to_owned(),
                _ => "servers register themselves: worker-keepalive.do".to_owned(),
            });
        }
        for entry in &inside {
            match (entry.key, entry.array()) {
                ("static_list", Some(list)) => {
                    for server in list.iter() {
                        let line = entry.line_of(server.span().start);
                        self.server(line, server.get_ref().as_str().unwrap_or_default());
                    }
                }
                ("kind", _) => {}
                _ => self.group.notes.push(entry.note("servers of a list stay until the list changes")),
            }
        }
        Ok(())
    }

    fn server(&mut self, line: usize, text: &str) {
        let mut words = text.split_whitespace();
        let Some(addr) = words.next() else { return };
        let mut server = ServerDraft::default();
        server.keys.insert("addr".to_owned(), json!(addr));
        let mut priority = 1;
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match (name, value.parse::<u32>()) {
                ("weight", Ok(weight)) => _ = server.keys.insert("weight".to_owned(), json!(weight)),
                ("max_connections", Ok(most)) => _ = server.keys.insert("max_sessions".to_owned(), json!(most)),
                ("priority", Ok(value)) => priority = value,
                _ => server.notes.push(Note::new(line, word, "no equivalent")),
            }
        }
        if self.group.servers.iter().any(|known| known.keys["addr"] == server.keys["addr"]) {
            self.group.notes.push(Note::new(line, text, "a server with this address is in the group already"));
            return;
        }
        self.group.servers.push(server);
        self.priorities.push(priority);
    }

    fn check(&mut self, healthcheck: &Entry) -> Result<(), String> {
        let inside = healthcheck.inside();
        let of = |key: &str| inside.iter().find(|it| it.key == key);
        let mut check = Keys::new();
        match of("kind").and_then(|it| it.str()) {
            Some("none") | None => return Ok(()),
            Some("ping") => _ = check.insert("kind".to_owned(), json!("tcp")),
            Some("probe") if of("probe_protocol").is_none_or(|it| it.str() == Some("tcp")) => {
                check.insert("kind".to_owned(), json!("exchange"));
            }
            Some(_) => return Err("no program is run to check a server, and nothing but TCP is spoken".to_owned()),
        }
        let is_regex = of("probe_strategy").and_then(|it| it.str()) == Some("regexp");
        for entry in &inside {
            let (key, value) = match entry.key {
                "kind" | "probe_protocol" | "probe_strategy" => continue,
                "interval" => ("interval", json!(duration(entry.time()?))),
                "timeout" => ("timeout", json!(duration(entry.time()?))),
                "fails" => ("fall", json!(entry.number()?.max(1))),
                "passes" => ("rise", json!(entry.number()?.max(1))),
                "initial_status" if entry.str() == Some("unhealthy") => ("start", json!("down")),
                "initial_status" => continue,
                "probe_send" => ("send", json!(entry.text()?)),
                "probe_recv" => ("expect", json!({ if is_regex { "regex" } else { "prefix" }: entry.text()? })),
                "ping_timeout_duration" => ("timeout", json!(duration(entry.time()?))),
                _ => {
                    self.group.notes.push(entry.note("no equivalent"));
                    continue;
                }
            };
            check.insert(key.to_owned(), value);
        }
        self.check = Some(check);
        Ok(())
    }

    /// The group.
    ///
    /// # Errors
    ///
    /// Why it is none.
    fn finish(mut self) -> Result<GroupDraft, String> {
        let listen = self.listen.ok_or("it listens on no IP and port")?;
        let first = self.priorities.iter().min().copied().unwrap_or_default();
        for (server, priority) in self.group.servers.iter_mut().zip(&self.priorities) {
            if *priority > first {
                server.keys.insert("backup".to_owned(), json!(true));
            }
        }
        // A side that is silent ends a session there; here it takes both.
        self.idle.sort_by_key(|(millis, _)| if *millis == 0 { u64::MAX } else { *millis });
        let longest = self.idle.last().map_or(0, |(millis, _)| *millis);
        let shorter = self.idle.iter().filter(|(millis, _)| *millis != longest);
        let why = "a session is idle when both sides are silent: idle_timeout is the longer of the two times";
        self.group.notes.extend(shorter.map(|(_, note)| Note { why: why.to_owned(), ..note.clone() }));
        let keys = &mut self.group.keys;
        keys.insert("listen".to_owned(), json!(listen));
        keys.insert("policy".to_owned(), json!(self.policy.unwrap_or("round_robin")));
        keys.append(&mut self.keys);
        keys.insert("idle_timeout".to_owned(), json!(duration(longest)));
        keys.extend(self.check.map(|check| ("check".to_owned(), Value::Object(check))));
        self.group.notes.sort_by_key(|note| note.line);
        Ok(self.group)
    }
}

/// An address to listen on: `:3000` means every address of the machine.
fn listen(bind: &str) -> Result<String, String> {
    let (host, port) = bind.rsplit_once(':').ok_or("it has no port")?;
    let port: u16 = port.parse().map_err(|_| "it has no port")?;
    let host = match host {
        "" | "*" => "0.0.0.0",
        "localhost" => "127.0.0.1",
        host => host,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().map_err(|_| "a group listens on an IP, not on a name")?;
    Ok(format!("{host}:{port}"))
}
