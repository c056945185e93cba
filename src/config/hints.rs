//! What words of other balancers are called here.
//!
//! Users who come from another program write its words at first. `did_you_mean` finds words of similar spelling; this
//! finds words of the same meaning.

/// Words of other programs, and ours.
const WORDS: &[(&str, &str)] = &[
    // Policies.
    ("leastconn", "least_sessions"),
    ("least_conn", "least_sessions"),
    ("least_connections", "least_sessions"),
    ("roundrobin", "round_robin"),
    ("rr", "round_robin"),
    ("wrr", "round_robin"),
    ("static-rr", "round_robin"),
    ("source", "ip_hash"),
    ("source_hash", "ip_hash"),
    ("iphash", "ip_hash"),
    ("first", "ha"),
    ("failover", "ha"),
    ("hash", "maglev"),
    ("consistent_hash", "maglev"),
    ("ring_hash", "maglev"),
    ("power_of_two", "p2c"),
    ("random_two", "p2c"),
    // Kinds of checks.
    ("postgres", "postgresql"),
    ("pgsql", "postgresql"),
    ("mariadb", "mysql"),
    ("httpchk", "http"),
    ("slave", "replica"),
    // Words for states and levels.
    ("up", "ready"),
    ("enabled", "ready"),
    ("disabled", "maint"),
    ("down", "maint"),
    ("warning", "warn"),
    ("notice", "info"),
    ("err", "error"),
];

/// Keys of other programs, and ours.
const KEYS: &[(&str, &str)] = &[
    ("bind", "listen"),
    ("port", "listen"),
    ("address", "listen"),
    ("address", "addr"),
    ("host", "addr"),
    ("ip", "addr"),
    ("server", "servers"),
    ("backends", "servers"),
    ("backend", "servers"),
    ("upstream", "servers"),
    ("upstreams", "servers"),
    ("endpoints", "servers"),
    ("nodes", "servers"),
    ("frontend", "groups"),
    ("frontends", "groups"),
    ("listeners", "groups"),
    ("services", "groups"),
    ("pools", "groups"),
    ("balance", "policy"),
    ("algorithm", "policy"),
    ("lb_policy", "policy"),
    ("strategy", "policy"),
    ("maxconn", "max_sessions"),
    ("max_conns", "max_sessions"),
    ("max_connections", "max_sessions"),
    ("proxy_connect_timeout", "connect_timeout"),
    ("proxy_timeout", "idle_timeout"),
    ("retries", "connect_attempts"),
    ("send_proxy_v2", "send_proxy"),
    ("proxy_protocol", "accept_proxy"),
    ("set_real_ip_from", "accept_proxy"),
    ("ssl_preread", "routes"),
    ("use_backend", "routes"),
    ("inspect_delay", "hello_timeout"),
    ("preread_timeout", "hello_timeout"),
    ("nbthread", "threads"),
    ("worker_processes", "threads"),
];

/// The ending of a message about a value that is another program's word for one of `known`.
pub(super) fn word_of_others<'w>(word: &str, known: impl Iterator<Item = &'w str> + Clone) -> Option<String> {
    find(WORDS, word, known)
}

/// The ending of a message about a key that is another program's word for one of these.
pub(super) fn key_of_others<'w>(key: &str, known: impl Iterator<Item = &'w str> + Clone) -> Option<String> {
    find(KEYS, key, known)
}

fn find<'w>(words: &[(&str, &str)], word: &str, known: impl Iterator<Item = &'w str> + Clone) -> Option<String> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let same = |of: &str| of.replace('-', "_") == word;
    let ours = words.iter().find(|(of, ours)| same(of) && known.clone().any(|known| known == *ours));
    ours.map(|(_, ours)| format!(" (it is called {ours} here)"))
}

/// The ending of a message about an address that other programs accept: `*:8081`, `:5432`, `8081`.
pub(super) fn address_of_others(text: &str) -> Option<String> {
    let port = ["*:", ":"].iter().find_map(|before| text.strip_prefix(before)).unwrap_or(text);
    if !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) {
        return Some(format!(
            " (\"0.0.0.0:{port}\" is every address of this machine, \"127.0.0.1:{port}\" only itself)"
        ));
    }
    let (host, port) = text.rsplit_once(':')?;
    match host {
        "localhost" => Some(format!(" (\"127.0.0.1:{port}\" is localhost)")),
        "::" | "::1" => Some(format!(" (an IPv6 address stands in brackets: \"[{host}]:{port}\")")),
        _ => None,
    }
}

/// The ending of a message about a file that is no JSON at all: what it looks like.
pub(super) fn format_of_others(text: &str, offset: usize) -> Option<&'static str> {
    if text[offset..].starts_with('#') {
        return Some("comments begin with //");
    }
    let first = text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let word = first.split([' ', '\t', ':', '{']).next().unwrap_or("");
    let is_haproxy = ["global", "defaults", "frontend", "backend", "listen"].contains(&word);
    if is_haproxy && !first.contains([':', '{']) {
        return Some("this looks like a file of HAProxy; expected JSON");
    }
    if ["stream", "events", "http", "upstream", "user", "worker_processes", "load_module"].contains(&word)
        && first.ends_with(['{', ';'])
    {
        return Some("this looks like a file of nginx; expected JSON");
    }
    if first.starts_with('[') && first.trim_end().ends_with(']') && !first.contains(['"', '{', ',']) {
        return Some("this looks like TOML; expected JSON");
    }
    let is_yaml = first.starts_with("---")
        || (first.contains(": ") || first.trim_end().ends_with(':')) && !first.contains(['{', '"']);
    if is_yaml { Some("this looks like YAML; expected JSON") } else { None }
}
