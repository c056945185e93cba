//! One walk over a binary: what it names, how it is typed, how much there is to compile.
//!
//! Function bodies are looked at for what compiling them would cost; whoever compiles the component checks them.
//! Nested modules and components are walked too.

use std::ops::Range;

use wasmparser::types::Types;
use wasmparser::{CanonicalFunction, CanonicalOption};
use wasmparser::{Chunk, FunctionBody, MemoryType, Parser, Payload, TypeRef, ValidPayload, Validator, WasmFeatures};
use wasmparser::{ComponentType, ComponentTypeDeclaration, InstanceTypeDeclaration};
use wasmparser::{CompositeInnerType, Instance, SubType};

use super::cost::cost;
use super::error::{SourceError, clip};

/// So many custom sections are remembered.
const CUSTOM_SECTIONS_MAX: usize = 64;

/// Deepest nesting; what tools make has two or three levels.
const NESTING_MAX: usize = 32;

/// Largest section of component types. Types in types are read by recursion, at three bytes a level, before their
/// depth is known; the contract needs less than a kilobyte.
const TYPES_BYTES_MAX: usize = 32 << 10;

/// What a binary says about itself.
pub(super) struct Scan<'a> {
    /// True for a component, false for a core module.
    pub(super) is_component: bool,
    /// Of the outermost module or component.
    pub(super) types: Types,
    /// A component's imports, by name.
    pub(super) imports: Vec<&'a str>,
    /// A component's exports, by name.
    pub(super) exports: Vec<&'a str>,
    /// What a core module says itself about the interface it is made for.
    pub(super) metadata: Vec<&'a [u8]>,
    /// Where in a component the first of its modules is.
    pub(super) first_module: Option<Range<usize>>,
    /// True when a component passes values in another way than as UTF-8 and one call after the other.
    pub(super) has_rare_options: bool,
    /// Names of a core module's custom sections, by which the tools that made it are known.
    pub(super) custom_sections: Vec<&'a str>,
    /// How many core modules a component instantiates.
    pub(super) instances: usize,
    /// What compiling it would cost.
    pub(super) cost: Cost,
}

/// What compiling the functions of a binary would cost, in the units of [`super::cost`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) total: u64,
    /// The function that costs most, counted from 0 over the whole file, imports not included.
    pub(super) dearest: usize,
    /// What that one costs.
    pub(super) dearest_cost: u64,
}

/// Walks over a binary.
///
/// # Errors
///
/// It is cut off, malformed, or wants shared memory.
pub(super) fn scan(bytes: &[u8]) -> Result<Scan<'_>, SourceError> {
    scan_with(&mut validator(), bytes)
}

/// Knows every feature: what the engine does not offer is its business to refuse.
pub(super) fn validator() -> Validator {
    Validator::new_with_features(WasmFeatures::all())
}

/// As [`scan`]; the types of binaries that went through the same validator can be compared.
pub(super) fn scan_with<'a>(validator: &mut Validator, bytes: &'a [u8]) -> Result<Scan<'a>, SourceError> {
    validator.reset();
    let mut walk = Walk::default();
    let (mut parser, mut outer, mut rest) = (Parser::new(0), Vec::new(), bytes);
    loop {
        let is_end = rest.is_empty() && outer.is_empty();
        // All that can be wrong with the end is that something should follow.
        let fail = |error| if is_end { SourceError::Cut { bytes: bytes.len() } } else { malformed(error) };
        let (consumed, payload) = match parser.parse(rest, is_end).map_err(fail)? {
            Chunk::Parsed { consumed, payload } => (consumed, payload),
            Chunk::NeedMoreData(_) => return Err(SourceError::Cut { bytes: bytes.len() }),
        };
        rest = &rest[consumed..];
        walk.visit(&payload, outer.len())?;
        match validator.payload(&payload).map_err(fail)? {
            ValidPayload::Ok | ValidPayload::Func(..) => {}
            ValidPayload::Parser(_) if outer.len() == NESTING_MAX => {
                return Err(SourceError::NestedTooDeep { max: NESTING_MAX });
            }
            ValidPayload::Parser(inner) => outer.push(std::mem::replace(&mut parser, inner)),
            ValidPayload::End(types) => match outer.pop() {
                Some(parent) => parser = parent,
                None => return Ok(walk.into_scan(types)),
            },
        }
    }
}

#[derive(Default)]
struct Walk<'a> {
    custom_sections: Vec<&'a str>,
    cost: Cost,
    functions: usize,
    is_component: bool,
    metadata: Vec<&'a [u8]>,
    imports: Vec<&'a str>,
    exports: Vec<&'a str>,
    first_module: Option<Range<usize>>,
    has_rare_options: bool,
    instances: usize,
}

