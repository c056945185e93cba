use std::io::{self, Write};
use std::net::Ipv6Addr;
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::base::label::GroupLabel;
use crate::counters::{EndReason, Limit};
use crate::events::{self, Visitor};
use crate::events::{Entry, Event, SHARD_ENTRIES_MAX, ServerChange, SessionEvent, SessionLines, Step, What, sample};

/// Far above anything that happens here, for machines that are busy with something else.
const GENEROUS: Duration = Duration::from_secs(120);

/// Keeps what is written; can be blocked and can be broken.
#[derive(Clone, Default)]
struct FakeSink(Arc<(Mutex<SinkState>, Condvar)>);

#[derive(Default)]
struct SinkState {
    written: Vec<u8>,
    is_blocked: bool,
    is_waiting: bool,
    is_broken: bool,
}

impl FakeSink {
    fn change(&self, change: impl FnOnce(&mut SinkState)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn wait_until(&self, condition: impl Fn(&SinkState) -> bool) {
        let state = self.0.0.lock().unwrap();
        let (_state, timeout) = self.0.1.wait_timeout_while(state, GENEROUS, |state| !condition(state)).unwrap();
        assert!(!timeout.timed_out());
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
    }
}

impl Write for FakeSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap();
        while state.is_blocked {
            state.is_waiting = true;
            self.0.1.notify_all();
            state = self.0.1.wait(state).unwrap();
        }
        if state.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.written.extend_from_slice(bytes);
        self.0.1.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log of its own, so that tests do not see each other's lines.
struct TestLog {
    queue: &'static Queue,
    dispatch: Dispatch,
    filter: Filter,
    sink: FakeSink,
    _guard: LogGuard,
}

impl TestLog {
    fn start(format: LogFormat, level: LogLevel) -> Self {
        let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
        let sink = FakeSink::default();
        let (dispatch, filter) = subscriber(queue, format, level, false);
        queue.set_lines(level.into(), SessionLines::All);
        let log = LogThread::new(queue, EventLines::new(format, false), format, sink.clone());
        let scope = dispatch.clone();
        let thread = std::thread::spawn(move || tracing::dispatcher::with_default(&scope, || log.run()));
        Self { queue, dispatch, filter, sink, _guard: LogGuard { queue, thread: Some(thread) } }
    }

    fn in_scope(&self, write: impl FnOnce()) {
        tracing::dispatcher::with_default(&self.dispatch, write);
    }

    fn flushed(&self) -> String {
        assert!(self.queue.flush(GENEROUS));
        self.sink.text()
    }

