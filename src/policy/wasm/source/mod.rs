//! From a file to a component that may be compiled, or to an error that says what to do.
//!
//! A policy file holds a component, a core module or text. Text becomes binary, a core module is wrapped into a
//! component as `wit/balance.wit` wants it, and what is foreign to that interface or too large to compile is
//! refused: before anything is compiled, in words that do not depend on those of the libraries.
//!
//! Nothing is compiled or run here, and a component whose types are wrong is refused only when it is linked. A file of
//! any content costs time in proportion to its size: the work is done on a thread of its own, whose stack is
//! known, and a panic there is an error like others.

mod advice;
mod check;
mod contract;
mod core;
mod cost;
mod error;
mod file;
mod metadata;
mod scan;
mod signature;
#[cfg(test)]
mod tests;
mod text;
mod wrap;

pub use self::core::CoreModule;
pub use error::{INSTANCES_MAX, SourceError};
pub use file::{Format, Limits, ModuleFile, read, sha256, source};
pub use signature::{
    KeyNumber, NoKey, PolicyKey, PolicyKeys, SIGNATURE_ENDING, SignatureError, read_signature, signature_path,
};
