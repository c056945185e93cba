//! What can be wrong with a policy file, in words for whoever wrote it.
//!
//! No text holds the file's name, which callers put in front. Whatever comes out of a file or a library is
//! bounded and free of control characters, so that a hostile file cannot write into a terminal or a log.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::base::text::one_line;
use crate::policy::spec::COMPILE_BUDGET_RANGE;

/// Most core modules that a component may be put together from.
pub const INSTANCES_MAX: usize = 16;

/// Longest text taken from a library, in characters.
pub(super) const TEXT_CHARS_MAX: usize = 1_024;

/// Longest name out of a file that is shown, in characters.
const NAME_CHARS_MAX: usize = 128;

/// Most names in one text.
const NAMES_MAX: usize = 6;

/// What is said about exceptions.
pub(super) const NO_EXCEPTIONS: &str =
    "policies run without exceptions: build C++ with -fno-exceptions -fno-rtti, and Rust with panic = \"abort\"";

/// What is said about languages whose memory the engine is to collect.
pub(super) const WASM_GC: &str = "policies run without a garbage collector of the engine's: what Kotlin, Dart, Java and \
                                  others make for browsers (wasm-gc) cannot be used; docs/policies/write.md has the \
                                  languages that can";

/// Why a file is no policy.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No file.
    #[error("there is no such file")]
    NotFound,
    /// The system refuses to open or to read it.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    /// A folder, pipe, socket or device.
    #[error("is {}; expected a .wasm or .wat file", if *.is_folder { "a folder" } else { "a pipe, a socket or a device" })]
    NotAFile {
        /// True for a folder.
        is_folder: bool,
    },
    /// Larger than files may be.
    #[error(
        "has {bytes} bytes; expected at most {max} (policy_max_bytes, of which a change takes effect at the next start)"
    )]
    FileTooLarge {
        /// Its size.
        bytes: u64,
        /// Most bytes.
        max: u64,
    },
    /// Without content.
    #[error("is empty: still being copied? expected a .wasm component or module, or .wat text")]
    Empty,
    /// The beginning of a binary.
    #[error("ends in the middle, at byte {bytes}: still being copied?")]
    Cut {
        /// Bytes that are there.
        bytes: usize,
    },
    /// Neither binary nor text.
    #[error("is not WebAssembly (begins with \"{begin}\"); expected a .wasm component or module, or .wat text")]
    NotWebAssembly {
        /// The first bytes, escaped.
        begin: String,
    },
    /// Code of some processor.
    #[error(
        "is compiled code for one machine (.cwasm or a native library), which is never loaded; expected a .wasm \
         component or module, or .wat text"
    )]
    Native,
    /// A binary that is neither a component nor a core module.
    #[error("is WebAssembly of an unknown kind (version \"{version}\"); expected a component or a core module")]
    UnknownKind {
        /// The bytes after the magic, escaped.
        version: String,
    },
    /// Text with a mistake, as the parser of text shows it: with its place, on several lines.
    #[error("{message}{}", if *.is_cut { "\nthe text ends before its last parenthesis is closed: still being copied?" } else { "" })]
    Text {
        /// What is wrong and where.
        message: String,
        /// True when more text could make it right.
        is_cut: bool,
    },
    /// A binary with a mistake.
    #[error("is malformed: {0}")]
    Malformed(String),
    /// More code, or code of a worse shape, than is compiled.
    #[error("would take about {} to compile, {} of it function {dearest}; expected at most {} (compile_budget of this \
             policy); {}", Seconds(*.cost), Seconds(*.dearest_cost), Seconds(*.budget), advice_on_cost(*.cost))]
    TooCostly {
        /// How long it would take.
        cost: Duration,
        /// How long it may take.
        budget: Duration,
        /// The function that would take longest, counted from 0 over the whole file, imports not included.
        dearest: usize,
        /// How long that one would take.
        dearest_cost: Duration,
    },
    /// More imports than are sorted out, or more of something else.
    #[error("has more than {max} {what}; build for small size (-Os, with link-time optimization)")]
    TooMany {
        /// Of which there are too many.
        what: &'static str,
        /// Most of them.
        max: usize,
    },
    /// It is put together from more modules than an instance may have.
    #[error(
        "is put together from {count} modules; expected at most {INSTANCES_MAX}. Python by componentize-py cannot be used; \
         docs/policies/write.md has the languages that can"
    )]
    TooManyModules {
        /// How many.
        count: usize,
    },
    /// Components in components, or types in types.
    #[error("nests components or types deeper than {max}")]
    NestedTooDeep {
        /// Deepest.
        max: usize,
    },
    /// It wants threads.
    #[error("wants a shared memory: a policy runs on one thread; build without threads and atomics")]
    SharedMemory,
    /// Its addresses have 64 bits.
    #[error(
        "has a memory with addresses of 64 bits; expected a module for wasm32: build for wasm32-unknown-unknown, or with \
         --target=wasm32, not for wasm64 and without memory64"
    )]
    Memory64,
    /// It has types that are collected.
    #[error("has types that are garbage collected: {WASM_GC}")]
    GarbageCollected,
    /// It throws.
    #[error("throws exceptions: {NO_EXCEPTIONS}")]
    Exceptions,
    /// Another version of the interface.
    #[error("speaks {}; this proxy speaks 1.x", Spoken(.version))]
    Version {
        /// As in its names; empty for none.
        version: String,
    },
    /// Imports from elsewhere.
    #[error("imports {imports}: {advice}")]
    Foreign {
        /// What it imports, listed.
        imports: String,
        /// What to do.
        advice: &'static str,
    },
    /// An import of our own that does not exist here.
    #[error(
        "imports {name}, which this proxy does not offer; a newer proxy is needed, or another name: it offers {offered}"
    )]
    NotOffered {
        /// The import.
        name: String,
        /// What there is.
        offered: String,
    },
    /// Something that must be there is not.
    #[error("does not export {missing}; found {found}; {advice}")]
    MissingExport {
        /// What is missing, listed.
        missing: String,
        /// What there is, listed.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// A function of another type.
    #[error("{name} is {found}; expected {expected}: rebuild against wit/balance.wit")]
    Signature {
        /// The function.
        name: String,
        /// Its type.
        found: String,
        /// The type of the contract.
        expected: String,
    },
    /// It says that it is made for another interface.
    #[error("is made for {name}; expected goproxy:balance only, in one version: rebuild against wit/balance.wit")]
    Metadata {
        /// The interface.
        name: String,
    },
    /// It cannot be made a component, for a reason of the library's.
    #[error("cannot be made a component: {0}")]
    Unfit(String),
    /// Our mistake or a library's.
    #[error("cannot be examined: the proxy stumbled over it (see the log); please report this file")]
    Panicked,
}

