//! Which core modules can be called without the component around them, and by what names.
//!
//! Being called as a component costs a module's every pick several times what the pick itself costs. So a module that
//! was wrapped only to be checked is called directly, where that makes no difference: its functions have the very
//! types of the contract, whatever it says of them itself, strings are UTF-8, and none of its exports stands for
//! something that only a component's start or calls take note of. Every other module stays a component, and whatever
//! is wrong with it is told when that is linked.

use std::ops::Range;
use std::sync::LazyLock;

use wasmparser::component_types::{ComponentItem, SubtypeCx};

use super::contract::{self, Interface};
use super::scan::{self, Scan};
use super::wrap::wrap;

/// A core module within the component that was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreModule {
    /// Where in the component it stands.
    pub range: Range<usize>,
    /// What stands before the names of the functions: `goproxy:balance/policy@1.0.0`.
    pub policy: String,
    /// The same for the optional interface, when it is exported.
    pub feedback: Option<String>,
}

/// Names that mean something to whoever makes a component, besides those of the contract.
const OTHER_MEANINGS: [&str; 4] = ["_initialize", "__wasm_init_", "cm32p2", "[async-lift"];

static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let module = wat::parse_str(whole_module()).expect("our own text is well-formed");
    let found = scan::scan(&module).expect("our own module is valid");
    wrap(&module, &found).expect("our own module fits the contract")
});

/// The component of a module that imports and exports all that the contract knows.
pub(super) fn whole() -> &'static [u8] {
    &WHOLE
}

/// Looks at a core module and the component made of it, which went through the same validator as [`whole`].
pub(super) fn core(module: &Scan<'_>, component: &Scan<'_>, whole: &Scan<'static>) -> Option<CoreModule> {
    let types = module.types.as_ref();
    let exports: Vec<&str> = types.core_exports().into_iter().flatten().map(|(name, _)| name).collect();
    let is_plain = exports.iter().all(|name| match name.ends_with("realloc") {
        true => *name == "cabi_realloc",
        false => !OTHER_MEANINGS.iter().any(|meaning| name.starts_with(meaning)),
    });
    let interface = |wanted: &str| component.exports.iter().copied().find(|name| is_of(name, wanted));
    let (policy, feedback) = (interface("policy")?, interface("feedback"));
    let are_called_so = [("policy", Some(policy)), ("feedback", feedback)].into_iter().all(|(interface, name)| {
        let is_there = |name: &str, function: &str| exports.contains(&format!("{name}#{function}").as_str());
        name.is_none_or(|name| contract::functions(interface).all(|function| is_there(name, function)))
    });
    if !is_plain || !are_called_so || component.has_rare_options || !has_our_types(component, whole) {
        return None;
    }
    let (policy, feedback) = (policy.to_owned(), feedback.map(str::to_owned));
    Some(CoreModule { range: component.first_module.clone()?, policy, feedback })
}

fn is_of(name: &str, interface: &str) -> bool {
    Interface::parse(name).is_some_and(|found| found.name == interface)
}

/// True when the component would link with what the proxy offers and asks for.
fn has_our_types(component: &Scan<'_>, whole: &Scan<'static>) -> bool {
    let alike = |ours: &[&'static str], name: &str| {
        let interface = Interface::parse(name)?.name;
        ours.iter().copied().find(|ours| is_of(ours, interface))
    };
    let are_offered = component.imports.iter().all(|name| {
        let offered = alike(&whole.imports, name).and_then(|ours| whole.types.component_item_for_import(ours));
        fits((whole, offered), (component, component.types.component_item_for_import(name)))
    });
    let are_asked_for = component.exports.iter().all(|name| {
        let wanted = alike(&whole.exports, name).and_then(|ours| whole.types.component_item_for_export(ours));
        fits((component, component.types.component_item_for_export(name)), (whole, wanted))
    });
    are_offered && are_asked_for
}

/// True when what the first has can be used as what the second wants.
fn fits(given: (&Scan<'_>, Option<&ComponentItem>), wanted: (&Scan<'_>, Option<&ComponentItem>)) -> bool {
    let mut types = SubtypeCx::new_with_refs(given.0.types.as_ref(), wanted.0.types.as_ref());
    let items = given.1.zip(wanted.1);
    items.is_some_and(|(given, wanted)| types.component_entity_type(&given.ty, &wanted.ty, 0).is_ok())
}

fn whole_module() -> String {
    let host = contract::functions("host").filter_map(|name| {
        let signature = contract::host_signature(name)?.text();
        Some(format!(r#"(import "{}" "{name}" (func {signature}))"#, contract::name("host")))
    });
    let exports = ["policy", "feedback"].into_iter().flat_map(|interface| {
        contract::functions(interface).filter_map(move |name| {
            let signature = contract::export_signature(interface, name)?.text();
            Some(format!(r#"(func (export "{}#{name}") {signature} unreachable)"#, contract::name(interface)))
        })
    });
    let realloc = r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)"#;
    let memory = r#"(memory (export "memory") 1)"#;
    format!("(module {}{memory}{realloc}{})", host.collect::<String>(), exports.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::CoreModule;
    use crate::policy::wasm::guests::{self, Parts};
    use crate::policy::wasm::source::tests::with_metadata;
    use crate::policy::wasm::source::{ModuleFile, source};

    fn core(bytes: &[u8]) -> Option<CoreModule> {
        source("x.wasm", bytes, 8 << 20).unwrap().core
    }

    fn from_text(fields: &str) -> ModuleFile {
        let text = guests::policy(Parts { fields, ..Parts::default() });
        source("x.wat", text.as_bytes(), 8 << 20).unwrap()
    }

    #[test]
    fn a_module_is_found_within_its_component() {
        let source = from_text(guests::FEEDBACK);
        let CoreModule { range, policy, feedback } = source.core.unwrap();
        assert_eq!(source.component[range][..8], *b"\0asm\x01\0\0\0");
        assert_eq!(policy, "goproxy:balance/policy@1.0.0");
        assert_eq!(feedback.as_deref(), Some("goproxy:balance/feedback@1.0.0"));
        let newer = guests::policy(Parts { version: "1.7.3", ..Parts::default() });
        let CoreModule { policy, feedback, .. } = core(newer.as_bytes()).unwrap();
        assert_eq!((policy.as_str(), feedback), ("goproxy:balance/policy@1.7.3", None));
        assert_eq!(core(&source.component), None, "a component is what it is");
    }

    #[test]
    fn exports_that_only_a_component_takes_note_of_keep_a_module_in_one() {
        for name in ["_initialize", "__wasm_init_task"] {
            assert_eq!(from_text(&format!(r#"(func (export "{name}"))"#)).core, None, "{name}");
        }
        let realloc = r#"(func (export "cabi_export_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))"#;
        assert_eq!(from_text(realloc).core, None);
        assert!(from_text(r#"(func (export "initialize"))"#).core.is_some());
    }

    #[test]
    fn what_a_module_says_of_itself_has_to_be_what_we_say() {
        assert!(core(&with_metadata(str::to_owned)).is_some());
        for (ours, theirs) in [
            ("weight", "height"),
            ("attempt", "attempz"),
            ("wit-component-encoding\x04\0", "wit-component-encoding\x04\x01"),
        ] {
            let other = with_metadata(|text| {
                assert!(text.contains(ours), "{ours:?}");
                text.replace(ours, theirs)
            });
            assert_eq!(core(&other), None, "{theirs:?}");
        }
    }
}
