//! The text of the file as a tree with positions.

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::hints::format_of_others;
use super::problem::{Problem, Problems};

/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// Comments and trailing commas, and nothing else beyond JSON.
const SYNTAX: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// `text` without the mark that some editors put in front.
pub(super) fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Parses `text`, which has no byte order mark, into a tree with positions.
///
/// # Errors
///
/// The first mistake in the syntax; what follows it cannot be judged.
pub(super) fn syntax(text: &str) -> Result<Value<'_>, Vec<Problem>> {
    let fail = |offset: usize, message: String| {
        let mut problems = Problems::default();
        problems.add(offset, "", message);
        Err(problems.finish(text))
    };
    if text.len() > FILE_BYTES_MAX {
        return fail(0, format!("the file has {} bytes; expected at most {FILE_BYTES_MAX}", text.len()));
    }
    let parsed = match parse_to_ast(text, &CollectOptions::default(), &SYNTAX) {
        Ok(parsed) => parsed,
        Err(error) => {
            let (message, offset) = (error.kind().to_string(), error.range().start);
            let mut letters = message.chars();
            let first = letters.next().map_or(' ', |letter| letter.to_ascii_lowercase());
            let hint = format_of_others(text, offset).map_or_else(String::new, |hint| format!(" ({hint})"));
            return fail(offset, format!("not valid JSON: {first}{}{hint}", letters.as_str()));
        }
    };
    let Some(value) = parsed.value else {
        return fail(0, "the file is empty; expected an object, {…}".to_owned());
    };
    match raw_control(text, &value) {
        Some(at) => fail(at, "a line break or control character within a string; expected \\n or such".to_owned()),
        None => Ok(value),
    }
}

/// The first control character that stands in a string as it is: no JSON, though the parser takes it.
fn raw_control(text: &str, root: &Value) -> Option<usize> {
    let in_string = |start: usize, end: usize| {
        text.as_bytes()[start..end].iter().position(|b| *b < b' ').map(|position| start + position)
    };
    let mut first: Option<usize> = None;
    let mut rest = vec![root];
    while let Some(value) = rest.pop() {
        let found = match value {
            Value::StringLit(string) => in_string(string.range.start, string.range.end),
            Value::Array(array) => {
                rest.extend(&array.elements);
                None
            }
            Value::Object(object) => {
                rest.extend(object.properties.iter().map(|property| &property.value));
                object.properties.iter().find_map(|property| in_string(property.name.start(), property.name.end()))
            }
            _ => None,
        };
        first = [first, found].into_iter().flatten().min();
    }
    first
}
