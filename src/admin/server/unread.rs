//! Refusals of what is no request.
//!
//! A head that cannot be read never reaches a handler: hyper answers it by itself, with a status and
//! nothing else, and closes the connection. Scripts and people are to find the common form there too, so
//! that answer is recognised when it is written, and ours is written in its place.

/// An answer in the common form, and how much of it is written.
#[derive(Debug)]
pub(super) struct Refusal {
    text: Vec<u8>,
    written: usize,
    stands_for: usize,
}

impl Refusal {
    /// What to write instead of `own` when that is hyper's own answer: a refusal without a body, which no
    /// handler ever gives.
    pub(super) fn instead_of(own: &[u8]) -> Option<Self> {
        let rest = own.strip_prefix(b"HTTP/1.1 4")?;
        let is_empty = || own.windows(21).any(|part| part.eq_ignore_ascii_case(b"\r\ncontent-length: 0\r\n"));
        let (status, code, msg) = match rest.get(..2)? {
            b"00" if is_empty() => ("400 Bad Request", "bad_request", "this is no HTTP request; expected HTTP/1.1"),
            b"14" if is_empty() => ("414 URI Too Long", "address_too_long", "address: too long; expected a short one"),
            b"31" if is_empty() => (
                "431 Request Header Fields Too Large",
                "head_too_large",
                "headers: too large or too many; expected at most 16 KiB",
            ),
            _ => return None,
        };
        let body = format!("{{\"ok\":false,\"code\":\"{code}\",\"msg\":\"{msg}\"}}");
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n\
             cache-control: no-store\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Some(Self { text: text.into_bytes(), written: 0, stands_for: own.len() })
    }

    /// What is still to be written.
    pub(super) fn rest(&self) -> &[u8] {
        &self.text[self.written..]
    }

    pub(super) fn wrote(&mut self, len: usize) {
        self.written += len;
    }

    /// The length of the answer it replaces.
    pub(super) fn stands_for(&self) -> usize {
        self.stands_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_without_a_body_is_replaced() {
        let own = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let mut refusal = Refusal::instead_of(own).unwrap();
        assert_eq!(refusal.stands_for(), own.len());
        let text = String::from_utf8(refusal.rest().to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&json["ok"], &json["code"]), (&false.into(), &"bad_request".into()));
        refusal.wrote(text.len());
        assert!(refusal.rest().is_empty());
        for other in [
            &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 10\r\n\r\n{\"ok\":fals"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert!(Refusal::instead_of(other).is_none());
        }
    }
}
