use std::time::Instant;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Modifier;
use serde_json::{Value, json};

use super::app::{App, Change, Dialog, Link, Notice, Tab, Target, Wanted};
use super::glyphs::Glyphs;
use super::keys::Wish;
use super::report;
use super::state::State;
use crate::admin_client::{AdminAddr, AskError, Message, Told};

/// 2025-11-30 14:00:45 UTC.
const NOW_MS: u64 = 1_764_511_245_000;

fn server(i: u64, addr: &str, extra: Value) -> Value {
    let mut server = json!({ "i": i, "g": 1, "addr": addr, "state": "ready", "online": true, "suspect": false, "cause": null,
        "since_ms": NOW_MS - 95_000, "weight": 1, "backup": false, "origin": "file", "sessions_max": 0,
        "check": { "ok": true, "kind": "tcp", "error": null }, "of_a_later_version": [1] });
    server.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    server
}

fn full() -> Value {
    json!({
        "t": NOW_MS, "n": 1,
        "process": { "version": "0.1.0", "started_ms": NOW_MS - 273_600_000, "sessions_max": 10_000, "ready": true,
            "generation": 3, "reload": { "ok": true, "loaded_ms": NOW_MS - 61_000, "error": null } },
        "p": [1_234, 350, 1_200_000, 33_456_789],
        "groups": [
            { "i": 1, "group": "db", "port": 5432, "listen": "0.0.0.0:5432", "open": true, "policy": "wasm:sticky",
              "policy_state": "quarantined", "fallback": "round_robin", "fail_open": false, "self_preservation": false, "sessions_max": 0 },
            { "i": 5, "group": "8081", "port": 8081, "listen": "127.0.0.1:8081", "open": true, "policy": "ha",
              "policy_state": "loaded", "fallback": null, "fail_open": true, "self_preservation": false, "sessions_max": 500 },
        ],
        "g": [[1, 1_222, 340, 1_100_000, 33_000_000, 2], [5, 12, 10, 100_000, 456_789]],
        "servers": [
            server(2, "10.0.0.5:5432", json!({})),
            server(3, "10.0.0.6:5432", json!({ "online": false, "cause": "connection refused",
                "check": { "ok": false, "kind": "tcp", "error": "connection refused" } })),
            server(4, "10.0.0.7:5432", json!({ "state": "drain", "online": false, "cause": "drained by an operator", "weight": 3 })),
            server(6, "127.0.0.1:9001", json!({ "g": 5, "suspect": true, "backup": true })),
        ],
        "s": [[2, 1_200, 340, 100, 850, 1_200], [3, 0, 0, 0, 0, 30_000], [4, 22], [6, 12, 10, 100, 12_345]],
        "policies": [
            { "name": "ha", "kind": "built_in", "state": "loaded", "version": null, "error": null, "groups": 1,
              "calls": null, "faults": null, "fallbacks": null, "cost_ns": null },
            { "name": "wasm:sticky", "kind": "wasm", "state": "quarantined", "version": "1.2", "error": "pick took too long",
              "groups": 1, "calls": 123_456, "faults": 3, "fallbacks": 40, "cost_ns": 850 },
        ],
    })
}

fn message(event: &str, data: &Value) -> Told {
    Told::Message(Message { id: None, event: event.to_owned(), data: data.to_string() })
}

/// A picture with everything.
fn app() -> App {
    let mut app = App::new("127.0.0.1:8080".to_owned(), Glyphs::Braille, true);
    app.told(Told::Connected);
    for at in 0..40_u64 {
        let mut frame = full();
        frame["p"] = json!([1_000 + at * 6, 100 + (at % 10) * 25, 1_000_000 + at * 5_000, 33_456_789]);
        app.told(message("state", &frame));
    }
    app.told(message("state", &full()));
    let offline = json!({ "at": "2025-11-30T14:00:40.123Z", "level": "WARN", "message": "server offline", "group": 5432,
        "group.name": "db", "server.addr": "10.0.0.6:5432", "cause": "connection refused" });
    app.told(message("server_offline", &offline));
    let change = json!({ "at": "2025-11-30T14:00:41.000Z", "level": "INFO", "message": "admin request", "method": "POST",
        "path": "/worker-state.do", "group": "db", "server.addr": "10.0.0.7:5432", "status": 200, "code": "ok" });
    app.told(message("admin_change", &change));
    app
}

