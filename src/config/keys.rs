//! Every key of `proxy.json`: name, shape, default, meaning.
//!
//! This table is the only list of keys. The reader takes names, ranges and defaults from it, the schema
//! is printed from it, and the tests hold `config/README.md` against it.

use super::{LogFormat, LogLevel};
use crate::policy::built_in::BUILT_IN;
use crate::policy::spec::{DEADLINE_RANGE, MEMORY_RANGE};
use crate::server::WEIGHT_RANGE;

/// Most groups in a file.
pub const GROUPS_MAX: usize = 4_096;
/// Most servers of a group in a file.
pub const SERVERS_MAX: usize = 65_536;
/// Most labels of a server.
pub const LABELS_MAX: usize = 32;
/// Longest name and longest value of a label, in bytes.
pub const LABEL_LEN_MAX: usize = 128;
/// Longest `config` of a policy module, in bytes of JSON without blanks.
pub const MODULE_CONFIG_LEN_MAX: usize = 64 << 10;
/// Deepest nesting within it: well below what JSON parsers in modules refuse.
pub(super) const MODULE_CONFIG_DEPTH_MAX: usize = 64;
/// Most networks of `register_allow`.
pub(super) const NETWORKS_MAX: usize = 1_024;

/// One key of an object.
pub(super) struct Key {
    /// The name in the file.
    pub(super) name: &'static str,
    /// What its value may be.
    pub(super) shape: Shape,
    /// The value that holds when the key is missing, as JSON; `None` for a key that must be there.
    /// A key whose default is `null` may be written as `null`.
    pub(super) default: Option<&'static str>,
    /// What it means: whole sentences, for the schema and the README.
    pub(super) doc: &'static str,
}

