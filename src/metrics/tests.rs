use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::*;
use crate::counters::{EndReason, FaultKind, HeaderResult, Limit, ModuleCounters, ProcessCounters};
use crate::group::view::ServerView;
use crate::group::{AcceptProxy, GroupSettings};
use crate::limits::{ClientLimits, Rate};
use crate::policy::wasm::view::{ModuleState, ModuleView};
use crate::server::{Origin, State};

fn server(addr: &str) -> ServerView {
    ServerView {
        addr: addr.into(),
        state: State::Drain,
        online: false,
        cause: Some("drained".into()),
        since_ms: 0,
        origin: Origin::Heartbeat,
        weight: 1,
        backup: false,
        max_sessions: 0,
        labels: BTreeMap::new(),
        sessions: 3,
        sessions_total: 40,
        bytes_up: 70,
        bytes_down: 80,
        connect_errors: 5,
        connect_latency_us: 100,
        suspect: true,
        ejected_ms: None,
        ejections: None,
        untried: false,
        down_ms: 1500,
        lease_ms: Some(2_500),
        load: None,
        last_check: None,
        check: None,
    }
}

fn group(port: u16, servers: Vec<ServerView>) -> GroupSample {
    let settings = GroupSettings::for_tests("ha");
    GroupSample { id: port.into(), settings, counters: Arc::default(), servers, recording: None, shadow: None }
}

/// Settings that limit whatever can be limited.
fn strict() -> GroupSettings {
    let rate = || Some(Rate { per: Duration::from_secs(1), sessions: 100, burst: None });
    GroupSettings {
        accept_proxy: Some(Arc::new(AcceptProxy { from: Vec::new(), timeout: Duration::from_secs(5) })),
        routes: Some(Arc::default()),
        max_sessions: 1,
        max_session_age: Duration::from_secs(1),
        session_rate: rate(),
        client: Some(ClientLimits { sessions: 1, rate: rate(), ipv4: 32, ipv6: 64 }),
        ..GroupSettings::for_tests("ha")
    }
}

fn module(name: &str, state: ModuleState) -> ModuleView {
    let file = format!("{name}.wasm");
    let (version, sha256) = (Some("1.2.3".to_owned()), Some("ab".repeat(32)));
    ModuleView {
        name: format!("wasm:{name}").into(),
        file,
        version,
        sha256,
        state,
        signed_by: None,
        error: None,
        counters: None,
    }
}

fn rendered(groups: Vec<GroupSample>) -> String {
    rendered_with(groups, Vec::new())
}

fn rendered_with(groups: Vec<GroupSample>, modules: Vec<ModuleView>) -> String {
    let process = ProcessCounters::default();
    process.reload_succeeded(9);
    process.reload_failed("a mistake");
    let process = ProcessSample {
        modules,
        counters: Arc::new(process),
        clients_tracked: 11,
        clients_untracked: 12,
        sessions_max: 13,
        figures: ProcessFigures::read(),
    };
    render(Scrape { groups, process_has_rate: false, process: Some(process) })
}

/// One line of a family.
#[derive(Debug)]
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
}

/// Checks `text` against the rules of the exposition format and returns its samples.
fn parse(text: &str) -> Vec<Sample<'_>> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut families, mut series, mut samples) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let (mut family, mut kind) = ("", "");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').expect("a help text").0;
            assert!(families.insert(family), "{family} twice");
            kind = "";
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert!(name == family && kind.is_empty(), "type without its help: {line}");
            assert!(["counter", "gauge", "histogram", "info"].contains(&of), "{line}");
            kind = of;
        } else {
            let sample = parse_sample(line);
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                _ => &[""],
            };
            let suffix = sample.name.strip_prefix(family).expect("a sample of the family above");
            assert!(suffixes.contains(&suffix), "{line} in a {kind}");
            assert!(kind == "gauge" || sample.value >= 0.0, "{line}");
            assert!(series.insert(line.rsplit_once(' ').unwrap().0), "{line} twice");
            samples.push(sample);
        }
    }
    for name in &families {
        assert!(name.starts_with("goproxy_") && !name.ends_with("_total"), "{name}");
    }
    samples
}

