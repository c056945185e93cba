//! Reading a header from what has come so far.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use super::tlv::{Tlvs, tlvs};
use super::{DGRAM, Ends, INET, INET6, LOCAL, PROXY, SIGNATURE, STREAM, UNIX, V1_BEGIN, V1_MAX, V2_FIXED};

/// Longest header that is read: a whole page, which is what nginx reads too.
pub(crate) const HEADER_MAX: usize = 4_096;

/// How much of something else than a header is told.
const BEGIN_MAX: usize = 32;

/// What the bytes that have come are as a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    /// The beginning of one. Fewer than [`HEADER_MAX`].
    Incomplete,
    /// None, whatever comes next.
    Malformed(Flaw),
    /// The first of them are one.
    Complete(Header<'a>),
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    /// Bytes of it.
    pub(crate) length: usize,
    /// Whom the sender speaks for, in canonical form; `None` when it does not say so in a way that we know.
    pub(crate) ends: Option<Ends>,
    /// The sender speaks for itself: it checks whether we are there.
    pub(crate) is_local: bool,
    /// The host name that the client asked for.
    pub(crate) authority: Option<&'a [u8]>,
    /// What the sender calls the connection.
    pub(crate) unique_id: Option<&'a [u8]>,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    /// It is something else.
    #[error("no header: begins with \"{0}\"")]
    NoHeader(Begin),
    #[error("v1: protocol is not TCP4, TCP6 or UNKNOWN")]
    Protocol,
    #[error("v1: empty field")]
    EmptyField,
    #[error("v1: not an IPv{0} address")]
    Address(u8),
    #[error("v1: leading zero in a port")]
    LeadingZero,
    #[error("v1: port above 65535")]
    PortTooHigh,
    #[error("v1: not a port")]
    Port,
    #[error("v1: ends after {0} of 5 fields")]
    FewFields(usize),
    #[error("v1: more than 5 fields")]
    ManyFields,
    #[error("v1: LF without CR")]
    BareLf,
    #[error("v1: no end of line within {V1_MAX} bytes")]
    Endless,
    #[error("v2: version {0}")]
    Version(u8),
    #[error("v2: command {0}")]
    Command(u8),
    #[error("v2: address family {0}")]
    Family(u8),
    #[error("v2: datagrams; expected a stream")]
    Datagrams,
    #[error("v2: transport {0}")]
    Transport(u8),
    #[error("v2: length {0} is above {max}", max = HEADER_MAX - V2_FIXED)]
    TooLong(usize),
    #[error("v2: length {length} is too short for {family} addresses ({addresses})")]
    TooShort { length: usize, family: &'static str, addresses: usize },
    #[error("v2: CRC32c differs")]
    Crc,
}

/// What something else than a header begins with. Shown on one line, whatever it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begin {
    bytes: [u8; BEGIN_MAX],
    length: u8,
}

/// Reads a header from the first bytes of a connection. The answer is final at the first wrong byte.
pub(crate) fn read(bytes: &[u8]) -> Read<'_> {
    let begins_as = |begin: &[u8]| bytes.iter().zip(begin).all(|(byte, expected)| byte == expected);
    let read = if begins_as(&SIGNATURE) {
        if bytes.len() < SIGNATURE.len() { Ok(None) } else { read_v2(bytes) }
    } else if begins_as(V1_BEGIN) {
        if bytes.len() < V1_BEGIN.len() { Ok(None) } else { read_v1(bytes) }
    } else {
        Err(Flaw::NoHeader(Begin::of(bytes)))
    };
    match read {
        Ok(None) => Read::Incomplete,
        Ok(Some(header)) => Read::Complete(header),
        Err(flaw) => Read::Malformed(flaw),
    }
}

