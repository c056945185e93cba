//! The inside of an object or a list as text: items, and the gaps of blanks, commas and comments around
//! them.
//!
//! Adding or removing an item changes only the two gaps beside it. No comment is lost except those inside a removed
//! item.

use std::ops::Range;

use jsonc_parser::ast::{Array, Object};
use jsonc_parser::common::Ranged;

use crate::config::units::quoted;

const BLANKS: [char; 2] = [' ', '\t'];
const NEWLINES: [char; 2] = ['\n', '\r'];

/// What stands before the first item and behind the last one of a list that is empty so far.
#[derive(Clone, Default)]
pub(super) struct Fresh {
    pub(super) item: String,
    pub(super) close: String,
}

/// The items of an object or a list.
pub(super) struct List {
    brackets: [char; 2],
    /// One more than items: before, between and behind them.
    gaps: Vec<String>,
    items: Vec<Item>,
    fresh: Fresh,
}

struct Item {
    /// The key; empty in a list.
    name: String,
    text: String,
    /// Where in `text` the value is.
    value: Range<usize>,
}

impl List {
    /// A list that is to be written from scratch.
    pub(super) fn empty(brackets: [char; 2], fresh: Fresh) -> Self {
        Self { brackets, gaps: vec![String::new()], items: Vec::new(), fresh }
    }

    /// The object as it stands in `text`.
    pub(super) fn of_object(text: &str, object: &Object, fresh: Fresh) -> Self {
        let items = object.properties.iter().map(|property| {
            let start = property.range.start;
            let value = property.value.range();
            (property.name.as_str().to_owned(), start..property.range.end, value.start - start..value.end - start)
        });
        Self::new(['{', '}'], text, object.range.start..object.range.end, items, fresh)
    }

    /// The list as it stands in `text`.
    pub(super) fn of_array(text: &str, array: &Array, fresh: Fresh) -> Self {
        let items = array.elements.iter().map(|value| {
            let range = value.range();
            (String::new(), range.start..range.end, 0..range.end - range.start)
        });
        Self::new(['[', ']'], text, array.range.start..array.range.end, items, fresh)
    }

    fn new(
        brackets: [char; 2],
        text: &str,
        whole: Range<usize>,
        parts: impl Iterator<Item = (String, Range<usize>, Range<usize>)>,
        fresh: Fresh,
    ) -> Self {
        let (mut gaps, mut items) = (Vec::new(), Vec::new());
        let mut end = whole.start + 1;
        for (name, range, value) in parts {
            gaps.push(text[end..range.start].to_owned());
            end = range.end;
            items.push(Item { name, text: text[range].to_owned(), value });
        }
        gaps.push(text[end..whole.end - 1].to_owned());
        Self { brackets, gaps, items, fresh }
    }

    /// Puts another value in the place of the item at `index`, or of its value in an object.
    pub(super) fn replace(&mut self, index: usize, value: &str) {
        let item = &mut self.items[index];
        item.text.replace_range(item.value.clone(), value);
        item.value.end = item.value.start + value.len();
    }

