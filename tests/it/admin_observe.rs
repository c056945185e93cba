//! What the proxy tells of itself: metrics, the status line, profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;

use crate::support::{Http, TestProxy, Visitor, eventually, is_refusal, let_pass, named_echo, ports, replace, spawn};

fn config(admin: u16, group: u16, interval: &str, servers: &str) -> String {
    format!(
        r#"{{
  "admin": {{ "listen": "127.0.0.1:{admin}" }},
  "log": {{ "status_interval": "{interval}" }},
  "groups": [ {{ "listen": "127.0.0.1:{group}", "heartbeat_timeout": "1m", "servers": [{servers}] }} ]
}}
"#
    )
}

/// Reads the text as a scraper does, and fails where the format is not kept.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut family = String::new();
    let body = text.strip_suffix("# EOF\n").expect("the text has its end");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned()), "{name} comes in one piece");
            family = name.to_owned();
        } else if !line.starts_with("# ") {
            let (name, value) = line.rsplit_once(' ').expect("a series and its value");
            assert!(name.starts_with("goproxy_") && name.starts_with(&family), "{line}");
            let labels = name.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let label = label.split_once('=').expect("a label has a value").0;
                assert!(
                    ["group", "server", "policy", "reason", "limit", "le", "log", "version", "sha256"].contains(&label),
                    "{line}"
                );
            }
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(value.is_finite() && series.insert(name.to_owned(), value).is_none(), "{line}");
        }
    }
    assert!(families.len() > 20, "{families:?}");
    series
}

fn scrape(proxy: &TestProxy) -> BTreeMap<String, f64> {
    let reply = proxy.request("GET", "/metrics", "Accept: application/openmetrics-text, text/plain;q=0.5\r\n", b"");
    assert_eq!(reply.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    parse(&reply.text())
}

#[test]
fn a_registration_is_told_and_a_heartbeat_that_changes_nothing_is_not() {
    let [admin, group, server] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "0s", ""));
    let beat = |more: &str| {
        proxy.ok(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:{server}{more}"));
    };
    let told = || proxy.log.count("admin request method=GET path=/worker-keepalive.do");
    ["", "", "&weight=2", "&weight=2", ""].into_iter().for_each(beat);
    proxy.refused(&format!("/worker-keepalive.do?group={group}&server=nowhere"), 400, "bad_parameter");
    eventually("the refusal is told", || proxy.log.count("status=400 code=bad_parameter") == 1);
    assert_eq!(told(), 3, "a new server, a new weight, a refusal: {}", proxy.log.text());
}

#[test]
fn whoever_does_not_ask_for_openmetrics_gets_the_classic_text() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "0s", ""));
    for accept in ["", "Accept: */*\r\n", "Accept: text/plain\r\n"] {
        let reply = proxy.request("GET", "/metrics", accept, b"");
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"), "{accept}");
        let text = reply.text();
        assert!(text.contains("# TYPE goproxy_sessions_total counter\n"), "{text}");
        assert!(text.contains(&format!("\ngoproxy_sessions_total{{group=\"{group}\"}} 0\n")), "{text}");
        assert!(!text.contains("# EOF") && !text.contains(" info\n"), "{text}");
    }
}