impl SourceError {
    /// True when it may be the beginning of a good file, which is worth another look.
    pub fn is_incomplete(&self) -> bool {
        matches!(self, Self::Empty | Self::Cut { .. } | Self::Text { is_cut: true, .. })
    }

    /// The error for a file that the system does not give.
    pub(super) fn read(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::NotFound } else { Self::Read(error) }
    }

    /// The error for a file that begins like nothing we know.
    pub(super) fn not_webassembly(bytes: &[u8]) -> Self {
        Self::NotWebAssembly { begin: bytes[..bytes.len().min(4)].escape_ascii().to_string() }
    }
}

/// A time as part of a sentence.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() {
            seconds if seconds < 10.0 => write!(f, "{seconds:.1} s"),
            seconds => write!(f, "{seconds:.0} s"),
        }
    }
}

/// What costs more is an interpreter.
const INTERPRETER_COST: Duration = Duration::from_secs(5);

fn advice_on_cost(cost: Duration) -> &'static str {
    if cost > *COMPILE_BUDGET_RANGE.end() {
        "no budget allows that: an interpreter of this size cannot be used"
    } else if cost > INTERPRETER_COST {
        "JavaScript: build with componentize-qjs, which costs a tenth of this; anything else: build for small size (-Os), or \
         raise the budget"
    } else {
        "build for small size (-Os), or raise the budget"
    }
}

/// A version as part of a sentence.
struct Spoken<'a>(&'a str);

impl fmt::Display for Spoken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("goproxy:balance without a version"),
            version => write!(f, "goproxy:balance@{version}"),
        }
    }
}

/// The error for what `wit-component` refuses; its alternate form holds all causes.
pub(super) fn unfit(error: impl fmt::Display) -> SourceError {
    SourceError::Unfit(clip(&format!("{error:#}")))
}

/// Text for one line: bounded, and with every control character replaced.
pub(super) fn clip(text: &str) -> String {
    one_line(text, TEXT_CHARS_MAX)
}

/// A name out of a file: the same, shorter.
pub(super) fn clip_name(name: &str) -> String {
    one_line(name, NAME_CHARS_MAX)
}

/// A few names out of many: `a, b, c and 4 more`; `nothing` for none.
pub(super) fn list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let mut names = names.into_iter();
    let few: Vec<String> = names.by_ref().take(NAMES_MAX).map(|name| clip_name(name.as_ref())).collect();
    match (few.len(), names.count()) {
        (0, _) => "nothing".to_owned(),
        (_, 0) => few.join(", "),
        (_, more) => format!("{} and {more} more", few.join(", ")),
    }
}
