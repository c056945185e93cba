use std::collections::HashMap;

use serde_json::{Value, json};

use super::sample::{
    CheckFacts, GroupFacts, GroupSample, PolicyFacts, ProcessFacts, ReloadFacts, Sample, ServerFacts, ServerSample,
};
use super::tracker::{Frame, Tracker};
use super::*;
use crate::policy::wasm::view::ModuleState;
use crate::server::{Origin, State};

fn server(addr: &str, sessions: u64, total: u64) -> ServerSample {
    let check = Some(CheckFacts { ok: true, kind: "tcp", error: None });
    let facts = ServerFacts {
        g: 0,
        addr: addr.to_owned(),
        state: State::Ready,
        online: true,
        suspect: false,
        cause: None,
        since_ms: 1_764_511_240_000,
        weight: 1,
        backup: false,
        origin: Origin::File,
        sessions_max: 0,
        check,
    };
    ServerSample { facts, sessions, total, connect_us: 850, check_us: 1_200 }
}

fn group(name: &str, totals: [u64; 4], servers: Vec<ServerSample>) -> GroupSample {
    let facts = GroupFacts {
        group: name.to_owned(),
        port: 8081,
        listen: "0.0.0.0:8081".to_owned(),
        open: true,
        policy: "ha".to_owned(),
        policy_state: ModuleState::Loaded,
        fallback: None,
        fail_open: false,
        self_preservation: false,
        sessions_max: 0,
    };
    GroupSample { facts, sessions: servers.iter().map(|server| server.sessions).sum(), totals, servers }
}

fn sample(seconds: u64, groups: Vec<GroupSample>) -> Sample {
    let reload = ReloadFacts { ok: true, loaded_ms: 1, error: None };
    let process =
        ProcessFacts { version: "0.1.0", started_ms: Some(5), sessions_max: 1_000, ready: true, generation: 1, reload };
    Sample {
        at_us: seconds * 1_000_000,
        wall_ms: seconds * 1_000,
        process,
        sessions: groups.iter().map(|group| group.sessions).sum(),
        groups,
        policies: Vec::new(),
        pick_times: HashMap::new(),
    }
}