#[test]
fn metrics_are_well_formed_move_with_what_happens_and_go_with_their_server() {
    let [admin, group] = ports();
    let echo = named_echo();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "0s", &format!("\"{}\"", echo.addr)));
    let of_group = |name: &str, more: &str| format!("goproxy_{name}{{group=\"{group}\"{more}}}");
    let of_server = |name: &str, server: &str| of_group(name, &format!(",server=\"{server}\""));
    let server = echo.addr.to_string();
    let before = scrape(&proxy);
    assert_eq!(before[&of_group("sessions_total", "")], 0.0);
    assert_eq!(before[&of_server("server_up", &server)], 1.0);
    assert_eq!(before[&of_group("group_policy", ",policy=\"round_robin\"")], 1.0);
    assert_eq!(before["goproxy_config_reload_success"], 1.0);

    let mut client = Visitor::connect(group);
    client.round_trip(&[b'x'; 1_000]);
    let during = scrape(&proxy);
    assert_eq!(during[&of_group("sessions_active", "")], 1.0);
    assert_eq!(during[&of_server("server_sessions_active", &server)], 1.0);
    drop(client);
    eventually("the end is counted", || {
        let now = scrape(&proxy);
        let is = |name: &str, more: &str, value: f64| now[&of_group(name, more)] == value;
        is("sessions_active", "", 0.0)
            && is("sessions_total", "", 1.0)
            && is("sessions_ended_total", ",reason=\"client_closed\"", 1.0)
            && is("bytes_up_total", "", 1_000.0)
            && is("bytes_down_total", "", 1_000.0 + server.len() as f64 + 1.0)
            && is("session_duration_seconds_count", "", 1.0)
            && is("connect_duration_seconds_count", "", 1.0)
            && now[&of_server("server_sessions_total", &server)] == 1.0
            && now[&of_server("server_bytes_up_total", &server)] == 1_000.0
            && now[&of_server("server_bytes_down_total", &server)] == 1_000.0 + server.len() as f64 + 1.0
    });

    let beating = "127.0.0.1:1";
    proxy.ok(&format!("/worker-keepalive.do?group={group}&server={beating}&state=maint"));
    let now = scrape(&proxy);
    assert_eq!((now[&of_server("server_up", beating)], now[&of_server("server_state", beating)]), (0.0, 2.0));
    assert!((50.0..=60.0).contains(&now[&of_server("server_lease_seconds", beating)]));
    assert_eq!(now.get(&of_server("server_lease_seconds", &server)), None, "a server of the file has no lease");
    proxy.ok(&format!("/worker-remove.do?group={group}&server={beating}"));
    assert!(scrape(&proxy).keys().all(|series| !series.contains(beating)), "its series are gone");
    assert_eq!(scrape(&proxy)[&of_server("server_down_seconds_total", &server)], 0.0);

    proxy.ok(&format!("/worker-state.do?group={group}&server={server}&state=drain"));
    assert!(Visitor::try_connect(group).is_err());
    eventually("the refusal is counted", || {
        scrape(&proxy)[&of_group("sessions_refused_total", ",reason=\"no_server\"")] == 1.0
    });
    // A young process may not have used a whole tick yet.
    assert!(scrape(&proxy).contains_key("goproxy_process_cpu_seconds_total"));
    for figure in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds"] {
        assert!(scrape(&proxy)[&format!("goproxy_{figure}")] > 0.0, "{figure}");
    }
    let generation = before["goproxy_config_generation"];
    assert_eq!(scrape(&proxy)["goproxy_config_generation"], generation + 3.0, "a registration, a removal, a state");
}

#[test]
fn the_time_for_which_something_is_wrong_with_a_server_is_counted_and_maintenance_is_not() {
    let [admin, group] = ports();
    let echo = named_echo();
    let [gone] = ports();
    let servers = format!("\"{}\", \"127.0.0.1:{gone}\"", echo.addr);
    let proxy = TestProxy::with_file(admin, &config(admin, group, "0s", &servers));
    let down = |server: &str| {
        scrape(&proxy)[&format!("goproxy_server_down_seconds_total{{group=\"{group}\",server=\"{server}\"}}")]
    };
    let (good, bad) = (echo.addr.to_string(), format!("127.0.0.1:{gone}"));
    assert_eq!((down(&good), down(&bad)), (0.0, 0.0));
    // One of them meets the server that refuses.
    (0..2).for_each(|_| drop(Visitor::connect(group)));
    eventually("its time is counted while it lasts", || down(&bad) > 0.3);
    let set = |server: &str, state: &str| {
        proxy.ok(&format!("/worker-state.do?group={group}&server={server}&state={state}"));
    };
    ["drain", "maint"].into_iter().for_each(|state| set(&good, state));
    set(&bad, "maint");
    let before = down(&bad);
    let_pass(Duration::from_millis(300), "time in maintenance, which must not count");
    assert_eq!((down(&bad), down(&good)), (before, 0.0));
    set(&bad, "ready");
    eventually("it goes on when the server is still gone", || down(&bad) > before);
}

#[test]
fn the_metrics_of_one_group_are_asked_for_by_its_name_or_port() {
    let [admin, group, other] = ports();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "log": {{ "status_interval": "0s" }}, "groups": [
            {{ "listen": "127.0.0.1:{group}", "name": "web", "servers": ["127.0.0.1:1"] }},
            {{ "listen": "127.0.0.1:{other}", "servers": ["127.0.0.1:2"] }} ] }}"#
    );
    let proxy = TestProxy::with_file(admin, &text);
    for (asked, shown, server) in [
        ("web".to_owned(), "web".to_owned(), 1),
        (group.to_string(), "web".to_owned(), 1),
        (other.to_string(), other.to_string(), 2),
    ] {
        let text = proxy.get(&format!("/metrics?group={asked}")).text();
        let mut samples = text.lines().filter(|line| !line.starts_with('#'));
        assert!(samples.all(|line| line.contains(&format!("{{group=\"{shown}\""))), "{text}");
        assert!(
            text.contains(&format!("\ngoproxy_server_up{{group=\"{shown}\",server=\"127.0.0.1:{server}\"}} 1\n")),
            "{text}"
        );
    }
    assert!(proxy.get("/metrics").text().contains("\ngoproxy_sessions_max "));
    proxy.refused("/metrics?group=nobody", 404, "group_not_found");
    proxy.refused("/metrics?group=Web", 400, "bad_parameter");
}