/// Reads a line: `PROXY TCP4 SOURCE DESTINATION PORT PORT\r\n`.
fn read_v1(bytes: &[u8]) -> Result<Option<Header<'_>>, Flaw> {
    let head = &bytes[..bytes.len().min(V1_MAX)];
    let end = head.windows(2).position(|pair| pair == b"\r\n");
    let line = &head[V1_BEGIN.len()..end.unwrap_or(head.len())];
    if line.contains(&b'\n') {
        return Err(Flaw::BareLf);
    }
    let ends = read_line(line, end.is_some())?;
    match end {
        Some(end) => {
            let Tlvs { authority, unique_id } = Tlvs::default();
            Ok(Some(Header { length: end + 2, ends, is_local: false, authority, unique_id }))
        }
        None if bytes.len() >= V1_MAX => Err(Flaw::Endless),
        None => Ok(None),
    }
}

/// Reads the fields of a line, which is the beginning of one unless it `is_whole`: then its last field may go on.
fn read_line(line: &[u8], is_whole: bool) -> Result<Option<Ends>, Flaw> {
    const PROTOCOLS: [&[u8]; 3] = [b"TCP4", b"TCP6", b"UNKNOWN"];
    // The end of line may have come by half.
    let (line, is_whole) = match line.strip_suffix(b"\r") {
        Some(line) if !is_whole => (line, true),
        _ => (line, is_whole),
    };
    let mut fields = line.split(|byte| *byte == b' ').peekable();
    let protocol = fields.next().expect("a split has one part at least");
    let may_go_on = fields.peek().is_none() && !is_whole;
    if !PROTOCOLS.iter().any(|known| protocol == *known || may_go_on && known.starts_with(protocol)) {
        return Err(Flaw::Protocol);
    }
    let family = match protocol {
        b"TCP4" => 4,
        b"TCP6" => 6,
        // Whatever else such a line says is to be ignored.
        _ => return Ok(None),
    };
    let (mut ips, mut ports, mut count) = ([None; 2], [None; 2], 1);
    while let Some(field) = fields.next() {
        let is_ended = is_whole || fields.peek().is_some();
        match count {
            1 | 2 => ips[count - 1] = read_ip(field, family, is_ended)?,
            3 | 4 => ports[count - 3] = read_port(field, is_ended)?,
            _ => return Err(Flaw::ManyFields),
        }
        count += 1;
    }
    match (ips, ports) {
        _ if !is_whole => Ok(None),
        ([Some(source), Some(destination)], [Some(source_port), Some(destination_port)]) => Ok(Some(Ends::canonical(
            SocketAddr::new(source, source_port),
            SocketAddr::new(destination, destination_port),
        ))),
        _ => Err(Flaw::FewFields(count)),
    }
}

/// Reads an address. `None` for the beginning of one, where more may come.
fn read_ip(field: &[u8], family: u8, is_ended: bool) -> Result<Option<IpAddr>, Flaw> {
    // The longest begins with 22 characters and an address of IPv4 behind them.
    const IP_MAX: usize = 45;
    // With one of these, every beginning of an address is one.
    const ENDINGS: [&str; 11] = ["", "0", ":", "::", ":0", "0:0", ".0", "0.0", ".0.0", "0.0.0", ".0.0.0"];
    if field.is_empty() && is_ended {
        return Err(Flaw::EmptyField);
    }
    let flaw = Flaw::Address(family);
    let text = std::str::from_utf8(field).ok().filter(|text| text.len() <= IP_MAX).ok_or(flaw)?;
    let parse = |text: &str| match family {
        4 => text.parse().ok().map(IpAddr::V4),
        _ => text.parse().ok().map(IpAddr::V6),
    };
    if is_ended {
        return parse(text).map(Some).ok_or(flaw);
    }
    let mut room = [0; IP_MAX + 6];
    let mut may_become = |ending: &str| {
        let whole = &mut room[..text.len() + ending.len()];
        whole[..text.len()].copy_from_slice(text.as_bytes());
        whole[text.len()..].copy_from_slice(ending.as_bytes());
        std::str::from_utf8(whole).ok().and_then(parse).is_some()
    };
    match text.is_empty() || ENDINGS.into_iter().any(&mut may_become) {
        true => Ok(None),
        false => Err(flaw),
    }
}

