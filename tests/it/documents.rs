//! What the documents name exists, what they list is complete, and what is to be short is short.
//!
//! Their commands are run by `tests/with_programs`, because they need more than Rust.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use goproxy::access::CODES;
use goproxy::counters::EndReason;
use goproxy::events::Event;
use tracing::Level;

use crate::support::{FakeServer, Group, TestProxy, run};

/// A stranger reads README.md in two minutes.
const README_LINES_MAX: usize = 150;
/// And a new contributor ARCHITECTURE.md in ten.
const ARCHITECTURE_WORDS_MAX: usize = 1_500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// All files below a folder whose name ends so, without what is built or hidden.
fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files_below(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// The text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut is_inside = false;
    let mut lines = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_inside = !is_inside;
        } else if !is_inside {
            lines += &format!("{line}\n");
        }
    }
    lines
}

/// What stands between backticks.
fn code_spans(text: &str) -> Vec<String> {
    prose(text)
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// The cells of the first column of all tables whose rows have a code span there.
fn first_column(text: &str) -> Vec<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// How a heading is named in a link.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn the_first_two_documents_are_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines; expected at most {README_LINES_MAX}");
    let words = read("ARCHITECTURE.md").split_whitespace().count();
    assert!(
        words <= ARCHITECTURE_WORDS_MAX,
        "ARCHITECTURE.md has {words} words; expected at most {ARCHITECTURE_WORDS_MAX}"
    );
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut dead = Vec::new();
    let mut seen = 0;
    for path in files_below(root(), ".md") {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        for link in prose(&text).split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let is_there = match heading {
                None => target.exists(),
                Some(heading) => fs::read_to_string(&target).is_ok_and(|text| {
                    prose(&text).lines().any(|line| line.starts_with('#') && anchor(line) == heading)
                }),
            };
            if !is_there {
                dead.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(seen > 50, "there are links: {seen}");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn what_the_architecture_names_exists() {
    let sources: String =
        files_below(&root().join("src"), ".rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let code: String =
        sources.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = code.split(|c| !is_word(c)).collect();
    let is_path =
        |name: &str| name.contains('/') || [".rs", ".md", ".json", ".toml", ".wit"].iter().any(|e| name.ends_with(e));
    let mut unknown = Vec::new();
    let (mut paths, mut symbols) = (0, 0);
    for name in code_spans(&read("ARCHITECTURE.md")) {
        // A command is not a name.
        if name.contains(' ') {
            continue;
        }
        let exists = if is_path(&name) {
            paths += 1;
            ["", "src", "config"].iter().any(|folder| root().join(folder).join(&name).exists())
        } else {
            symbols += 1;
            name.split(|c| !is_word(c)).filter(|word| !word.is_empty()).all(|word| words.contains(word))
        };
        if !exists {
            unknown.push(name);
        }
    }
    assert!(paths > 20 && symbols > 20, "it names something: {paths}, {symbols}");
    assert!(unknown.is_empty(), "ARCHITECTURE.md names what does not exist: {}", unknown.join(", "));
}

#[test]
fn each_decision_is_one_page_with_all_its_parts() {
    let index = read("docs/decisions/README.md");
    let mut number = 0;
    let mut pages = files_below(&root().join("docs/decisions"), ".md");
    pages.sort();
    for page in pages.iter().filter(|page| !page.ends_with("README.md")) {
        number += 1;
        let (text, name) = (fs::read_to_string(page).unwrap(), page.file_name().unwrap().to_str().unwrap());
        assert!(name.starts_with(&format!("{number:04}-")), "{name}: expected number {number}");
        let title = text.lines().next().and_then(|line| line.strip_prefix(&format!("# {number}. ")));
        let title = title.unwrap_or_else(|| panic!("{name}: expected a title that begins with \"# {number}. \""));
        assert!(
            index.contains(&format!("| [{number:04}]({name}) | {title} |")),
            "docs/decisions/README.md lacks {name}"
        );
        for part in ["## Context", "## Decision", "## What lost", "## Figures"] {
            assert!(text.lines().any(|line| line == part), "{name} lacks {part}");
        }
        assert!(text.lines().count() <= 60, "{name} is longer than a page");
    }
    assert!(number > 10);
}

/// A proxy that has something to count, and its `/metrics`.
fn metrics() -> String {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    client.echo(b"hello");
    client.finish();
    client.receive_all();
    let (status, text) = proxy.try_get("/metrics").expect("an answer");
    assert_eq!(status, 200);
    text
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let base = |name: &str| name.trim_end_matches("_total").trim_end_matches("_info").to_owned();
    let shown: BTreeMap<String, String> = metrics()
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| (base(name), kind.to_owned()))
        .collect();
    let documented: BTreeMap<String, String> = read("docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `goproxy_")?.split_once("` | "))
        .filter_map(|(name, rest)| Some((base(&format!("goproxy_{name}")), rest.split_once(" | ")?.0.to_owned())))
        .collect();
    let missing: Vec<_> = shown.iter().filter(|(name, _)| !documented.contains_key(*name)).collect();
    let gone: Vec<_> = documented.iter().filter(|(name, _)| !shown.contains_key(*name)).collect();
    assert!(missing.is_empty() && gone.is_empty(), "docs/metrics.md lacks {missing:?} and invents {gone:?}");
    for (name, kind) in &shown {
        // An info is a gauge in the classic text.
        assert!(documented[name] == *kind || documented[name] == "info", "{name} is a {kind}");
    }
}

#[test]
fn every_end_of_a_session_is_documented_and_no_other() {
    let shown: BTreeSet<&str> = EndReason::ALL.into_iter().map(EndReason::as_str).collect();
    let logs = read("docs/logs.md");
    let (_, ends) = logs.split_once("### How sessions end").expect("the section");
    let ends = first_column(ends.split("\n## ").next().unwrap_or_default());
    let documented: BTreeSet<&str> = ends.iter().map(String::as_str).filter(|end| *end != "end").collect();
    assert_eq!(documented, shown);
}

#[test]
fn every_termination_code_is_documented_and_no_other() {
    let logs = read("docs/logs.md");
    let (_, table) = logs.split_once("| `end` | code |\n|---|---|\n").expect("the table");
    let mut documented = BTreeSet::new();
    for row in table.split("\n\n").next().unwrap_or_default().lines() {
        let (ends, codes) = row.trim_matches('|').split_once('|').expect("two columns");
        for end in code_spans(ends) {
            documented.extend(code_spans(codes).into_iter().map(|code| (end.clone(), code)));
        }
    }
    let known: BTreeSet<_> = CODES.iter().map(|(end, _, code)| (end.to_string(), (*code).to_owned())).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_claim_of_the_threat_model_names_a_test_that_exists() {
    let security = read("SECURITY.md");
    let (_, model) = security.split_once("## Threat model").expect("the section");
    let named: Vec<(&str, &str)> =
        model.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::")).collect();
    assert!(named.len() > 15, "{named:?}");
    for (file, test) in named {
        assert!(read(&format!("tests/it/{file}.rs")).contains(&format!("fn {test}(")), "{file}::{test}");
    }
}

/// Messages that the log writes past the events, at *info* and above, with their levels; only these files may do so.
fn direct_messages() -> BTreeMap<String, String> {
    let mut messages = BTreeMap::new();
    for path in files_below(&root().join("src"), ".rs") {
        let name = path.strip_prefix(root().join("src")).unwrap().display().to_string();
        if name.contains("tests") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for level in ["error", "warn", "info"] {
            for call in code.split(&format!("tracing::{level}!(")).skip(1) {
                assert!(
                    ["main.rs", "service.rs", "status.rs"].contains(&name.as_str()) || name.starts_with("log/"),
                    "{name} writes to the log at {level}; expected an event, see src/events/mod.rs"
                );
                let call = call.split(");").next().unwrap_or_default();
                let message = call.rsplit('"').nth(1).unwrap_or_default();
                let message = if message == "{}" { goproxy::config::LEGACY_NOTE } else { message };
                messages.insert(message.to_owned(), level.to_owned());
            }
        }
    }
    assert!(messages.len() > 5, "{messages:?}");
    messages
}

#[test]
fn every_message_of_the_log_is_documented_and_no_other() {
    let declared = Event::messages().filter(|(level, _)| *level <= Level::INFO);
    let declared = declared.map(|(level, message)| (message.to_owned(), level.as_str().to_lowercase()));
    let mut logged: BTreeMap<String, String> = declared.chain(direct_messages()).collect();
    assert!(logged.len() > 60, "{logged:?}");
    logged.insert("policy says".to_owned(), "as the module chose".to_owned());
    let logs = read("docs/logs.md");
    let mut documented = BTreeMap::new();
    for table in logs.split("\n| message | ").skip(1) {
        let rows = table.split("\n\n").next().unwrap_or_default().lines();
        let cells = rows.filter_map(|row| row.strip_prefix("| `")?.split_once("` | "));
        // The steps of a session have no column for the level, because it is the same for all.
        let level =
            |rest: &str| rest.split(" | ").next().filter(|_| table.starts_with("level")).unwrap_or("info").to_owned();
        documented.extend(cells.map(|(message, rest)| (message.to_owned(), level(rest))));
    }
    let missing: Vec<_> = logged.iter().filter(|(message, _)| !documented.contains_key(*message)).collect();
    let gone: Vec<_> = documented.keys().filter(|message| !logged.contains_key(*message)).collect();
    assert!(missing.is_empty() && gone.is_empty(), "docs/logs.md lacks {missing:?} and invents {gone:?}");
    assert_eq!(documented, logged, "the levels");
}

#[test]
fn every_event_is_documented_and_no_other() {
    let told: BTreeSet<(&str, &str)> = Event::names().collect();
    assert!(told.len() > 20, "{told:?}");
    let document = read("docs/events.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
    let documented: BTreeSet<(&str, &str)> =
        rows.flat_map(|(name, messages)| messages.split(" · ").map(move |message| (name, message))).collect();
    assert_eq!(documented, told);
}

#[test]
fn every_flag_is_documented() {
    let document = read("docs/cli.md");
    let commands: [&[&str]; 18] = [
        &["--help"],
        &["run", "--help"],
        &["check", "--help"],
        &["demo", "--help"],
        &["events", "--help"],
        &["import", "--help"],
        &["top", "--help"],
        &["status", "--help"],
        &["reload", "--help"],
        &["drain", "--help"],
        &["policy", "check", "--help"],
        &["policy", "list", "--help"],
        &["policy", "new", "--help"],
        &["policy", "simulate", "--help"],
        &["policy", "record", "--help"],
        &["policy", "replay", "--help"],
        &["policy", "shadow", "--help"],
        &["schema", "--help"],
    ];
    for command in commands {
        let output = run(command);
        assert!(output.status.success(), "{command:?}");
        let help = String::from_utf8(output.stdout).unwrap();
        let flags: BTreeSet<&str> = help
            .split(|c: char| c.is_whitespace() || ",[]`".contains(c))
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .collect();
        assert!(flags.contains("--help"));
        for flag in flags.iter().map(|flag| flag.trim_end_matches(['.', '=', ':'])) {
            assert!(document.contains(flag), "docs/cli.md lacks {flag} of {command:?}");
        }
    }
}
