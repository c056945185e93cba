//! The shipped file, its schema and its README say the same.

use std::fs;

use super::*;
use crate::config::keys::{ADMIN, DEFAULTS, GROUP, Key, LEGACY, LOG, MODULE, ROOT, SERVER};

const TABLES: [(&str, &[Key]); 7] = [
    ("", ROOT),
    ("admin.", ADMIN),
    ("log.", LOG),
    ("defaults.", DEFAULTS),
    ("groups[].", GROUP),
    ("servers[].", SERVER),
    ("policy.", MODULE),
];

fn in_crate(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_shipped_file_is_in_order_and_shows_every_key() {
    let path = in_crate("config/proxy.json");
    let config = parse(&path, SHIPPED).unwrap();
    assert_eq!(config.groups.iter().map(|group| group.settings.open).collect::<Vec<_>>(), [true, false]);
    for (_, keys) in TABLES {
        for key in keys {
            assert!(SHIPPED.contains(&format!("\"{}\":", key.name)), "{}", key.name);
        }
    }
    // What it shows is what holds anyway.
    let bare = parse(&path, r#"{ "groups": [ { "listen": "0.0.0.0:8081" } ] }"#).unwrap();
    assert_eq!(Config { groups: config.groups[..1].to_vec(), ..config }, bare);
}

/// `UPDATE=1 cargo test` and `goproxy schema > config/proxy.schema.json` write it anew.
#[test]
fn the_shipped_schema_is_fresh() {
    let path = in_crate("config/proxy.schema.json");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, schema()).unwrap();
    }
    let shipped = fs::read_to_string(&path).unwrap_or_default();
    assert!(shipped == schema(), "{} is out of date; UPDATE=1 cargo test writes it anew", path.display());
}

/// The README's row of a key: what the table says, so that it cannot drift.
fn row(prefix: &str, key: &Key) -> String {
    let default = key.default.map_or("required".to_owned(), |default| format!("`{default}`"));
    let range = crate::config::schema::range(key.shape);
    format!("| `{prefix}{}` | {range} | {default} | {} |", key.name, key.doc)
}

#[test]
fn the_readme_has_the_row_of_every_key() {
    let readme = fs::read_to_string(in_crate("config/README.md")).unwrap_or_default();
    let tables = TABLES.into_iter().filter(|(prefix, _)| *prefix != "defaults.").chain([("", LEGACY)]);
    let rows = tables.flat_map(|(prefix, keys)| keys.iter().map(move |key| row(prefix, key)));
    let missing: Vec<String> = rows.filter(|row| !readme.contains(row)).collect();
    assert!(missing.is_empty(), "config/README.md lacks\n{}", missing.join("\n"));
}

/// The first example below a heading of the README.
fn example_below<'r>(readme: &'r str, heading: &str) -> &'r str {
    let example = readme.split_once(heading).and_then(|(_, rest)| rest.split("```jsonc\n").nth(1));
    example.and_then(|rest| rest.split("```").next()).expect("an example below the heading")
}

#[test]
fn the_readme_shows_a_module_with_every_key() {
    let readme = fs::read_to_string(in_crate("config/README.md")).unwrap_or_default();
    let example = example_below(&readme, "## policy\n");
    for key in MODULE {
        assert!(example.contains(&format!("  \"{}\": ", key.name)), "{}", key.name);
    }
    let config =
        read(&format!("{{ \"defaults\": {{ \"policy\": {example} }}, \"groups\": [ {{ \"listen\": \"[::]:1\" }} ] }}"));
    let policy = &config.unwrap().groups[0].settings.policy;
    assert_eq!(policy.as_module().unwrap().config, r#"{"zone":"a"}"#);
}

#[test]
fn the_readme_shows_errors_as_they_are() {
    let readme = fs::read_to_string(in_crate("config/README.md")).unwrap_or_default();
    let broken = example_below(&readme, "## What is wrong");
    let problems = read(broken).unwrap_err();
    let said = problems.iter().map(|problem| problem.in_file(Path::new("config/proxy.json"))).collect::<Vec<_>>();
    assert!(readme.contains(&said.join("\n")), "config/README.md should show\n{}", said.join("\n"));
}
