use std::num::NonZeroU32;

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::access::{AccessFacts, AccessPath, AccessSettings, Circumstances};
use crate::base::label::GroupLabel;
use crate::counters::EndReason;
use crate::events::{ClientFacts, Routed};

fn target(format: AccessFormat) -> Arc<AccessTarget> {
    let (path, prefix) = (AccessPath::Stderr, AccessPrefix::Syslog);
    Arc::new(AccessTarget::open(AccessSettings { format, path, connect_line: false, prefix }).unwrap())
}

fn closed(format: AccessFormat) -> SessionEvent {
    SessionEvent::SessionClosed {
        id: 1042,
        group: GroupLabel::new(8081, None),
        policy: "ha".into(),
        client: "10.0.1.2:33313".parse().unwrap(),
        tls: None,
        client_facts: None,
        server: Some("10.0.5.3:9000".into()),
        attempts: 1,
        end: EndReason::ServerClosed,
        limit: None,
        bytes_up: 99,
        bytes_down: 212,
        connect_us: NonZeroU32::new(1_999),
        elapsed_ms: 5_007,
        error: None,
        is_logged: false,
        access: Some(Box::new(AccessFacts {
            target: target(format),
            circumstances: Circumstances { is_connected: true, ..Circumstances::default() },
            tried: None,
            is_redispatched: false,
            failed_ms: 0,
            process_sessions: 12,
            group_sessions: 7,
            server_sessions: 3,
        })),
    }
}

/// 2026-11-29 18:54:02.450.
fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_978_442_450)
}

/// The line without what stands in front.
fn bare(event: &SessionEvent) -> String {
    let mut out = Vec::new();
    HaproxyLines::default().write(event, at(), AccessPrefix::None, &mut out);
    String::from_utf8(out).unwrap()
}

fn facts(event: &mut SessionEvent) -> &mut AccessFacts {
    let SessionEvent::SessionClosed { access: Some(facts), .. } = event else { panic!("it has an access log") };
    facts
}

/// As HAProxy's frontend that uses another backend.
#[test]
fn a_routed_session_has_the_group_it_came_to_in_front() {
    let mut event = closed(AccessFormat::Haproxy);
    assert!(bare(&event).contains("] 8081 8081/10.0.5.3:9000 "), "{}", bare(&event));
    let SessionEvent::SessionClosed { client_facts, client, .. } = &mut event else { unreachable!("it was made so") };
    let listener = Some(GroupLabel::new(443, Some("front")));
    let routed = Some(Routed { listener, ..Routed::default() });
    *client_facts = Some(Arc::new(ClientFacts { routed, ..ClientFacts::unknown(*client) }));
    assert!(bare(&event).contains("] front 8081/10.0.5.3:9000 "), "{}", bare(&event));
}

#[test]
fn a_session_is_the_line_that_haproxy_writes() {
    let mut event = closed(AccessFormat::Haproxy);
    let line = "10.0.1.2:33313 [29/Nov/2026:18:53:57.443] 8081 8081/10.0.5.3:9000 0/1/5007 212 -- 12/7/7/3/0 0/0\n";
    assert_eq!(bare(&event), line);
    let mut out = Vec::new();
    HaproxyLines::default().write(&event, at(), AccessPrefix::Syslog, &mut out);
    let text = String::from_utf8(out).unwrap();
    let pattern = format!(r"^Nov 29 18:54:02 [!-~]+ goproxy\[{}\]: ", std::process::id());
    assert_eq!(Regex::new(&pattern).unwrap().replace(&text, ""), line);

    // Another server was taken after one that took 40 ms to refuse.
    (facts(&mut event).failed_ms, facts(&mut event).is_redispatched) = (40, true);
    if let SessionEvent::SessionClosed { attempts, client, group, .. } = &mut event {
        (*attempts, *client) = (2, "[fe80::1]:33313".parse().unwrap());
        *group = GroupLabel::new(8081, Some("db"));
    }
    assert_eq!(
        bare(&event),
        "fe80::1:33313 [29/Nov/2026:18:53:57.443] db db/10.0.5.3:9000 0/41/5007 212 -- 12/7/7/3/+1 0/0\n"
    );
}