    fn block(&self) {
        self.sink.change(|sink| sink.is_blocked = true);
        self.in_scope(|| tracing::info!("into the blocked sink"));
        self.sink.wait_until(|sink| sink.is_waiting);
    }
}

fn connected(id: u64) -> SessionEvent {
    SessionEvent::ClientConnected {
        id,
        group: GroupLabel::new(8081, None),
        client: "10.0.0.7:51234".parse().unwrap(),
        client_facts: None,
        is_logged: true,
        access: None,
    }
}

fn closed() -> SessionEvent {
    SessionEvent::SessionClosed {
        id: 1042,
        group: GroupLabel::new(8081, None),
        policy: "ha".into(),
        client: "[::1]:51234".parse().unwrap(),
        tls: None,
        client_facts: None,
        server: Some("db2.internal:9000".into()),
        attempts: 2,
        end: EndReason::IdleTimeout,
        limit: None,
        bytes_up: 512,
        bytes_down: 20480,
        connect_us: NonZeroU32::new(431),
        elapsed_ms: 3041,
        error: Some("a \"quoted\"\ncause".into()),
        is_logged: true,
        access: None,
    }
}

#[test]
fn a_session_is_three_lines_of_text_with_the_names_of_the_handbook() {
    let log = TestLog::start(LogFormat::Text, LogLevel::Info);
    log.queue.push_session(Step::Connect, || connected(1042));
    log.queue.push_session(Step::Connect, || SessionEvent::ServerConnected {
        id: 1042,
        group: GroupLabel::new(8081, None),
        client: "10.0.0.7:51234".parse().unwrap(),
        server: "10.0.1.3:9000".into(),
        attempt: 2,
        connect_us: 2_500,
        is_check: false,
        is_logged: true,
    });
    log.queue.push_session(Step::Close, closed);
    let text = log.flushed();
    let lines: Vec<&str> = text.lines().map(|line| line.split_once("  INFO ").unwrap().1).collect();
    assert_eq!(
        lines,
        [
            "client connected session.id=1042 group=8081 client.addr=10.0.0.7:51234",
            "server connected session.id=1042 group=8081 client.addr=10.0.0.7:51234 server.addr=10.0.1.3:9000 \
             attempt=2 connect_ms=2.5",
            "session closed session.id=1042 group=8081 policy=ha client.addr=[::1]:51234 \
             server.addr=db2.internal:9000 attempts=2 end=idle_timeout bytes.up=512 bytes.down=20480 \
             connect_ms=0.431 elapsed_ms=3041 error=\"a \\\"quoted\\\"\\ncause\"",
        ]
    );
}

#[test]
fn json_lines_parse_and_leave_out_what_is_not_known() {
    let log = TestLog::start(LogFormat::Json, LogLevel::Info);
    log.queue.push_session(Step::Close, closed);
    log.queue.push_session(Step::Close, || {
        let mut event = closed();
        if let SessionEvent::SessionClosed { server, connect_us, error, .. } = &mut event {
            (*server, *connect_us, *error) = (None, None, None);
        }
        event
    });
    log.in_scope(|| tracing::warn!(group = 1, path = "with \"quotes\"\nand lines", "reload failed"));
    let lines: Vec<Value> = log.flushed().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["message"], "session closed");
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[0]["session.id"], 1042);
    assert_eq!(lines[0]["client.addr"], "[::1]:51234");
    assert_eq!(lines[0]["server.addr"], "db2.internal:9000");
    assert_eq!(lines[0]["connect_ms"], 0.431);
    assert_eq!(lines[0]["error"], "a \"quoted\"\ncause");
    for absent in ["server.addr", "connect_ms", "error"] {
        assert_eq!(lines[1].get(absent), None);
    }
    assert_eq!(lines[2]["path"], "with \"quotes\"\nand lines");
}

#[test]
fn lines_of_all_threads_are_in_order_and_carry_the_time_of_the_event() {
    let log = TestLog::start(LogFormat::Json, LogLevel::Info);
    log.block();
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    for second in [2, 1, 0] {
        // Each from a thread, and so from a shard, of its own: only the time can put them right.
        let entry = Entry { at: at + Duration::from_secs(second), what: What::Session(connected(second)) };
        std::thread::spawn(move || log.queue.push_entry(entry)).join().unwrap();
    }
    log.sink.change(|sink| sink.is_blocked = false);
    let lines: Vec<Value> = log.flushed().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stamps: Vec<&str> = lines[1..].iter().map(|line| line["timestamp"].as_str().unwrap()).collect();
    assert_eq!(stamps, ["2023-11-14T22:13:20.123Z", "2023-11-14T22:13:21.123Z", "2023-11-14T22:13:22.123Z"]);
}

#[test]
fn a_blocked_sink_costs_nobody_time_and_what_is_lost_is_counted_and_reported() {
    const EXTRA: usize = 100;
    let log = TestLog::start(LogFormat::Text, LogLevel::Info);
    log.block();
    // Whoever waited for the sink would wait for ever.
    for id in 0..(SHARD_ENTRIES_MAX + EXTRA) as u64 {
        log.queue.push_session(Step::Connect, || connected(id));
    }
    assert_eq!(log.queue.dropped_total(), EXTRA as u64);
    assert!(!log.queue.flush(Duration::from_millis(1)), "nothing can be flushed into a blocked sink");

    log.sink.change(|sink| sink.is_blocked = false);
    let text = log.flushed();
    assert_eq!(text.matches("client connected").count(), SHARD_ENTRIES_MAX);
    let reports: Vec<&str> = text.lines().filter_map(|line| line.split_once("  WARN ")).map(|(_, line)| line).collect();
    assert_eq!(reports, ["log lines dropped dropped=100"]);
}

