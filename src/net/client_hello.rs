//! The ClientHello of TLS: which name a client asks for, and which protocols it offers, before anything is encrypted.
//!
//! [`read()`] looks at what has come so far and takes nothing from it: the bytes go to the server as they are. A hello may
//! come in any number of TLS records (RFC 8446, 5.1), which are put together here. Only what a route needs is looked at, so
//! that no client is refused whom its server would have served: versions, ciphers and unknown extensions are the server's
//! business. With Encrypted ClientHello the name is the outer one.
//!
//! Not a TLS library's parser, because that refuses what the library would not serve, such as hellos of TLS 1.0, and costs
//! more than all else that a short session costs here. Tests hold it to what rustls reads.

use std::net::IpAddr;

/// Longest ClientHello, with the headers of its records. One with two post-quantum key shares and a ticket has 4 KiB.
pub(crate) const HELLO_MAX: usize = (16 << 10) + RECORD_HEADER;

const RECORD_HEADER: usize = 5;
/// The most bytes that a record may say to have: 2^14 and the overhead of encryption.
const RECORD_MAX: usize = (1 << 14) + 256;
/// The type of records that carry a handshake.
const HANDSHAKE: u8 = 22;
/// The major version of every TLS.
const MAJOR: u8 = 3;
const MESSAGE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;
// Extensions.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
/// The one type of server names that there is.
const HOST_NAME: u8 = 0;

/// What the first bytes of a client are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A whole hello.
    Hello(ClientHello),
    /// There must be more to come.
    Incomplete,
    /// Not TLS.
    Plain,
    /// TLS, but no hello.
    Malformed(Flaw),
}

/// What routes go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The name that the client asks for, in lower case, with `�` for what is no text. An IP address is no name.
    pub(crate) server_name: Option<Box<str>>,
    /// The protocols that it offers.
    pub(crate) alpn: Vec<Box<[u8]>>,
}

/// Why something is no hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    /// A record of another type came before the hello was complete.
    #[error("a record of type {0} inside it")]
    OtherRecord(u8),
    #[error("a record of version {0}.x inside it")]
    Version(u8),
    #[error("a record of {0} bytes")]
    RecordLength(usize),
    #[error("begins with a message of type {0}")]
    OtherMessage(u8),
    #[error("{0} bytes are too many")]
    TooLong(usize),
    #[error("its {0} does not fit into it")]
    Cut(&'static str),
}

/// Reads the first bytes of a client.
pub(crate) fn read(bytes: &[u8]) -> Read {
    if !may_be_tls(bytes) {
        return Read::Plain;
    }
    // Mostly one record has all of it, and nothing has to be copied.
    let whole = bytes.get(RECORD_HEADER..).and_then(|rest| rest.get(..record_length(bytes)?));
    let read = match whole.map(message) {
        Some(Ok(Some(hello))) => parse(hello).map(Read::Hello),
        Some(Err(flaw)) => Err(flaw),
        Some(Ok(None)) | None => joined(bytes),
    };
    read.unwrap_or_else(Read::Malformed)
}

/// False when the first record, as far as it is there, cannot be one of TLS.
fn may_be_tls(bytes: &[u8]) -> bool {
    let is = |at: usize, is_fit: &dyn Fn(u8) -> bool| bytes.get(at).is_none_or(|byte| is_fit(*byte));
    is(0, &|byte| byte == HANDSHAKE)
        && is(1, &|byte| byte == MAJOR)
        && record_length(bytes).is_none_or(|length| length <= RECORD_MAX)
}

fn record_length(record: &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([*record.get(3)?, *record.get(4)?])))
}

/// The body of the message that these bytes begin with; `None` while it is incomplete.
fn message(bytes: &[u8]) -> Result<Option<&[u8]>, Flaw> {
    if let Some(other) = bytes.first().filter(|kind| **kind != CLIENT_HELLO) {
        return Err(Flaw::OtherMessage(*other));
    }
    let Some(&[_, high, middle, low]) = bytes.first_chunk::<MESSAGE_HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if MESSAGE_HEADER + length > HELLO_MAX - RECORD_HEADER {
        return Err(Flaw::TooLong(length));
    }
    Ok(bytes.get(MESSAGE_HEADER..MESSAGE_HEADER + length))
}

/// Reads a hello in several records, or one of which not all is there.
#[cold]
fn joined(bytes: &[u8]) -> Result<Read, Flaw> {
    let (mut payload, mut rest) = (Vec::new(), bytes);
    while let Some(&[kind, major, _, high, low]) = rest.first_chunk::<RECORD_HEADER>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        match () {
            () if kind != HANDSHAKE => return Err(Flaw::OtherRecord(kind)),
            () if major != MAJOR => return Err(Flaw::Version(major)),
            () if length == 0 || length > RECORD_MAX => return Err(Flaw::RecordLength(length)),
            () => {}
        }
        let body = &rest[RECORD_HEADER..];
        payload.extend_from_slice(&body[..length.min(body.len())]);
        // What comes behind the hello is not looked at.
        if let Some(hello) = message(&payload)? {
            return parse(hello).map(Read::Hello);
        }
        rest = body.get(length..).unwrap_or_default();
    }
    if bytes.len() >= HELLO_MAX { Err(Flaw::TooLong(bytes.len())) } else { Ok(Read::Incomplete) }
}

/// Reads the body of a ClientHello.
fn parse(body: &[u8]) -> Result<ClientHello, Flaw> {
    let mut body = Reader(body);
    body.take(2 + 32).ok_or(Flaw::Cut("random"))?;
    body.vector8().ok_or(Flaw::Cut("session id"))?;
    body.vector16().ok_or(Flaw::Cut("list of ciphers"))?;
    body.vector8().ok_or(Flaw::Cut("list of compressions"))?;
    let mut hello = ClientHello::default();
    // A hello of old has none.
    if body.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Reader(body.vector16().ok_or(Flaw::Cut("list of extensions"))?);
    while !extensions.is_empty() {
        let kind = extensions.number16().ok_or(Flaw::Cut("last extension"))?;
        let extension = Reader(extensions.vector16().ok_or(Flaw::Cut("last extension"))?);
        match kind {
            SERVER_NAME => hello.server_name = server_name(extension).ok_or(Flaw::Cut("server name"))?,
            ALPN => hello.alpn = protocols(extension).ok_or(Flaw::Cut("list of protocols"))?,
            _ => {}
        }
    }
    Ok(hello)
}

/// The host name of the extension; the outer `None` when it is malformed.
fn server_name(mut extension: Reader<'_>) -> Option<Option<Box<str>>> {
    // A server says so with an empty one that it has taken the name.
    if extension.is_empty() {
        return Some(None);
    }
    let mut names = Reader(extension.vector16()?);
    // Where another type comes first, nobody knows where it ends.
    if names.number8()? != HOST_NAME {
        return Some(None);
    }
    let name = String::from_utf8_lossy(names.vector16()?).to_ascii_lowercase();
    // A dot at the end is none of the name (RFC 6066, 3).
    let name = name.strip_suffix('.').unwrap_or(&name);
    Some((!name.is_empty() && name.parse::<IpAddr>().is_err()).then(|| name.into()))
}

fn protocols(mut extension: Reader<'_>) -> Option<Vec<Box<[u8]>>> {
    let (mut list, mut protocols) = (Reader(extension.vector16()?), Vec::new());
    while !list.is_empty() {
        protocols.push(list.vector8()?.into());
    }
    Some(protocols)
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.number8()?;
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.take(length.into())
    }
}

#[cfg(all(test, feature = "tls"))]
mod oracle;
#[cfg(test)]
mod tests;
