//! What is asked for, as a request writes it.

use std::fmt::Write;

/// `text` as the value of a parameter.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("a String takes whatever is written"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_be_any_text() {
        assert_eq!(encoded("8081"), "8081");
        assert_eq!(encoded("a&b=ä [::1]:80"), "a%26b%3D%C3%A4%20%5B%3A%3A1%5D%3A80");
    }
}