#[test]
fn a_broken_sink_ends_nothing_and_is_reported_when_it_works_again() {
    let log = TestLog::start(LogFormat::Text, LogLevel::Info);
    log.sink.change(|sink| sink.is_broken = true);
    log.in_scope(|| tracing::error!("lost"));
    assert_eq!(log.flushed(), "");
    assert_eq!(log.queue.dropped_total(), 1);
    log.sink.change(|sink| sink.is_broken = false);
    log.in_scope(|| tracing::error!("kept"));
    let text = log.flushed();
    assert!(text.contains("ERROR kept\n") && text.ends_with("log lines dropped dropped=1\n"), "{text}");
}

#[test]
fn a_level_takes_effect_at_once_and_below_info_no_event_is_built() {
    let log = TestLog::start(LogFormat::Text, LogLevel::Warn);
    log.queue.push_session(Step::Connect, || panic!("built for nobody"));
    log.in_scope(|| tracing::info!("too low"));
    // In scope, because `tracing` asks the subscriber of the thread that sets the level.
    log.in_scope(|| log.filter.set(log.queue, LogLevel::Debug, SessionLines::All));
    log.queue.push_session(Step::Connect, || connected(1));
    log.in_scope(|| {
        tracing::debug!("low enough");
        tracing::info!(target: "some_library", "chatter");
        tracing::warn!(target: "some_library", "trouble");
    });
    let text = log.flushed();
    let messages: Vec<&str> = text.lines().map(|line| line.get(31..).unwrap()).collect();
    assert_eq!(
        messages,
        ["client connected session.id=1 group=8081 client.addr=10.0.0.7:51234", "low enough", "trouble"]
    );
}

#[test]
fn an_idle_log_thread_is_woken_by_the_next_entry() {
    let log = TestLog::start(LogFormat::Text, LogLevel::Info);
    let deadline = Instant::now() + GENEROUS;
    while !log.queue.is_idle() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    log.queue.push_session(Step::Connect, || connected(7));
    log.sink.wait_until(|sink| !sink.written.is_empty());
}

#[test]
fn an_entry_is_small() {
    assert!(size_of::<Entry>() <= 176, "{}", size_of::<Entry>());
}

fn event() -> impl Strategy<Value = SessionEvent> {
    let client =
        prop_oneof![any::<([u8; 4], u16)>().prop_map(Into::into), any::<([u8; 16], u16)>().prop_map(Into::into)];
    let word = || "\\PC*";
    let texts = (word(), prop::option::of(word()), prop::option::of(any::<String>()));
    let numbers = (any::<u64>(), any::<u16>(), any::<u32>(), any::<[u64; 4]>(), any::<u32>());
    (0..3, client, texts, numbers).prop_map(|(which, client, (policy, server, error), numbers)| {
        let (id, port, attempts, [bytes_up, bytes_down, elapsed_ms, micros], connect_us) = numbers;
        let group = GroupLabel::new(port, None);
        match which {
            0 => SessionEvent::ClientConnected { id, group, client, client_facts: None, is_logged: true, access: None },
            1 => {
                let (server, connect_us) = (policy.into(), micros >> 20);
                SessionEvent::ServerConnected {
                    id,
                    group,
                    client,
                    server,
                    attempt: attempts,
                    connect_us,
                    is_check: false,
                    is_logged: true,
                }
            }
            _ => SessionEvent::SessionClosed {
                id,
                group,
                policy: policy.into(),
                client,
                tls: None,
                client_facts: None,
                server: server.map(Into::into),
                attempts,
                end: EndReason::ClientClosed,
                limit: error.as_ref().map(|_| Limit::ClientRate),
                bytes_up,
                bytes_down,
                connect_us: NonZeroU32::new(connect_us),
                elapsed_ms,
                error: error.map(Into::into),
                is_logged: true,
                access: None,
            },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn lines_of_sessions_are_what_tracing_would_write(
        events in prop::collection::vec((event(), 0..2_000_000_000_000_000_000_u64), 1..20),
    ) {
        for format in [LogFormat::Json, LogFormat::Text] {
            let log = TestLog::start(format, LogLevel::Info);
            let (mut lines, mut written) = (EventLines::new(format, false), Vec::new());
            for (event, nanos) in &events {
                log.in_scope(|| emit(event));
                lines.write_session(event, SystemTime::UNIX_EPOCH + Duration::from_nanos(*nanos), &mut written);
            }
            let written = String::from_utf8(written).unwrap();
            prop_assert_eq!(without_stamps(format, &written), without_stamps(format, &log.flushed()));
        }
    }
}

/// What a program makes of a line of text: the level, the message, and the fields in order.
fn parsed(line: &str) -> (String, String, Vec<(String, String)>) {
    let (_stamp, rest) = line.split_once(' ').unwrap();
    let (level, mut rest) = rest.trim_start().split_once(' ').unwrap();
    let mut message = Vec::new();
    let is_name = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c));
    while !rest.is_empty() {
        let word = rest.split(' ').next().unwrap();
        if word.split_once('=').is_some_and(|(name, _)| is_name(name)) {
            break;
        }
        message.push(word);
        rest = rest[word.len()..].strip_prefix(' ').unwrap_or_default();
    }
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').unwrap();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let value = after.split(' ').next().unwrap();
                (value.to_owned(), &after[value.len()..])
            }
        };
        fields.push((name.to_owned(), value));
        rest = after.strip_prefix(' ').unwrap_or_else(|| {
            assert_eq!(after, "", "a value ends with its line, or a space follows");
            after
        });
    }
    (level.to_owned(), message.join(" "), fields)
}

