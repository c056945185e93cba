//! A key is declared once; all else follows from that.

use super::*;
use crate::config::declare::{Fields, settings};
use crate::config::key::{Style, keys};
use crate::config::kinds::{object_schema, object_text, time_or_zero};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::syntax::syntax;

settings! {
    /// An object with one key, which is there for these tests alone.
    pub(super) struct Trial {
        /// How long nothing happens.
        /// A second line.
        pause: Duration as time_or_zero(1, 10_000) => Duration::from_secs(2), NewSessions;
    }
}

/// Reads an object; the message where it is wrong.
fn trial(text: &str) -> Result<Trial, String> {
    let value = syntax(text).unwrap();
    let mut reader = Reader::new("/etc/goproxy".into(), &|_| None);
    let object = Object::open(&mut reader, &value, &Place::Root, Trial::TABLE, false).unwrap();
    let read = Trial::read(&mut reader, &object, None);
    match reader.problems.finish(text).first() {
        None => Ok(read.unwrap()),
        Some(problem) => Err(problem.to_string()),
    }
}

#[test]
fn one_declaration_is_read_dumped_compared_and_documented() {
    let (said, unsaid) = (trial(r#"{ "pause": "3s" }"#).unwrap(), trial("{}").unwrap());
    assert_eq!((said.pause, unsaid.pause), (Duration::from_secs(3), Duration::from_secs(2)));
    assert_eq!(
        trial(r#"{ "pase": "3s" }"#).unwrap_err(),
        "1:3: pase: unknown key \"pase\"; expected one of pause (did you mean pause?)"
    );
    assert!(trial(r#"{ "pause": "11s" }"#).unwrap_err().ends_with("is out of range; expected 0s, or 1ms to 10s"));

    let style = Style::default();
    assert_eq!(object_text(&said.write(&style.deeper()), &style), "{\n  \"pause\": \"3s\"\n}");
    assert_eq!(said.differing(&unsaid, &style), [("pause", "\"3s\"".to_owned())]);
    assert!(said.differing(&said, &style).is_empty());

    let mut changes = Vec::new();
    said.changes(&unsaid, "trial.", &mut changes);
    said.changes(&said, "trial.", &mut changes);
    let (path, words) = ("trial.pause".to_owned(), "2s → 3s".to_owned());
    assert_eq!(changes, [Change { path, effect: Effect::NewSessions, words }]);

    let schema = object_schema(Trial::TABLE, false);
    assert_eq!(schema["properties"]["pause"]["default"], "2s");
    assert_eq!(
        schema["properties"]["pause"]["description"],
        "How long nothing happens. A second line. Expected: 0s, or a time of 1ms to 10s."
    );
    assert_eq!(
        shipped::row("trial.", keys(Trial::TABLE, false).next().unwrap()),
        "| `trial.pause` | 0s, or a time of 1ms to 10s | `\"2s\"` | How long nothing happens. A second line. | for new sessions |"
    );
}

/// The whole way, with a key that is there: what a reload says follows from the declaration, too.
#[test]
fn what_a_reload_says_follows_from_the_declarations() {
    let changes = |old: &str, new: &str| {
        let changes = read(new).unwrap().changes_since(&read(old).unwrap());
        changes.into_iter().map(|change| format!("{} {}", change.path, change.effect.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(
        changes(
            "{}",
            r#"{ "$schema": "x", "admin": { "token": "t" }, "log": { "format": "json", "level": "warn" }, "threads": 2 }"#
        ),
        [
            "$schema no effect",
            "admin.token at once",
            "log.format at the next start",
            "log.level at once",
            "threads at the next start"
        ]
    );
    // Groups are compared by whoever applies them.
    assert!(changes("{}", r#"{ "defaults": { "open": false }, "groups": [ { "listen": "[::1]:1" } ] }"#).is_empty());
    assert!(changes(SHIPPED, SHIPPED).is_empty());
}
