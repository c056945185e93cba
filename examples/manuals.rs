//! Writes what a package brings beside the program: man pages of the command line and of `proxy.json`, and completions for
//! shells. `cargo run --example manuals -- FOLDER`; `dist/build` calls it.
//!
//! All of it is made from the declarations that the program itself goes by, so none of it is edited by hand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use goproxy::cli::Cli;
use goproxy::config;
use roff::{Inline, Roff, bold, italic, roman};
use serde_json::{Map, Value};

fn main() -> anyhow::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).context("expected a folder to write to")?.into();
    fs::create_dir_all(&folder)?;
    let command = || Cli::command().after_help("See also proxy.json(5) and /usr/share/doc/goproxy.");
    clap_mangen::generate_to(command(), &folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command(), "goproxy", &folder)?;
    }
    fs::write(folder.join("proxy.json.5"), file_page()?)?;
    checked(&folder)
}

/// The files that a package takes are there.
fn checked(folder: &Path) -> anyhow::Result<()> {
    for name in ["goproxy.1", "goproxy-status.1", "proxy.json.5", "goproxy.bash", "_goproxy", "goproxy.fish"] {
        let text = fs::read_to_string(folder.join(name)).with_context(|| name.to_owned())?;
        anyhow::ensure!(!text.is_empty(), "{name} is empty");
    }
    Ok(())
}

/// proxy.json(5), made from the schema.
fn file_page() -> anyhow::Result<String> {
    let schema: Value = serde_json::from_str(&config::schema())?;
    let mut page = Roff::new();
    let version = format!("goproxy {}", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["proxy.json", "5", "", &version]);
    page.control("SH", ["NAME"]);
    page.text([roman("proxy.json - the configuration of goproxy")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        roman("JSON with comments and trailing commas. "),
        bold("goproxy check"),
        roman(" reports every mistake in it. The file may be edited while the proxy runs: a file with a mistake changes nothing. "),
        roman("Times are written with a unit, such as \"2.5s\" or \"1m30s\", and sizes as \"64KiB\"."),
    ]);
    page.control("SH", ["KEYS"]);
    keys(&mut page, "", &schema);
    page.control("SH", ["FILES"]);
    page.text([italic("/etc/goproxy/proxy.json"), roman(" is read by the service of the package.")]);
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("goproxy"), roman("(1), "), bold("goproxy-check"), roman("(1)")]);
    Ok(page.render())
}

/// The keys of an object, each followed by those of the objects that it may hold.
fn keys(page: &mut Roff, above: &str, object: &Value) {
    for (name, key) in object["properties"].as_object().into_iter().flatten() {
        let path = format!("{above}{name}");
        page.control("TP", []);
        page.text([bold(path.as_str())]);
        let description = key["description"].as_str().unwrap_or("See below.");
        let mut text: Vec<Inline> = vec![roman(description)];
        if let Some(default) = key.get("default") {
            text.push(roman(format!(" Default: {default}.")));
        }
        page.text(text);
        for (more, inner) in inner_objects(key) {
            keys(page, &format!("{path}{more}."), inner);
        }
    }
}

/// The objects that a value may be or hold, and what its path gets for them. Of several forms, those with keys of their own.
fn inner_objects(value: &Value) -> Vec<(&'static str, &Value)> {
    let has_keys =
        |value: &Value| value["properties"].as_object().is_some_and(|keys: &Map<String, Value>| !keys.is_empty());
    let mut found = Vec::new();
    for form in std::iter::once(value).chain(value["anyOf"].as_array().into_iter().flatten()) {
        if has_keys(form) {
            found.push(("", form));
        }
        let items = &form["items"];
        for item in std::iter::once(items).chain(items["anyOf"].as_array().into_iter().flatten()) {
            if has_keys(item) {
                found.push(("[]", item));
            }
        }
    }
    found
}
