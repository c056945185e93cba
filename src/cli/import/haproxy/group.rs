//! One group: what a `listen` section says, or a frontend with its backend.

mod rules;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::check::Check;
use super::condition::Acls;
use super::listen::addresses;
use super::server::{self, ForGroup, Imported};
use super::tls::{Bases, ClientTls};
use super::words::{Directive, time};
use crate::cli::import::draft::{GroupDraft, Keys, Note, Routing, duration};
use rules::{HelloRule, stick_table};

/// The shortest and the longest `hello_timeout`, in milliseconds.
const HELLO_MS: (u64, u64) = (100, 60_000);

/// A group that is being read, line by line.
#[derive(Debug, Default)]
pub(super) struct Import {
    pub(super) group: GroupDraft,
    listens: Vec<(String, u16)>,
    policy: Option<&'static str>,
    is_consistent: bool,
    /// Timeouts in milliseconds, by their names.
    timeouts: BTreeMap<String, u64>,
    keys: Keys,
    acls: Acls,
    /// Lines of conditions by their names, and the names that rules have used.
    acl_notes: Vec<(String, Note)>,
    used_acls: BTreeSet<String>,
    client_sessions: Option<u32>,
    client_rate: Option<u32>,
    /// The time in which the table counts new sessions, in milliseconds.
    rate_ms: Option<u64>,
    is_tracked: bool,
    allow: Vec<String>,
    deny: Vec<String>,
    proxies: Vec<String>,
    check: Check,
    default_server: Vec<String>,
    servers: Vec<Imported>,
    for_group: ForGroup,
    takes_all_backups: bool,
    tls: ClientTls,
    /// Rules that choose a backend by a hello.
    pub(super) hellos: Vec<HelloRule>,
    /// Lines that wait for a hello, which are of use only with such rules.
    waits: Vec<Note>,
    hello_ms: Option<u64>,
    /// Who does not speak TLS is turned away.
    pub(super) needs_tls: bool,
}

impl Import {
    /// One that is to read these lines.
    pub(super) fn new(lines: &[&Directive], bases: &Bases) -> Self {
        let mut import = Self::default();
        import.tls.bases = bases.clone();
        import.for_group.bases = bases.clone();
        // Rules may use conditions that are named further down, and servers the group's port.
        for line in lines {
            match line.word(0) {
                "acl" => {
                    let name = line.word(1).to_owned();
                    import.acls.entry(name).or_default().push(line.words[2.min(line.words.len())..].to_vec());
                }
                "bind" => import.listens.extend(addresses(line.word(1)).unwrap_or_default()),
                "stick-table" => {
                    let stored = line.words.iter().flat_map(|word| word.split(','));
                    let period = stored.filter_map(|word| word.strip_prefix("conn_rate(")?.strip_suffix(')'));
                    import.rate_ms = import.rate_ms.or(period.filter_map(time).next());
                }
                _ => {}
            }
        }
        import
    }

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// Why it has no equivalent.
    pub(super) fn read(&mut self, line: &Directive) -> Result<(), String> {
        let none = || Err("no equivalent".to_owned());
        match line.word(0) {
            "mode" | "default_backend" | "enabled" => Ok(()),
            "acl" => {
                let why = "only conditions by the client's address, its counts and its hello have an equivalent";
                self.acl_notes.push((line.word(1).to_owned(), Note::new(line.line, line.text.clone(), why)));
                Ok(())
            }
            "bind" => self.bind(line),
            "balance" => self.balance(line),
            "hash-type" => {
                self.is_consistent = line.word(1) == "consistent";
                Ok(())
            }
            "timeout" => self.timeout(line),
            "retries" => {
                let retries: u32 = line.word(1).parse().map_err(|_| format!("\"{}\" is not a number", line.word(1)))?;
                self.set("connect_attempts", json!(retries.saturating_add(1).clamp(1, 100)))
            }
            "maxconn" => match line.word(1).parse::<u32>() {
                Ok(most) => self.set("max_sessions", json!(most)),
                Err(_) => none(),
            },
            "rate-limit" => match (line.word(1), line.word(2).parse::<u32>()) {
                ("sessions", Ok(rate)) => self.set("session_rate", json!(format!("{rate}/s"))),
                _ => none(),
            },
            "disabled" => self.set("open", json!(false)),
            "option" => self.option(line),
            "no" => none(),
            "http-check" => self.check.http_check(line),
            "tcp-check" => self.check.tcp_check(line),
            "tcp-request" => self.rule(line),
            "stick-table" => stick_table(line),
            "stick" if line.word(1) == "on" && line.word(2) == "src" => {
                self.policy.get_or_insert("maglev");
                Err("maglev sends a client to the same server while the list stays; the module sticky remembers"
                    .to_owned())
            }
            "source" => {
                self.for_group.source = Some(line.word(1).split(':').next().unwrap_or_default().to_owned());
                match line.words.len() {
                    2 => Ok(()),
                    _ => Err("only the address itself has an equivalent".to_owned()),
                }
            }
            "default-server" => {
                self.default_server.extend_from_slice(&line.words[1..]);
                Ok(())
            }
            "server" | "server-template" => self.server(line),
            "log" | "log-format" | "error-log-format" => {
                Err("the log goes to stderr, and has all of each session".to_owned())
            }
            "use_backend" if line.words.len() > 2 => self.use_backend(line),
            "use_backend" => Ok(()),
            _ => none(),
        }
    }

