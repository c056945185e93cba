//! The import direction: a module uses only those above it in the list of `src/lib.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order of `lib.rs`, lowest first; modules of one paragraph are still in order.
fn order() -> BTreeMap<String, usize> {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    let names = lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    let order: BTreeMap<_, _> =
        names.enumerate().map(|(at, name)| (name.trim_end_matches(';').to_owned(), at)).collect();
    assert!(order.len() > 10, "lib.rs lists the modules: {order:?}");
    order
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The top-level modules that this source names as `crate::…`, also within braces.
fn named_in(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            None => names.push(word(rest)),
            Some(rest) => {
                let (mut depth, mut start) = (0, 0);
                for (at, c) in rest.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => {
                            names.push(word(rest[start..].trim_start()));
                            break;
                        }
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            names.push(word(rest[start..].trim_start()));
                            start = at + 1;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn a_module_imports_only_from_those_above_it_in_the_list() {
    let order = order();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in files_below(&source()) {
        let inside = path.strip_prefix(source()).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        // These two are the crate itself and stand above all.
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let own = order.get(module).unwrap_or_else(|| panic!("{module} is in lib.rs"));
        for name in named_in(&fs::read_to_string(&path).unwrap()) {
            let Some(used) = order.get(&name) else { continue };
            seen += 1;
            if used > own {
                wrong.push(format!("{} uses {name}, which is above {module}", inside.display()));
            }
        }
    }
    assert!(seen > 50, "imports were found: {seen}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_names_of_an_import_are_found() {
    let text = "use crate::a::b;\n// use crate::c;\nuse crate::{d, e::{f, g}, h};\nlet x = crate::i::j();\nmycrate::k;";
    assert_eq!(named_in(text), ["a", "d", "e", "h", "i"]);
}
