//! What stands in a policy file, and how it is read.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use super::core::{self, CoreModule};
use super::error::{INSTANCES_MAX, SourceError};
use super::scan::{Cost, Scan};
use super::wrap::wrap;
use super::{check, scan, text};
use crate::policy::spec::COMPILE_BUDGET;

/// Larger files than are used are looked at up to this size: what a module imports is more useful to know than how large
/// it is.
const EXAMINED_BYTES_MAX: u64 = 64 << 20;

/// What a file may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its size.
    pub file_bytes_max: u64,
    /// How long compiling may take, by `cost`'s estimate.
    pub compile_budget: Duration,
}

impl From<u64> for Limits {
    /// Files of up to so many bytes, with the budget of a policy that says nothing about it.
    fn from(file_bytes_max: u64) -> Self {
        Self { file_bytes_max, compile_budget: COMPILE_BUDGET }
    }
}

/// Stack of the thread that reads a file's content, enough for the deepest types that a section has room for; what is
/// not used costs nothing.
const STACK_BYTES: usize = 64 << 20;

/// What stands in a policy file, ready to be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleFile {
    /// The component, whatever the file was.
    pub component: Vec<u8>,
    /// Of the file.
    pub sha256: [u8; 32],
    /// Size of the file.
    pub file_bytes: usize,
    /// What the file holds.
    pub format: Format,
    /// As found, for people: `goproxy:balance/host@1.0.0#random-u64`. A bounded number of them.
    pub imports: Vec<String>,
    /// As found, for people. A bounded number of them.
    pub exports: Vec<String>,
    /// True when it wants to hear what becomes of its picks.
    pub has_feedback: bool,
    /// The module in the component, when that can be called without the component around it.
    pub core: Option<CoreModule>,
}

/// What a policy file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A component.
    Component,
    /// A core module.
    Module,
    /// Either of them as text.
    Text,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "component",
            Self::Module => "module",
            Self::Text => "text",
        })
    }
}

/// Reads a policy file. Links are followed; what is no regular file is refused without waiting for it.
///
/// # Errors
///
/// The file is not there, is none, cannot be read, or is larger than `file_bytes_max` and than what is looked at.
pub fn read(path: &Path, file_bytes_max: u64) -> Result<Vec<u8>, SourceError> {
    // Without NONBLOCK, opening a pipe waits for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| SourceError::read(errno.into()))?);
    let metadata = file.metadata().map_err(SourceError::read)?;
    if !metadata.is_file() {
        return Err(SourceError::NotAFile { is_folder: metadata.is_dir() });
    }
    let bytes_max = file_bytes_max.max(EXAMINED_BYTES_MAX);
    let too_large = |bytes: u64| SourceError::FileTooLarge { bytes, max: file_bytes_max };
    if metadata.len() > bytes_max {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(SourceError::read)?;
    if bytes.len() as u64 > bytes_max { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// The hash by which a file's content is known.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Makes a component of the content of a policy file. `file_name` is for the places in messages about text.
///
/// # Errors
///
/// Everything that makes it unfit before it is compiled; see [`SourceError`].
pub fn source(file_name: &str, bytes: &[u8], limits: impl Into<Limits>) -> Result<ModuleFile, SourceError> {
    let limits = limits.into();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("policy source".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, || make(file_name, bytes, limits)).map_err(SourceError::read)?;
        thread.join().unwrap_or(Err(SourceError::Panicked))
    })
}

fn make(file_name: &str, bytes: &[u8], limits: Limits) -> Result<ModuleFile, SourceError> {
    let format = format(bytes)?;
    let from_text = match format {
        Format::Text => {
            check_size(bytes, limits)?;
            Some(text::parse(file_name, bytes)?)
        }
        Format::Component | Format::Module => None,
    };
    let binary = from_text.as_deref().unwrap_or(bytes);
    let found = scan::scan(binary).map_err(|error| match error {
        // Text that makes half a module is not a half-copied file.
        SourceError::Cut { bytes } if from_text.is_some() => SourceError::Malformed(format!("ends at byte {bytes}")),
        error => error,
    })?;
    let (names, component, has_feedback, core) = if found.is_component {
        // Whatever else is mended, this stays.
        if found.instances > INSTANCES_MAX {
            return Err(SourceError::TooManyModules { count: found.instances });
        }
        let (names, has_feedback) = check::component(&found)?;
        check_size(bytes, limits)?;
        check_cost(&found, limits)?;
        (names, binary.to_vec(), has_feedback, None)
    } else {
        let names = check::module(&found)?;
        check_size(bytes, limits)?;
        check_cost(&found, limits)?;
        let component = wrap(binary, &found)?;
        // What the module says about its interface itself decides what the component imports.
        let mut validator = scan::validator();
        let whole = scan::scan_with(&mut validator, core::whole())?;
        let wrapped = scan::scan_with(&mut validator, &component)?;
        let (_, has_feedback) = check::component(&wrapped)?;
        let core = core::core(&found, &wrapped, &whole);
        (names, component, has_feedback, core)
    };
    let (imports, exports) = (names.imports.listed(), names.exports.listed());
    let (sha256, file_bytes) = (sha256(bytes), bytes.len());
    Ok(ModuleFile { component, sha256, file_bytes, format, imports, exports, has_feedback, core })
}

fn check_size(bytes: &[u8], limits: Limits) -> Result<(), SourceError> {
    let (bytes, max) = (bytes.len() as u64, limits.file_bytes_max);
    if bytes > max { Err(SourceError::FileTooLarge { bytes, max }) } else { Ok(()) }
}

fn check_cost(found: &Scan<'_>, limits: Limits) -> Result<(), SourceError> {
    let Cost { total, dearest, dearest_cost } = found.cost;
    let (cost, dearest_cost) = (Duration::from_micros(total), Duration::from_micros(dearest_cost));
    let budget = limits.compile_budget;
    if cost > budget { Err(SourceError::TooCostly { cost, budget, dearest, dearest_cost }) } else { Ok(()) }
}

/// Tells by the beginning what a file holds.
fn format(bytes: &[u8]) -> Result<Format, SourceError> {
    const MAGIC: &[u8] = b"\0asm";
    let head = &bytes[..bytes.len().min(8)];
    match head {
        [] => Err(SourceError::Empty),
        b"\0asm\x01\0\0\0" => Ok(Format::Module),
        b"\0asm\x0d\0\x01\0" => Ok(Format::Component),
        [0x7f, b'E', b'L', b'F', ..] => Err(SourceError::Native),
        _ if head.len() < 8 && (head.starts_with(MAGIC) || MAGIC.starts_with(head)) => {
            Err(SourceError::Cut { bytes: bytes.len() })
        }
        _ if head.starts_with(MAGIC) => Err(SourceError::UnknownKind { version: head[4..].escape_ascii().to_string() }),
        _ if text::is_text(bytes) => Ok(Format::Text),
        _ => Err(SourceError::not_webassembly(bytes)),
    }
}