    fn set(&mut self, key: &str, value: Value) -> Result<(), String> {
        self.keys.insert(key.to_owned(), value);
        Ok(())
    }

    fn bind(&mut self, line: &Directive) -> Result<(), String> {
        addresses(line.word(1))?;
        let words = line.rest(2);
        let (mut left, mut doubts) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(word) = words.get(at) {
            match *word {
                "accept-proxy" => self.accepts_from_all(),
                "v4v6" | "v6only" | "defer-accept" | "tfo" => {}
                "name" | "id" | "backlog" => at += 1,
                name => match self.tls.read(name, words.get(at + 1).copied()) {
                    None => left.push(name),
                    Some((taken, outcome)) => {
                        at += taken - 1;
                        doubts.extend(outcome.err().map(|why| format!("{name}: {why}")));
                    }
                },
            }
            at += 1;
        }
        match left.as_slice() {
            [] if self.proxies.iter().any(|from| from == "0.0.0.0/0") => {
                Err("accept_proxy.from lets everybody claim any address: name the proxies in front".to_owned())
            }
            [] if doubts.is_empty() => Ok(()),
            [] => Err(doubts.join("; ")),
            left => Err(format!("no equivalent for {}", left.join(" "))),
        }
    }

    fn accepts_from_all(&mut self) {
        self.proxies = ["0.0.0.0/0", "::/0"].map(str::to_owned).into();
    }

    fn balance(&mut self, line: &Directive) -> Result<(), String> {
        self.policy = Some(match line.word(1) {
            "roundrobin" | "static-rr" => "round_robin",
            "leastconn" => "least_sessions",
            "first" => "ha",
            "source" => "ip_hash",
            "random" | "random(1)" => "random",
            random if random.starts_with("random(") => "p2c",
            _ => return Err("no such policy here: round_robin serves; a module may do it".to_owned()),
        });
        Ok(())
    }

    fn timeout(&mut self, line: &Directive) -> Result<(), String> {
        let value = line.word(2);
        let millis =
            time(value).ok_or_else(|| format!("\"{value}\" is not a time; expected one such as 500ms or 2s"))?;
        match line.word(1) {
            "check" => self.check.set_timeout(millis),
            "connect" | "client" | "server" | "tunnel" | "client-fin" | "server-fin" => {
                self.timeouts.insert(line.word(1).to_owned(), millis);
            }
            "queue" => {
                return Err("goproxy has no queue: when every place is taken, clients are turned away".to_owned());
            }
            "http-request" | "http-keep-alive" | "tarpit" => return Err("it is of HTTP".to_owned()),
            _ => return Err("no equivalent".to_owned()),
        }
        Ok(())
    }

    fn option(&mut self, line: &Directive) -> Result<(), String> {
        if let Some(done) = self.check.option(line) {
            return done;
        }
        match line.word(1) {
            "redispatch" | "tcpka" | "clitcpka" | "srvtcpka" | "splice-auto" | "splice-request" | "splice-response" => {
                Ok(())
            }
            "allbackups" => {
                self.takes_all_backups = true;
                Ok(())
            }
            "tcplog" | "dontlognull" | "logasap" | "dontlog-normal" | "log-separate-errors" | "log-health-checks" => {
                Err("the log goes to stderr, and has all of each session".to_owned())
            }
            "httplog" | "http-server-close" | "forwardfor" | "httpclose" | "http-keep-alive" => {
                Err("it is of HTTP".to_owned())
            }
            _ => Err("no equivalent".to_owned()),
        }
    }

    fn server(&mut self, line: &Directive) -> Result<(), String> {
        let port = match self.listens[..] {
            [(_, port)] => Some(port),
            _ => None,
        };
        let server = server::read(line, &self.default_server, port, &mut self.check, &mut self.for_group)?;
        if self.servers.iter().any(|known| known.draft.keys["addr"] == server.draft.keys["addr"]) {
            return Err("a server with this address is in the group already".to_owned());
        }
        self.servers.push(server);
        Ok(())
    }

