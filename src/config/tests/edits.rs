//! Edits change what they say and nothing else.

mod properties;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::group::AcceptProxy;
use crate::policy::spec::PolicySpec;
use crate::server::{Origin, SendProxy, ServerAddr, State};

fn document(text: &str) -> Document {
    Document::parse(Path::new(PATH), text).unwrap()
}

/// The text after these edits; it must mean what the document says it means.
fn edited(text: &str, edits: &[Edit]) -> String {
    let mut document = document(text);
    for edit in edits {
        document.apply(edit).unwrap();
    }
    let text = document.text();
    match parse(Path::new(PATH), &text) {
        Ok(config) => assert_eq!(config, *document.config(), "{text}"),
        Err(problems) => panic!("{problems:#?}\n{text}"),
    }
    text
}

fn addr(text: &str) -> ServerAddr {
    text.parse().unwrap()
}

fn add(group: u16, text: &str, origin: Origin) -> Edit {
    Edit::AddServer { group: group.into(), server: ServerSettings::new(addr(text), origin) }
}

fn remove(group: u16, text: &str) -> Edit {
    Edit::RemoveServer { group: group.into(), addr: addr(text) }
}

fn set_state(group: u16, text: &str, state: State) -> Edit {
    Edit::SetServer { group: group.into(), addr: addr(text), weight: None, state: Some(state), labels: None }
}

const EXPANDED: &str = r#"{ "groups": [ { "listen": "0.0.0.0:81", "servers": [
    { "addr": "db:1", "expand": true, "weight": 3, "name": "db" }, "c:3" ] } ] }"#;