/// The same samples under the rules of the classic format.
fn parse_classic(text: &str) -> Vec<Sample<'_>> {
    let (mut families, mut samples) = (BTreeSet::new(), Vec::new());
    let (mut family, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').expect("a help text").0;
            assert!(families.insert(family), "{family} twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "type without its help");
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            assert_eq!(name.ends_with("_total"), of == "counter", "{line}");
            kind = of;
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let sample = parse_sample(line);
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            let suffix = sample.name.strip_prefix(family).expect("a sample of the family above");
            assert!(suffixes.contains(&suffix), "{line} in a {kind}");
            samples.push(sample);
        }
    }
    samples
}

#[test]
fn both_formats_say_the_same() {
    let text = rendered_with(
        vec![group(8081, vec![server("127.0.0.1:1")]), group(8082, Vec::new())],
        vec![module("sticky", ModuleState::Loaded)],
    );
    let classic = format::to_classic(&text);
    let shown = |samples: Vec<Sample<'_>>| samples.iter().map(|sample| format!("{sample:?}")).collect::<Vec<_>>();
    let (one, other) = (shown(parse(&text)), shown(parse_classic(&classic)));
    assert!(one.len() > 50);
    assert_eq!(one, other);
}

fn parse_sample(line: &str) -> Sample<'_> {
    let (head, value) = line.rsplit_once(' ').expect("a value");
    let value = value.parse().expect("a number");
    let (name, labels) = match head.split_once('{') {
        None => (head, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("closed braces")),
    };
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    assert!(is_name(name), "{line}");
    let parse_label = |label| {
        let (key, value): (&str, &str) = str::split_once(label, '=').expect("a label");
        let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("quotes");
        assert!(
            ["group", "server", "policy", "reason", "limit", "result", "le", "log", "version", "sha256"].contains(&key),
            "{line}"
        );
        assert!(!value.contains(['"', '\\', '\n']), "{line}");
        (key, value)
    };
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(parse_label).collect();
    Sample { name, labels, value }
}

