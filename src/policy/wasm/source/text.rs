//! Policies written as text.
//!
//! The parser bounds its own depth, and folded instructions do not use the stack; see the tests.

use std::path::Path;

use super::error::{SourceError, TEXT_CHARS_MAX, clip};
use crate::base::text::printable;

/// Longest line of text that is shown with a mistake in it.
const LINE_CHARS_MAX: usize = 200;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// True for what begins, after blanks, with a parenthesis or a comment.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).trim_ascii_start();
    matches!(text, [] | [b'(' | b';', ..])
}

/// Makes a binary of it.
///
/// # Errors
///
/// A mistake, shown as the parser of text does: place, line and a caret below.
pub(super) fn parse(file_name: &str, bytes: &[u8]) -> Result<Vec<u8>, SourceError> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let text = str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        SourceError::Text { message: format!("line {line}: not UTF-8"), is_cut: error.error_len().is_none() }
    })?;
    let extent = Extent::of(text);
    if extent == Extent::Nothing {
        return Err(SourceError::Empty);
    }
    let parsed = wat::Parser::new().parse_str(Some(Path::new(file_name)), text);
    parsed.map_err(|error| SourceError::Text { message: shown(&error.to_string()), is_cut: extent == Extent::Open })
}

/// What the parser says, without the line of text when that is too long to be shown.
fn shown(message: &str) -> String {
    let is_fit = message.len() <= TEXT_CHARS_MAX && message.lines().all(|line| line.len() <= LINE_CHARS_MAX);
    if is_fit {
        message.chars().map(|c| if c == '\n' { c } else { printable(c) }).collect()
    } else {
        let said: Vec<&str> = message.lines().take(2).map(str::trim).collect();
        clip(&said.join(" "))
    }
}

/// How far a text goes, parentheses counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Blanks and comments only.
    Nothing,
    /// It ends within a parenthesis, a comment or a string.
    Open,
    /// Whatever is opened is closed.
    Closed,
}

impl Extent {
    fn of(text: &str) -> Self {
        let (mut depth, mut is_any, mut rest) = (0_u64, false, text.as_bytes());
        while let [first, after @ ..] = rest {
            rest = match first {
                b'(' if after.first() == Some(&b';') => match skip_comment(&after[1..]) {
                    Some(rest) => rest,
                    None => return if is_any { Self::Open } else { Self::Nothing },
                },
                b';' if after.first() == Some(&b';') => match after.iter().position(|byte| *byte == b'\n') {
                    Some(end) => &after[end..],
                    None => &[],
                },
                b'"' => match skip_string(after) {
                    Some(rest) => rest,
                    None => return Self::Open,
                },
                b'(' => {
                    (depth, is_any) = (depth + 1, true);
                    after
                }
                b')' => {
                    depth = depth.saturating_sub(1);
                    after
                }
                _ => {
                    is_any |= !first.is_ascii_whitespace();
                    after
                }
            };
        }
        match (is_any, depth) {
            (false, _) => Self::Nothing,
            (true, 0) => Self::Closed,
            (true, _) => Self::Open,
        }
    }
}

/// What follows a block comment, of which the opening is gone; `None` when it is not closed.
fn skip_comment(mut rest: &[u8]) -> Option<&[u8]> {
    let mut depth = 1_u64;
    while depth > 0 {
        rest = match rest {
            [b'(', b';', after @ ..] => {
                depth += 1;
                after
            }
            [b';', b')', after @ ..] => {
                depth -= 1;
                after
            }
            [_, after @ ..] => after,
            [] => return None,
        };
    }
    Some(rest)
}

/// What follows a string, of which the opening is gone; `None` when it is not closed.
fn skip_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
            [] => return None,
        };
    }
}