/// The name and the JSON of an event.
fn read(event: &Bytes) -> (String, Value) {
    let text = std::str::from_utf8(event).unwrap();
    let (name, rest) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
    let data = rest.strip_suffix("\n\n").unwrap();
    assert!(!data.contains('\n'), "{data}");
    (name.to_owned(), serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
}

fn change(frame: &Frame) -> Value {
    let (name, json) = read(&frame.change);
    assert_eq!(name, "change");
    json
}

#[test]
fn a_state_has_everything_and_no_rate_that_nobody_has_measured() {
    let frame = Tracker::default().frame(sample(1, vec![group("db", [9, 8, 7, 6], vec![server("a:1", 3, 9)])]));
    let (name, json) = read(&frame.full());
    assert_eq!(name, "state");
    assert_eq!((&json["t"], &json["n"], &json["p"]), (&json!(1_000), &json!(1), &json!([3, null, null, null])));
    assert_eq!(json["g"], json!([[1, 3, null, null, null, null]]));
    assert_eq!(json["s"], json!([[2, 3, null, 0, 850, 1_200]]));
    assert_eq!((&json["groups"][0]["i"], &json["groups"][0]["group"]), (&json!(1), &json!("db")));
    let server = &json["servers"][0];
    assert_eq!((&server["i"], &server["g"], &server["addr"]), (&json!(2), &json!(1), &json!("a:1")));
    assert_eq!(server["check"], json!({ "ok": true, "kind": "tcp", "error": null }));
    assert_eq!((&json["process"]["version"], &json["policies"]), (&json!("0.1.0"), &json!([])));
}

#[test]
fn only_what_is_new_is_told() {
    let mut tracker = Tracker::default();
    let groups = |total, cause: Option<&str>| {
        let mut other = server("b:1", 0, 0);
        other.facts.cause = cause.map(str::to_owned);
        other.facts.online = cause.is_none();
        vec![group("db", [total, 500, 0, 0], vec![server("a:1", total, total), other])]
    };
    tracker.frame(sample(1, groups(0, None)));
    let json = change(&tracker.frame(sample(2, groups(10, None))));
    assert_eq!(json["g"], json!([[1, 10, 10]]), "bytes did not change");
    assert_eq!(json["s"], json!([[2, 10, 10, 100, 850, 1_200], [3, 0, 0, 0, 850, 1_200]]), "rates are known now");
    assert_eq!(json["p"], json!([10, 10]));
    assert!(["process", "groups", "servers", "policies", "gone"].iter().all(|key| json.get(key).is_none()), "{json}");

    let json = change(&tracker.frame(sample(3, groups(10, Some("connection refused")))));
    assert_eq!(json["s"], json!([[2, 10, 0, 100, 850, 1_200]]));
    assert_eq!(json["servers"].as_array().unwrap().len(), 1);
    assert_eq!(json["servers"][0]["cause"], "connection refused");

    let frame = tracker.frame(sample(4, groups(10, Some("connection refused"))));
    assert_eq!(change(&frame), json!({ "t": 4_000, "n": 4, "p": [10] }));
}

#[test]
fn rates_are_those_of_a_second_and_shares_those_of_ten_frames() {
    let mut tracker = Tracker::default();
    let groups = |a, b| vec![group("db", [a + b, 0, 0, 0], vec![server("a:1", 0, a), server("b:1", 0, b)])];
    tracker.frame(sample(10, groups(0, 0)));
    let json = change(&tracker.frame(sample(12, groups(20, 10))));
    assert_eq!((&json["s"][0][2], &json["s"][1][2], &json["g"][0][2]), (&json!(10), &json!(5), &json!(15)));
    assert_eq!((&json["s"][0][3], &json["s"][1][3]), (&json!(67), &json!(33)));
    for second in 13..22 {
        let (_, json) = read(&tracker.frame(sample(second, groups(20, 10))).full());
        assert_eq!(json["s"][0][3], json!(67), "{second}");
    }
    let (_, json) = read(&tracker.frame(sample(22, groups(20, 10))).full());
    assert_eq!(json["s"][0].get(3).unwrap_or(&json!(0)), &json!(0), "ten frames have passed: {json}");
}

#[test]
fn what_leaves_is_told_and_what_comes_back_has_another_number() {
    let mut tracker = Tracker::default();
    let both = || vec![group("db", [0; 4], vec![server("a:1", 0, 0)]), group("web", [0; 4], vec![server("a:1", 0, 0)])];
    let frame = tracker.frame(sample(1, both()));
    assert_eq!(frame.servers.iter().map(|server| (server.facts.g, server.i)).collect::<Vec<_>>(), [(1, 2), (3, 4)]);
    let one = || vec![group("db", [0; 4], vec![])];
    let json = change(&tracker.frame(sample(2, one())));
    assert_eq!(json["gone"]["groups"], json!([3]));
    let mut gone: Vec<u64> = serde_json::from_value(json["gone"]["servers"].clone()).unwrap();
    gone.sort_unstable();
    assert_eq!(gone, [2, 4]);
    let json = change(&tracker.frame(sample(3, both())));
    assert_eq!((&json["groups"][0]["i"], json.get("gone")), (&json!(6), None), "{json}");
}

#[test]
fn a_server_of_which_every_number_changes_costs_forty_bytes_at_most() {
    const SERVERS: u64 = 1_000;
    let servers = |at: u64| {
        let one = |n: u64| ServerSample {
            sessions: 40_000 + at + n,
            connect_us: 25_000 + at,
            check_us: 30_000 + at,
            ..server(&format!("10.0.{}.{}:9000", n / 256, n % 256), 0, at * (1_000 + n))
        };
        vec![group("db", [0; 4], (0..SERVERS).map(one).collect())]
    };
    let mut tracker = Tracker::default();
    tracker.frame(sample(1, servers(1)));
    tracker.frame(sample(2, servers(2)));
    let frame = tracker.frame(sample(3, servers(3)));
    assert_eq!(change(&frame)["s"].as_array().unwrap().len() as u64, SERVERS);
    assert!((frame.change.len() as u64) < SERVERS * 40, "{}", frame.change.len());
}

#[test]
fn a_policy_costs_what_its_calls_took_lately() {
    let policy = || PolicyFacts {
        name: "wasm:sticky".to_owned(),
        kind: "wasm",
        state: ModuleState::Loaded,
        version: Some("1.2".to_owned()),
        error: None,
        groups: 1,
        calls: Some(5),
        faults: Some(0),
        fallbacks: Some(0),
        cost_ns: Some(700),
    };
    let of = |sum, count| Sample {
        policies: vec![policy()],
        pick_times: HashMap::from([("wasm:sticky".to_owned(), (sum, count))]),
        ..sample(1, Vec::new())
    };
    let mut tracker = Tracker::default();
    let cost = |frame: &Frame| frame.policies[0].cost_ns;
    assert_eq!(cost(&tracker.frame(of(7_000, 10))), Some(700), "since the start");
    assert_eq!(cost(&tracker.frame(of(8_000, 15))), Some(200));
    let idle = tracker.frame(of(8_000, 15));
    assert_eq!(cost(&idle), Some(700), "no call: since the start");
    assert!(change(&idle).get("policies").is_some());
    assert!(change(&tracker.frame(of(8_000, 15))).get("policies").is_none());
}

#[tokio::test]
async fn a_viewer_that_is_behind_gets_a_full_state_instead_of_a_queue() {
    let frames = Frames::default();
    let mut tracker = Tracker::default();
    let (mut quick, mut slow) = (frames.view(), frames.view());
    let mut show = |second| {
        let frame = tracker.frame(sample(second, vec![group("db", [second, 0, 0, 0], vec![])]));
        frames.newest.send_replace(Some(Arc::new(frame)));
    };
    show(1);
    assert_eq!(read(&quick.next().await.unwrap()).0, "state");
    assert_eq!(read(&slow.next().await.unwrap()).0, "state");
    show(2);
    assert_eq!(read(&quick.next().await.unwrap()).0, "change");
    show(3);
    assert_eq!(read(&quick.next().await.unwrap()).0, "change");
    let (name, json) = read(&slow.next().await.unwrap());
    assert_eq!((name.as_str(), &json["n"]), ("state", &json!(3)));
    show(4);
    assert_eq!(read(&slow.next().await.unwrap()).0, "change");
    drop(frames);
    assert_eq!(slow.next().await, None);
}

#[test]
fn the_table_has_a_line_for_each_server_and_only_printable_text() {
    let mut down = server("10.0.0.5:9000", 0, 3);
    (down.facts.online, down.facts.cause) = (false, Some("bad\n\u{1b}[31manswer".to_owned()));
    let mut drained = server("b:1", 12, 3);
    (drained.facts.state, drained.facts.online) = (State::Drain, false);
    drained.facts.cause = Some("drained by an operator".to_owned());
    let mut sample = sample(1, vec![group("db", [0; 4], vec![down, drained]), group("8081", [0; 4], vec![])]);
    sample.process.reload.error = Some("proxy.json has 1 mistake(s), the first at 3:5".to_owned());
    let text = table::render(&Tracker::default().frame(sample));
    let expected = "\
goproxy 0.1.0  0 of 2 servers online  12 of at most 1,000 sessions
last reload refused: proxy.json has 1 mistake(s), the first at 3:5

GROUP 8081 db  0.0.0.0:8081  open  ha  sessions=12
SERVER         STATE    SESSIONS  WEIGHT    CONNECT  cause
10.0.0.5:9000  offline         0       1  850.00 µs  bad \u{fffd}[31manswer
b:1            drain          12       1  850.00 µs  drained by an operator

GROUP 8081  0.0.0.0:8081  open  ha  sessions=0
SERVER         STATE    SESSIONS  WEIGHT    CONNECT  cause
";
    assert_eq!(text, expected);
}