/// The text before the closing quote, and what follows that.
fn unquoted(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, &quoted[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                '0' => text.push('\0'),
                'u' => {
                    let digits: String =
                        chars.by_ref().map(|(_, c)| c).skip_while(|c| *c == '{').take_while(|c| *c != '}').collect();
                    text.push(char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap());
                }
                escaped => text.push(escaped),
            },
            c => text.push(c),
        }
    }
    panic!("no closing quote: {quoted}");
}

/// The fields as they were given, as text.
fn given(event: &Event) -> (String, Vec<(String, String)>) {
    let mut fields = Vec::new();
    let message = event.show(&mut Visitor::new(&mut |name, value| {
        let text = match value {
            events::Value::Number(number) => number.to_string(),
            events::Value::Fraction(number) => format!("{number:?}"),
            events::Value::Text(text) => text.to_owned(),
            events::Value::Addr(addr) => addr.to_string(),
            events::Value::Switch(switch) => switch.to_string(),
            events::Value::List(list) => list.join(", "),
        };
        fields.push((name.to_owned(), text));
    }));
    (message.to_owned(), fields)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_kind_of_line_reads_back_as_what_it_was_made_of(
        session in event(),
        text in prop_oneof!["[a-z=\" \\\\]{0,12}", any::<String>(), Just("Connection refused (os error 111)".to_owned())],
        numbers in (any::<u64>(), any::<u16>(), any::<bool>()),
    ) {
        let (number, port, is_full) = numbers;
        let seed = sample::Seed { text, number, addr: (Ipv6Addr::LOCALHOST, port).into(), is_full };
        let mut lines = EventLines::new(LogFormat::Text, false);
        let mut as_json = EventLines::new(LogFormat::Json, false);
        for event in sample::samples(&seed).into_iter().chain([Event::Session(session)]) {
            let mut line = Vec::new();
            lines.write(&event, SystemTime::UNIX_EPOCH, &mut line);
            let line = String::from_utf8(line).unwrap();
            let line = line.strip_suffix('\n').unwrap();
            prop_assert!(!line.contains(['\n', '\r', '\x1b']), "{line:?}");
            let (level, message, fields) = parsed(line);
            prop_assert_eq!(level, event.level().to_string());
            prop_assert_eq!((message, fields), given(&event), "{}", line);
            // The same in JSON, with lists as arrays.
            let mut line = Vec::new();
            as_json.write(&event, SystemTime::UNIX_EPOCH, &mut line);
            let json: Value = serde_json::from_slice(&line).unwrap();
            event.show(&mut Visitor::new(&mut |name, value| match value {
                events::Value::Switch(switch) => assert_eq!(json[name], serde_json::json!(switch)),
                events::Value::List(list) => assert_eq!(json[name], serde_json::json!(list)),
                events::Value::Text(text) => assert_eq!(json[name], text),
                _ => assert!(!json[name].is_null(), "{name}"),
            }));
        }
    }
}