/// What a value may be.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// `true` or `false`.
    Switch,
    /// A whole number within the bounds.
    Whole(u64, u64),
    /// A time with a unit, in milliseconds within the bounds; with `true` also zero, for never.
    Time(bool, u64, u64),
    /// A size with a unit, in bytes within the bounds.
    Size(u64, u64),
    /// One of a few words.
    Word(&'static [&'static str]),
    /// Text that is not empty.
    Text,
    /// `ip:port`.
    Socket,
    /// `ip:port` or `unix:PATH`.
    SocketOrUnix,
    /// Networks, `10.0.0.0/8`, or single addresses.
    Networks,
    /// A server's `host:port`.
    Server,
    /// The name of a policy, or an object of these keys for a module; without keys only a name.
    Policy(&'static [Key]),
    /// The name of a module.
    Module,
    /// An object whose content is not ours to judge.
    Free,
    /// A SHA-256 as text.
    Sha256,
    /// An object of free names with text as values.
    Labels,
    /// An object of these keys.
    Object(&'static [Key]),
    /// A list of objects of these keys, at most so many. With a name, an element may also be plain
    /// text, which is the value of that key.
    List(&'static [Key], usize, Option<&'static str>),
}

const YEAR_MS: u64 = 365 * 86_400_000;
const MINUTE_MS: u64 = 60_000;

const fn key(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Key {
    Key { name, shape, default: Some(default), doc }
}

/// The keys of the whole file.
pub(super) const ROOT: &[Key] = &[
    key("$schema", Shape::Text, "null", "Where editors find the schema. It has no effect."),
    key("admin", Shape::Object(ADMIN), "{}", "The admin port: HTTP requests that show and change what runs."),
    key("log", Shape::Object(LOG), "{}", "Log lines on stderr."),
    key(
        "policies_dir",
        Shape::Text,
        "\"../policies\"",
        "The folder of policy modules, relative to the folder of this file. Takes effect at start.",
    ),
    key("drain_timeout", Shape::Time(true, 1, YEAR_MS), "\"30s\"", "How long sessions may go on after a TERM."),
    key("threads", Shape::Whole(0, 1_024), "0", "Threads that carry data; 0 for one per core. Takes effect at start."),
    key(
        "pin_threads",
        Shape::Switch,
        "false",
        "True: each thread that carries data stays on a core of its own, or shares one where there are more threads than cores. \
         Takes effect at start.",
    ),
    key(
        "policy_max_bytes",
        Shape::Size(1 << 10, 1 << 30),
        "\"8MiB\"",
        "The largest policy module that is read. Takes effect at start.",
    ),
    key(
        "defaults",
        Shape::Object(DEFAULTS),
        "{}",
        "Settings of every group that does not say otherwise: any key of a group except listen and servers.",
    ),
    key("groups", Shape::List(GROUP, GROUPS_MAX, None), "[]", "The groups; no two have the same port."),
];

/// The keys of `admin`.
pub(super) const ADMIN: &[Key] = &[
    key(
        "listen",
        Shape::SocketOrUnix,
        "\"127.0.0.1:8080\"",
        "Where the admin port listens, ip:port or unix:PATH. Not on loopback only with a token. Takes effect at start.",
    ),
    key(
        "token",
        Shape::Text,
        "null",
        "The bearer token that every request needs but /live and /ready: the token itself, env:NAME or file:PATH \
         (relative to the folder of this file).",
    ),
    key(
        "register_token",
        Shape::Text,
        "null",
        "A second token, which allows worker-keepalive.do and nothing else; written as token is.",
    ),
    key(
        "register_allow",
        Shape::Networks,
        "null",
        "Networks whose addresses may register as servers; null for all that are not refused anyway.",
    ),
    key("allow_get_changes", Shape::Switch, "true", "False: a request that changes something needs POST."),
    key(
        "pprof_listen",
        Shape::Socket,
        "null",
        "Serves /debug/pprof/ at this ip:port instead of on the admin port. Takes effect at start.",
    ),
];

/// The keys of `log`.
pub(super) const LOG: &[Key] = &[
    key(
        "format",
        Shape::Word(&LogFormat::WORDS),
        "\"text\"",
        "Lines for people or for machines. Takes effect at start.",
    ),
    key("level", Shape::Word(&LogLevel::WORDS), "\"info\"", "The least important level that is written."),
    key(
        "status_interval",
        Shape::Time(true, 100, YEAR_MS),
        "\"5s\"",
        "How often the line with the numbers of clients and servers is written; 0s for never.",
    ),
];

const LISTEN: Key = Key {
    name: "listen",
    shape: Shape::Socket,
    default: None,
    doc: "Where the group listens, ip:port. The port is the group's id.",
};
const OPEN: Key = key("open", Shape::Switch, "true", "False: the group is kept but does not listen.");
const POLICY: Key = key(
    "policy",
    Shape::Policy(MODULE),
    "\"round_robin\"",
    "How a server is picked for a new client. wasm:NAME is a module of policies_dir; the object says more about one.",
);
const SERVERS: Key = key(
    "servers",
    Shape::List(SERVER, SERVERS_MAX, Some("addr")),
    "[]",
    "The servers in order, each host:port or an object; no two have the same address.",
);
const CONNECT_TIMEOUT: Key = key(
    "connect_timeout",
    Shape::Time(false, 1, 10 * MINUTE_MS),
    "\"2s\"",
    "How long one attempt to connect may take.",
);
const CONNECT_ATTEMPTS: Key =
    key("connect_attempts", Shape::Whole(1, 100), "3", "How many servers are tried for one client.");
const IDLE_TIMEOUT: Key = key(
    "idle_timeout",
    Shape::Time(true, 1, YEAR_MS),
    "\"10m\"",
    "A session ends when neither side has sent anything for so long; 0s for never.",
);
const HALF_CLOSE_TIMEOUT: Key = key(
    "half_close_timeout",
    Shape::Time(true, 1, YEAR_MS),
    "\"30s\"",
    "A session ends when one side has finished and the other is silent for so long; 0s for never.",
);
const HEARTBEAT_TIMEOUT: Key = key(
    "heartbeat_timeout",
    Shape::Time(false, 1, YEAR_MS),
    "\"5s\"",
    "How long a server that registered itself stays online after its last heartbeat.",
);
const GROUP_MAX_SESSIONS: Key =
    key("max_sessions", Shape::Whole(0, u32::MAX as u64), "0", "Sessions of the group at a time; 0 for no limit.");

/// The keys of a group.
pub(super) const GROUP: &[Key] = &[
    LISTEN,
    OPEN,
    POLICY,
    SERVERS,
    CONNECT_TIMEOUT,
    CONNECT_ATTEMPTS,
    IDLE_TIMEOUT,
    HALF_CLOSE_TIMEOUT,
    HEARTBEAT_TIMEOUT,
    GROUP_MAX_SESSIONS,
];

/// The keys of `defaults`: those of a group that several groups can share.
pub(super) const DEFAULTS: &[Key] = &[
    OPEN,
    POLICY,
    CONNECT_TIMEOUT,
    CONNECT_ATTEMPTS,
    IDLE_TIMEOUT,
    HALF_CLOSE_TIMEOUT,
    HEARTBEAT_TIMEOUT,
    GROUP_MAX_SESSIONS,
];

/// The keys of a server that is written as an object.
pub(super) const SERVER: &[Key] = &[
    Key {
        name: "addr",
        shape: Shape::Server,
        default: None,
        doc: "Where the server listens: ip:port, [ipv6]:port or name:port.",
    },
    key(
        "weight",
        Shape::Whole(*WEIGHT_RANGE.start() as u64, *WEIGHT_RANGE.end() as u64),
        "1",
        "The server's share of new sessions, compared with the others of its group.",
    ),
    key("backup", Shape::Switch, "false", "True: used only when no other server of the group may be picked."),
    key("max_sessions", Shape::Whole(0, u32::MAX as u64), "0", "Sessions of the server at a time; 0 for no limit."),
    key(
        "state",
        Shape::Word(&["ready", "drain", "maint"]),
        "\"ready\"",
        "ready: gets new sessions; drain and maint: gets none, and those it has go on.",
    ),
    key("labels", Shape::Labels, "{}", "Free facts about the server, such as its zone: names with text as values."),
    key(
        "origin",
        Shape::Word(&["file", "heartbeat"]),
        "\"file\"",
        "file: stays until somebody takes it out; heartbeat: registered itself and is online as long as its lease lasts.",
    ),
];

/// The keys of a policy that is written as an object.
pub(super) const MODULE: &[Key] = &[
    Key {
        name: "wasm",
        shape: Shape::Module,
        default: None,
        doc: "The module: NAME.wasm or NAME.wat in policies_dir, by its NAME.",
    },
    key(
        "config",
        Shape::Free,
        "{}",
        "What the module is told before it picks, as JSON; what it may be is the module's business.",
    ),
    key(
        "fallback",
        Shape::Word(&BUILT_IN),
        "\"round_robin\"",
        "The built-in policy that answers whenever the module cannot.",
    ),
    key(
        "deadline",
        Shape::Time(false, DEADLINE_RANGE.start().as_millis() as u64, DEADLINE_RANGE.end().as_millis() as u64),
        "\"5ms\"",
        "How long one pick may take; a module that takes longer is stopped, within 10 ms, and fallback answers.",
    ),
    key(
        "memory",
        Shape::Size(*MEMORY_RANGE.start(), *MEMORY_RANGE.end()),
        "\"16MiB\"",
        "How much memory the module may have for one group.",
    ),
    key(
        "sha256",
        Shape::Sha256,
        "null",
        "The SHA-256 of the only file that is accepted, as sha256sum prints it; null for any.",
    ),
];

/// The keys of the old program's flat file.
pub(super) const LEGACY: &[Key] = &[
    Key { name: "httpport", shape: Shape::Whole(1, 65_535), default: None, doc: "admin.listen on 127.0.0.1." },
    Key { name: "tcpport", shape: Shape::Whole(1, 65_535), default: None, doc: "One open group on 0.0.0.0." },
    key("pprofport", Shape::Whole(1, 65_535), "null", "admin.pprof_listen on 127.0.0.1."),
    key(
        "lbpolicy",
        Shape::Policy(&[]),
        "\"round_robin\"",
        "policy: 1 is ha, 2 is round_robin, 3 is ip_hash; or a name.",
    ),
    key("rwtimeout", IDLE_TIMEOUT.shape, "\"10m\"", "idle_timeout."),
    key("printinterval", Shape::Time(true, 100, YEAR_MS), "\"5s\"", "log.status_interval."),
    key("heartbeatkeepalive", HEARTBEAT_TIMEOUT.shape, "\"5s\"", "heartbeat_timeout."),
    key("alivecheckinterval", Shape::Time(true, 1, YEAR_MS), "null", "Accepted; it has no effect."),
    key("handlebuffer", Shape::Whole(0, u32::MAX as u64), "null", "Accepted; it has no effect."),
];

/// The key called `name`.
pub(super) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

/// The names, for messages.
pub(super) fn names(keys: &'static [Key]) -> impl Iterator<Item = &'static str> + Clone {
    keys.iter().map(|key| key.name)
}