impl<'a> Walk<'a> {
    /// Takes note of one part. `depth` is 0 in the outermost module or component.
    fn visit(&mut self, payload: &Payload<'a>, depth: usize) -> Result<(), SourceError> {
        match payload {
            Payload::Version { encoding, .. } if depth == 0 => {
                self.is_component = *encoding == wasmparser::Encoding::Component;
            }
            Payload::CustomSection(section) if depth == 0 && section.name().starts_with("component-type") => {
                self.metadata.push(section.data());
            }
            Payload::CustomSection(section) if depth == 0 && self.custom_sections.len() < CUSTOM_SECTIONS_MAX => {
                self.custom_sections.push(section.name());
            }
            Payload::ComponentTypeSection(section) if section.range().len() > TYPES_BYTES_MAX => {
                return Err(SourceError::TooMany { what: "bytes of types in a section", max: TYPES_BYTES_MAX });
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    self.imports.push(import.map_err(malformed)?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    self.exports.push(export.map_err(malformed)?.name.name);
                }
            }
            Payload::ComponentTypeSection(section) => {
                for ty in section.clone() {
                    refuse_deep(&ty.map_err(malformed)?, NESTING_MAX)?;
                }
            }
            Payload::ModuleSection { unchecked_range, .. } if depth == 0 => {
                self.first_module.get_or_insert_with(|| unchecked_range.clone());
            }
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    let is_of_module = matches!(instance.map_err(malformed)?, Instance::Instantiate { .. });
                    self.instances += usize::from(is_of_module);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    self.has_rare_options |= !is_plain(&function.map_err(malformed)?);
                }
            }
            Payload::CodeSectionEntry(body) => self.visit_function(body)?,
            other => refuse_core(other)?,
        }
        Ok(())
    }

    fn visit_function(&mut self, body: &FunctionBody<'_>) -> Result<(), SourceError> {
        let index = self.functions;
        self.functions += 1;
        let cost = cost(body).map_err(malformed)?;
        self.cost.total = self.cost.total.saturating_add(cost);
        if cost > self.cost.dearest_cost {
            (self.cost.dearest, self.cost.dearest_cost) = (index, cost);
        }
        Ok(())
    }

    fn into_scan(self, types: Types) -> Scan<'a> {
        let Self {
            is_component,
            imports,
            exports,
            metadata,
            first_module,
            has_rare_options,
            custom_sections,
            instances,
            cost,
            ..
        } = self;
        Scan {
            is_component,
            types,
            imports,
            exports,
            metadata,
            first_module,
            has_rare_options,
            custom_sections,
            instances,
            cost,
        }
    }
}

fn is_plain(function: &CanonicalFunction) -> bool {
    use CanonicalOption as O;
    let (CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. }) = function else {
        return false;
    };
    options.iter().all(|option| matches!(option, O::UTF8 | O::Memory(_) | O::Realloc(_) | O::PostReturn(_)))
}

/// Types in types are read by recursion wherever the component goes next, with a stack that we do not know.
fn refuse_deep(ty: &ComponentType<'_>, levels: usize) -> Result<(), SourceError> {
    let within = |ty| match levels {
        0 => Err(SourceError::NestedTooDeep { max: NESTING_MAX }),
        _ => refuse_deep(ty, levels - 1),
    };
    match ty {
        ComponentType::Component(declarations) => declarations.iter().try_for_each(|declaration| match declaration {
            ComponentTypeDeclaration::Type(ty) => within(ty),
            _ => Ok(()),
        }),
        ComponentType::Instance(declarations) => declarations.iter().try_for_each(|declaration| match declaration {
            InstanceTypeDeclaration::Type(ty) => within(ty),
            _ => Ok(()),
        }),
        _ => Ok(()),
    }
}

/// Refuses what core modules may have and policies may not.
fn refuse_core(payload: &Payload<'_>) -> Result<(), SourceError> {
    match payload {
        Payload::ImportSection(section) => {
            for import in section.clone().into_imports() {
                if let TypeRef::Memory(memory) = import.map_err(malformed)?.ty {
                    refuse_memory(memory)?;
                }
            }
        }
        Payload::TypeSection(section) => {
            for group in section.clone() {
                let is_function = |ty: &SubType| matches!(ty.composite_type.inner, CompositeInnerType::Func(_));
                if !group.map_err(malformed)?.types().all(is_function) {
                    return Err(SourceError::GarbageCollected);
                }
            }
        }
        Payload::TagSection(_) => return Err(SourceError::Exceptions),
        Payload::MemorySection(section) => {
            for memory in section.clone() {
                refuse_memory(memory.map_err(malformed)?)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn refuse_memory(memory: MemoryType) -> Result<(), SourceError> {
    match memory {
        MemoryType { shared: true, .. } => Err(SourceError::SharedMemory),
        MemoryType { memory64: true, .. } => Err(SourceError::Memory64),
        _ => Ok(()),
    }
}

pub(super) fn malformed(error: wasmparser::BinaryReaderError) -> SourceError {
    SourceError::Malformed(clip(&error.to_string()))
}
