//! Asks for a page and looks at its status, and at its body where that is wanted.

use httparse::{EMPTY_HEADER, Response, Status};

use super::talk::{Came, Failure, Talk, shown};
use crate::group::check::{CheckCode, CheckSettings, HttpMethod, Match};
use crate::server::ServerAddr;

/// Most headers of an answer.
const HEADERS_MAX: usize = 128;

/// Most answers before the one that counts.
const INTERIM_MAX: usize = 16;

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    len: usize,
    code: u16,
    body: Length,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
    UntilEnd,
}

/// Asks, and judges the answer.
pub(super) async fn hold(
    talk: &mut Talk<'_>,
    settings: &CheckSettings,
    addr: &ServerAddr,
) -> Result<&'static [u8], Failure> {
    talk.send(request(settings, addr).as_bytes()).await?;
    let head = head(talk).await?;
    talk.set_code(CheckCode::Number(head.code));
    if !settings.status.contains(head.code) {
        return Err(format!("status {}", head.code).into());
    }
    if let Some(wanted) = &settings.body {
        talk.forget(head.len);
        expect_body(talk, head.body, wanted).await?;
    }
    Ok(b"")
}

fn request(settings: &CheckSettings, addr: &ServerAddr) -> String {
    let CheckSettings { method, path, host, headers, .. } = settings;
    let host = host.as_deref().unwrap_or(addr.host_port());
    let mut request = format!("{} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", method.as_str());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        request += concat!("User-Agent: goproxy/", env!("CARGO_PKG_VERSION"), "\r\n");
    }
    if *method == HttpMethod::Post {
        request += "Content-Length: 0\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request + "\r\n"
}

/// Reads the head of the answer. What servers say before that, such as 103, is left out.
async fn head(talk: &mut Talk<'_>) -> Result<Head, Failure> {
    let (mut looked_at, mut interim) = (0, 0);
    loop {
        // A head ends with a line; before that only its beginning tells something.
        if looked_at < b"HTTP/1.1 200".len() || talk.seen()[looked_at..].contains(&b'\n') {
            match parse(talk.seen()) {
                Ok(Some(head)) if is_interim(head.code) && interim < INTERIM_MAX => {
                    interim += 1;
                    talk.forget(head.len);
                    looked_at = 0;
                    continue;
                }
                Ok(Some(head)) => return Ok(head),
                Ok(None) => {}
                Err(()) => return Err(talk.is_no("HTTP")),
            }
        }
        looked_at = talk.seen().len();
        talk.some_more().await?;
    }
}

fn is_interim(code: u16) -> bool {
    // After 101 the connection speaks another protocol.
    (100..200).contains(&code) && code != 101
}

/// The head of an answer, if all of it is there. An error when it is no HTTP.
fn parse(seen: &[u8]) -> Result<Option<Head>, ()> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let len = match response.parse(seen) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(()),
    };
    let code = response.code.ok_or(())?;
    let value_of = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let body = match (value_of("transfer-encoding"), value_of("content-length").map(str::parse)) {
        _ if matches!(code, 204 | 304) => Length::Bytes(0),
        (Some(coding), _) if coding.to_ascii_lowercase().ends_with("chunked") => Length::Chunked,
        (None, Some(Ok(len))) => Length::Bytes(len),
        _ => Length::UntilEnd,
    };
    Ok(Some(Head { len, code, body }))
}

/// Reads on until it is known whether the body is as wanted.
async fn expect_body(talk: &mut Talk<'_>, length: Length, wanted: &Match) -> Result<(), Failure> {
    let mut is_over = false;
    loop {
        let Some((body, is_whole)) = body_of(talk.seen(), length) else { return Err(talk.is_no("chunks")) };
        match wanted.judge(&body, is_over || is_whole) {
            Some(true) => return Ok(()),
            Some(false) => return Err(format!("body: expected {wanted}, answered \"{}\"", shown(&body)).into()),
            None => is_over = matches!(talk.more().await?, Came::End | Came::Full),
        }
    }
}

/// The body as far as it is there, and whether it is all of it. `None` when its chunks make no sense.
fn body_of(seen: &[u8], length: Length) -> Option<(Vec<u8>, bool)> {
    match length {
        Length::UntilEnd => Some((seen.to_vec(), false)),
        Length::Bytes(len) => Some((seen[..len.min(seen.len())].to_vec(), seen.len() >= len)),
        Length::Chunked => {
            let (mut body, mut rest) = (Vec::new(), seen);
            loop {
                let (start, len) = match httparse::parse_chunk_size(rest) {
                    Ok(Status::Complete((start, len))) => (start, usize::try_from(len).ok()?),
                    Ok(Status::Partial) => return Some((body, false)),
                    Err(_) => return None,
                };
                if len == 0 {
                    return Some((body, true));
                }
                let chunk = &rest[start..];
                body.extend(&chunk[..len.min(chunk.len())]);
                // The chunk is followed by the end of a line.
                match len.checked_add(2).and_then(|end| chunk.get(end..)) {
                    Some(after) => rest = after,
                    None => return Some((body, false)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_its_status_and_how_long_the_body_is() {
        let parsed = |text: &str| parse(text.as_bytes()).unwrap().map(|head| (head.code, head.body));
        assert_eq!(parsed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), Some((200, Length::Bytes(5))));
        assert_eq!(parsed("HTTP/1.0 503\r\n\r\n"), Some((503, Length::UntilEnd)));
        assert_eq!(parsed("HTTP/1.1 204 No\r\n\r\n"), Some((204, Length::Bytes(0))));
        let both = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: gzip, Chunked\r\n\r\n";
        assert_eq!(parsed(both), Some((200, Length::Chunked)));
        assert_eq!(parsed("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), Some((200, Length::UntilEnd)));
        for partial in ["", "HTTP", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n"] {
            assert_eq!(parsed(partial), None, "{partial}");
        }
        for other in
            ["S", "SSH-2.0-x", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"]
        {
            assert_eq!(parse(other.as_bytes()), Err(()), "{other}");
        }
    }

    #[test]
    fn a_body_is_put_together_from_its_chunks() {
        let body = |text: &str| {
            body_of(text.as_bytes(), Length::Chunked)
                .map(|(body, is_whole)| (String::from_utf8(body).unwrap(), is_whole))
        };
        let whole = "5;x=y\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
        assert_eq!(body(whole), Some(("hello!".to_owned(), true)));
        for len in 0..whole.len() - 4 {
            let (part, is_whole) = body(&whole[..len]).unwrap();
            assert!(!is_whole && "hello!".starts_with(&part), "{len}: {part}");
        }
        assert_eq!(body("x\r\n"), None);
        assert_eq!(body("ffffffffffffffff\r\nabc"), Some(("abc".to_owned(), false)));
        assert_eq!(body("fffffffffffffffff\r\nabc"), None);
    }
}