fn value(samples: &[Sample<'_>], name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut found =
        samples.iter().filter(|sample| sample.name == name && labels.iter().all(|label| sample.labels.contains(label)));
    let value = found.next().unwrap_or_else(|| panic!("no {name} {labels:?}")).value;
    assert!(found.next().is_none(), "more than one {name} {labels:?}");
    value
}

#[test]
fn the_text_keeps_the_rules_of_the_format() {
    parse(&rendered(vec![]));
    let servers = || vec![server("10.0.0.1:9000"), server("[::1]:9000"), server("db.internal:9000")];
    parse(&rendered(vec![group(8081, servers()), group(8082, servers()), group(8083, vec![])]));
}

#[test]
fn every_count_is_shown_under_its_name() {
    let sample = GroupSample { settings: strict(), ..group(8081, vec![server("10.0.0.1:9000")]) };
    let counters = Arc::clone(&sample.counters);
    counters.sessions_active.store(1, Relaxed);
    counters.sessions_total.store(2, Relaxed);
    counters.bytes_up.store(3, Relaxed);
    counters.bytes_down.store(u64::MAX, Relaxed);
    counters.connect_errors.store(5, Relaxed);
    counters.connect_retries.store(6, Relaxed);
    counters.is_self_preserving.store(true, Relaxed);
    counters.connect_time.observe(150);
    counters.session_ended(EndReason::IdleTimeout, 2_000_000);
    counters.session_ended(EndReason::NoServer, 10);
    counters.header_ended(HeaderResult::Local);
    counters.client_limited(Limit::ClientRate);
    let text = rendered(vec![sample]);
    let samples = parse(&text);
    let group = ("group", "8081");
    for (name, expected) in [
        ("goproxy_sessions_active", 1.0),
        ("goproxy_sessions_total", 2.0),
        ("goproxy_bytes_up_total", 3.0),
        ("goproxy_connect_errors_total", 5.0),
        ("goproxy_connect_retries_total", 6.0),
        ("goproxy_self_preservation", 1.0),
        ("goproxy_session_duration_seconds_count", 2.0),
        ("goproxy_session_duration_seconds_sum", 2.00001),
        ("goproxy_connect_duration_seconds_sum", 0.00015),
        ("goproxy_server_up", 0.0),
        ("goproxy_server_state", 1.0),
        ("goproxy_server_suspect", 1.0),
        ("goproxy_server_sessions_active", 3.0),
        ("goproxy_server_sessions_total", 40.0),
        ("goproxy_server_connect_errors_total", 5.0),
        ("goproxy_server_bytes_up_total", 70.0),
        ("goproxy_server_bytes_down_total", 80.0),
        ("goproxy_server_down_seconds_total", 1.5),
        ("goproxy_server_lease_seconds", 2.5),
    ] {
        assert_eq!(value(&samples, name, &[group]), expected, "{name}");
    }
    assert!(text.contains(&format!("goproxy_bytes_down_total{{group=\"8081\"}} {}\n", u64::MAX)), "exact, not rounded");
    assert_eq!(value(&samples, "goproxy_group_policy", &[group, ("policy", "ha")]), 1.0);
    assert_eq!(value(&samples, "goproxy_sessions_ended_total", &[group, ("reason", "idle_timeout")]), 1.0);
    assert_eq!(value(&samples, "goproxy_sessions_refused_total", &[group, ("reason", "no_server")]), 1.0);
    assert_eq!(value(&samples, "goproxy_proxy_headers_total", &[group, ("result", "local")]), 1.0);
    assert_eq!(value(&samples, "goproxy_limited_total", &[group, ("limit", "client_rate")]), 1.0);
    assert_eq!(value(&samples, "goproxy_limited_total", &[group, ("limit", "group_rate")]), 0.0);
    assert_eq!(value(&samples, "goproxy_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    for (name, expected) in [
        ("goproxy_config_reloads_total", 2.0),
        ("goproxy_config_reload_errors_total", 1.0),
        ("goproxy_config_reload_success", 0.0),
        ("goproxy_config_generation", 9.0),
        ("goproxy_clients_tracked", 11.0),
        ("goproxy_clients_untracked_total", 12.0),
        ("goproxy_sessions_max", 13.0),
    ] {
        assert_eq!(value(&samples, name, &[]), expected, "{name}");
    }
    assert!(value(&samples, "goproxy_config_reload_success_timestamp_seconds", &[]) > 1.5e9);
    assert!(value(&samples, "goproxy_process_open_fds", &[]) >= 3.0);
    assert!(!text.contains("{}"), "no labels, no braces");
}

#[test]
fn buckets_grow_and_the_last_one_is_the_count() {
    let sample = group(8081, vec![]);
    for micros in [50, 5_000, 7_000, 60_000_000] {
        sample.counters.connect_time.observe(micros);
    }
    let text = rendered(vec![sample]);
    let samples = parse(&text);
    let buckets: Vec<_> =
        samples.iter().filter(|sample| sample.name == "goproxy_connect_duration_seconds_bucket").collect();
    assert!(buckets.is_sorted_by(|a, b| a.value <= b.value));
    let at = |le| value(&samples, "goproxy_connect_duration_seconds_bucket", &[("group", "8081"), ("le", le)]);
    assert_eq!((at("0.0001"), at("0.005"), at("0.01"), at("10.0"), at("+Inf")), (1.0, 2.0, 3.0, 3.0, 4.0));
    assert_eq!(value(&samples, "goproxy_connect_duration_seconds_count", &[]), 4.0);
}

#[test]
fn nothing_is_left_of_a_server_or_a_group_that_is_gone() {
    let stays = || server("10.0.0.1:9000");
    let before = rendered(vec![group(8081, vec![stays(), server("10.0.0.2:9000")]), group(8082, vec![stays()])]);
    assert!(before.contains("10.0.0.2:9000") && before.contains("8082"));
    let after = rendered(vec![group(8081, vec![stays()])]);
    let samples = parse(&after);
    assert!(samples.iter().all(|sample| !sample.labels.contains(&("server", "10.0.0.2:9000"))));
    assert!(samples.iter().all(|sample| !sample.labels.contains(&("group", "8082"))));
    assert_eq!(value(&samples, "goproxy_server_up", &[("server", "10.0.0.1:9000")]), 0.0);
}

#[test]
fn what_the_settings_rule_out_is_shown_when_it_has_happened_all_the_same() {
    let words = |sample: GroupSample, label: &str| -> BTreeSet<String> {
        let text = rendered(vec![sample]);
        let samples = parse(&text);
        let labels = samples.iter().flat_map(|sample| &sample.labels);
        labels.filter(|(name, _)| *name == label).map(|(_, word)| (*word).to_owned()).collect()
    };
    let is = |left_out: &[&str], all: &[&'static str]| -> BTreeSet<String> {
        all.iter().filter(|word| !left_out.contains(word)).map(|word| (*word).to_owned()).collect()
    };
    let limits = Limit::ALL.map(Limit::as_str);
    let rated = ["client_sessions", "client_rate", "group_sessions", "waiting", "group_rate", "process_rate"];
    assert_eq!(words(group(8081, vec![]), "limit"), is(&rated, &limits));
    assert_eq!(
        words(GroupSample { settings: strict(), ..group(8081, vec![]) }, "limit"),
        is(&["process_rate"], &limits)
    );
    let ends = EndReason::ALL.map(EndReason::as_str);
    let plain = group(8081, vec![]);
    let of_tls = ["bad_hello", "hello_timeout", "no_route", "tls_failed", "handshake_timeout", "server_tls_failed"];
    let of_settings = ["max_age", "denied", "bad_header", "header_timeout", "starttls_refused"];
    assert_eq!(words(plain, "reason"), is(&[&of_settings, &of_tls[..]].concat(), &ends));
    let strict = GroupSample { settings: strict(), ..group(8081, vec![]) };
    let of_tls = &of_tls[3..];
    assert_eq!(words(strict, "reason"), is(&[&["denied", "starttls_refused"], of_tls].concat(), &ends));
    let formerly_strict = group(8081, vec![]);
    EndReason::ALL.into_iter().for_each(|end| formerly_strict.counters.session_ended(end, 1));
    Limit::ALL.into_iter().for_each(|limit| formerly_strict.counters.client_limited(limit));
    let counters = Arc::clone(&formerly_strict.counters);
    assert_eq!(words(formerly_strict, "reason"), is(&[], &ends));
    assert_eq!(words(GroupSample { counters, ..group(8081, vec![]) }, "limit"), is(&[], &limits));
}

#[test]
fn one_group_is_shown_without_what_there_is_once() {
    let groups = vec![group(8081, vec![server("10.0.0.1:9000")])];
    let text = render(Scrape { groups, process_has_rate: true, process: None });
    let samples = parse(&text);
    assert!(samples.len() > 30 && samples.iter().all(|sample| sample.labels.contains(&("group", "8081"))), "{text}");
}

/// A thousand groups of ten servers are to be less than 8 MiB, as long as there is nothing to be said of them but that they
/// are there. Sessions add two histograms to a group, checks six lines to a server.
#[test]
fn many_groups_and_servers_take_little_room() {
    let servers = |of: u16| -> Vec<ServerView> {
        let addrs = (0..10).map(|number| format!("10.100.{}.{number}:19000", of % 250));
        addrs.map(|addr| ServerView { suspect: false, lease_ms: None, ..server(&addr) }).collect()
    };
    let text = rendered((0..100).map(|number| group(20_000 + number, servers(number))).collect());
    let classic = format::to_classic(&text);
    for text in [&text, &classic] {
        assert!(text.len() * 10 < 8 << 20, "{} bytes for a hundred groups", text.len());
    }
}

#[test]
fn a_histogram_without_a_count_and_a_server_without_suspicion_have_no_series() {
    let sample = group(8081, vec![ServerView { suspect: false, ..server("10.0.0.1:9000") }]);
    sample.counters.connect_time.observe(1);
    let text = rendered(vec![sample]);
    assert!(text.contains("goproxy_connect_duration_seconds_bucket{"));
    assert!(!text.contains("goproxy_session_duration_seconds_bucket{") && !text.contains("goproxy_server_suspect{"));
}

#[test]
fn a_server_without_a_lease_has_no_lease_series() {
    let mut from_file = server("10.0.0.1:9000");
    from_file.lease_ms = None;
    let text = rendered(vec![group(8081, vec![from_file])]);
    assert!(!text.contains("goproxy_server_lease_seconds{"));
}

#[test]
fn every_count_of_a_module_is_shown_under_its_name() {
    let counters = Arc::new(ModuleCounters::default());
    [120, 4_000, 2_000_000_000].into_iter().for_each(|nanos| counters.pick_time.observe(nanos));
    counters.fault(FaultKind::Deadline);
    counters.fault(FaultKind::Deadline);
    counters.fault(FaultKind::Unfit);
    counters.picks.store(48, Relaxed);
    counters.fallbacks.store(5, Relaxed);
    counters.nones.store(8, Relaxed);
    counters.swaps.store(6, Relaxed);
    counters.refusals.store(7, Relaxed);
    let good = ModuleView { counters: Some(Arc::clone(&counters)), ..module("good", ModuleState::Loaded) };
    let bad = ModuleView { counters: Some(Arc::default()), ..module("bad", ModuleState::Quarantined) };
    let text = rendered_with(vec![group(8081, vec![])], vec![good, bad]);
    let samples = parse(&text);
    let policy = ("policy", "wasm:good");
    for (name, expected) in [
        ("goproxy_policy_picks_total", 48.0),
        ("goproxy_policy_pick_seconds_count", 3.0),
        ("goproxy_policy_pick_seconds_sum", 2.000_004_12),
        ("goproxy_policy_fallbacks_total", 5.0),
        ("goproxy_policy_nones_total", 8.0),
        ("goproxy_policy_quarantined", 0.0),
        ("goproxy_policy_swaps_total", 6.0),
        ("goproxy_policy_refused_versions_total", 7.0),
    ] {
        assert_eq!(value(&samples, name, &[policy]), expected, "{name}");
    }
    let faults = |reason| value(&samples, "goproxy_policy_faults_total", &[policy, ("reason", reason)]);
    assert_eq!(["trap", "deadline", "bad_answer", "unfit"].map(faults), [0.0, 2.0, 0.0, 1.0]);
    let at = |le| value(&samples, "goproxy_policy_pick_seconds_bucket", &[policy, ("le", le)]);
    assert_eq!((at("1e-7"), at("1.5e-7"), at("0.000005"), at("0.1"), at("+Inf")), (0.0, 1.0, 2.0, 2.0, 3.0));
    let sha256 = "ab".repeat(32);
    let info = [policy, ("version", "1.2.3"), ("sha256", sha256.as_str())];
    assert_eq!(value(&samples, "goproxy_policy_info", &info), 1.0);
    assert_eq!(value(&samples, "goproxy_policy_quarantined", &[("policy", "wasm:bad")]), 1.0);
}

#[test]
fn a_module_that_is_not_in_use_has_no_series_and_one_that_is_not_loaded_no_version() {
    let unused = module("unused", ModuleState::Available);
    let counters = Some(Arc::default());
    let unfit = ModuleView { version: None, sha256: None, counters, ..module("unfit", ModuleState::Refused) };
    let text = rendered_with(vec![], vec![unused, unfit]);
    let samples = parse(&text);
    assert!(!text.contains("unused") && !text.contains("goproxy_policy_info{"));
    assert_eq!(value(&samples, "goproxy_policy_quarantined", &[("policy", "wasm:unfit")]), 0.0);
    assert_eq!(value(&samples, "goproxy_policy_swaps_total", &[("policy", "wasm:unfit")]), 0.0);
}

#[test]
fn what_a_module_says_of_itself_breaks_no_line() {
    let version = Some("1\"} 7\n# \\".to_owned());
    let text = rendered_with(vec![], vec![ModuleView { version, ..module("odd", ModuleState::Loaded) }]);
    let line = text.lines().find(|line| line.starts_with("goproxy_policy_info{")).unwrap();
    assert!(line.contains(r#"version="1\"} 7\n# \\","#) && line.ends_with("\"} 1"), "{line}");
}
