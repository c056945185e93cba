//! What a policy imports and exports, held against the contract.
//!
//! The order of the checks decides which of several mistakes is told: first the version, because a wrong one
//! explains the others, then what is foreign, what is not offered, what is missing, what is of another type.

use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::EntityType;

use super::advice::{component_advice, export_advice, module_advice};
use super::contract::{self, Interface, Signature};
use super::error::{SourceError, clip_name, list};
use super::scan::Scan;

/// Most names that are kept to be shown.
const NAMES_KEPT_MAX: usize = 64;

/// Most imports of a core module. Linkers name each function once; wrapping takes more than linear time in repetitions.
const IMPORTS_MAX: usize = 256;

/// Names as found.
pub(super) struct Names {
    pub(super) imports: Listed,
    pub(super) exports: Listed,
}

/// The first of many names, and how many more there are.
#[derive(Default)]
pub(super) struct Listed {
    few: Vec<String>,
    more: usize,
}

impl Listed {
    /// What is kept, for people.
    pub(super) fn listed(self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.few.into_iter().chain(more).collect()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Listed {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut names = names.into_iter();
        let few = names.by_ref().take(NAMES_KEPT_MAX).map(|name| clip_name(name.as_ref())).collect();
        Self { few, more: names.count() }
    }
}

/// Checks a core module.
///
/// # Errors
///
/// It does not fit the contract.
pub(super) fn module(module: &Scan<'_>) -> Result<Names, SourceError> {
    let types = module.types.as_ref();
    let imports: Vec<(&str, &str, EntityType)> = types.core_imports().into_iter().flatten().collect();
    let exports: Vec<(&str, EntityType)> = types.core_exports().into_iter().flatten().collect();
    check_versions(imports.iter().map(|(from, ..)| *from).chain(exports.iter().map(|(name, _)| split(name).0)))?;
    check_foreign(module, &imports)?;
    if imports.len() > IMPORTS_MAX {
        return Err(SourceError::TooMany { what: "imports", max: IMPORTS_MAX });
    }
    for (from, function, ty) in &imports {
        let name = format!("{from}#{function}");
        let is_host = Interface::parse(from).is_some_and(|interface| interface.name == "host");
        let expected = if is_host { contract::host_signature(function) } else { None };
        let expected = expected.ok_or_else(|| not_offered(&name))?;
        check_signature(module, &name, *ty, &expected)?;
    }
    check_module_exports(module, &exports)?;
    Ok(Names {
        imports: imports.iter().map(|(from, name, _)| format!("{from}#{name}")).collect(),
        exports: exports.iter().map(|(name, _)| name).collect(),
    })
}

/// Checks a component; the types of its functions are left to linking. Says also whether it has `feedback`.
///
/// # Errors
///
/// It does not fit the contract.
pub(super) fn component(component: &Scan<'_>) -> Result<(Names, bool), SourceError> {
    check_versions(component.imports.iter().chain(&component.exports).copied())?;
    let foreign: Vec<&str> =
        component.imports.iter().copied().filter(|name| Interface::parse(name).is_none()).collect();
    if !foreign.is_empty() {
        return Err(SourceError::Foreign { imports: list(&foreign), advice: component_advice(&foreign) });
    }
    let mut imports = Vec::new();
    for name in &component.imports {
        let functions = component_functions(component, component.types.component_item_for_import(name).map(|i| &i.ty));
        let interface = Interface::parse(name).map_or("", |interface| interface.name);
        match functions.iter().find(|function| !contract::functions("host").any(|offered| offered == **function)) {
            Some(function) => return Err(not_offered(&format!("{name}#{function}"))),
            None if !matches!(interface, "host" | "types") => return Err(not_offered(name)),
            None if functions.is_empty() => imports.push((*name).to_owned()),
            None => imports.extend(functions.iter().map(|function| format!("{name}#{function}"))),
        }
    }
    let mut exports: Vec<(&str, &str)> = Vec::new();
    for name in &component.exports {
        let functions = component_functions(component, component.types.component_item_for_export(name).map(|i| &i.ty));
        match functions.is_empty() {
            true => exports.push((*name, "")),
            false => exports.extend(functions.iter().map(|function| (*name, *function))),
        }
    }
    let found: Vec<String> = exports.iter().map(|(name, function)| join(name, function)).collect();
    let has_feedback = check_present(&exports, &found)?;
    Ok((Names { imports: imports.iter().collect(), exports: found.iter().collect() }, has_feedback))
}

/// For a core module without metadata: the version in its names, and whether it has `feedback`.
pub(super) fn made_for<'a>(module: &'a Scan<'_>) -> (Option<&'a str>, bool) {
    let types = module.types.as_ref();
    let names = || types.core_exports().into_iter().flatten().filter_map(|(name, _)| Interface::parse(split(name).0));
    let version = names().find(|interface| interface.name == "policy").map(|interface| interface.version);
    (version, names().any(|interface| interface.name == "feedback"))
}