#[test]
fn one_address_of_a_name_gets_an_entry_of_its_own_and_loses_it_with_the_name() {
    let drained = edited(EXPANDED, &[set_state(81, "db:1@10.0.0.1", State::Drain)]);
    let entry = r#""c:3", { "addr": "db:1@10.0.0.1", "weight": 3, "state": "drain" } ]"#;
    assert_eq!(drained, EXPANDED.replace(r#""c:3" ]"#, entry));
    assert_eq!(edited(&drained, &[remove(81, "db:1@10.0.0.1")]), EXPANDED);
    assert_eq!(document(&edited(&drained, &[remove(81, "db:1")])).config().groups[0].servers.len(), 1);
    let unknown = document(EXPANDED).apply(&set_state(81, "c:3@10.0.0.1", State::Drain)).unwrap_err();
    assert_eq!(unknown.to_string(), "group 81 has no server c:3@10.0.0.1 in the file");
}

const COMMENTED: &str = r#"// head
{
    "groups": [ // all of them
        {
            "listen": "0.0.0.0:8081", // the first
            "servers": [
                // about a
                "A.internal:1", // a
                { "addr": "b:2", "weight": 2 /* two */ }, // b
                "c:3" // c, the last
                // "d:4"
            ]
        },
    ], // no more
} // foot
"#;

#[test]
fn blanks_at_the_end_of_a_comment_stay_there() {
    let text =
        "{\n  \"groups\": [ { \"listen\": \"0.0.0.0:1\", \"servers\": [\n    \"a:1\" // x\u{3000} \n  ] } ]\n}\n";
    let longer = edited(text, &[add(1, "b:1", Origin::File)]);
    assert_eq!(longer, text.replace("\"a:1\" // x\u{3000} ", "\"a:1\", // x\u{3000} \n    \"b:1\""));
    assert_eq!(edited(&longer, &[remove(1, "b:1")]), text);
    assert_eq!(edited(&longer, &[remove(1, "a:1")]), longer.replace("\"a:1\", ", ""));
}

#[test]
fn an_added_server_stands_in_line_with_its_neighbours() {
    let text = edited(COMMENTED, &[add(8081, "n:9", Origin::Heartbeat), add(8081, "m:9", Origin::File)]);
    insta::assert_snapshot!(text, @r##"
    // head
    {
        "groups": [ // all of them
            {
                "listen": "0.0.0.0:8081", // the first
                "servers": [
                    // about a
                    "A.internal:1", // a
                    { "addr": "b:2", "weight": 2 /* two */ }, // b
                    "c:3", // c, the last
                    // "d:4"
                    { "addr": "n:9", "origin": "heartbeat" },
                    "m:9"
                ]
            },
        ], // no more
    } // foot
    "##);
}

#[test]
fn what_is_taken_out_leaves_its_comments() {
    insta::assert_snapshot!(edited(COMMENTED, &[remove(8081, "a.internal:1"), remove(8081, "c:3")]), @r##"
    // head
    {
        "groups": [ // all of them
            {
                "listen": "0.0.0.0:8081", // the first
                "servers": [
                    // about a
                    // a
                    { "addr": "b:2", "weight": 2 /* two */ } // b
                    // c, the last
                    // "d:4"
                ]
            },
        ], // no more
    } // foot
    "##);
}

#[test]
fn a_plain_server_becomes_an_object_only_when_it_must() {
    let labels = BTreeMap::from([("zone".to_owned(), "ä\"".to_owned())]);
    let set = |weight, labels| Edit::SetServer {
        group: 8081.into(),
        addr: addr("a.internal:1"),
        weight,
        state: None,
        labels,
    };
    assert_eq!(edited(COMMENTED, &[set(Some(1), Some(BTreeMap::new()))]), COMMENTED);
    let text = edited(COMMENTED, &[set(None, Some(labels)), set_state(8081, "b:2", State::Drain)]);
    let expected = COMMENTED
        .replace(r#""A.internal:1","#, r#"{ "addr": "A.internal:1", "labels": {"zone": "ä\""} },"#)
        .replace(r#""weight": 2 /* two */ }"#, r#""weight": 2, /* two */ "state": "drain" }"#);
    assert_eq!(text, expected);
    let back = Edit::SetServer {
        group: 8081.into(),
        addr: addr("b:2"),
        weight: Some(1),
        state: Some(State::Ready),
        labels: None,
    };
    assert_eq!(edited(&text, &[back]), expected.replace("\"weight\": 2,", "\"weight\": 1,").replace("drain", "ready"));
}

#[test]
fn a_new_group_is_written_like_the_others_with_its_servers() {
    let open = Edit::OpenGroup { group: 8090.into(), policy: Some(PolicySpec::parse("ha").unwrap()) };
    insta::assert_snapshot!(edited(COMMENTED, &[open, add(8090, "x:1", Origin::File), Edit::CloseGroup { group: 8081.into() }]), @r##"
    // head
    {
        "groups": [ // all of them
            {
                "listen": "0.0.0.0:8081", // the first
                "servers": [
                    // about a
                    "A.internal:1", // a
                    { "addr": "b:2", "weight": 2 /* two */ }, // b
                    "c:3" // c, the last
                    // "d:4"
                ],
                "open": false
            },
            {
                "listen": "0.0.0.0:8090",
                "policy": "ha",
                "servers": [
                    "x:1"
                ]
            },
        ], // no more
    } // foot
    "##);
}

#[test]
fn small_and_one_line_files_are_edited_in_their_own_style() {
    let open = || Edit::OpenGroup { group: 1.into(), policy: None };
    assert_eq!(edited("{}", &[open()]), "{\n  \"groups\": [\n    {\n      \"listen\": \"0.0.0.0:1\"\n    }\n  ]\n}");
    assert_eq!(
        edited("{\"threads\":1}", &[open(), add(1, "a:1", Origin::File)]),
        "{\"threads\":1, \"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [\"a:1\"]}]}"
    );
    assert_eq!(
        edited("{\n\t\"threads\": 1,\n}\n", &[open(), add(1, "a:1", Origin::File)]),
        "{\n\t\"threads\": 1,\n\t\"groups\": [\n\t\t{\n\t\t\t\"listen\": \"0.0.0.0:1\",\n\t\t\t\"servers\": [\n\t\t\t\t\"a:1\"\n\t\t\t]\n\t\t}\n\t],\n}\n"
    );
    let line = r#"{"groups":[{"listen":"0.0.0.0:1","servers":["a:1","b:1"]}]}"#;
    assert_eq!(
        edited(line, &[add(1, "c:1", Origin::File), remove(1, "a:1")]),
        "{\"groups\":[{\"listen\":\"0.0.0.0:1\",\"servers\":[\"b:1\", \"c:1\"]}]}"
    );
    assert_eq!(
        edited(line, &[remove(1, "a:1"), remove(1, "b:1"), add(1, "c:1", Origin::File)]),
        "{\"groups\":[{\"listen\":\"0.0.0.0:1\",\"servers\":[\"c:1\"]}]}"
    );
    let crlf =
        "\u{feff}{\r\n  \"groups\": [\r\n    { \"listen\": \"0.0.0.0:1\",\r\n      \"servers\": [] }\r\n  ]\r\n}";
    let expected = crlf.replace("[]", "[\r\n        \"a:1\",\r\n        \"b:1\"\r\n      ]");
    assert_eq!(edited(crlf, &[add(1, "a:1", Origin::File), add(1, "b:1", Origin::File)]), expected);
}

#[test]
fn a_note_of_silence_is_of_servers_that_registered_themselves_and_leaves_no_trace() {
    let text = r#"{ "groups": [ { "listen": "0.0.0.0:81", "servers": [
        "a:1", // by hand
        { "addr": "b:1", "origin": "heartbeat" }
    ] } ] }"#;
    let note = |silent| {
        let servers = ["a:1", "b:1", "gone:1"].map(|server| (81.into(), addr(server), silent)).to_vec();
        Edit::NoteSilence { servers }
    };
    let noted = edited(text, &[note(true)]);
    assert_eq!(noted, text.replace("\"heartbeat\" }", "\"heartbeat\", \"silent\": true }"));
    assert_eq!(edited(&noted, &[note(false)]), text);
}

#[test]
fn a_value_that_is_in_force_already_changes_no_byte() {
    let text = r#"{ "defaults": { "open": false, "policy": "ha" }, "groups": [ { "listen": "0.0.0.0:1" } ] }"#;
    let set = |name| Edit::SetPolicy { group: 1.into(), policy: PolicySpec::parse(name).unwrap() };
    assert_eq!(edited(text, &[Edit::CloseGroup { group: 1.into() }, set("ha")]), text);
    assert_eq!(edited(text, &[set("p2c"), set("ha")]), text);
    assert_eq!(edited(text, &[add(1, "a:1", Origin::File), remove(1, "a:1")]), text);
    let open = edited(text, &[Edit::OpenGroup { group: 1.into(), policy: Some(PolicySpec::default()) }]);
    assert_eq!(open, text.replace(":1\" }", ":1\", \"open\": true, \"policy\": \"round_robin\" }"));
}

/// A module with all that can be said about it, and comments.
pub(super) const MODULES: &str = r#"{
  "defaults": { "policy": { "wasm": "mine", "memory": "1MiB" } }, // for all
  "groups": [
    {
      "listen": "0.0.0.0:8081",
      "policy": {
        "config": { "zone" : "a", "b": [1.50, 12345678901234567890, {}] }, /* 12 */
        "wasm": "mine", // 15
        "fallback": "ha", "deadline": "0.0075s", "memory": "1024KiB",
        "sha256": "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
      }, // the first
      "servers": ["b:2"]
    },
    { "listen": "0.0.0.0:8083", "policy": "wasm:mine", "servers": [] }, // the second
    { "listen": "0.0.0.0:8090" } // the third
  ]
}
"#;

#[test]
fn the_name_a_policy_has_leaves_all_that_is_said_about_it() {
    let set = |group: u16, name| Edit::SetPolicy { group: group.into(), policy: PolicySpec::parse(name).unwrap() };
    let open =
        |group: u16, name| Edit::OpenGroup { group: group.into(), policy: Some(PolicySpec::parse(name).unwrap()) };
    for group in [8081, 8083, 8090] {
        assert_eq!(edited(MODULES, &[set(group, "wasm:mine"), open(group, "wasm:mine")]), MODULES);
    }
    let (before, rest) = MODULES.split_once("{\n        \"config\"").unwrap();
    let (_, after) = rest.split_once("}, // the first").unwrap();
    for name in ["p2c", "wasm:other"] {
        assert_eq!(edited(MODULES, &[set(8081, name)]), format!("{before}\"{name}\", // the first{after}"));
    }
    // There and back, it is the module without what was said about it, in one go as in two.
    let bare = format!("{before}\"wasm:mine\", // the first{after}");
    assert_eq!(edited(MODULES, &[set(8081, "ha"), set(8081, "wasm:mine")]), bare);
    assert_eq!(edited(&edited(MODULES, &[set(8081, "ha")]), &[set(8081, "wasm:mine")]), bare);
    // A group that says nothing gets a key; a new one takes what defaults say.
    let third = |policy| MODULES.replace(":8090\" }", &format!(":8090\", \"policy\": \"{policy}\" }}"));
    assert_eq!(edited(MODULES, &[set(8090, "ha")]), third("ha"));
    assert_eq!(edited(MODULES, &[set(8090, "ha"), set(8090, "wasm:mine")]), third("wasm:mine"));
    assert!(edited(MODULES, &[open(8091, "wasm:mine")]).contains("{\n      \"listen\": \"0.0.0.0:8091\"\n    }"));
}

#[test]
fn the_old_form_becomes_the_new_one_with_the_first_edit() {
    let text = r#"{"httpport":"8080","tcpport":"8081","pprofport":"8082","lbpolicy":3,"rwtimeout":"3s"}"#;
    assert_eq!(edited(text, &[Edit::OpenGroup { group: 8081.into(), policy: None }]), text);
    let new = edited(text, &[add(8081, "a:1", Origin::Heartbeat)]);
    for part in ["\"pprof_listen\": \"127.0.0.1:8082\"", "\"idle_timeout\": \"3s\"", "\"policies_dir\": \"policies\""] {
        assert!(new.contains(part), "{new}");
    }
}

#[test]
fn an_edit_that_cannot_be_is_refused_and_changes_nothing() {
    let mut document = document(COMMENTED);
    let heavy = Edit::SetServer {
        group: 8081.into(),
        addr: addr("b:2"),
        weight: Some(0),
        state: Some(State::Maint),
        labels: None,
    };
    let long = BTreeMap::from([("zone".to_owned(), "x".repeat(129))]);
    let long =
        Edit::SetServer { group: 8081.into(), addr: addr("b:2"), weight: Some(7), state: None, labels: Some(long) };
    let cases = [
        (add(1, "x:1", Origin::File), "the file has no group 1"),
        (remove(8081, "x:1"), "group 8081 has no server x:1 in the file"),
        (add(8081, "b:2", Origin::File), "group 8081 has the server b:2 in the file already"),
        (
            add(8081, "127.0.0.1:8081", Origin::File),
            "\"127.0.0.1:8081\" is the group itself; expected a server behind it",
        ),
        (heavy, "weight 0 is out of range; expected 1 to 256"),
        (long, "a label of 129 bytes is too long; expected at most 128 in name and value"),
        (
            Edit::OpenGroup { group: 8080.into(), policy: None },
            "port 8080 is not free for a group; expected one of its own",
        ),
        (Edit::OpenGroup { group: 0.into(), policy: None }, "port 0 is not free for a group; expected one of its own"),
        (Edit::CloseGroup { group: 2.into() }, "the file has no group 2"),
    ];
    for (edit, said) in cases {
        assert_eq!(document.apply(&edit).unwrap_err().to_string(), said);
        assert_eq!(document.text(), COMMENTED);
    }
}

/// Many servers that register at once are one change of the file; each on its own stays cheap too.
#[test]
fn a_thousand_edits_of_a_long_file_take_moments() {
    let servers: Vec<String> =
        (0..4_000).map(|index| format!("\"10.0.{}.{}:9000\"", index / 250, index % 250 + 1)).collect();
    let text = format!(
        "{{\n  \"groups\": [\n    {{\n      \"listen\": \"0.0.0.0:8081\",\n      \"servers\": [\n        {}\n      ]\n    }}\n  ]\n}}\n",
        servers.join(",\n        ")
    );
    let started = std::time::Instant::now();
    let edits: Vec<Edit> = (0..1_000)
        .map(|index| add(8081, &format!("10.1.{}.{}:9000", index / 250, index % 250 + 1), Origin::Heartbeat))
        .collect();
    let longer = edited(&text, &edits);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(longer.lines().count(), text.lines().count() + 1_000);
}
