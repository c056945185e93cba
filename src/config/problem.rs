//! Mistakes in the file: where, which key, what is wrong, what was expected.
//!
//! [`Problems`] collects them by byte offset, in any order, and turns the offsets into lines and columns in one pass at
//! the end. So even a file that is wrong everywhere is reported quickly.

use std::fmt;
use std::path::Path;

use crate::base::text::echo;

/// One mistake in the file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// `groups[1].policy`; empty for the whole file.
    pub path: String,
    /// What is wrong with which value; what was expected.
    pub message: String,
}

impl Problem {
    /// A mistake of the whole file that was noticed at byte `offset` of `text`.
    pub(super) fn at(text: &str, offset: usize, message: String) -> Self {
        let mut problems = Problems::default();
        problems.add(offset, "", message);
        problems.finish(text).remove(0)
    }

    /// The problem with its file in front, as editors and people look for it: `FILE:LINE:COL: PATH: message`.
    pub fn in_file(&self, file: &Path) -> String {
        format!("{}:{self}", file.display())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Where a value is in the file. It is formatted only when a problem needs it.
#[derive(Clone, Copy)]
pub(super) enum Place<'p> {
    /// The whole file.
    Root,
    /// A key of an object.
    Key(&'p Place<'p>, &'p str),
    /// An element of a list.
    Index(&'p Place<'p>, usize),
}

impl Place<'_> {
    /// The last key on the way to it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Root => "",
            Self::Key(_, name) => name,
            Self::Index(parent, _) => parent.name(),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, name) => f.write_str(&echo(name)),
            Self::Key(parent, name) => write!(f, "{parent}.{}", echo(name)),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The problems found so far.
#[derive(Default)]
pub(super) struct Problems {
    found: Vec<(usize, String, String)>,
}

impl Problems {
    /// Notes that what starts at byte `offset` is wrong.
    pub(super) fn add(&mut self, offset: usize, place: impl ToString, message: impl Into<String>) {
        self.found.push((offset, place.to_string(), message.into()));
    }

    /// The problems in the order of `text`, with lines and columns.
    pub(super) fn finish(mut self, text: &str) -> Vec<Problem> {
        self.found.sort_by_key(|(offset, ..)| *offset);
        let mut cursor = Cursor { line: 1, column: 1, offset: 0 };
        let locate = |(offset, path, message)| {
            cursor.advance(text, offset);
            Problem { line: cursor.line, column: cursor.column, path, message }
        };
        self.found.into_iter().map(locate).collect()
    }
}

struct Cursor {
    line: usize,
    column: usize,
    offset: usize,
}

impl Cursor {
    fn advance(&mut self, text: &str, offset: usize) {
        for c in text[self.offset..offset].chars() {
            // A lone carriage return ends a line, as it ends a comment; in CRLF the line feed does.
            let is_lone_cr = c == '\r' && text.as_bytes().get(self.offset + 1) != Some(&b'\n');
            if c == '\n' || is_lone_cr {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
            self.offset += c.len_utf8();
        }
    }
}
