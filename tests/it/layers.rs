//! The import direction: floors above one another, and no circles in any folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod tokens;
mod tree;

use tree::{Files, Imports, Tree};

/// How many paragraphs `lib.rs` may list its modules in.
const FLOORS_MAX: usize = 10;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files() -> Files {
    fn gather(folder: &Path, files: &mut Files) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                gather(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(source()).unwrap().to_str().unwrap().to_owned();
                files.insert(inside, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut files = Files::new();
    gather(&source(), &mut files);
    files
}

/// The modules of `lib.rs`, lowest floor first.
fn floors(lib: &str) -> Vec<Vec<&str>> {
    let lines = lib.lines().map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    let names: Vec<_> = lines.map(|name| name.map(|name| name.trim_end_matches(';'))).collect();
    names
        .split(Option::is_none)
        .map(|floor| floor.iter().flatten().copied().collect())
        .filter(|floor: &Vec<_>| !floor.is_empty())
        .collect()
}

/// The part of a path that lies directly in `folder`, which is empty or ends with a slash: a file or a folder.
fn part<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    let name = path.strip_prefix(folder)?.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name))
}

/// Imports that lead upwards in the order of `lib.rs`, also within one floor.
fn upwards(lib: &str, imports: &Imports) -> Vec<String> {
    let order: BTreeMap<&str, usize> =
        floors(lib).concat().into_iter().enumerate().map(|(at, name)| (name, at)).collect();
    let place = |path: &str| part("", path).and_then(|name| order.get(name).copied());
    let is_wrong =
        |(from, to): &&(String, String)| matches!((place(from), place(to)), (Some(from), Some(to)) if to > from);
    imports.iter().filter(is_wrong).map(|(from, to)| format!("{from} imports from {to}, which is above it")).collect()
}

/// Every circle between the parts of one folder, as `folder: part, part`.
fn circles(imports: &Imports) -> BTreeSet<String> {
    let paths = imports.iter().flat_map(|(from, to)| [from, to]);
    let folders: BTreeSet<&str> =
        paths.flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..=at])).chain([""]).collect();
    folders.into_iter().flat_map(|folder| circles_in(folder, imports)).collect()
}

fn circles_in(folder: &str, imports: &Imports) -> BTreeSet<String> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in imports {
        if let (Some(from), Some(to)) = (part(folder, from), part(folder, to))
            && from != to
        {
            reached.entry(from).or_default().insert(to);
        }
    }
    // Whatever is reached by way of others, too.
    loop {
        let before: usize = reached.values().map(BTreeSet::len).sum();
        for name in reached.keys().copied().collect::<Vec<_>>() {
            let further: BTreeSet<&str> =
                reached[name].iter().filter_map(|next| reached.get(next)).flatten().copied().collect();
            reached.get_mut(name).expect("a key").extend(further);
        }
        if reached.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let is_mutual = |a: &&&str, b: &str| reached[b].contains(**a) && reached.get(**a).is_some_and(|of| of.contains(b));
    let circle = |name: &&str| {
        let names: Vec<&str> = reached[name].iter().filter(|other| is_mutual(other, name)).copied().collect();
        (!names.is_empty()).then(|| format!("{folder}: {}", names.join(", ")))
    };
    reached.keys().filter_map(circle).collect()
}