fn picture_of(app: &mut App, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| super::draw::draw(frame, app)).unwrap();
    terminal
}

/// The picture as text, without blanks at the ends of lines.
fn text_of(app: &mut App, width: u16, height: u16) -> String {
    let terminal = picture_of(app, width, height);
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(line).collect()
}

fn press(app: &mut App, keys: &str) -> Vec<Wish> {
    keys.chars().map(|c| key(app, KeyCode::Char(c))).collect()
}

fn key(app: &mut App, code: KeyCode) -> Wish {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn the_picture_is_made_for_80_columns_and_24_lines() {
    insta::assert_snapshot!(text_of(&mut app(), 80, 24));
}

#[test]
fn each_list_has_its_picture() {
    let mut app = app();
    let mut all = String::new();
    for keys in ["2", "3", "4"] {
        press(&mut app, keys);
        all += &text_of(&mut app, 80, 24);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn questions_and_help_stand_in_front() {
    let mut app = app();
    let mut all = String::new();
    for keys in ["?", " ", "d", " ", "  m"] {
        press(&mut app, keys);
        all += &text_of(&mut app, 80, 24);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_wide_terminal_shows_more_and_a_small_one_what_matters() {
    let mut app = app();
    let all = [(140, 20), (60, 12), (30, 5)].map(|(width, height)| text_of(&mut app, width, height));
    insta::assert_snapshot!(all.concat());
}

#[test]
fn a_poor_terminal_gets_ascii_only_and_no_colours_where_they_are_not_wanted() {
    let mut app = app();
    (app.glyphs, app.is_colored) = (Glyphs::Ascii, false);
    for keys in ["1", "2", "3", "4", "1d"] {
        press(&mut app, keys);
        let terminal = picture_of(&mut app, 80, 24);
        for cell in terminal.backend().buffer().content() {
            assert!(cell.symbol().is_ascii(), "{:?} in {keys}", cell.symbol());
            let style = cell.style();
            assert!(style.fg.is_none_or(|color| color == ratatui::style::Color::Reset), "{keys}: {cell:?}");
        }
    }
}

#[test]
fn what_has_failed_stands_first_and_the_cursor_stays_at_the_top_until_it_is_moved() {
    let mut app = app();
    assert_eq!(app.rows, [3, 6, 4, 2], "offline, suspect, drained, online");
    assert_eq!(app.chosen(), Some(3));
    let back = json!({ "t": NOW_MS + 1_000, "n": 2, "p": [1], "servers": [server(3, "10.0.0.6:5432", json!({}))] });
    app.told(message("change", &back));
    assert_eq!((app.rows.clone(), app.chosen()), (vec![6, 4, 2, 3], Some(6)));
    // Once it was moved it stays with its server.
    press(&mut app, "j");
    assert_eq!(app.chosen(), Some(4));
    press(&mut app, "s");
    assert_eq!((app.rows.clone(), app.chosen()), (vec![2, 4, 6, 3], Some(4)), "by sessions");
    press(&mut app, "S");
    assert_eq!((app.rows.clone(), app.chosen()), (vec![3, 6, 4, 2], Some(4)));
    // And takes the one in its place when that has gone.
    app.told(message("change", &json!({ "t": NOW_MS + 2_000, "n": 3, "p": [1], "gone": { "servers": [4] } })));
    assert_eq!(app.chosen(), Some(2));
    press(&mut app, "g");
    assert_eq!((app.chosen(), app.cursors[0].chosen), (Some(3), None));
}

#[test]
fn what_was_chosen_and_marked_is_found_again_when_everything_has_other_numbers() {
    let mut app = app();
    // 10.0.0.7:5432, and 10.0.0.5:5432 with a mark.
    press(&mut app, "G gjj");
    assert_eq!((app.chosen(), app.marked.clone()), (Some(4), [2].into()));
    let mut restarted = full();
    for (thing, number) in [("groups", "i"), ("servers", "i"), ("servers", "g")] {
        for object in restarted[thing].as_array_mut().unwrap() {
            object[number] = (object[number].as_u64().unwrap() + 100).into();
        }
    }
    for paused in [false, true] {
        if paused {
            press(&mut app, "p");
        }
        app.told(message("state", &if paused { full() } else { restarted.clone() }));
        if paused {
            press(&mut app, "p");
        }
        let chosen = app.known().state.servers[&app.chosen().unwrap()].facts.addr.clone();
        assert_eq!(chosen, "10.0.0.7:5432", "{paused}");
        let marked = app.targets();
        assert_eq!((marked.len(), marked[0].addr.as_str()), (1, "10.0.0.5:5432"), "{paused}");
    }
}

#[test]
fn searching_shows_rows_that_hold_the_text_anywhere() {
    let mut app = app();
    for (text, rows) in [("REFUSED", &[3][..]), ("db", &[3, 4, 2]), ("suspect", &[6]), ("9001", &[6]), ("nowhere", &[])]
    {
        press(&mut app, &format!("/{text}"));
        key(&mut app, KeyCode::Enter);
        assert_eq!(app.rows, rows, "{text}");
        text_of(&mut app, 80, 24);
        key(&mut app, KeyCode::Esc);
        assert_eq!(app.rows.len(), 4);
    }
    // While one types, keys are text; other keys still work.
    assert_eq!(press(&mut app, "/qd"), [Wish::Nothing, Wish::Nothing, Wish::Nothing]);
    assert!(app.dialog.is_none() && app.search == "qd");
    key(&mut app, KeyCode::Backspace);
    key(&mut app, KeyCode::Esc);
    assert_eq!((app.search.as_str(), app.is_searching), ("", false));
}

#[test]
fn from_a_group_one_gets_to_its_servers_and_back_to_all() {
    let mut app = app();
    press(&mut app, "2j");
    key(&mut app, KeyCode::Enter);
    assert_eq!((app.tab, app.rows.clone()), (Tab::Servers, vec![6]));
    key(&mut app, KeyCode::Esc);
    assert_eq!(app.rows.len(), 4);
}

#[test]
fn a_change_is_asked_for_when_it_was_confirmed_and_only_then() {
    let mut app = app();
    let target =
        |group: &str, addr: &str, sessions| Target { group: group.to_owned(), addr: addr.to_owned(), sessions };
    for keys in ["dn", "d ", "dq", "dd"] {
        assert!(press(&mut app, keys).iter().all(|wish| *wish == Wish::Nothing), "{keys}");
        assert!(app.dialog.is_none(), "{keys}");
    }
    let wishes = press(&mut app, "my");
    let change = Change { wanted: Wanted::Maint, servers: vec![target("db", "10.0.0.6:5432", 0)] };
    assert_eq!(wishes, [Wish::Nothing, Wish::Ask(change)]);
    // Marked ones, by way of the menu.
    press(&mut app, "g  ");
    key(&mut app, KeyCode::F(9));
    assert!(matches!(app.dialog, Some(Dialog::Menu)));
    let servers = vec![target("db", "10.0.0.6:5432", 0), target("8081", "127.0.0.1:9001", 12)];
    assert_eq!(press(&mut app, "dy")[1], Wish::Ask(Change { wanted: Wanted::Drain, servers }));
    assert!(app.marked.is_empty());
    // Nowhere else.
    press(&mut app, "2d");
    assert!(app.dialog.is_none() && app.notice.is_some_and(|notice| notice.is_bad));
}

#[test]
fn what_was_confirmed_is_asked_for_though_the_list_has_moved() {
    let mut app = app();
    press(&mut app, "d");
    app.told(message("change", &json!({ "t": NOW_MS, "n": 2, "p": [1], "gone": { "servers": [3] } })));
    let Wish::Ask(change) = press(&mut app, "y").remove(0) else { panic!("it was confirmed") };
    assert_eq!(change.servers[0].addr, "10.0.0.6:5432");
}

#[test]
fn a_pause_holds_the_picture_and_nothing_is_lost() {
    let mut app = app();
    press(&mut app, "p");
    let before = text_of(&mut app, 80, 24);
    assert!(before.contains("paused at 14:00:45"), "{before}");
    app.told(message("change", &json!({ "t": NOW_MS + 5_000, "n": 2, "p": [7] })));
    assert_eq!(text_of(&mut app, 80, 24), before);
    press(&mut app, "p");
    assert_eq!(app.known().state.totals[0], Some(7));
    assert!(text_of(&mut app, 80, 24).contains("14:00:50"));
}

#[test]
fn a_proxy_that_does_not_answer_is_told_and_what_was_known_stays() {
    let mut app = app();
    let addr: AdminAddr = "127.0.0.1:8080".parse().unwrap();
    app.told(Told::Lost(AskError::Ended { addr }));
    let text = text_of(&mut app, 80, 24);
    assert!(text.contains("▲ not connected for 0 s"), "{text}");
    assert!(text.contains("127.0.0.1:8080: the proxy has ended the connection"), "{text}");
    assert!(text.contains("10.0.0.6:5432"), "{text}");
    let Link::Lost { since, .. } = app.link else { panic!("it is lost") };
    assert!(since <= Instant::now());
    app.told(message("state", &full()));
    assert!(matches!(app.link, Link::Live));
}

#[test]
fn texts_of_others_move_no_cursor_and_break_no_column() {
    let mut app = app();
    let evil = "a\u{1b}[2J\u{202e}\n\"><script>".to_owned() + &"ä".repeat(500);
    let mut frame = full();
    for thing in ["servers", "groups"] {
        let name = if thing == "servers" { "addr" } else { "group" };
        frame[thing][0][name] = evil.as_str().into();
    }
    frame["servers"][0]["cause"] = evil.as_str().into();
    frame["process"]["reload"]["error"] = evil.as_str().into();
    app.told(message("state", &frame));
    app.told(message(&evil, &json!({ "message": evil, "cause": evil, "group": evil })));
    app.notice = Some(Notice { text: evil, is_bad: true });
    for keys in ["1", "2", "3", "4", "1Gd"] {
        press(&mut app, keys);
        let text = text_of(&mut app, 80, 24);
        assert!(!text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
        assert_eq!(text.lines().count(), 24);
    }
    let text = report::table(&app.known().state);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
}

#[test]
fn the_row_under_the_cursor_is_seen_wherever_it_is() {
    let mut app = App::new("x:1".to_owned(), Glyphs::Block, true);
    let mut frame = full();
    let servers: Vec<Value> =
        (0..1_000).map(|i| server(10 + i, &format!("10.0.{}.{}:9", i / 250, i % 250), json!({}))).collect();
    frame["servers"] = servers.into();
    frame["s"] = json!([]);
    app.told(message("state", &frame));
    for (code, row) in [
        (KeyCode::End, 999),
        (KeyCode::PageUp, 999 - 13),
        (KeyCode::Up, 999 - 14),
        (KeyCode::Home, 0),
        (KeyCode::PageDown, 13),
        (KeyCode::Down, 14),
    ] {
        picture_of(&mut app, 80, 24);
        key(&mut app, code);
        let terminal = picture_of(&mut app, 80, 24);
        assert_eq!(app.cursors[0].row, row, "{code:?}");
        let addr = app.known().state.servers[&app.rows[row]].facts.addr.clone();
        let buffer = terminal.backend().buffer();
        let line = |y: u16| (0..80).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        let chosen = (8..21).find(|y| buffer[(1, *y)].modifier.contains(Modifier::REVERSED)).expect("a row is chosen");
        assert!(line(chosen).contains(&addr), "{code:?}: {addr} in {}", line(chosen));
    }
}

#[test]
fn a_table_and_json_say_the_same() {
    let mut state = State::default();
    assert!(state.take("state", &full().to_string()));
    insta::assert_snapshot!(report::table(&state));
    let json: Value = serde_json::from_str(&report::json(&state)).unwrap();
    assert_eq!((&json["sessions"], &json["process"]["version"]), (&json!(1_234), &json!("0.1.0")));
    let server = &json["groups"][0]["servers"][1];
    assert_eq!((&server["addr"], &server["cause"]), (&json!("10.0.0.6:5432"), &json!("connection refused")));
    assert_eq!((&server["sessions"], &server["check_us"]), (&json!(0), &json!(30_000)));
    assert_eq!(json["groups"][1]["up"], json!(100_000));
    assert_eq!(json["policies"][1]["faults"], json!(3));
}

#[test]
fn frames_that_cannot_be_read_change_nothing() {
    let mut state = State::default();
    assert!(state.take("change", r#"{"t":5,"n":9,"p":[1]}"#), "a change of what is not known yet");
    assert_eq!(state.at_ms, 0);
    assert!(state.take("state", &full().to_string()));
    for data in ["", "[]", "{\"p\":3}", "{\"servers\":[{}]}"] {
        assert!(!state.take("change", data), "{data}");
    }
    assert!(!state.take("server_online", "{}"));
    assert_eq!((state.servers.len(), state.totals[0]), (4, Some(1_234)));
    assert!(
        state.take("change", r#"{"t":6,"n":2,"p":[5,null],"s":[[2,9],[77,1]],"gone":{"groups":[5],"servers":[6]}}"#)
    );
    assert_eq!((state.totals, state.servers[&2].row[0]), ([Some(5), None, Some(0), Some(0)], Some(9)));
    assert_eq!((state.groups.len(), state.online()), (1, (1, 3)));
}

/// Time of the processor, so that a busy machine does not count.
fn cpu_ms(work: impl FnOnce()) -> u64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
    };
    let start = now();
    work();
    now() - start
}

#[test]
fn ten_thousand_servers_leave_keys_quick() {
    const SERVERS: u64 = 10_000;
    let mut app = App::new("x:1".to_owned(), Glyphs::Braille, true);
    let mut frame = full();
    let addr = |i: u64| format!("10.{}.{}.{}:9000", i >> 16, i >> 8 & 255, i & 255);
    frame["servers"] = (0..SERVERS).map(|i| server(10 + i, &addr(i), json!({}))).collect();
    frame["s"] = json!([]);
    app.told(message("state", &frame));
    picture_of(&mut app, 80, 24);
    let rows: Vec<Value> = (0..SERVERS).map(|i| json!([10 + i, i % 977, i % 313, 1, 850 + i, 1_200])).collect();
    let change = message("change", &json!({ "t": NOW_MS + 1_000, "n": 2, "p": [1], "s": rows }));
    press(&mut app, "s");
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let of_frame = cpu_ms(|| app.told(change));
    let of_keys = cpu_ms(|| {
        for c in "jjjj".chars() {
            press(&mut app, &c.to_string());
            terminal.draw(|frame| super::draw::draw(frame, &mut app)).unwrap();
        }
    });
    assert_eq!(app.rows.len() as u64, SERVERS);
    // Of a build that is not optimised.
    assert!(of_frame < 500 && of_keys / 4 < 50, "a frame takes {of_frame} ms, four keys {of_keys} ms");
}