#[test]
fn metrics_are_packed_for_whoever_can_unpack_them() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "0s", "\"127.0.0.1:1\""));
    let ask = |headers: &str| proxy.request("GET", "/metrics", headers, b"");
    let plain = ask("");
    assert_eq!((plain.header("content-encoding"), plain.header("vary").is_some()), (None, true));
    for (headers, kind) in [
        ("Accept-Encoding: gzip\r\n", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "Accept: application/openmetrics-text\r\nAccept-Encoding: deflate, gzip;q=0.5\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ] {
        let packed = ask(headers);
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(packed.header("content-type"), Some(kind));
        let mut text = String::new();
        GzDecoder::new(&packed.body[..]).read_to_string(&mut text).expect("it is gzipped");
        assert!(text.contains(&format!("goproxy_server_up{{group=\"{group}\",server=\"127.0.0.1:1\"}} 1\n")), "{text}");
        assert!(packed.body.len() * 3 < text.len(), "{} of {}", packed.body.len(), text.len());
    }
    assert_eq!(ask("Accept-Encoding: gzip;q=0, identity\r\n").header("content-encoding"), None);
}

#[test]
fn the_status_line_comes_at_its_interval_and_follows_a_reload() {
    let [admin, group] = ports();
    let echo = named_echo();
    let servers = format!("\"{}\", {{ \"addr\": \"127.0.0.1:1\", \"state\": \"drain\" }}", echo.addr);
    let proxy = TestProxy::with_file(admin, &config(admin, group, "100ms", &servers));
    let client = Visitor::connect(group);
    let wanted = format!("online clients=1 servers=1 groups=\"{group} clients=1 servers=1/2\"");
    eventually("the client is on the line", || proxy.log.count(&wanted) >= 2);
    let line = proxy.log.text().lines().rfind(|line| line.contains(&wanted)).unwrap().to_owned();
    assert!(line.contains(&echo.addr.to_string()) && !line.contains("127.0.0.1:1\""), "{line}");
    drop(client);
    eventually("and off again", || proxy.log.count("online clients=0 servers=1") >= 1);
    replace(proxy.path(), &config(admin, group, "0s", &servers));
    eventually("the reload is told", || proxy.log.count("settings=log.status_interval") == 1);
    eventually("the lines stop", || {
        let before = proxy.log.count("online clients=");
        let_pass(Duration::from_millis(400), "four times the interval, in which no line may come");
        proxy.log.count("online clients=") == before
    });
}

#[test]
fn profiles_are_gzipped_and_taken_one_at_a_time() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &config(admin, group, "0s", ""));
    let unpacked = |body: &[u8]| {
        let mut bytes = Vec::new();
        GzDecoder::new(body).read_to_end(&mut bytes).expect("it is gzipped");
        bytes
    };
    let heap = proxy.get("/debug/pprof/heap");
    assert_eq!((heap.status, heap.header("content-type")), (200, Some("application/octet-stream")));
    assert!(unpacked(&heap.body).windows(5).any(|part| part == b"bytes"));
    let both: Vec<_> =
        (0..2).map(|_| spawn(move || Http::connect(admin).get("/debug/pprof/profile?seconds=1"))).collect();
    let both: Vec<_> = both.into_iter().map(|one| one.join().unwrap()).collect();
    let (good, refused): (Vec<_>, Vec<_>) = both.iter().partition(|reply| reply.status == 200);
    assert_eq!((good.len(), refused.len()), (1, 1));
    assert!(unpacked(&good[0].body).windows(11).any(|part| part == b"nanoseconds"));
    is_refusal(refused[0], 409, "profile_running", "the second");
    for (query, code) in [
        ("seconds=0", "bad_parameter"),
        ("seconds=121", "bad_parameter"),
        ("seconds=x", "bad_parameter"),
        ("debug=1", "unknown_parameter"),
    ] {
        proxy.refused(&format!("/debug/pprof/profile?{query}"), 400, code);
    }
    proxy.refused("/debug/pprof/goroutine", 404, "unknown_path");
    assert_eq!(proxy.get("/debug/pprof/").status, 200);
}