#[test]
fn a_module_imports_only_from_those_above_it_in_the_list() {
    let files = files();
    let imports = Tree::read(&files).imports();
    assert!(imports.len() > 200, "imports were found: {}", imports.len());
    let wrong = upwards(&files["lib.rs"], &imports);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn there_are_few_floors_and_every_module_is_on_one() {
    let files = files();
    let floors = floors(&files["lib.rs"]);
    assert!(floors.len() <= FLOORS_MAX, "{} floors: {floors:#?}", floors.len());
    let listed: BTreeSet<&str> = floors.concat().into_iter().chain(["lib", "main"]).collect();
    let found: BTreeSet<&str> = files.keys().filter_map(|path| part("", path)).collect();
    assert_eq!(found, listed);
}

/// The imports that a circle is made of.
fn inside(circle: &str, imports: &Imports) -> Vec<String> {
    let (folder, names) = circle.split_once(": ").expect("a folder and its parts");
    let names: Vec<&str> = names.split(", ").collect();
    let is_inside = |(from, to): &&(String, String)| {
        let (from, to) = (part(folder, from), part(folder, to));
        from != to && [from, to].iter().all(|name| name.is_some_and(|name| names.contains(&name)))
    };
    imports.iter().filter(is_inside).map(|(from, to)| format!("{from} imports from {to}")).collect()
}

#[test]
fn no_folder_has_import_circles() {
    let imports = Tree::read(&files()).imports();
    let found = circles(&imports);
    let found: BTreeMap<_, _> = found.iter().map(|circle| (circle, inside(circle, &imports))).collect();
    assert!(found.is_empty(), "import circles: {found:#?}");
}

/// A crate with these files, each of which ends with `mod` lines for those below it.
fn made_up(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

fn imports_of(files: &Files) -> Vec<String> {
    Tree::read(files).imports().iter().map(|(from, to)| format!("{from} {to}")).collect()
}

/// `a/` with the files `b.rs`, `c.rs` and `d/e.rs`, beside `f.rs`.
fn crate_with(a: &str, b: &str, c: &str, e: &str) -> Files {
    let a = format!("mod b; mod c; pub mod d; {a}");
    let f = "pub struct F; use crate::a;";
    made_up(&[
        ("lib.rs", "mod f;\n\nmod a;\n"),
        ("f.rs", f),
        ("a/mod.rs", &a),
        ("a/b.rs", b),
        ("a/c.rs", c),
        ("a/d/mod.rs", "pub mod e; pub use e::E;"),
        ("a/d/e.rs", e),
    ])
}

#[test]
fn a_circle_in_a_folder_is_found_however_it_is_written() {
    let circle = |files: &Files| circles(&Tree::read(files).imports()).into_iter().collect::<Vec<_>>();
    for c in [
        "use super::b::B; pub struct C;",
        "use crate::a::{b::{B as Other, self}, d}; pub struct C;",
        "pub struct C; fn f() { let x = || super::b::B::new(); }",
        "pub struct C; use super::b; fn f(x: b::B) {}",
        "pub struct C; mod inner { use super::super::b::B; }",
        "pub struct C; use super::Again;",
        "pub struct C; use super::*; fn f(_: Again) {}",
    ] {
        let files = crate_with("pub use b::B as Again;", "use super::c::C; pub struct B;", c, "");
        assert_eq!(circle(&files), ["a/: b, c"], "{c}");
    }
    let files = crate_with("", "use super::d::e::E; pub struct B;", "", "pub struct E; use crate::a::b::B;");
    assert_eq!(circle(&files), ["a/: b, d"], "a file and a folder");
    let files = crate_with("pub struct A; use b::B;", "use super::A; pub struct B;", "", "");
    assert_eq!(circle(&files), ["a/: b, mod"], "the folder's own file");
}

#[test]
fn what_is_no_import_makes_no_circle() {
    for (a, b, c) in [
        ("pub use b::B; pub use c::C;", "use super::C; pub struct B;", "pub struct C;"),
        (
            "",
            "use super::c::C; pub struct B;",
            "// use super::b::B;\npub struct C; /* super::b::B */ fn f() { \"super::b::B\"; }",
        ),
        ("", "use super::c::C; pub struct B;", "pub struct C; #[cfg(test)] mod tests { use super::super::b::B; }"),
        ("", "use super::c::C; pub struct B;", "pub struct C; #[cfg(test)] use super::b::B; fn f() {}"),
        (
            "",
            "use super::c::C; pub struct B;",
            "pub(in crate::a) struct C; use b::B; use std::{b::B as D}; fn b() { x.b::<B>() }",
        ),
        ("", "use super::c::C; pub struct B;", "use super::b; pub struct C;"),
    ] {
        assert_eq!(circles(&Tree::read(&crate_with(a, b, c, "")).imports()), BTreeSet::new(), "{a} {b} {c}");
    }
}

#[test]
fn names_lead_to_where_they_come_from() {
    let files = crate_with(
        "pub use d::E; mod own { pub struct O; }",
        "use super::E;",
        "use crate::a::own::O; use crate::f::F as _;",
        "pub struct E;",
    );
    assert_eq!(imports_of(&files), ["a/b.rs a/d/e.rs", "a/c.rs a/mod.rs", "a/c.rs f.rs"]);
}

#[test]
fn an_import_from_above_is_found() {
    let mut files = crate_with("pub struct A;", "use crate::f;", "", "use crate::f::F;");
    assert_eq!(upwards(&files["lib.rs"], &Tree::read(&files).imports()), Vec::<String>::new());
    files.insert("f.rs".into(), "pub struct F(crate::a::A);".into());
    let wrong = upwards(&files["lib.rs"], &Tree::read(&files).imports());
    assert_eq!(wrong, ["f.rs imports from a/mod.rs, which is above it"]);
    assert_eq!(floors("//! mod x;\n\npub mod a;\nmod b;\n\nmod c;\n"), [vec!["a", "b"], vec!["c"]]);
}