/// Refuses every name of ours with a version other than 1.x.
fn check_versions<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), SourceError> {
    match names.filter_map(Interface::parse).find(|interface| !interface.is_spoken()) {
        Some(interface) => Err(SourceError::Version { version: clip_name(interface.version) }),
        None => Ok(()),
    }
}

/// Refuses imports from elsewhere: `wasi_snapshot_preview1 (fd_write, fd_close)`.
fn check_foreign(module: &Scan<'_>, imports: &[(&str, &str, EntityType)]) -> Result<(), SourceError> {
    let foreign: Vec<_> = imports.iter().filter(|(from, ..)| Interface::parse(from).is_none()).collect();
    let Some((first, name, _)) = foreign.first().copied() else { return Ok(()) };
    let of_first = list(foreign.iter().filter(|(from, ..)| from == first).map(|(_, name, _)| name));
    let mut others: Vec<&str> = foreign.iter().map(|(from, ..)| *from).filter(|from| from != first).collect();
    others.sort_unstable();
    others.dedup();
    let and = if others.is_empty() { String::new() } else { format!(", {}", list(others)) };
    let imports = format!("{} ({of_first}){and}", clip_name(first));
    Err(SourceError::Foreign { imports, advice: module_advice(module, first, name) })
}

/// The exports of a core module: present, and of the right type.
fn check_module_exports(module: &Scan<'_>, exports: &[(&str, EntityType)]) -> Result<(), SourceError> {
    let split: Vec<(&str, &str)> = exports.iter().map(|(name, _)| split(name)).collect();
    let found: Vec<&str> = exports.iter().map(|(name, _)| *name).collect();
    check_present(&split, &found)?;
    for (name, ty) in exports {
        let (interface, function) = self::split(name);
        let interface = Interface::parse(interface).map_or("", |interface| interface.name);
        if let Some(expected) = contract::export_signature(interface, function) {
            check_signature(module, name, *ty, &expected)?;
        }
    }
    let has_memory = exports.iter().any(|(name, ty)| *name == "memory" && matches!(ty, EntityType::Memory(_)));
    let has_realloc = found.iter().any(|name| name.ends_with("realloc"));
    let advice = export_advice(&found);
    let missing =
        |what: &str| Err(SourceError::MissingExport { missing: what.to_owned(), found: list(&found), advice });
    match (has_memory, has_realloc) {
        (false, _) => missing("a memory named memory"),
        (_, false) => missing("a function named cabi_realloc, by which the proxy gets room for what it passes in"),
        _ => Ok(()),
    }
}

/// Looks for all functions of `policy`, and of `feedback` when there is one of it; says whether there is.
fn check_present<S: AsRef<str>>(exports: &[(&str, &str)], found: &[S]) -> Result<bool, SourceError> {
    let of = |wanted: &'static str| {
        let is_wanted = move |name: &str| Interface::parse(name).is_some_and(|interface| interface.name == wanted);
        exports.iter().filter(move |(name, _)| is_wanted(name)).map(|(_, function)| *function)
    };
    let has_feedback = of("feedback").next().is_some();
    let wanted = ["policy", "feedback"].into_iter().take(1 + usize::from(has_feedback));
    let missing: Vec<String> = wanted
        .flat_map(|interface| {
            let absent = contract::functions(interface).filter(move |name| !of(interface).any(|found| found == *name));
            absent.map(move |name| format!("{}#{name}", contract::name(interface)))
        })
        .collect();
    if missing.is_empty() {
        Ok(has_feedback)
    } else {
        Err(SourceError::MissingExport { missing: list(missing), found: list(found), advice: export_advice(found) })
    }
}

fn check_signature(module: &Scan<'_>, name: &str, ty: EntityType, expected: &Signature) -> Result<(), SourceError> {
    let found = match ty {
        EntityType::Func(id) => Some(Signature::from(module.types[id].unwrap_func())),
        _ => None,
    };
    if found.as_ref() == Some(expected) {
        return Ok(());
    }
    let found = found.map_or_else(|| "not a function".to_owned(), |found| found.to_string());
    Err(SourceError::Signature { name: clip_name(name), found, expected: expected.to_string() })
}

/// The functions of an imported or exported instance.
fn component_functions<'a>(component: &'a Scan<'_>, item: Option<&ComponentEntityType>) -> Vec<&'a str> {
    let Some(ComponentEntityType::Instance(id)) = item else { return Vec::new() };
    let exports = component.types[*id].exports.iter();
    exports.filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_))).map(|(name, _)| name.as_str()).collect()
}

fn not_offered(name: &str) -> SourceError {
    let offered: Vec<&str> = contract::functions("host").collect();
    SourceError::NotOffered { name: clip_name(name), offered: offered.join(", ") }
}

/// `goproxy:balance/policy@1.0.0#pick` in its two parts; the second is empty for a name without them.
fn split(name: &str) -> (&str, &str) {
    name.split_once('#').unwrap_or((name, ""))
}

fn join(name: &str, function: &str) -> String {
    if function.is_empty() { name.to_owned() } else { format!("{name}#{function}") }
}
