//! How checks are read, and what is said about those that are wrong.

use super::*;
use crate::config::read::Lists;
use crate::config::read::inspect_with;
use crate::group::check::{CheckSettings, Pattern};

fn file(check: &str) -> String {
    format!("{{ \"groups\": [ {{ \"listen\": \"0.0.0.0:1\", \"check\": {check} }} ] }}")
}

fn check(text: &str) -> CheckSettings {
    let config = read(&file(text)).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
    CheckSettings::clone(config.groups[0].settings.check.as_ref().unwrap())
}

/// What is wrong with a check, without where it is in the file; one a line.
fn wrong(text: &str) -> String {
    let problems = read(&file(text)).map(|_| ()).expect_err(text);
    let said = problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message));
    said.map(|line| line.replacen("groups[0].", "", 1)).collect::<Vec<_>>().join("\n")
}

#[rustfmt::skip]
const CHECKS: &[&str] = &[
    r#"{ "kind": "tcp" }"#,
    r#"{ "kind": "tcp", "port": 9 }"#,
    r#"{ "kind": "tcp", "traffic_counts": false }"#,
    r#"{ "kind": "exchange", "send": "PING\r\n", "expect": "+PONG" }"#,
    r#"{ "kind": "exchange", "send": { "hex": "00 ff0D 0a" } }"#,
    r#"{ "kind": "exchange", "expect": { "prefix": { "hex": "00" }, "not": true } }"#,
    r#"{ "kind": "exchange", "expect": { "contains": "x\u0000", "not": false } }"#,
    r#"{ "kind": "exchange", "steps": [ { "expect": "220" }, { "send": "a", "expect": { "regex": "^2\\d+" } }, { "send": "b" } ] }"#,
    r#"{ "kind": "http" }"#,
    r#"{ "kind": "http", "method": "POST", "path": "/a?b", "host": "x:1", "headers": { "B": "x y", "A": "" }, "status": "200,404", "body": "ok" }"#,
    r#"{ "kind": "http", "body": { "regex": "a", "not": true }, "traffic_counts": false }"#,
    r#"{ "kind": "redis", "role": "replica", "user": "me", "password": "env:TOKEN" }"#,
    r#"{ "kind": "redis", "password": "of two words" }"#,
    r#"{ "kind": "postgresql" }"#,
    r#"{ "kind": "mysql", "user": "goproxy" }"#,
];

#[test]
fn a_check_of_each_kind_is_read_and_a_dump_means_the_same() {
    for text in CHECKS {
        let config = read(&file(text)).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
        let dump = dumped(&config);
        assert_eq!(read(&dump).unwrap_or_else(|problems| panic!("{dump}: {problems:?}")), config, "{dump}");
    }
}