#[test]
fn what_is_written_of_sessions_follows_the_level_and_the_key() {
    let refused = || {
        let mut event = closed();
        if let SessionEvent::SessionClosed { end, .. } = &mut event {
            *end = EndReason::NoServer;
        }
        event
    };
    for (level, sessions, expected) in [
        (LogLevel::Info, SessionLines::All, "client connected,session closed,session closed"),
        (LogLevel::Info, SessionLines::Closed, "session closed,session closed"),
        (LogLevel::Debug, SessionLines::Refused, "session closed"),
        (LogLevel::Info, SessionLines::None, ""),
        (LogLevel::Warn, SessionLines::All, "session closed"),
        (LogLevel::Warn, SessionLines::None, ""),
        (LogLevel::Error, SessionLines::All, ""),
    ] {
        let log = TestLog::start(LogFormat::Text, LogLevel::Error);
        log.in_scope(|| log.filter.set(log.queue, level, sessions));
        log.queue.push_session(Step::Connect, || connected(1));
        log.queue.push_session(Step::Close, closed);
        log.queue.push_session(Step::Refuse, refused);
        let text = log.flushed();
        let messages: Vec<String> = text.lines().map(|line| parsed(line).1).collect();
        assert_eq!(messages.join(","), expected, "{level:?} {sessions:?}");
        assert_eq!(text.contains(" WARN session closed"), expected.ends_with("session closed"));
    }
}

/// A line begins with its time, which differs.
fn without_stamps(format: LogFormat, lines: &str) -> Vec<String> {
    let begin = match format {
        LogFormat::Json => r#"{"timestamp":""#.len(),
        LogFormat::Text => 0,
    };
    lines.lines().map(|line| line.get(begin + "2026-01-01T00:00:00.000Z".len()..).unwrap_or(line).to_owned()).collect()
}

/// The same line by way of `tracing`.
fn emit(event: &SessionEvent) {
    let as_ms = |micros: u64| micros as f64 / 1_000.0;
    let plain = |word: &str| word.to_owned();
    match event {
        SessionEvent::ClientConnected { id, group, client, .. } => {
            tracing::info!(session.id = id, group = group.port(), client.addr = %client, "client connected");
        }
        SessionEvent::ClientLeft { .. } => unreachable!("none is made here"),
        SessionEvent::ServerConnected { id, group, client, server, attempt, connect_us, .. } => tracing::info!(
            session.id = id,
            group = group.port(),
            client.addr = %client,
            server.addr = %plain(server),
            attempt,
            connect_ms = as_ms(*connect_us),
            "server connected"
        ),
        SessionEvent::SessionClosed {
            id,
            group,
            policy,
            client,
            server,
            attempts,
            end,
            limit,
            bytes_up,
            bytes_down,
            connect_us,
            elapsed_ms,
            error,
            ..
        } => tracing::info!(
            session.id = id,
            group = group.port(),
            policy = %policy,
            client.addr = %client,
            server.addr = server.as_deref().map(tracing::field::display),
            attempts,
            end = %end,
            limit = limit.map(Limit::as_str),
            bytes.up = bytes_up,
            bytes.down = bytes_down,
            connect_ms = connect_us.map(|micros| as_ms(micros.get().into())),
            elapsed_ms,
            error = error.as_deref(),
            "session closed"
        ),
    }
}

#[test]
fn a_word_from_outside_neither_begins_a_line_nor_colours_a_terminal() {
    let mut written = Vec::new();
    let change = ServerChange::Suspect { error: "a\nb\x1b[31m".into() };
    let event = Event::Server { group: GroupLabel::new(1, Some("db")), addr: "a:1".into(), change };
    EventLines::new(LogFormat::Text, true).write(&event, SystemTime::UNIX_EPOCH, &mut written);
    let line = String::from_utf8(written).unwrap();
    assert_eq!(line.matches('\n').count(), 1);
    assert!(
        line.contains("\x1b[33m WARN\x1b[0m server suspect") && line.ends_with("\"a\\nb\\u{1b}[31m\"\n"),
        "{line:?}"
    );
    assert!(line.contains("\x1b[3mgroup.name\x1b[0m\x1b[2m=\x1b[0mdb"), "{line:?}");
}
