//! Which file imports from which: the modules of a crate, and what the names in them stand for.
//!
//! Modules are files, and `mod.rs` is the file of its folder. An import is whatever a file says of another, in a `use` or
//! in a path. A `mod x;` is none, and neither is a `pub use` of something further down: names lead to where they come
//! from. Modules for tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{is_name, tokens};

/// The text of each file by its path below `src`, such as `group/lease.rs`.
pub(super) type Files = BTreeMap<String, String>;

/// Pairs of files of which the first imports from the second.
pub(super) type Imports = BTreeSet<(String, String)>;

type Id = usize;

struct Module {
    file: String,
    parent: Id,
    children: BTreeMap<String, Id>,
    /// What names stand for that a `use` brought in.
    names: BTreeMap<String, Use>,
    /// `use path::*`.
    globs: Vec<Use>,
    /// Items by name.
    items: BTreeSet<String>,
    /// Paths that are no `use`.
    paths: Vec<Vec<String>>,
}

#[derive(Clone)]
struct Use {
    path: Vec<String>,
    is_public: bool,
}

/// What a path leads to.
enum Target {
    Module(Id),
    Item(String),
}

pub(super) struct Tree<'a> {
    files: &'a Files,
    modules: Vec<Module>,
}

/// Paths do not lead through more `use`s than this.
const STEPS_MAX: usize = 32;

impl<'a> Tree<'a> {
    /// Reads what `lib.rs` leads to.
    pub(super) fn read(files: &'a Files) -> Self {
        let mut tree = Self { files, modules: Vec::new() };
        let root = tree.add("lib.rs", 0);
        tree.read_file(root, "");
        tree
    }

