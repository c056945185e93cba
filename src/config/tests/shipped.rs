//! The shipped file, its schema and the page about it say the same as the declarations.

use std::fs;

use super::*;
use crate::config::declare::Fields;
use crate::config::key::{Key, Table, keys};
use crate::config::legacy::OldFile;

/// The tables of the page, each with what stands before the names of its keys.
fn tables() -> Vec<(String, Table)> {
    let mut tables = vec![(String::new(), Config::TABLE)];
    let mut next = 0;
    while let Some((_, table)) = tables.get(next) {
        for found in keys(table, false).flat_map(|key| key.kind.tables(key.name)) {
            // Several keys may be of one kind.
            if tables.iter().all(|(name, _)| *name != found.0) {
                tables.push(found);
            }
        }
        next += 1;
    }
    tables
}

fn in_crate(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_shipped_file_is_in_order_and_shows_every_key() {
    let path = in_crate("config/proxy.json");
    let config = parse(&path, SHIPPED).unwrap();
    assert_eq!(config.groups.iter().map(|group| group.settings.open).collect::<Vec<_>>(), [true, false]);
    for (_, table) in tables() {
        for key in keys(table, false) {
            assert!(SHIPPED.contains(&format!("\"{}\":", key.name)), "{}", key.name);
        }
    }
    // What it shows is what holds anyway.
    let bare = parse(&path, r#"{ "groups": [ { "listen": "127.0.0.1:8081" } ] }"#).unwrap();
    // But for the modules of the repository, which are not beside it.
    let policies_dir = bare.policies_dir.clone();
    assert_eq!(Config { groups: config.groups[..1].to_vec(), schema: None, policies_dir, ..config }, bare);
}

/// Holds a file of the repository to what it should be; `UPDATE=1 cargo test` writes it anew.
fn assert_fresh(path: &str, expected: &str) {
    let path = in_crate(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is out of date; UPDATE=1 cargo test writes it anew", path.display());
}

#[test]
fn the_shipped_schema_is_fresh() {
    assert_fresh("config/proxy.schema.json", &schema());
}

/// The row of a key in the page.
pub(super) fn row(prefix: &str, key: &Key) -> String {
    let default = key.default().map_or("required".to_owned(), |default| format!("`{default}`"));
    let (name, expected, doc, effect) = (key.name, key.kind.expected(), key.doc(), key.effect.as_str());
    format!("| `{prefix}{name}` | {expected} | {default} | {doc} | {effect} |")
}

fn table_of(prefix: &str, table: Table) -> String {
    let rows: Vec<String> = keys(table, false).map(|key| row(prefix, key)).collect();
    format!("| key | value | default | meaning | takes effect |\n|---|---|---|---|---|\n{}", rows.join("\n"))
}

#[test]
fn the_page_is_fresh() {
    let mut page = include_str!("configuration.md.in").to_owned();
    for (name, table) in tables().into_iter().chain([("old".to_owned(), OldFile::TABLE)]) {
        let place = format!("{{{{{name}}}}}");
        assert!(page.contains(&place), "src/config/tests/configuration.md.in has a place for {place}");
        let prefix = if name == "old" { "" } else { &name };
        page = page.replace(&place, &table_of(prefix, table));
    }
    let problems = read(example_below(&page, "## What is wrong")).unwrap_err();
    let said = problems.iter().map(|problem| problem.in_file(Path::new("config/proxy.json"))).collect::<Vec<_>>();
    assert!(said.len() > 4, "the example shows several mistakes: {said:#?}");
    assert_fresh("docs/configuration.md", &page.replace("{{mistakes}}", &said.join("\n")));
}

/// The first example below a heading of the page.
fn example_below<'r>(page: &'r str, heading: &str) -> &'r str {
    let example = page.split_once(heading).and_then(|(_, rest)| rest.split("```jsonc\n").nth(1));
    example.and_then(|rest| rest.split("```").next()).expect("an example below the heading")
}

#[test]
fn the_page_shows_a_module_with_every_key() {
    let example = example_below(include_str!("configuration.md.in"), "## policy\n");
    for key in keys(crate::policy::spec::ModuleSpec::TABLE, false) {
        assert!(example.contains(&format!("  \"{}\": ", key.name)), "{}", key.name);
    }
    let config =
        read(&format!("{{ \"defaults\": {{ \"policy\": {example} }}, \"groups\": [ {{ \"listen\": \"[::]:1\" }} ] }}"));
    let policy = &config.unwrap().groups[0].settings.policy;
    assert_eq!(policy.as_module().unwrap().config, r#"{"zone":"a"}"#);
}