    /// Gives a key its value, where the key is or else at the end.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        match self.items.iter().position(|item| item.name == name) {
            Some(index) => self.replace(index, value),
            None => self.push(format!("{}: {value}", quoted(name))),
        }
    }

    /// Takes a key out, if it is there.
    pub(super) fn unset(&mut self, name: &str) {
        if let Some(index) = self.items.iter().position(|item| item.name == name) {
            self.remove(index);
        }
    }

    /// What stands between the last item and the next one, without the comma.
    pub(super) fn separator(&self) -> String {
        let len = self.items.len();
        let model = match len {
            0 => return self.fresh.item.clone(),
            1 => last_line(tail(&self.gaps[0])),
            _ => last_line(tail(&self.gaps[len - 1])),
        };
        // One item on the line of its bracket tells nothing about the distance to the next.
        if len == 1 && !model.contains(NEWLINES) { " ".to_owned() } else { model.to_owned() }
    }

    /// Puts an item at the end, in the style of its neighbours.
    pub(super) fn push(&mut self, text: String) {
        let mut separator = self.separator();
        let closing = self.gaps.pop().expect("there is a gap behind the items");
        let (head, tail) = closing.split_at(scan(&closing).end);
        if ends_in_line_comment(head) && !separator.contains(NEWLINES) {
            separator = last_line(tail).to_owned();
        }
        let (before, after) = if self.items.is_empty() {
            (format!("{head}{separator}"), if head.is_empty() { self.fresh.close.clone() } else { tail.to_owned() })
        } else if comma(head).is_some() {
            (format!("{head}{separator}"), format!(",{tail}"))
        } else {
            (format!(",{head}{separator}"), tail.to_owned())
        };
        self.gaps.extend([before, after]);
        let value = 0..text.len();
        self.items.push(Item { name: String::new(), text, value });
    }

    /// Takes the item at `index` out; comments around it stay.
    pub(super) fn remove(&mut self, index: usize) {
        let is_last = index + 1 == self.items.len();
        let (before, after) = (&self.gaps[index], &self.gaps[index + 1]);
        let bare_after = without_comma(after);
        let is_trailing = comma(after).is_some();
        // Behind the new last item there is a comma only if there was one behind the old.
        let before = if is_last && !is_trailing { without_comma(before) } else { before.clone() };
        let merged = if has_comment(&bare_after) {
            joined(&before, &bare_after)
        } else if is_last {
            let head = &before[..scan(&before).end];
            let needs_newline = ends_in_line_comment(head) && !bare_after.contains(NEWLINES);
            if needs_newline { before } else { format!("{head}{bare_after}") }
        } else {
            before
        };
        self.items.remove(index);
        self.gaps.remove(index);
        self.gaps[index] = merged;
    }
}

impl std::fmt::Display for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.brackets[0])?;
        for (gap, item) in self.gaps.iter().zip(&self.items) {
            write!(f, "{gap}{}", item.text)?;
        }
        write!(f, "{}{}", self.gaps.last().map_or("", String::as_str), self.brackets[1])
    }
}

/// The gap that remains when the item between two gaps is removed and the second gap has comments.
fn joined(before: &str, after: &str) -> String {
    let rest = after.trim_start_matches(BLANKS);
    if !rest.starts_with(NEWLINES) {
        return format!("{before}{rest}");
    }
    // The line that held nothing but the item goes with it.
    let before = before.trim_end_matches(BLANKS);
    let before = before.strip_suffix("\r\n").or_else(|| before.strip_suffix(NEWLINES)).unwrap_or(before);
    format!("{before}{after}")
}

/// The blanks and newlines at the end of a gap.
fn tail(gap: &str) -> &str {
    &gap[scan(gap).end..]
}

/// `blanks` without empty lines before the last newline.
fn last_line(blanks: &str) -> &str {
    match blanks.rfind(NEWLINES) {
        Some(at) if blanks[..at].ends_with('\r') => &blanks[at - 1..],
        Some(at) => &blanks[at..],
        None => blanks,
    }
}

fn without_comma(gap: &str) -> String {
    match comma(gap) {
        Some(at) => format!("{}{}", &gap[..at], &gap[at + 1..]),
        None => gap.to_owned(),
    }
}

fn has_comment(gap: &str) -> bool {
    gap.contains('/')
}

/// True when what follows `gap` on the same line would be part of its comment.
fn ends_in_line_comment(gap: &str) -> bool {
    scan(gap).is_in_line_comment
}

/// Where the comma of a gap is; those within comments are text.
fn comma(gap: &str) -> Option<usize> {
    scan(gap).comma
}

/// What a gap consists of.
struct Scan {
    comma: Option<usize>,
    /// Behind the comma and the comments; from here on there are only blanks and newlines.
    end: usize,
    /// True when a line comment is still open at the end of the gap.
    is_in_line_comment: bool,
}

fn scan(gap: &str) -> Scan {
    let mut scan = Scan { comma: None, end: 0, is_in_line_comment: false };
    while let Some(found) = gap[scan.end..].find([',', '/']) {
        let start = scan.end + found;
        let rest = &gap[start..];
        let len = if rest.starts_with(',') {
            scan.comma = scan.comma.or(Some(start));
            Some(1)
        } else if rest.starts_with("/*") {
            rest.find("*/").map(|end| end + 2)
        } else {
            let len = rest.find(NEWLINES);
            scan.is_in_line_comment = len.is_none();
            len
        };
        scan.end = start + len.unwrap_or(rest.len());
    }
    scan
}