/// Reads a port. `None` for the beginning of one, where more may come.
fn read_port(field: &[u8], is_ended: bool) -> Result<Option<u16>, Flaw> {
    match field {
        [] if is_ended => Err(Flaw::EmptyField),
        [] => Ok(None),
        _ if !field.iter().all(u8::is_ascii_digit) => Err(Flaw::Port),
        [b'0', _, ..] => Err(Flaw::LeadingZero),
        _ => {
            let port = std::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
            let port = port.ok_or(Flaw::PortTooHigh)?;
            Ok(is_ended.then_some(port))
        }
    }
}

/// Reads a binary header, of which the signature has come.
fn read_v2(bytes: &[u8]) -> Result<Option<Header<'_>>, Flaw> {
    let Some(command) = bytes.get(12) else { return Ok(None) };
    let (version, command) = (command >> 4, command & 0xF);
    if version != 2 {
        return Err(Flaw::Version(version));
    }
    if command != LOCAL && command != PROXY {
        return Err(Flaw::Command(command));
    }
    let is_local = command == LOCAL;
    let Some(protocol) = bytes.get(13) else { return Ok(None) };
    let (family, transport) = (protocol >> 4, protocol & 0xF);
    if !is_local {
        check_protocol(family, transport)?;
    }
    let Some(length) = bytes.get(14..V2_FIXED) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if V2_FIXED + length > HEADER_MAX {
        return Err(Flaw::TooLong(length));
    }
    let (name, addresses) = match family {
        INET => ("IPv4", 12),
        INET6 => ("IPv6", 36),
        UNIX => ("unix", 216),
        _ => ("", 0),
    };
    if length < addresses && !is_local {
        return Err(Flaw::TooShort { length, family: name, addresses });
    }
    let Some(header) = bytes.get(..V2_FIXED + length) else { return Ok(None) };
    let is_proxied = !is_local && transport == STREAM;
    let ends = if is_proxied { read_ends(family, &header[V2_FIXED..V2_FIXED + addresses]) } else { None };
    // What a LOCAL header holds is to be skipped, but a checksum that is where one would be is checked.
    let Tlvs { authority, unique_id } = tlvs(header, V2_FIXED + addresses, is_local).ok_or(Flaw::Crc)?;
    Ok(Some(Header { length: header.len(), ends, is_local, authority, unique_id }))
}

fn check_protocol(family: u8, transport: u8) -> Result<(), Flaw> {
    if family > UNIX {
        Err(Flaw::Family(family))
    } else if transport > DGRAM {
        Err(Flaw::Transport(transport))
    } else if transport == DGRAM && matches!(family, INET | INET6) {
        Err(Flaw::Datagrams)
    } else {
        Ok(())
    }
}

/// Reads the addresses of a family; `None` for one that has no port.
fn read_ends(family: u8, bytes: &[u8]) -> Option<Ends> {
    let addr = |ip: IpAddr, port: &[u8]| SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]]));
    let (source, destination, ports) = match family {
        INET => {
            let ip = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).ok().map(IpAddr::from);
            (ip(0)?, ip(4)?, &bytes[8..])
        }
        INET6 => {
            let ip = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).ok().map(IpAddr::from);
            (ip(0)?, ip(16)?, &bytes[32..])
        }
        _ => return None,
    };
    Some(Ends::canonical(addr(source, &ports[..2]), addr(destination, &ports[2..])))
}

impl Begin {
    fn of(bytes: &[u8]) -> Self {
        let length = bytes.len().min(BEGIN_MAX);
        let mut begin = [0; BEGIN_MAX];
        begin[..length].copy_from_slice(&bytes[..length]);
        Self { bytes: begin, length: length as u8 }
    }
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.bytes[..usize::from(self.length)], f)
    }
}

impl fmt::Debug for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes from outside as text: what is no printable ASCII is shown as `\xNN`.
fn show(bytes: &[u8], to: &mut impl Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| match byte {
        b' '..=b'~' if *byte != b'\\' => to.write_char(char::from(*byte)),
        _ => write!(to, "\\x{byte:02x}"),
    })
}

/// The same as a `String`.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    // Writing into a String cannot fail.
    let _ = show(bytes, &mut text);
    text
}
