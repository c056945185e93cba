//! Rust source as words and punctuation: what comments, strings, characters and lifetimes contain is left out.

/// Names (also `crate`, `self`, `super`), `::`, and single punctuation characters.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = match bytes[at] {
            b'/' if rest.starts_with("//") => at + rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => at + block_comment(rest),
            b'"' => at + string(rest),
            b'r' | b'b' | b'c' if literal(rest).is_some() => at + literal(rest).expect("just found"),
            b'\'' => at + character_or_lifetime(rest),
            byte if is_word(byte) => {
                let end = at + bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
                found.push(&text[at..end]);
                end
            }
            b':' if rest.starts_with("::") => {
                found.push("::");
                at + 2
            }
            byte if byte.is_ascii_whitespace() => at + 1,
            _ => {
                let end = at + rest.chars().next().map_or(1, char::len_utf8);
                found.push(&text[at..end]);
                end
            }
        };
        at = end;
    }
    found
}

pub(super) fn is_name(token: &str) -> bool {
    token.bytes().next().is_some_and(|byte| is_word(byte) && !byte.is_ascii_digit())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// They nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let step = match rest {
            [b'/', b'*', ..] => 1,
            [b'*', b'/', ..] => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of a string that begins with its quote.
fn string(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// The length of a string or character with a prefix: `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `b'…'`, `c"…"`.
fn literal(text: &str) -> Option<usize> {
    let prefix = text.len() - text.trim_start_matches(['b', 'c']).len();
    let raw = text[prefix..].strip_prefix('r');
    let Some(raw) = raw else {
        let rest = &text[prefix..];
        return match rest.as_bytes().first() {
            Some(b'"') if prefix == 1 => Some(prefix + string(rest)),
            Some(b'\'') if prefix == 1 => Some(prefix + character_or_lifetime(rest)),
            _ => None,
        };
    };
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = prefix + 1 + hashes + 1;
    Some(text[start..].find(&end).map_or(text.len(), |length| start + length + end.len()))
}

fn character_or_lifetime(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((_, escaped))) => {
            let start = 2 + escaped.len_utf8();
            text[start..].find('\'').map_or(text.len(), |length| start + length + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        // A lifetime: its name is a word of no interest.
        _ => 1 + text[1..].bytes().take_while(|byte| is_word(*byte)).count(),
    }
}

#[test]
fn only_code_is_left() {
    let text = r####"
        // a /* b
        use x::{self, y as z}; /* c /* d */ e "f */
        let s = "g \" h // i"; let r = r#"j " k"#; let b = b"l\"m"; let br = br##"n "# o"##;
        fn f<'p>(q: &'p str) -> char { 'r'; '\''; '\u{7f}'; b'"'; b'\''; '"' }
        /// doc"
        r#type; brave; crate::w
    "####;
    let names: Vec<_> = tokens(text).into_iter().filter(|token| is_name(token)).collect();
    let expected = "use x self y as z let s let r let b let br fn f q str char r type brave crate w";
    assert_eq!(names.join(" "), expected);
    assert_eq!(tokens("a::b:c"), ["a", "::", "b", ":", "c"]);
}