    /// The group, whose section begins with this line. With `routing`, it has no servers.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub(super) fn finish(mut self, head: &Directive, routing: Option<Routing>) -> Result<GroupDraft, String> {
        if routing.is_some() {
            self.waits.clear();
            self.keys.extend(
                self.hello_ms
                    .map(|millis| ("hello_timeout".to_owned(), json!(duration(millis.clamp(HELLO_MS.0, HELLO_MS.1))))),
            );
        }
        if self.listens.is_empty() {
            return Err("it listens on no IP and port".to_owned());
        }
        let listens: Vec<String> = self.listens.iter().map(|(address, _)| address.clone()).collect();
        let listen = if let [one] = &listens[..] { json!(one) } else { json!(listens) };
        self.group.keys.insert("listen".to_owned(), listen);
        let mut group = self.group(head);
        if let Some(routing) = routing {
            // The groups that they lead to have one.
            group.keys.remove("policy");
            group.routing = Some(routing);
        }
        Ok(group)
    }

    /// The group as one that only routes lead to.
    pub(super) fn finish_target(self, head: &Directive) -> GroupDraft {
        self.group(head)
    }

    fn group(mut self, head: &Directive) -> GroupDraft {
        let mut group = std::mem::take(&mut self.group);
        let doubt = |why: String| Note::new(head.line, head.text.clone(), why);
        let policy = match self.policy {
            Some("ip_hash") if self.is_consistent => Some("maglev"),
            policy => policy,
        };
        group.keys.extend(policy.map(|policy| ("policy".to_owned(), json!(policy))));
        group.notes.extend(self.finish_timeouts(&mut group.keys).map(doubt));
        group.keys.append(&mut self.keys);
        self.finish_clients(&mut group.keys);
        let checks = self.servers.iter().filter(|server| server.is_checked).count();
        if checks > 0 {
            let (check, why) = std::mem::take(&mut self.check).finish();
            group.keys.insert("check".to_owned(), check);
            group.notes.extend(why.map(doubt));
        }
        self.finish_servers_settings(&mut group.keys);
        group.notes.extend(self.tls.finish(&mut group.keys).map(doubt));
        group.notes.extend(server::finish_tls(&self.servers, &mut group.keys).map(doubt));
        let backups = self.servers.iter().filter(|server| server.is_backup).count();
        if backups > 1 && !self.takes_all_backups {
            let why = "HAProxy takes one backup server after the other; here all of them share the sessions";
            group.notes.push(doubt(why.to_owned()));
        }
        for mut server in self.servers {
            match (checks > 0, server.is_checked) {
                (true, false) => _ = server.draft.keys.insert("check".to_owned(), json!(false)),
                (false, _) => _ = server.draft.keys.remove("check"),
                (true, true) => {}
            }
            group.servers.push(server.draft);
        }
        let unused = self.acl_notes.into_iter().filter(|(name, _)| !self.used_acls.contains(name));
        group.notes.extend(unused.map(|(_, note)| note));
        group.notes.append(&mut self.waits);
        group.notes.sort_by_key(|note| note.line);
        group
    }

    /// Writes the timeouts. What is to be said of them.
    fn finish_timeouts(&self, keys: &mut Keys) -> Option<String> {
        let of = |name: &str| self.timeouts.get(name).copied();
        keys.extend(of("connect").map(|millis| ("connect_timeout".to_owned(), json!(duration(millis)))));
        let (client, server) = (of("client"), of("server"));
        let idle = of("tunnel").or(client.max(server));
        keys.extend(idle.map(|millis| ("idle_timeout".to_owned(), json!(duration(millis)))));
        let fin = of("client-fin").max(of("server-fin"));
        keys.extend(fin.map(|millis| ("half_close_timeout".to_owned(), json!(duration(millis)))));
        match (idle, of("tunnel"), client == server) {
            (None, ..) => {
                Some("it has no timeout client and server; here a session ends after 10 minutes of silence".to_owned())
            }
            (Some(_), None, false) => Some(
                "timeout client and server differ; idle_timeout is the longer one, for both sides together".to_owned(),
            ),
            _ => None,
        }
    }

    fn finish_clients(&self, keys: &mut Keys) {
        let mut client = Keys::new();
        client.extend(self.client_sessions.map(|most| ("sessions".to_owned(), json!(most))));
        let period_ms = self.rate_ms.unwrap_or(1_000);
        client.extend(self.client_rate.map(|most| {
            let rate = match period_ms {
                1_000 => json!(format!("{most}/s")),
                60_000 => json!(format!("{most}/m")),
                _ => json!({ "per": duration(period_ms), "sessions": most }),
            };
            ("rate".to_owned(), rate)
        }));
        if !client.is_empty() {
            keys.insert("client".to_owned(), Value::Object(client));
        }
        for (key, list) in [("allow", &self.allow), ("deny", &self.deny)] {
            if !list.is_empty() {
                keys.insert(key.to_owned(), json!(list));
            }
        }
        if !self.proxies.is_empty() {
            keys.insert("accept_proxy".to_owned(), json!({ "from": self.proxies }));
        }
    }

    fn finish_servers_settings(&self, keys: &mut Keys) {
        let ForGroup { eject_failures, closes_when_down, source, user_timeout, .. } = &self.for_group;
        keys.extend(eject_failures.map(|failures| ("eject".to_owned(), json!({ "failures": failures }))));
        if *closes_when_down {
            keys.insert("on_down".to_owned(), json!({ "check": "close" }));
        }
        let mut tcp = Keys::new();
        tcp.extend(source.iter().map(|source| ("source".to_owned(), json!(source))));
        tcp.extend(user_timeout.iter().map(|time| ("user_timeout".to_owned(), json!(time))));
        if !tcp.is_empty() {
            keys.insert("server_tcp".to_owned(), Value::Object(tcp));
        }
    }
}
