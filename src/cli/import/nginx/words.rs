//! The text of nginx's configuration as directives and blocks.

use crate::cli::import::draft::Note;

/// A directive, with what stands in its braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directive {
    /// Counted from one.
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    /// `None` when it ends with a semicolon.
    pub(super) block: Option<Vec<Directive>>,
}

impl Directive {
    /// The word at this place; empty when there is none.
    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// The words from this place on.
    pub(super) fn rest(&self, from: usize) -> Vec<&str> {
        self.words.iter().skip(from).map(String::as_str).collect()
    }

    /// The directives in its braces.
    pub(super) fn inside(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// As it is shown, without its block.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// What is to be said of a directive, and of all that stands in it.
pub(super) fn note(directive: &Directive, why: impl Into<String>) -> Note {
    let last = last_line(directive);
    let what = match last == directive.line {
        true => directive.text(),
        false => format!("{} (to line {last})", directive.text()),
    };
    Note::new(directive.line, what, why)
}

/// The line of the last directive in it.
fn last_line(directive: &Directive) -> usize {
    directive.inside().iter().map(last_line).max().unwrap_or(directive.line)
}

/// What a word is closed by, and where it begins.
enum Token {
    Word(String),
    End,
    Open,
    Close,
}

/// How deep blocks may be in each other.
const DEPTH_MAX: usize = 32;

/// Reads a file.
///
/// # Errors
///
/// A brace, a quote or a directive is not closed, or there is nothing.
pub(super) fn directives(text: &str) -> Result<Vec<Directive>, String> {
    let tokens = tokens(text)?;
    let mut open: Vec<Vec<Directive>> = vec![Vec::new()];
    let mut heads: Vec<Directive> = Vec::new();
    let mut current = Directive::default();
    for (line, token) in tokens {
        match token {
            Token::Word(word) => {
                if current.words.is_empty() {
                    current.line = line;
                }
                current.words.push(word);
            }
            Token::End | Token::Open if current.words.is_empty() => {
                return Err(format!("line {line}: expected a directive before it"));
            }
            Token::End => open.last_mut().expect("one is always open").push(std::mem::take(&mut current)),
            Token::Open if heads.len() >= DEPTH_MAX => {
                return Err(format!("line {line}: too many blocks in each other"));
            }
            Token::Open => {
                heads.push(std::mem::take(&mut current));
                open.push(Vec::new());
            }
            Token::Close => {
                if !current.words.is_empty() {
                    return Err(format!(
                        "line {}: \"{}\" does not end; expected a semicolon",
                        current.line,
                        current.word(0)
                    ));
                }
                let mut head =
                    heads.pop().ok_or_else(|| format!("line {line}: a brace is closed that was not opened"))?;
                head.block = open.pop();
                open.last_mut().expect("one is always open").push(head);
            }
        }
    }
    if let Some(head) = heads.last() {
        return Err(format!("line {}: the brace of \"{}\" is not closed", head.line, head.word(0)));
    }
    if !current.words.is_empty() {
        return Err(format!("line {}: \"{}\" does not end; expected a semicolon", current.line, current.word(0)));
    }
    let found = open.pop().expect("one is always open");
    match found.is_empty() {
        true => Err("it has no directive; expected a configuration of nginx".to_owned()),
        false => Ok(found),
    }
}

/// The tokens with their lines.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    let (mut line, mut word): (usize, Option<(usize, String)>) = (1, None);
    while let Some(c) = chars.next() {
        match c {
            '#' if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            c if c.is_whitespace() => {
                end_word(&mut word, &mut found);
                line += usize::from(c == '\n');
            }
            ';' | '{' | '}' if !(c == '{' && word.as_ref().is_some_and(|(_, word)| word.ends_with('$'))) => {
                end_word(&mut word, &mut found);
                found.push((
                    line,
                    match c {
                        ';' => Token::End,
                        '{' => Token::Open,
                        _ => Token::Close,
                    },
                ));
            }
            '"' | '\'' if word.is_none() => {
                let (began, mut inside) = (line, String::new());
                loop {
                    match chars.next() {
                        None => return Err(format!("line {began}: a quote is not closed")),
                        Some('\\') => inside.extend(chars.next()),
                        Some(end) if end == c => break,
                        Some(other) => {
                            line += usize::from(other == '\n');
                            inside.push(other);
                        }
                    }
                }
                found.push((began, Token::Word(inside)));
            }
            '{' => {
                // A variable such as ${name}.
                let variable = &mut word.as_mut().expect("it ends with a dollar sign").1;
                variable.push('{');
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !";{".contains(*c)) {
                    variable.push(c);
                    if c == '}' {
                        break;
                    }
                }
            }
            '\\' => word.get_or_insert_with(|| (line, String::new())).1.extend(chars.next()),
            c => word.get_or_insert_with(|| (line, String::new())).1.push(c),
        }
    }
    found.extend(word.map(|(line, word)| (line, Token::Word(word))));
    Ok(found)
}

fn end_word(word: &mut Option<(usize, String)>, found: &mut Vec<(usize, Token)>) {
    found.extend(word.take().map(|(line, word)| (line, Token::Word(word))));
}

/// A time in milliseconds: `10`, `30s`, `1m30s`, `500ms`.
pub(super) fn time(text: &str) -> Option<u64> {
    let (mut total, mut rest) = (0_u64, text);
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let factor = match &rest[..letters] {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(factor)?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_quotes_are_read_as_nginx_reads_them() {
        let text =
            "a; # b {\nstream {\n  upstream x { server 1:2 weight=3; }\n  log_format f 'a;b' \"c}\"\n    d${e}f;\n}\n";
        let found = directives(text).unwrap();
        assert_eq!((found.len(), found[0].words.as_slice()), (2, &["a".to_owned()][..]));
        let stream = found[1].inside();
        assert_eq!((stream[0].inside()[0].text(), stream[0].inside()[0].line), ("server 1:2 weight=3".to_owned(), 3));
        assert_eq!(
            (stream[1].words.as_slice(), stream[1].line),
            (&["log_format", "f", "a;b", "c}", "d${e}f"].map(str::to_owned)[..], 4)
        );
    }

    #[test]
    fn what_is_not_closed_is_told_with_its_line() {
        for (text, why) in [
            ("", "it has no directive"),
            ("a\n{ b;", "line 1: the brace of \"a\""),
            ("a; }", "line 1: a brace is closed"),
            ("a { b }", "line 1: \"b\" does not end"),
            ("a;\nb", "line 2: \"b\" does not end"),
            ("\n;", "line 2: expected a directive"),
            ("a 'b;\n", "line 1: a quote"),
        ] {
            assert!(directives(text).unwrap_err().contains(why), "{text}");
        }
        assert!(directives(&"a{".repeat(100_000)).is_err());
    }

    #[test]
    fn times_are_in_seconds_unless_they_say_otherwise() {
        for (text, millis) in [
            ("10", Some(10_000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("2h", Some(7_200_000)),
            ("", None),
            ("s", None),
            ("1x", None),
        ] {
            assert_eq!(time(text), millis, "{text}");
        }
    }
}