#[test]
fn the_examples_of_the_documents_are_read() {
    let page = include_str!("../../../docs/operate.md").split("## Health checks").last().unwrap();
    let page = page.split("\n## ").next().unwrap();
    let examples: Vec<&str> = page.split("```jsonc\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let mut kinds = std::collections::BTreeSet::new();
    for example in examples {
        let env = |_: &str| Some("s3cret".to_owned());
        let text = format!("{{ \"groups\": [ {{ \"listen\": \"0.0.0.0:1\", {example} }} ] }}");
        let config =
            parse_with(Path::new(PATH), &text, None, &env).unwrap_or_else(|problems| panic!("{example}: {problems:?}"));
        kinds.insert(config.groups[0].settings.check.as_ref().unwrap().kind.as_str());
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["exchange", "http", "mysql", "postgresql", "redis", "tcp"]);
}

#[test]
fn bytes_are_text_or_hexadecimal_digits() {
    let sent = |text: &str| check(&format!("{{ \"kind\": \"exchange\", \"send\": {text} }}")).send.unwrap();
    assert_eq!(sent(r#""a\r\n\u0000ä""#), "a\r\n\0ä".as_bytes());
    assert_eq!(sent(r#"{ "hex": " 00 fF0d\t0a " }"#), [0, 0xff, 0x0d, 0x0a]);
}

#[test]
fn one_step_is_written_without_a_list_and_a_bare_text_is_a_prefix() {
    let check = check(r#"{ "kind": "exchange", "send": "a", "expect": "b" }"#);
    let [(Some(b"a"), Some(expect))] = check.exchange().collect::<Vec<_>>()[..] else { panic!("one step") };
    assert_eq!((&expect.pattern, expect.is_not), (&Pattern::Prefix(b"b".to_vec()), false));
}

#[test]
fn a_key_of_another_kind_is_a_mistake_unless_it_is_null() {
    assert_eq!(wrong(r#"{ "kind": "tcp", "path": "/" }"#), "check.path: only with kind http");
    assert_eq!(wrong(r#"{ "kind": "http", "send": "x" }"#), "check.send: only with kind exchange");
    assert_eq!(wrong(r#"{ "kind": "http", "user": "x" }"#), "check.user: only with kind redis, postgresql or mysql");
    assert_eq!(wrong(r#"{ "kind": "mysql", "user": "x", "password": "y" }"#), "check.password: only with kind redis");
    check(r#"{ "kind": "tcp", "host": null, "user": null, "send": null }"#);
}

#[test]
fn keys_that_need_one_another_are_told() {
    let needs = "check: kind \"exchange\" needs \"send\" or \"expect\", or \"steps\"";
    assert_eq!(wrong(r#"{ "kind": "exchange" }"#), needs);
    assert_eq!(wrong(r#"{ "kind": "exchange", "steps": [] }"#), needs);
    assert_eq!(
        wrong(r#"{ "kind": "exchange", "send": "a", "steps": [ { "send": "b" } ] }"#),
        "check.steps: there are send or expect as well; expected either those or steps"
    );
    assert_eq!(
        wrong(r#"{ "kind": "exchange", "steps": [ {}, { "send": null }, { "send": "b" } ] }"#),
        "check.steps[0]: the step does nothing; expected send, expect or both\n\
         check.steps[1]: the step does nothing; expected send, expect or both"
    );
    assert_eq!(
        wrong(
            r#"{ "kind": "exchange", "steps": [ { "expect": { "contains": "x", "not": true } }, { "send": "b" } ] }"#
        ),
        "check.steps[0].expect: with not it waits for the end of the answer; expected it in the last step"
    );
    assert_eq!(
        wrong(r#"{ "kind": "mysql" }"#),
        "check.user: required with kind \"mysql\": MySQL locks out a proxy that never logs in; CREATE USER 'goproxy'@'%'"
    );
    assert!(wrong(r#"{ "kind": "redis", "user": "x" }"#).ends_with("expected password too"));
    assert!(wrong(r#"{ "kind": "http", "method": "HEAD", "body": "x" }"#).ends_with("expected another method"));
    assert!(wrong(r#"{ "kind": "http", "traffic_counts": true }"#).contains("only with kind tcp"));
}

#[test]
fn a_broken_value_is_told_at_its_place() {
    let exchange = |keys: &str| wrong(&format!("{{ \"kind\": \"exchange\", {keys} }}"));
    assert_eq!(exchange(r#""expect": { "regex": "(" }"#), "check.expect.regex: \"(\": unclosed group, at 1");
    assert!(exchange(r#""send": { "hex": "0g" }"#).starts_with("check.send.hex: \"0g\" is no hexadecimal byte"));
    assert!(exchange(r#""send": { "hex": "00 0" }"#).starts_with("check.send.hex: \"0\" is no hexadecimal byte"));
    assert!(exchange(r#""send": { "hex": "ää" }"#).starts_with("check.send.hex: \"ää\" is no hexadecimal byte"));
    assert!(exchange(r#""send": { "hexa": "00" }"#).starts_with("check.send.hexa: unknown key \"hexa\"; expected hex"));
    assert!(exchange(r#""send": """#).ends_with("expected at least one byte"));
    assert!(exchange(r#""send": 3"#).ends_with("expected text, or {\"hex\": \"…\"}, found 3"));
    assert!(
        exchange(&format!("\"send\": {:?}", "x".repeat(4_097)))
            .ends_with("4097 bytes are too many; expected at most 4096")
    );
    let one = "check.expect: expected exactly one of prefix, contains and regex";
    assert_eq!(exchange(r#""expect": {}"#), one);
    assert_eq!(exchange(r#""expect": { "prefix": "a", "regex": "b" }"#), one);
    assert_eq!(
        exchange(r#""expect": { "prefix": "a", "not": 1 }"#),
        "check.expect.not: expected true or false, found 1"
    );
    assert!(exchange(r#""expect": { "begins": "a" }"#).ends_with("expected one of prefix, contains, regex, not"));
    let steps = format!("\"steps\": [{}]", "{ \"send\": \"a\" },".repeat(17));
    assert_eq!(exchange(&steps), "check.steps: 17 steps are too many; expected at most 16");
}

#[test]
fn a_broken_request_is_told_at_its_place() {
    let http = |keys: &str| wrong(&format!("{{ \"kind\": \"http\", {keys} }}"));
    assert!(http(r#""path": "health""#).starts_with("check.path: expected text that begins with /, without blanks"));
    assert!(http(r#""path": "/a b""#).contains("without blanks"));
    assert!(http(r#""path": "/\r\nX: y""#).contains("without blanks"));
    assert!(http(r#""host": "a b""#).contains("without blanks"));
    assert!(http(r#""status": "2xx""#).starts_with("check.status: \"2xx\" is no status; expected codes and ranges"));
    assert!(http(r#""method": "PUT""#).ends_with("expected GET, HEAD, OPTIONS, POST"));
    assert!(http(r#""headers": { "Host": "x" }"#).starts_with("check.headers.Host: the check sets this header itself"));
    assert!(http(r#""headers": { "a:": "x" }"#).contains("is no name of a header"));
    assert!(http(r#""headers": { "A": "x\ny" }"#).contains("printable ASCII"));
    assert!(http(r#""headers": { "A": "x", "a": "y" }"#).ends_with("the header is there twice; expected it once"));
    assert!(wrong(r#"{ "kind": "redis", "password": "a\nb" }"#).ends_with("expected text on one line"));
    assert!(wrong(r#"{ "kind": "postgresql", "user": "a\u0000b" }"#).ends_with("without control characters"));
    assert!(wrong(r#"{ "kind": "mariadb" }"#).ends_with("(it is called mysql here)"));
}

#[test]
fn a_character_that_is_sent_as_two_bytes_is_doubted() {
    let doubts = |text: &str| inspect_with(Path::new(PATH), &file(text), None, &|_| None).doubts;
    assert_eq!(
        doubts(r#"{ "kind": "exchange", "send": "\u00ff" }"#),
        ["groups[0].check.send: \"ÿ\" is sent as 2 bytes of UTF-8; expected {\"hex\": \"…\"} for other bytes"]
    );
    assert!(doubts(r#"{ "kind": "exchange", "send": "\u007f" }"#).is_empty());
}

#[test]
fn a_password_is_in_no_dump_and_stays_while_its_file_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.json");
    let text = file(r#"{ "kind": "redis", "password": "file:redis" }"#);
    std::fs::write(folder.path().join("redis"), "of two words\n").unwrap();
    let config = parse_with(&path, &text, None, &|_| None).unwrap();
    let password = |config: &Config| config.groups[0].settings.check.as_ref().unwrap().password.clone().unwrap();
    assert_eq!(password(&config).expose(), "of two words");
    assert_eq!(config.other_files, [folder.path().join("redis")]);
    std::fs::remove_file(folder.path().join("redis")).unwrap();
    let after = parse_with(&path, &text, Some((&config, Lists::MayStay)), &|_| None).unwrap();
    assert_eq!((password(&after), after.kept_secrets.len()), (password(&config), 1));
    let plain = read(&file(r#"{ "kind": "redis", "password": "hunter2" }"#)).unwrap();
    assert!(!dump(&plain, Path::new(PATH), false).contains("hunter2"));
    assert!(!format!("{plain:?}").contains("hunter2"));
}