#[test]
fn a_session_without_a_server_says_how_far_it_came() {
    let mut event = closed(AccessFormat::Haproxy);
    let set = |event: &mut SessionEvent, to: EndReason, tried: u32| {
        *facts(event) =
            AccessFacts { circumstances: Circumstances::default(), server_sessions: 0, ..facts(event).clone() };
        if let SessionEvent::SessionClosed { end, attempts, server, connect_us, bytes_down, .. } = event {
            (*end, *attempts, *server, *connect_us, *bytes_down) = (to, tried, None, None, 0);
        }
    };
    let middle = |event: &SessionEvent| bare(event).split("443] ").nth(1).unwrap().trim_end().to_owned();
    set(&mut event, EndReason::NoServer, 0);
    assert_eq!(middle(&event), "8081 8081/<NOSRV> -1/-1/5007 0 SC 12/7/0/0/0 0/0");
    set(&mut event, EndReason::ConnectFailed, 3);
    facts(&mut event).tried = Some("10.0.5.3:9000".into());
    assert_eq!(middle(&event), "8081 8081/10.0.5.3:9000 0/-1/5007 0 SC 12/7/0/0/2 0/0");
    facts(&mut event).circumstances.has_timed_out = true;
    assert_eq!(middle(&event), "8081 8081/10.0.5.3:9000 0/-1/5007 0 sC 12/7/0/0/2 0/0");
}

#[test]
fn a_line_for_stderr_is_not_said_twice() {
    let mut lines = AccessLines::new();
    for (format, logged, is_said) in [
        (AccessFormat::Text, Some(LogFormat::Text), false),
        (AccessFormat::Text, Some(LogFormat::Json), true),
        (AccessFormat::Json, Some(LogFormat::Json), false),
        (AccessFormat::Json, None, true),
        (AccessFormat::Haproxy, Some(LogFormat::Text), true),
    ] {
        let mut said = Vec::new();
        lines.write(&closed(format), at(), logged, |line| said.extend_from_slice(line));
        assert_eq!(said.ends_with(b"\n"), is_said, "{format:?} {logged:?}");
    }
}

/// The pattern that Logstash and its like have for such lines, field by field.
const TCP_LOG: &str = r"^(?<client>[0-9a-f.:]+):(?<port>[0-9]+) \[(?<accepted>[0-9][0-9]/[A-Za-z]{3}/[0-9]{4}:[0-9][0-9]:[0-9][0-9]:[0-9][0-9]\.[0-9]{3})\] (?<frontend>[^ ]+) (?<backend>[^/ ]+)/(?<server>[^ ]+) (?<tw>-1|[0-9]+)/(?<tc>-1|[0-9]+)/(?<tt>[0-9]+) (?<bytes>[0-9]+) (?<code>[-a-zA-Z]{2}) (?<process>[0-9]+)/(?<fc>[0-9]+)/(?<bc>[0-9]+)/(?<sc>[0-9]+)/(?<rc>\+?[0-9]+) [0-9]+/[0-9]+\n$";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_session_is_one_line_in_which_parsers_find_every_field(
        end in prop::sample::select(EndReason::ALL.to_vec()),
        name in "\\PC{0,255}",
        counts in (any::<[u64; 4]>(), any::<u32>(), any::<u32>(), any::<[bool; 4]>()),
        client in prop_oneof![any::<([u8; 4], u16)>().prop_map(SocketAddr::from), any::<([u8; 16], u16)>().prop_map(SocketAddr::from)],
    ) {
        let ([bytes, process, group_sessions, id], tried, us, [is_connected, was_tried, flag, other]) = counts;
        let mut event = closed(AccessFormat::Haproxy);
        let name: Arc<str> = format!("a{name}").into();
        let circumstances =
            Circumstances { is_connected, server_ended_first: flag, has_timed_out: other, is_out_of_descriptors: flag };
        *facts(&mut event) = AccessFacts {
            circumstances,
            tried: was_tried.then(|| Arc::clone(&name)),
            is_redispatched: flag,
            process_sessions: process,
            group_sessions,
            ..facts(&mut event).clone()
        };
        if let SessionEvent::SessionClosed {
            id: of, end: ended, server, attempts, bytes_down, connect_us, client: from, elapsed_ms, ..
        } = &mut event {
            (*of, *ended, *attempts, *bytes_down, *from, *elapsed_ms) = (id, end, tried, bytes, client, id >> 24);
            (*server, *connect_us) = (is_connected.then_some(name), NonZeroU32::new(us).filter(|_| is_connected));
        }
        let line = bare(&event);
        let found = Regex::new(TCP_LOG).unwrap();
        let Some(found) = found.captures(&line) else { panic!("{line:?}") };
        prop_assert_eq!(format!("{}:{}", &found["client"], &found["port"]), format!("{}:{}", client.ip(), client.port()));
        prop_assert_eq!(&found["bytes"], bytes.to_string());
        prop_assert_eq!(&found["code"], termination_code(end, &circumstances));
        prop_assert_eq!(&found["server"] == "<NOSRV>", !is_connected && !was_tried);
        prop_assert!(line.len() < LINE_BYTES_MAX);
    }
}