    pub(super) fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (id, module) in self.modules.iter().enumerate() {
            let mut add = |target: Option<Target>| {
                if let Some(Target::Item(file)) = target
                    && file != module.file
                {
                    imports.insert((module.file.clone(), file));
                }
            };
            for path in &module.paths {
                add(self.resolve(id, path, STEPS_MAX));
            }
            for glob in &module.globs {
                if let Some(Target::Module(of)) = self.resolve(id, &glob.path, STEPS_MAX)
                    && !(glob.is_public && self.is_below(of, id))
                {
                    add(Some(Target::Item(self.modules[of].file.clone())));
                }
            }
            for name in module.names.values() {
                let target = self.resolve(id, &name.path, STEPS_MAX);
                let file_below =
                    |file: &str| self.modules.iter().enumerate().any(|(of, m)| m.file == file && self.is_below(of, id));
                let is_reexport = matches!(&target, Some(Target::Item(file)) if name.is_public && file_below(file));
                if !is_reexport {
                    add(target);
                }
            }
        }
        imports
    }

    fn is_below(&self, mut id: Id, above: Id) -> bool {
        while id != 0 {
            id = self.modules[id].parent;
            if id == above {
                return true;
            }
        }
        false
    }

    fn add(&mut self, file: &str, parent: Id) -> Id {
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            names: BTreeMap::new(),
            globs: Vec::new(),
            items: BTreeSet::new(),
            paths: Vec::new(),
        });
        self.modules.len() - 1
    }

    /// `folder` is where the files of its children are: empty, or with its slash.
    fn read_file(&mut self, id: Id, folder: &str) {
        let files = self.files;
        let text = files.get(&self.modules[id].file).unwrap_or_else(|| panic!("{} is there", self.modules[id].file));
        let tokens = tokens(text);
        self.read_items(id, folder, &tokens);
    }

    fn read_items(&mut self, id: Id, folder: &str, tokens: &[&str]) {
        let mut at = 0;
        let mut is_public = false;
        // Items of functions are none of the module.
        let mut depth = 0;
        while at < tokens.len() {
            let (token, next) = (tokens[at], tokens.get(at + 1).copied().unwrap_or_default());
            let was_public = std::mem::take(&mut is_public);
            match token {
                "#" => {
                    let end = at + 1 + usize::from(next == "!") + 1;
                    let end = end - 1 + group(&tokens[end - 1..]);
                    at = if is_for_tests(&tokens[at..end]) { end + item(&tokens[end..]) } else { end };
                }
                "pub" => {
                    is_public = true;
                    at += 1;
                    if next == "(" {
                        at += group(&tokens[at..]);
                    }
                }
                "mod" if is_name(next) => {
                    at += 2 + self.read_module(id, folder, next, &tokens[at + 2..]);
                }
                "use" if is_name(next) || matches!(next, "{" | "::" | "*") => {
                    let end = at + tokens[at..].iter().position(|token| *token == ";").unwrap_or(tokens.len() - at);
                    self.read_use(id, was_public, &[], &tokens[at + 1..end]);
                    at = end + 1;
                }
                "fn" | "struct" | "enum" | "trait" | "type" | "static" | "union" if is_name(next) => {
                    if depth == 0 {
                        self.modules[id].items.insert(next.to_owned());
                    }
                    at += 2;
                }
                "const" if is_name(next) && next != "fn" => {
                    if depth == 0 {
                        self.modules[id].items.insert(next.to_owned());
                    }
                    at += 2;
                }
                "{" | "}" => {
                    depth = if token == "{" { depth + 1 } else { depth.max(1) - 1 };
                    at += 1;
                }
                _ if is_name(token) => {
                    let length = path_length(&tokens[at..]);
                    let is_after_a_dot =
                        at > 0 && matches!(tokens[at - 1], "." | "::") && !tokens[..at].ends_with(&[".", "."]);
                    if !is_after_a_dot {
                        let path = tokens[at..at + length].iter().filter(|token| **token != "::");
                        self.modules[id].paths.push(path.map(|name| (*name).to_owned()).collect());
                    }
                    at += length;
                }
                _ => at += 1,
            }
        }
    }

    /// The tokens behind the name of a module that it takes.
    fn read_module(&mut self, parent: Id, folder: &str, name: &str, tokens: &[&str]) -> usize {
        let inside = format!("{folder}{name}/");
        if tokens.first() == Some(&"{") {
            let file = self.modules[parent].file.clone();
            let length = group(tokens);
            let child = self.add(&file, parent);
            self.modules[parent].children.insert(name.to_owned(), child);
            self.read_items(child, &inside, &tokens[1..length - 1]);
            return length;
        }
        let own = format!("{folder}{name}.rs");
        let file = if self.files.contains_key(&own) { own } else { format!("{inside}mod.rs") };
        let child = self.add(&file, parent);
        self.modules[parent].children.insert(name.to_owned(), child);
        self.read_file(child, &inside);
        1
    }

    /// One tree of a `use`, behind the path `before`.
    fn read_use(&mut self, id: Id, is_public: bool, before: &[String], tokens: &[&str]) {
        let mut path = before.to_vec();
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at] {
                "::" => {}
                "*" => return self.modules[id].globs.push(Use { path, is_public }),
                "{" => {
                    let inside = &tokens[at + 1..at + group(&tokens[at..]) - 1];
                    let mut start = 0;
                    let mut at = 0;
                    while at <= inside.len() {
                        match inside.get(at) {
                            Some(&"{") => at += group(&inside[at..]) - 1,
                            Some(&",") | None => {
                                if start < at {
                                    self.read_use(id, is_public, &path, &inside[start..at]);
                                }
                                start = at + 1;
                            }
                            _ => {}
                        }
                        at += 1;
                    }
                    return;
                }
                "as" => {
                    let alias = tokens.get(at + 1).copied().unwrap_or("_");
                    // A trait without a name is used all the same.
                    let alias = if alias == "_" { format!("_ {}", path.join("::")) } else { alias.to_owned() };
                    self.modules[id].names.insert(alias, Use { path, is_public });
                    return;
                }
                "self" if !path.is_empty() => {}
                name => path.push(name.to_owned()),
            }
            at += 1;
        }
        if let Some(name) = path.last().cloned() {
            self.modules[id].names.insert(name, Use { path, is_public });
        }
    }

    fn resolve(&self, id: Id, path: &[String], steps_left: usize) -> Option<Target> {
        let steps_left = steps_left.checked_sub(1)?;
        let (first, mut rest) = path.split_first()?;
        let mut module = match first.as_str() {
            "crate" => 0,
            "self" => id,
            "super" => self.modules[id].parent,
            "Self" => return None,
            name => match self.step(id, name, rest.is_empty(), steps_left)? {
                Target::Module(module) => module,
                item => return Some(item),
            },
        };
        while let Some((name, behind)) = rest.split_first() {
            rest = behind;
            if name == "super" {
                module = self.modules[module].parent;
                continue;
            }
            // What is not found is a macro, or what a macro made.
            let here = || Target::Item(self.modules[module].file.clone());
            match self.step(module, name, rest.is_empty(), steps_left).unwrap_or_else(here) {
                Target::Module(child) => module = child,
                item => return Some(item),
            }
        }
        Some(Target::Module(module))
    }

    /// What a name in a module stands for. Where a module and an item have the same name, the last of a path is the item.
    fn step(&self, id: Id, name: &str, is_last: bool, steps_left: usize) -> Option<Target> {
        let module = &self.modules[id];
        if let Some(child) = module.children.get(name)
            && !(is_last && module.names.contains_key(name))
        {
            return Some(Target::Module(*child));
        }
        if module.items.contains(name) {
            return Some(Target::Item(module.file.clone()));
        }
        if let Some(import) = module.names.get(name) {
            // `use name;` and `use name::name;` of another crate lead nowhere.
            let is_foreign =
                import.path.first().is_some_and(|first| first == name) && !module.children.contains_key(name);
            return if is_foreign { None } else { self.resolve(id, &import.path, steps_left) };
        }
        module.globs.iter().find_map(|glob| match self.resolve(id, &glob.path, steps_left)? {
            Target::Module(of) if of != id => self.step(of, name, is_last, steps_left.checked_sub(1)?),
            _ => None,
        })
    }
}

/// The length of a group from its opening bracket to its closing one.
fn group(tokens: &[&str]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The length of an item, with attributes before it: up to its semicolon or the end of its braces.
fn item(tokens: &[&str]) -> usize {
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at] {
            ";" | "," | "}" | ")" => return at + usize::from(tokens[at] == ";" || tokens[at] == ","),
            "{" => return at + group(&tokens[at..]),
            "(" | "[" => at += group(&tokens[at..]),
            _ => at += 1,
        }
    }
    at
}

/// `#[cfg(test)]` and `#[cfg(all(test, …))]`.
fn is_for_tests(attribute: &[&str]) -> bool {
    attribute.contains(&"cfg")
        && attribute.contains(&"test")
        && !attribute.contains(&"not")
        && !attribute.contains(&"any")
}

/// The tokens of the path that begins here.
fn path_length(tokens: &[&str]) -> usize {
    let mut length = 1;
    while tokens.get(length) == Some(&"::") && tokens.get(length + 1).is_some_and(|token| is_name(token)) {
        length += 2;
    }
    length
}
