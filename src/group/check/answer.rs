//! What an answer has to be like.

use std::fmt;

use crate::base::text::shown_bytes;

/// The largest compiled expression, in bytes.
const REGEX_BYTES_MAX: usize = 64 << 10;

/// How much of what is expected a message shows, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// A regular expression on bytes, compiled once.
#[derive(Clone, Debug)]
pub struct Regex(regex::bytes::Regex);

impl Regex {
    /// Compiles an expression in which `.` is any byte but the end of a line, and classes are those of ASCII.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parser = regex_syntax::ParserBuilder::new();
        let parsed = parser.unicode(false).utf8(false).build().parse(text);
        parsed.map_err(|error| match error {
            regex_syntax::Error::Parse(error) => format!("{}, at {}", error.kind(), error.span().start.column),
            regex_syntax::Error::Translate(error) => format!("{}, at {}", error.kind(), error.span().start.column),
            other => other.to_string(),
        })?;
        let mut builder = regex::bytes::RegexBuilder::new(text);
        let builder = builder.unicode(false).size_limit(REGEX_BYTES_MAX).dfa_size_limit(4 * REGEX_BYTES_MAX);
        // What is no mistake of syntax is too large.
        builder.build().map(Self).map_err(|_| format!("expected one that needs at most {REGEX_BYTES_MAX} bytes"))
    }

    /// How it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Regex {}

/// What is looked for in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The answer begins with these bytes.
    Prefix(Vec<u8>),
    /// They are somewhere in it.
    Contains(Vec<u8>),
    /// Something in it is like this.
    Regex(Regex),
}

/// What an answer has to be like, or must not be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// What is looked for.
    pub pattern: Pattern,
    /// It must not be found.
    pub is_not: bool,
}

impl Match {
    /// Whether an answer of which so much has come holds; `None` when more has to come before that is known. Of an answer
    /// that `is_over` it always is.
    pub fn judge(&self, seen: &[u8], is_over: bool) -> Option<bool> {
        let found = match &self.pattern {
            _ if seen.is_empty() && !is_over => None,
            Pattern::Prefix(bytes) if seen.len() < bytes.len() && bytes.starts_with(seen) => None,
            Pattern::Prefix(bytes) => Some(seen.starts_with(bytes)),
            Pattern::Contains(bytes) => seen.windows(bytes.len()).any(|window| window == bytes).then_some(true),
            Pattern::Regex(regex) => regex.0.is_match(seen).then_some(true),
        };
        found.or(is_over.then_some(false)).map(|found| found != self.is_not)
    }

    /// True when nothing that comes later can make up for what has come: otherwise such an answer is judged at its end.
    pub fn is_decided_early(&self) -> bool {
        !self.is_not || matches!(self.pattern, Pattern::Prefix(_))
    }
}

/// As in "expected …".
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| shown_bytes(bytes, SHOWN_CHARS_MAX);
        let not = if self.is_not { "not " } else { "" };
        match &self.pattern {
            Pattern::Prefix(bytes) => write!(f, "{not}\"{}\"", shown(bytes)),
            Pattern::Contains(bytes) => write!(f, "{not}\"{}\" in it", shown(bytes)),
            Pattern::Regex(regex) => write!(f, "{not}a match of \"{}\"", shown(regex.as_str().as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: Pattern, is_not: bool) -> Match {
        Match { pattern, is_not }
    }

    fn prefix(text: &str, is_not: bool) -> Match {
        of(Pattern::Prefix(text.into()), is_not)
    }

    fn contains(text: &str, is_not: bool) -> Match {
        of(Pattern::Contains(text.into()), is_not)
    }

    fn regex(text: &str, is_not: bool) -> Match {
        of(Pattern::Regex(Regex::new(text).unwrap()), is_not)
    }

    /// What is known of an answer that comes byte by byte: after each byte `y`, `n` or `?`, then at its end.
    fn course(wanted: &Match, answer: &[u8]) -> String {
        let letter = |holds| match holds {
            Some(true) => 'y',
            Some(false) => 'n',
            None => '?',
        };
        let on_the_way = (0..=answer.len()).map(|len| letter(wanted.judge(&answer[..len], false)));
        on_the_way.chain([letter(wanted.judge(answer, true))]).collect()
    }

    #[test]
    fn a_wrong_answer_is_known_at_its_first_wrong_byte() {
        assert_eq!(course(&prefix("+PONG", false), b"+PONG\r"), "?????yyy");
        assert_eq!(course(&prefix("+PONG", false), b"+LOAD"), "??nnnnn");
        assert_eq!(course(&prefix("+PONG", false), b"+PO"), "????n");
    }

    #[test]
    fn what_must_not_come_first_is_known_as_early_too() {
        assert_eq!(course(&prefix("-E", true), b"-ERR"), "??nnnn");
        assert_eq!(course(&prefix("-E", true), b"+OK"), "?yyyy");
        assert_eq!(course(&prefix("-E", true), b""), "?y");
    }

    #[test]
    fn what_may_be_anywhere_is_missing_only_at_the_end() {
        assert_eq!(course(&contains("ok", false), b"an ok"), "?????yy");
        assert_eq!(course(&contains("ok", false), b"an o"), "?????n");
        assert_eq!(course(&contains("ok", true), b"an ok"), "?????nn");
        assert_eq!(course(&contains("ok", true), b"an o"), "?????y");
        assert_eq!(course(&regex("^2[0-9]+ ", false), b"220 x"), "????yyy");
        assert_eq!(course(&regex(".*", false), b""), "?y", "nothing is no answer before the end");
        assert_eq!(course(&regex("a.c", true), b"a\0c"), "???nn");
    }

    #[test]
    fn an_expression_works_on_bytes_that_are_no_text() {
        let wanted = regex(r"(?i)\x00[\x80-\xff]+OK$", false);
        assert_eq!(wanted.judge(b"\0\xff\xfeok", true), Some(true));
        assert_eq!(regex(r"\w", false).judge("ä".as_bytes(), true), Some(false));
        assert_eq!(regex("ä", false).judge("ä".as_bytes(), true), Some(true));
    }

    #[test]
    fn a_broken_expression_is_told_with_its_place() {
        assert_eq!(Regex::new("(").unwrap_err(), "unclosed group, at 1");
        assert_eq!(
            Regex::new("ab[z-a]").unwrap_err(),
            "invalid character class range, the start must be <= the end, at 4"
        );
        assert!(Regex::new(r"a\pL").unwrap_err().ends_with("at 2"));
        assert_eq!(Regex::new("(a{1000}){1000}").unwrap_err(), "expected one that needs at most 65536 bytes");
    }

    #[test]
    fn expressions_are_equal_when_they_are_written_alike() {
        assert_eq!(regex("a", false), regex("a", false));
        assert_ne!(regex("a", false), regex("(a)", false));
    }

    #[test]
    fn what_is_expected_is_said_in_words() {
        let said =
            [prefix("+P\r\n", false), prefix("-", true), contains("x", false), contains("x", true), regex("^a$", true)];
        assert_eq!(
            said.map(|wanted| wanted.to_string()),
            [r#""+P\r\n""#, r#"not "-""#, r#""x" in it"#, r#"not "x" in it"#, r#"not a match of "^a$""#]
        );
    }
}
