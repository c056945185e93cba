//! The text of HAProxy's configuration as sections of lines of words.

/// One line of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// Counted from one.
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    /// As it stands there, without what is around it.
    pub(super) text: String,
    /// It comes from a section `defaults`.
    pub(super) is_default: bool,
}

/// A section with its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) head: Directive,
    pub(super) lines: Vec<Directive>,
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
}

impl Section {
    /// `listen`, `backend`, …
    pub(super) fn kind(&self) -> &str {
        self.head.word(0)
    }

    pub(super) fn name(&self) -> &str {
        self.head.word(1)
    }
}

/// What begins a section.
const SECTIONS: [&str; 19] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "userlist",
    "program",
    "cache",
    "mailers",
    "ring",
    "http-errors",
    "log-forward",
    "fcgi-app",
    "crt-store",
    "traces",
    "log-profile",
    "acme",
];

/// Reads all sections.
///
/// # Errors
///
/// A line stands before the first section, a quote is not closed, or nothing is there.
pub(super) fn sections(text: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for (at, text) in text.lines().enumerate() {
        let line = at + 1;
        let words = words(text).map_err(|why| format!("line {line}: {why}"))?;
        let Some(first) = words.first() else { continue };
        let is_head = SECTIONS.contains(&first.as_str());
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let directive = Directive { line, words, text, is_default: false };
        match (is_head, sections.last_mut()) {
            (true, _) => sections.push(Section { head: directive, lines: Vec::new() }),
            (false, Some(section)) => section.lines.push(directive),
            (false, None) => {
                return Err(format!("line {line}: \"{}\": expected a section such as listen", directive.word(0)));
            }
        }
    }
    if sections.is_empty() {
        return Err("it has no section; expected a configuration of HAProxy".to_owned());
    }
    Ok(sections)
}

/// The words of a line, with quotes and backslashes as HAProxy reads them; without its comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '#') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                let escaped = chars.next().ok_or("it ends with a backslash")?;
                let meant = match escaped {
                    'r' => '\r',
                    'n' => '\n',
                    't' => '\t',
                    'x' => {
                        let digits: String = chars.by_ref().take(2).collect();
                        let byte = u8::from_str_radix(&digits, 16);
                        let byte = byte.map_err(|_| format!("\"\\x{digits}\": expected two hexadecimal digits"))?;
                        char::from(byte)
                    }
                    other => other,
                };
                word.get_or_insert_default().push(meant);
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// A time in milliseconds; without a unit it is in milliseconds already.
pub(super) fn time(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "us" => Some(number / 1_000),
        "" | "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_haproxy_reads_them() {
        for (line, expected) in [
            ("", &[][..]),
            ("   # nothing", &[]),
            ("server a 1:2 check # near", &["server", "a", "1:2", "check"]),
            ("send PING\\r\\n", &["send", "PING\r\n"]),
            (r#"send "PING \x41#" 'a\n'"#, &["send", "PING A#", "a\\n"]),
            (r"path \ a\#b", &["path", " a#b"]),
            (r#"log "" x"#, &["log", "", "x"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        for line in ["a \"b", "a 'b", "a \\", "a \\xg1"] {
            assert!(words(line).is_err(), "{line}");
        }
    }

    #[test]
    fn times_are_in_milliseconds_unless_they_say_otherwise() {
        for (text, millis) in [
            ("500", Some(500)),
            ("5s", Some(5_000)),
            ("1m", Some(60_000)),
            ("2h", Some(7_200_000)),
            ("x", None),
            ("5y", None),
        ] {
            assert_eq!(time(text), millis, "{text}");
        }
    }
}
