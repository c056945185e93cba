//! `wit/balance.wit`, as data: which functions there are, how they look in a core module, which versions match.
//!
//! There is one text, which is also what policy authors build against; nothing is listed a second time here.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use wasmparser::{FuncType, ValType};
use wit_component::StringEncoding;
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{Function, PackageId, Resolve};

use super::error::{SourceError, unfit};

const WIT: &str = include_str!("../../../../wit/balance.wit");

/// The version in [`WIT`].
const VERSION: &str = "1.0.0";

/// What stands before the name of an interface.
const PACKAGE: &str = "goproxy:balance/";

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::new(WIT).expect("our own WIT is well-formed"));

struct Contract {
    resolve: Resolve,
    package: PackageId,
}

/// The name of one of our interfaces: `goproxy:balance/policy@1.0.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface<'a> {
    /// `policy`
    pub(super) name: &'a str,
    /// `1.0.0`; empty for none.
    pub(super) version: &'a str,
}

impl<'a> Interface<'a> {
    /// Reads a name; `None` for one that is not of our package.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix(PACKAGE)?;
        let (name, version) = rest.split_once('@').unwrap_or((rest, ""));
        Some(Self { name, version })
    }

    /// True for every 1.x. Pre-releases match nothing.
    pub(super) fn is_spoken(self) -> bool {
        let is_number = |part: &&str| {
            let is_plain = part.bytes().all(|byte| byte.is_ascii_digit()) && (*part == "0" || !part.starts_with('0'));
            is_plain && part.parse::<u32>().is_ok()
        };
        let parts: Vec<&str> = self.version.split('.').take(4).collect();
        parts.len() == 3 && parts[0] == "1" && parts.iter().all(is_number)
    }
}

/// Names of an interface's functions, in the order of the text; none for an interface that is not ours.
pub(super) fn functions(interface: &str) -> impl Iterator<Item = &'static str> {
    let contract = &*CONTRACT;
    let id = contract.resolve.packages[contract.package].interfaces.get(interface);
    id.into_iter().flat_map(|id| contract.resolve.interfaces[*id].functions.keys().map(String::as_str))
}

/// The name of one of our interfaces, in our version.
pub(super) fn name(interface: &str) -> String {
    format!("{PACKAGE}{interface}@{VERSION}")
}

/// How a core module sees a function of `host`.
pub(super) fn host_signature(function: &str) -> Option<Signature> {
    signature("host", function, AbiVariant::GuestImport)
}

/// How a core module must define a function of `policy` or `feedback`.
pub(super) fn export_signature(interface: &str, function: &str) -> Option<Signature> {
    signature(interface, function, AbiVariant::GuestExport)
}

/// The custom section that says of a core module for which world, in which version, it is made; for modules that have
/// none.
pub(super) fn metadata(version: Option<&str>, has_feedback: bool) -> Result<Vec<u8>, SourceError> {
    let world = if has_feedback { "balance-policy-with-feedback" } else { "balance-policy" };
    let wit = match version {
        None | Some(VERSION) => Cow::Borrowed(WIT),
        Some(version) => WIT.replacen(&format!("@{VERSION};"), &format!("@{version};"), 1).into(),
    };
    let mut section = Vec::new();
    let contract = Contract::new(&wit)?;
    let world = contract.resolve.select_world(&[contract.package], Some(world)).map_err(unfit)?;
    wit_component::embed_component_metadata(&mut section, &contract.resolve, world, StringEncoding::UTF8)
        .map_err(unfit)?;
    Ok(section)
}

/// The type of a core function, for comparing and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    params: Vec<ValType>,
    results: Vec<ValType>,
}

impl Signature {
    /// As it stands in a module's text.
    pub(super) fn text(&self) -> String {
        let list = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        format!("(param {}) (result {})", list(&self.params), list(&self.results))
    }
}

impl From<&FuncType> for Signature {
    fn from(function: &FuncType) -> Self {
        Self { params: function.params().to_vec(), results: function.results().to_vec() }
    }
}

impl From<WasmSignature> for Signature {
    fn from(signature: WasmSignature) -> Self {
        let convert = |types: &[WasmType]| types.iter().map(val_type).collect();
        Self { params: convert(&signature.params), results: convert(&signature.results) }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", tuple(&self.params), tuple(&self.results))
    }
}

impl Contract {
    fn new(wit: &str) -> Result<Self, SourceError> {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("balance.wit", wit).map_err(unfit)?;
        Ok(Self { resolve, package })
    }

    fn function(&self, interface: &str, function: &str) -> Option<&Function> {
        let id = self.resolve.packages[self.package].interfaces.get(interface)?;
        self.resolve.interfaces[*id].functions.get(function)
    }
}

fn signature(interface: &str, function: &str, variant: AbiVariant) -> Option<Signature> {
    let contract = &*CONTRACT;
    let function = contract.function(interface, function)?;
    Some(contract.resolve.wasm_signature(variant, function).into())
}

fn val_type(wasm: &WasmType) -> ValType {
    match wasm {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}

/// Types between parentheses, a bounded number of them.
fn tuple(types: &[ValType]) -> String {
    let few: Vec<String> = types.iter().take(16).map(ToString::to_string).collect();
    let more = if few.len() < types.len() { ", …" } else { "" };
    format!("({}{more})", few.join(", "))
}
