//! Texts for people: bounded, on one line, with numbers that can be read.

use std::fmt::Write;

/// Longest text from outside that a message repeats, in characters.
pub const ECHO_CHARS_MAX: usize = 64;

/// What stands before the content of every file of PEM, be it a certificate or a private key.
pub const PEM_BEGIN: &str = "-----BEGIN";

/// `text` as a message repeats it; see [`one_line`]. What follows [`PEM_BEGIN`] is left out, as it may be a private key.
pub fn echo(text: &str) -> String {
    match text.find(PEM_BEGIN) {
        Some(at) if text[..at].chars().count() < ECHO_CHARS_MAX => {
            format!("{}{PEM_BEGIN}…", one_line(&text[..at], ECHO_CHARS_MAX))
        }
        _ => one_line(text, ECHO_CHARS_MAX),
    }
}

/// At most `chars_max` characters of `text` on one line, with `…` where it was cut.
///
/// The end of a line and a tab become a blank. What could move a cursor, change a colour or turn the direction of
/// writing becomes U+FFFD: the text may come from an attacker and go to somebody's terminal.
pub fn one_line(text: &str, chars_max: usize) -> String {
    let on_one_line = |c: char| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { printable(c) };
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(chars_max).map(on_one_line).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// `c`, or U+FFFD for what is not to be shown.
pub fn printable(c: char) -> char {
    let is_unseen =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if c.is_control() || is_unseen { '\u{fffd}' } else { c }
}

/// Bytes from outside as a message shows them, at most `chars_max` characters and `…` where something was left out.
///
/// Text stays text; what would not be seen, or would move a cursor, is escaped.
pub fn shown_bytes(bytes: &[u8], chars_max: usize) -> String {
    let mut shown = String::new();
    let mut room = chars_max;
    let mut add = |text: String| {
        let len = text.chars().count();
        let fits = len <= room;
        room = if fits { room - len } else { 0 };
        shown.push_str(if fits { &text } else { "…" });
        fits
    };
    // Longer text does not fit; the end of a character that is cut by this comes after that.
    let bytes = &bytes[..bytes.len().min(4 * chars_max + 4)];
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid().chars().map(escaped);
        let mut pieces = text.chain(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        if !pieces.all(&mut add) {
            break;
        }
    }
    shown
}

fn escaped(c: char) -> String {
    match c {
        '\\' | '"' | '\n' | '\r' | '\t' => c.escape_debug().to_string(),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c if printable(c) != c => c.escape_unicode().to_string(),
        c => c.to_string(),
    }
}

/// Longer words are like none that we know; comparing them would take long.
const WORD_CHARS_MAX: usize = 64;

/// The ending of a message that names the one word the user may have meant; empty when none is near.
pub fn did_you_mean<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> String {
    let word: String = word.to_lowercase().chars().take(WORD_CHARS_MAX).collect();
    let far = known.into_iter().map(|known| (strsim::osa_distance(&word, known), known));
    let near = far.filter(|(distance, known)| *distance <= 1.max(known.len() / 3));
    let nearest = near.min_by_key(|(distance, _)| *distance);
    nearest.map_or_else(String::new, |(_, nearest)| format!(" (did you mean {nearest}?)"))
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 server`, `2 servers`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A time with three significant digits.
pub fn time(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos:.0} ns"),
        1e3..1e6 => format!("{:.2} µs", nanos / 1e3),
        1e6..1e9 => format!("{:.2} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}

/// A number of bytes.
pub fn size(bytes: u64) -> String {
    match bytes {
        ..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_stays_on_one_line() {
        assert_eq!(one_line("a\r\nb\tc\u{1b}[2J\u{202e}", 100), "a  b c\u{fffd}[2J\u{fffd}");
        assert_eq!(echo(&"ä".repeat(ECHO_CHARS_MAX)), "ä".repeat(ECHO_CHARS_MAX));
        assert_eq!(echo(&"ä".repeat(ECHO_CHARS_MAX + 1)), format!("{}…", "ä".repeat(ECHO_CHARS_MAX)));
        assert_eq!((one_line("", 0), one_line("a", 0)), (String::new(), "…".to_owned()));
    }

    #[test]
    fn bytes_are_shown_escaped_and_cut() {
        assert_eq!(shown_bytes(b"-ERR \"x\" \\", 60), r#"-ERR \"x\" \\"#);
        assert_eq!(shown_bytes(b"\0\xff\x1b[2J\r\n\tz", 60), r"\x00\xff\x1b[2J\r\n\tz");
        assert_eq!(shown_bytes("ä\u{202e}".as_bytes(), 60), r"ä\u{202e}");
        assert_eq!(shown_bytes(b"", 60), "");
        assert_eq!(shown_bytes(&[b'a'; 60], 60), "a".repeat(60));
        assert_eq!(shown_bytes(&[b'a'; 61], 60), format!("{}…", "a".repeat(60)));
        assert_eq!(shown_bytes(&[0; 1 << 20], 60), format!("{}…", r"\x00".repeat(15)));
        assert_eq!(shown_bytes("ä".repeat(300).as_bytes(), 60), format!("{}…", "ä".repeat(60)));
    }

    #[test]
    fn a_word_that_is_spelled_alike_is_proposed() {
        assert_eq!(did_you_mean("Lisen", ["servers", "listen"]), " (did you mean listen?)");
        assert_eq!(did_you_mean("threads", ["servers", "listen"]), "");
        assert_eq!(did_you_mean(&"listen".repeat(100_000), ["listen"]), "");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1, 2].map(|number| count(number, "group")), ["0 groups", "1 group", "2 groups"]);
        assert_eq!([133.4, 4_900_000.0, 2e9].map(time), ["133 ns", "4.90 ms", "2.00 s"]);
        assert_eq!([17, 131_072, 16 << 20].map(size), ["17 B", "128 KiB", "16.0 MiB"]);
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
