//! What a core module says itself about the interface it is made for: its sections `component-type*`.
//!
//! The library that reads them follows the dependencies of packages without a bound: two packages that need each
//! other would overflow its stack and end the process. So only what cannot do that gets there: interfaces of our
//! own package in one single version, used by a world of any name.

use wasmparser::{
    ComponentExternName, ComponentType, ComponentTypeDeclaration as Component, InstanceTypeDeclaration as Instance,
    Parser, Payload,
};

use super::contract::Interface;
use super::error::{SourceError, clip_name};
use super::scan::{self, malformed};

/// Checks the sections of one module.
///
/// # Errors
///
/// A section is malformed, or names other interfaces than ours, or ours in several versions.
pub(super) fn check(sections: &[&[u8]]) -> Result<(), SourceError> {
    let mut names = Names::default();
    for section in sections {
        // After this walk, types are known to be nested but a little.
        scan::scan(section)?;
        for payload in Parser::new(0).parse_all(section) {
            if let Payload::ComponentTypeSection(types) = payload.map_err(malformed)? {
                for ty in types {
                    names.visit_type(&ty.map_err(malformed)?, 0)?;
                }
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Names<'a> {
    version: Option<&'a str>,
}

impl<'a> Names<'a> {
    fn visit_type(&mut self, ty: &ComponentType<'a>, depth: usize) -> Result<(), SourceError> {
        match ty {
            ComponentType::Component(declarations) => {
                declarations.iter().try_for_each(|declaration| match declaration {
                    Component::Type(ty) => self.visit_type(ty, depth + 1),
                    // The outermost name is that of the world.
                    Component::Export { .. } if depth == 0 => Ok(()),
                    Component::Export { name, .. } => self.visit(name),
                    Component::Import(import) => self.visit(&import.name),
                    Component::CoreType(_) | Component::Alias(_) => Ok(()),
                })
            }
            ComponentType::Instance(declarations) => {
                declarations.iter().try_for_each(|declaration| match declaration {
                    Instance::Type(ty) => self.visit_type(ty, depth + 1),
                    Instance::Export { name, .. } => self.visit(name),
                    Instance::CoreType(_) | Instance::Alias(_) => Ok(()),
                })
            }
            ComponentType::Defined(_) | ComponentType::Func(_) | ComponentType::Resource { .. } => Ok(()),
        }
    }

    fn visit(&mut self, name: &ComponentExternName<'a>) -> Result<(), SourceError> {
        let unfit = |name: &str| Err(SourceError::Metadata { name: clip_name(name) });
        if let Some(other) = name.implements {
            return unfit(other);
        }
        if !name.name.contains(['/', ':']) {
            return Ok(()); // a type or a function
        }
        match Interface::parse(name.name) {
            Some(Interface { version, .. }) if *self.version.get_or_insert(version) == version => Ok(()),
            _ => unfit(name.name),
        }
    }
}
