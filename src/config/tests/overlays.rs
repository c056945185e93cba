//! What is kept beside the file: when it holds and when the file wins.

use super::*;
use crate::server::{Origin, State};

const FILE: &str =
    r#"{ "groups": [ { "listen": "0.0.0.0:81", "servers": ["a:1", { "addr": "b:2", "weight": 2 }, "c:3"] } ] }"#;

fn config(text: &str) -> Config {
    parse(Path::new(PATH), text).unwrap()
}

/// What these edits leave in the state file.
fn overlay(edits: &[Edit]) -> Overlay {
    let mut document = Document::parse(Path::new(PATH), FILE).unwrap();
    edits.iter().for_each(|edit| document.apply(edit).unwrap());
    Overlay::between(&config(FILE), document.config(), &Overlay::default(), "2026-01-02T03:04:05.000Z")
}

fn drain(addr: &str) -> Edit {
    let (weight, state) = (None, Some(State::Drain));
    Edit::SetServer { group: 81.into(), addr: addr.parse().unwrap(), weight, state, labels: None }
}

/// The servers over another file, and what the file overrules.
fn over(overlay: &Overlay, file: &str) -> (Vec<String>, Vec<String>) {
    let (groups, overruled) = overlay.over(&config(file), Path::new(PATH));
    let shown = |server: &ServerSettings| format!("{} {} {}", server.addr, server.weight, server.state.as_str());
    let servers = groups.iter().flat_map(|group| group.servers.iter().map(shown)).collect();
    (servers, overruled.into_iter().map(|it| format!("{} {}", it.it.key, it.by)).collect())
}

#[test]
fn another_value_in_the_file_leaves_a_change_in_force() {
    let overlay = overlay(&[drain("b:2")]);
    let (servers, overruled) = over(&overlay, &FILE.replace("\"weight\": 2", "\"weight\": 7"));
    assert_eq!(servers, ["a:1 1 ready", "b:2 7 drain", "c:3 1 ready"]);
    assert!(overruled.is_empty());
}

#[test]
fn the_same_value_in_the_file_wins() {
    let overlay = overlay(&[drain("b:2")]);
    let (servers, overruled) = over(&overlay, &FILE.replace("\"weight\": 2", "\"state\": \"maint\""));
    assert_eq!(servers[1], "b:2 1 maint");
    assert_eq!(overruled, ["state \"maint\""]);
    // It says by itself what was changed: nothing is lost, so nothing is told.
    let (servers, overruled) = over(&overlay, &FILE.replace("\"weight\": 2", "\"state\": \"drain\""));
    assert_eq!((servers[1].as_str(), overruled.len()), ("b:2 1 drain", 0));
}

#[test]
fn a_server_that_was_taken_out_and_came_back_keeps_its_place_behind_the_others() {
    let removed = Edit::RemoveServer { group: 81.into(), addr: "b:2".parse().unwrap() };
    let server = ServerSettings::new("b:2".parse().unwrap(), Origin::File);
    let overlay = overlay(&[removed, Edit::AddServer { group: 81.into(), server }]);
    let (servers, overruled) = over(&overlay, FILE);
    assert_eq!(servers, ["a:1 1 ready", "c:3 1 ready", "b:2 1 ready"]);
    assert!(overruled.is_empty());
    // Once the file says something else of it, it stands where the file has it.
    let (servers, overruled) = over(&overlay, &FILE.replace("\"weight\": 2", "\"weight\": 3"));
    assert_eq!(servers, ["a:1 1 ready", "b:2 3 ready", "c:3 1 ready"]);
    assert_eq!(overruled.len(), 1);
}

#[test]
fn what_has_gone_from_the_file_takes_its_changes_along() {
    let added = ServerSettings::new("d:4".parse().unwrap(), Origin::Heartbeat);
    let removed = Edit::RemoveServer { group: 81.into(), addr: "c:3".parse().unwrap() };
    let overlay = overlay(&[drain("a:1"), removed, Edit::AddServer { group: 81.into(), server: added }]);
    let (servers, overruled) = over(&overlay, FILE);
    assert_eq!(
        (servers, overruled.len()),
        (vec!["a:1 1 drain".to_owned(), "b:2 2 ready".into(), "d:4 1 ready".into()], 0)
    );
    let (servers, overruled) = over(&overlay, r#"{ "groups": [ { "listen": "0.0.0.0:81", "servers": ["x:9"] } ] }"#);
    assert_eq!(servers, ["x:9 1 ready", "d:4 1 ready"]);
    // That c:3 is out is what the file says now.
    assert_eq!(overruled, ["state no server a:1"]);
    let (servers, overruled) = over(&overlay, r#"{ "groups": [] }"#);
    assert_eq!((servers.len(), overruled.len()), (0, 3));
    assert!(overruled.iter().all(|it| it.ends_with("no group 81")), "{overruled:?}");
}

#[test]
fn a_group_of_a_change_gives_way_to_one_of_the_file() {
    let policy = Some(crate::policy::spec::PolicySpec::parse("p2c").unwrap());
    let server = ServerSettings::new("d:4".parse().unwrap(), Origin::Heartbeat);
    let overlay =
        overlay(&[Edit::OpenGroup { group: 90.into(), policy }, Edit::AddServer { group: 90.into(), server }]);
    assert_eq!(overlay.overrides().len(), 2);
    assert_eq!(overlay.overrides()[0].now.to_string(), r#"{"listen":"0.0.0.0:90","policy":"p2c"}"#);
    let other = FILE.replace("\"groups\": [", "\"groups\": [ { \"listen\": \"127.0.0.1:90\" },");
    let (servers, overruled) = over(&overlay, &other);
    assert_eq!((servers[0].as_str(), servers.len()), ("d:4 1 ready", 4));
    assert_eq!(overruled, [r#"group {"listen":"127.0.0.1:90"}"#]);
    let named = FILE.replace("\"groups\": [", "\"groups\": [ { \"name\": \"web\", \"listen\": \"127.0.0.1:90\" },");
    let (servers, overruled) = over(&overlay, &named);
    assert_eq!((servers.len(), overruled), (3, vec!["group port 90 is taken".to_owned(), "server no group 90".into()]));
}

#[test]
fn a_state_file_is_a_line_for_each_value_and_says_what_is_wrong_with_it() {
    let overlay = overlay(&[drain("b:2")]);
    let line = r#"  {"group":81,"server":"b:2","key":"state","base":"ready","now":"drain","since":"2026-01-02T03:04:05.000Z"}"#;
    assert!(overlay.text().lines().any(|it| it == line), "{}", overlay.text());
    for (text, error) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        (&*overlay.text().replace("\"version\": 1", "\"version\": 2"), "version is 2; expected 1"),
        (&*overlay.text().replace("\"b:2\"", "\"b\""), "expected"),
        (&overlay.text()[..200], "EOF while parsing"),
    ] {
        let said = Overlay::parse(text).unwrap_err();
        assert!(said.contains(error), "{text}: {said}");
    }
    // A later version may say more of a value.
    assert!(Overlay::parse(&overlay.text().replace("\"key\"", "\"by\": \"me\", \"key\"")).is_ok());
}

#[test]
fn the_state_file_is_another_file() {
    let problems = parse(Path::new(PATH), r#"{ "state_file": "proxy.json" }"#).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "1:17: state_file: this is the file itself, which is then never written; expected another one"
    );
    assert!(parse(Path::new(PATH), r#"{ "state_file": "state.json" }"#).is_ok());
}
