//! The file as text: edits that keep all that a user wrote around them, and the file replaced whole.

mod document;
mod items;
mod rewrite;
pub mod save;

pub(in crate::config) use document::kept_places;
pub use document::{Document, Edit, EditError};
