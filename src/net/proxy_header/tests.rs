use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::crc32c::crc32c;
use super::read::HEADER_MAX;
use super::*;
use crate::server::SendProxy;

/// A header of version 2 with the right length.
fn v2(command: u8, protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[2 << 4 | command, protocol], &length, body].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// Adds a checksum, after which other TLVs may stand.
fn with_crc(command: u8, protocol: u8, body: &[u8], behind: &[u8]) -> Vec<u8> {
    let mut header = v2(command, protocol, &[body, &tlv(CRC32C, &[0; 4]), behind].concat());
    let at = V2_FIXED + body.len() + 3;
    let crc = crc32c(&[&header]);
    header[at..at + 4].copy_from_slice(&crc.to_be_bytes());
    header
}

/// 10.1.2.3:4 and 192.0.2.1:80.
const V4_BODY: [u8; 12] = [10, 1, 2, 3, 192, 0, 2, 1, 0, 4, 0, 80];

fn v4_ends() -> Option<Ends> {
    ends("10.1.2.3:4", "192.0.2.1:80")
}

fn ends(source: &str, destination: &str) -> Option<Ends> {
    Some(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
}

#[track_caller]
fn header(bytes: &[u8]) -> Header<'_> {
    match read(bytes) {
        Read::Complete(header) => header,
        other => panic!("{other:?}"),
    }
}

/// What is wrong, found at the last of these bytes and not before.
#[track_caller]
fn flaw(bytes: &[u8]) -> String {
    for length in 0..bytes.len() {
        assert_eq!(read(&bytes[..length]), Read::Incomplete, "after {length} bytes");
    }
    said(bytes)
}

#[track_caller]
fn said(bytes: &[u8]) -> String {
    match read(bytes) {
        Read::Malformed(flaw) => flaw.to_string(),
        other => panic!("{other:?}"),
    }
}

/// What another reader finds in the header of a client that has spoken this TLS: its length, the TLVs, and those of SSL.
fn told_by(secured: &Secured) -> (usize, Vec<String>, Vec<String>) {
    let written = write(SendProxy::V2, v4_ends(), Some(7)).unwrap();
    let bytes = [&secured.told_in(&written)[..], b"GET /"].concat();
    assert_eq!((header(&bytes).ends, header(&bytes).length), (v4_ends(), bytes.len() - 5), "we read it, too");
    let (other, length) = proxy_header::ProxyHeader::parse(&bytes, Default::default()).unwrap();
    let shown = |tlvs: proxy_header::Tlvs<'_>| tlvs.map(|tlv| format!("{:?}", tlv.unwrap())).collect();
    let ssl = other.ssl().unwrap();
    let mut within: Vec<String> = shown(ssl.tlvs());
    within.push(format!("{} {} {}", ssl.client_cert_conn(), ssl.client_cert_sess(), ssl.verify()));
    assert!(ssl.client_ssl());
    let names = [other.authority(), other.alpn().map(|alpn| std::str::from_utf8(alpn).unwrap())];
    (length, names.into_iter().flatten().map(str::to_owned).collect(), within)
}

#[test]
fn a_header_tells_of_the_clients_tls_as_another_reader_understands_it() {
    let bare = Secured { version: "TLSv1.2", ..Secured::default() };
    let (length, names, ssl) = told_by(&bare);
    assert_eq!((names, ssl), (vec![], vec!["SslVersion(\"TLSv1.2\")".to_owned(), "false false 1".to_owned()]));
    let shown = |is_of_ticket| Secured {
        version: "TLSv1.3",
        asked_for: Some("db.example.com".into()),
        alpn: Some((*b"postgresql").into()),
        certificate: Some(Certificate { common_name: Some("alice".into()), is_of_ticket }),
    };
    for (is_of_ticket, flags) in [(false, "true true 0"), (true, "false true 0")] {
        let (more, names, ssl) = told_by(&shown(is_of_ticket));
        assert_eq!(names, ["db.example.com", "postgresql"]);
        assert_eq!(ssl, ["SslVersion(\"TLSv1.3\")", "SslCn(\"alice\")", flags]);
        assert_eq!(more, length + 3 + 14 + 3 + 10 + 3 + 5);
    }
    let long = "x".repeat(256);
    let certificate = Some(Certificate { common_name: Some(long.as_str().into()), is_of_ticket: false });
    let (_, names, ssl) = told_by(&Secured { asked_for: Some(long.as_str().into()), certificate, ..bare.clone() });
    assert_eq!((names.len(), ssl.len()), (0, 2), "what is too long is left out");
    let line = write(SendProxy::V1, v4_ends(), None).unwrap();
    assert_eq!(bare.told_in(&line)[..], line[..], "version 1 has no room for it");
}

#[test]
fn a_line_tells_the_clients_address() {
    let line = b"PROXY TCP4 10.1.2.3 192.0.2.1 4 80\r\nGET /";
    assert_eq!((header(line).ends, header(line).length), (v4_ends(), line.len() - 5));
    let line = b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n";
    assert_eq!(header(line).ends, ends("[2001:db8::1]:65535", "[::1]:0"));
    let line = b"PROXY TCP6 ::ffff:10.1.2.3 ::ffff:192.0.2.1 4 80\r\n";
    assert_eq!(header(line).ends, v4_ends());
}

#[test]
fn a_line_that_knows_no_address_is_taken_whatever_else_it_says() {
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 some more 1 2\r\n", "PROXY UNKNOWN  \r.\r\n"] {
        assert_eq!((header(line.as_bytes()).ends, header(line.as_bytes()).length), (None, line.len()));
    }
    let longest = format!("PROXY UNKNOWN{:92}\r\n", "");
    assert_eq!(header(longest.as_bytes()).length, V1_MAX);
    assert_eq!(said(format!("PROXY UNKNOWN{:93}\r\n", "").as_bytes()), "v1: no end of line within 107 bytes");
}

#[test]
fn what_is_wrong_with_a_line_is_told_at_the_first_wrong_byte() {
    for (line, expected) in [
        ("G", r#"no header: begins with "G""#),
        ("PROXX", r#"no header: begins with "PROXX""#),
        ("PROXY\t", r#"no header: begins with "PROXY\x09""#),
        ("PROXY U4", "v1: protocol is not TCP4, TCP6 or UNKNOWN"),
        ("PROXY  ", "v1: protocol is not TCP4, TCP6 or UNKNOWN"),
        ("PROXY TCP5", "v1: protocol is not TCP4, TCP6 or UNKNOWN"),
        ("PROXY UNKNOWN\n", "v1: LF without CR"),
        ("PROXY TCP4  ", "v1: empty field"),
        ("PROXY TCP4 0.0.0.0 1.1.1.1  ", "v1: empty field"),
        ("PROXY TCP4 :", "v1: not an IPv4 address"),
        ("PROXY TCP4 256", "v1: not an IPv4 address"),
        ("PROXY TCP4 01", "v1: not an IPv4 address"),
        ("PROXY TCP4 1.2.3 ", "v1: not an IPv4 address"),
        ("PROXY TCP4 1.2.3.4.", "v1: not an IPv4 address"),
        ("PROXY TCP6 1.", "v1: not an IPv6 address"),
        ("PROXY TCP6 g", "v1: not an IPv6 address"),
        ("PROXY TCP6 1:::", "v1: not an IPv6 address"),
        ("PROXY TCP6 ::1 ::%", "v1: not an IPv6 address"),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 00", "v1: leading zero in a port"),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 08", "v1: leading zero in a port"),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 65536", "v1: port above 65535"),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 -", "v1: not a port"),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r", "v1: ends after 4 of 5 fields"),
        ("PROXY TCP4\r", "v1: ends after 1 of 5 fields"),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 ", "v1: more than 5 fields"),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", "v1: LF without CR"),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r ", "v1: not a port"),
    ] {
        assert_eq!(flaw(line.as_bytes()), expected, "{line:?}");
    }
    let long =
        "PROXY TCP6 0000:0000:0000:0000:0000:ffff:255.255.255.255 0000:0000:0000:0000:0000:ffff:255.255.255.255 1 65";
    assert_eq!(flaw(&long.as_bytes()[..V1_MAX]), "v1: no end of line within 107 bytes");
}

#[test]
fn something_else_is_told_by_how_it_begins() {
    assert_eq!(said(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), {
        r#"no header: begins with "GET / HTTP/1.1\x0d\x0aHost: example.co""#
    });
    assert_eq!(said(b"\x16\x03\x01\\\xff"), r#"no header: begins with "\x16\x03\x01\x5c\xff""#);
    assert_eq!(shown("\u{e4}\"".as_bytes()), r#"\xc3\xa4""#);
}

#[test]
fn a_binary_header_tells_the_clients_address() {
    let bytes = [&v2(PROXY, 0x11, &V4_BODY)[..], b"hello"].concat();
    assert_eq!((header(&bytes).ends, header(&bytes).length, header(&bytes).is_local), (v4_ends(), 28, false));
    let mut body = [0; 36];
    (body[15], body[31], body[33], body[34]) = (1, 2, 7, 1);
    assert_eq!(header(&v2(PROXY, 0x21, &body)).ends, ends("[::1]:7", "[::2]:256"));
    // An address of IPv4 in the form for IPv6.
    (body[10], body[11], body[12], body[15]) = (255, 255, 10, 9);
    assert_eq!(header(&v2(PROXY, 0x21, &body)).ends, ends("10.0.0.9:7", "[::2]:256"));
}

#[test]
fn a_sender_that_speaks_for_itself_or_for_nobody_is_believed_and_its_addresses_are_skipped() {
    for (protocol, body) in [(0x00, &[][..]), (0x11, &V4_BODY), (0x11, &[1, 2, 3]), (0x21, &V4_BODY), (0xFF, &[9; 500])]
    {
        let bytes = v2(LOCAL, protocol, body);
        let Header { length, ends, is_local, .. } = header(&bytes);
        assert_eq!((length, ends, is_local), (bytes.len(), None, true), "{protocol:x}");
    }
    let unix = [0; 216];
    for (protocol, body) in [
        (0x00, &[][..]),
        (0x01, &[1; 9]),
        (0x02, &[]),
        (0x10, &V4_BODY),
        (0x20, &[0; 36]),
        (0x30, &unix),
        (0x31, &unix),
        (0x32, &unix),
    ] {
        let bytes = v2(PROXY, protocol, body);
        let Header { length, ends, is_local, .. } = header(&bytes);
        assert_eq!((length, ends, is_local), (bytes.len(), None, false), "{protocol:x}");
    }
}

#[test]
fn what_is_wrong_with_a_binary_header_is_told_at_the_first_wrong_byte() {
    let begin = |rest: &[u8]| [&SIGNATURE[..], rest].concat();
    for (bytes, expected) in [
        (begin(&[0x11]), "v2: version 1"),
        (begin(&[0x31]), "v2: version 3"),
        (begin(&[0x27]), "v2: command 7"),
        (begin(&[0x21, 0x12]), "v2: datagrams; expected a stream"),
        (begin(&[0x21, 0x22]), "v2: datagrams; expected a stream"),
        (begin(&[0x21, 0x13]), "v2: transport 3"),
        (begin(&[0x21, 0x33]), "v2: transport 3"),
        (begin(&[0x21, 0x41]), "v2: address family 4"),
        (begin(&[0x21, 0x11, 0, 4]), "v2: length 4 is too short for IPv4 addresses (12)"),
        (begin(&[0x21, 0x21, 0, 35]), "v2: length 35 is too short for IPv6 addresses (36)"),
        (begin(&[0x21, 0x30, 0, 0]), "v2: length 0 is too short for unix addresses (216)"),
        (begin(&[0x20, 0x00, 0x0F, 0xF1]), "v2: length 4081 is above 4080"),
        (b"\r\nx".to_vec(), r#"no header: begins with "\x0d\x0ax""#),
    ] {
        assert_eq!(flaw(&bytes), expected);
    }
    assert_eq!(header(&v2(LOCAL, 0, &[0; 4_080])).length, HEADER_MAX);
}

#[test]
fn a_checksum_is_verified_wherever_it_stands() {
    for command in [LOCAL, PROXY] {
        let good = with_crc(command, 0x11, &V4_BODY, &tlv(0xE0, b"behind"));
        assert_eq!(header(&good).length, good.len());
        for at in 16..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                // A TLV of another type or length is no checksum any more.
                if !(V2_FIXED + 12..V2_FIXED + 15).contains(&at) {
                    assert_eq!(said(&bad), "v2: CRC32c differs", "bit {bit} of byte {at}");
                }
            }
        }
    }
    let short = v2(PROXY, 0x11, &[&V4_BODY[..], &tlv(CRC32C, &[0; 3])].concat());
    assert_eq!(said(&short), "v2: CRC32c differs");
    // What a LOCAL header holds may be anything.
    let local = v2(LOCAL, 0, &tlv(CRC32C, &[0; 3]));
    assert_eq!(header(&local).length, local.len());
}

#[test]
fn the_name_and_the_id_are_kept_when_they_are_not_too_long_and_the_list_is_whole() {
    let with = |tlvs: &[Vec<u8>]| v2(PROXY, 0x11, &[&V4_BODY[..], &tlvs.concat()].concat());
    let kept = with(&[tlv(0x04, b"noop"), tlv(AUTHORITY, b"example.com"), tlv(UNIQUE_ID, &[7; 128])]);
    let found = header(&kept);
    assert_eq!((found.authority, found.unique_id), (Some(&b"example.com"[..]), Some(&[7; 128][..])));
    let long = with(&[tlv(AUTHORITY, &[b'a'; 256]), tlv(UNIQUE_ID, &[7; 129])]);
    assert_eq!((header(&long).authority, header(&long).unique_id), (None, None));
    for cut in [&[AUTHORITY][..], &[AUTHORITY, 0], &[AUTHORITY, 0, 2, b'a'], &[0xE0, 0xFF, 0xFF]] {
        let bytes = with(&[tlv(AUTHORITY, b"a"), cut.to_vec()]);
        assert_eq!((header(&bytes).ends, header(&bytes).authority), (v4_ends(), None), "{cut:?}");
    }
}

#[test]
fn a_server_gets_the_header_of_its_version() {
    let written = |version, ends| write(version, ends, None).unwrap().to_vec();
    assert!(write(SendProxy::None, v4_ends(), None).is_none());
    assert_eq!(written(SendProxy::V1, v4_ends()), b"PROXY TCP4 10.1.2.3 192.0.2.1 4 80\r\n");
    let mixed = ends("[2001:db8::1]:4", "192.0.2.1:80");
    assert_eq!(written(SendProxy::V1, mixed), b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 4 80\r\n");
    assert_eq!(written(SendProxy::V1, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(written(SendProxy::V2, v4_ends()), v2(PROXY, 0x11, &V4_BODY));
    assert_eq!(written(SendProxy::V2, None), v2(LOCAL, 0, &[]));
    let with_id = write(SendProxy::V2, v4_ends(), Some(0xAB)).unwrap();
    assert_eq!(header(&with_id).unique_id, Some(&b"00000000000000ab"[..]));
    assert_eq!(with_id.len(), 28 + 19);
    let local = write(SendProxy::V2, None, Some(u64::MAX)).unwrap();
    assert_eq!((header(&local).is_local, header(&local).unique_id), (true, Some(&b"ffffffffffffffff"[..])));
}

fn ip() -> impl Strategy<Value = IpAddr> {
    // With few zeros, with many, and in the form for IPv6.
    let v6 = prop_oneof![
        any::<[u16; 8]>(),
        any::<[bool; 8]>().prop_map(|bits| bits.map(u16::from)),
        any::<[u8; 4]>().prop_map(|v4| Ipv4Addr::from(v4).to_ipv6_mapped().segments()),
        any::<[u8; 4]>().prop_map(|v4| Ipv4Addr::from(v4).to_ipv6_compatible().segments()),
    ];
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), v6.prop_map(|v6| IpAddr::V6(Ipv6Addr::from(v6)))]
}

fn any_ends() -> impl Strategy<Value = Ends> {
    ((ip(), any::<u16>()), (ip(), any::<u16>()))
        .prop_map(|(source, destination)| Ends { source: source.into(), destination: destination.into() })
}

/// Every kind of header, well-formed.
fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let written = (any_ends(), any::<bool>(), prop::option::of(any::<u64>())).prop_map(|(ends, is_v1, id)| {
        let version = if is_v1 { SendProxy::V1 } else { SendProxy::V2 };
        write(version, Some(ends), id).unwrap().to_vec()
    });
    let long = any::<[u16; 8]>().prop_map(|segments| {
        let ip = segments.map(|segment| format!("{segment:04X}")).join(":");
        format!("PROXY TCP6 {ip} {ip} 65535 65535\r\n").into_bytes()
    });
    let unknown = "[ -~]{0,92}".prop_map(|rest| match rest.is_empty() {
        true => b"PROXY UNKNOWN\r\n".to_vec(),
        false => format!("PROXY UNKNOWN {}\r\n", &rest[1..]).into_bytes(),
    });
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let local = (any::<u8>(), bytes()).prop_map(|(protocol, body)| v2(LOCAL, protocol, &body));
    let kind = any::<u8>().prop_filter("a checksum has to be right", |kind| *kind != CRC32C);
    let tlvs = (kind, bytes(), bytes(), any::<bool>()).prop_map(|(kind, value, behind, has_crc)| {
        let body = [&V4_BODY[..], &tlv(kind, &value)].concat();
        if has_crc { with_crc(PROXY, 0x11, &body, &tlv(0xE1, &behind)) } else { v2(PROXY, 0x11, &body) }
    });
    prop_oneof![4 => written, 1 => long, 1 => unknown, 1 => local, 1 => tlvs]
}

/// A header in which some bytes are others, missing or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..4_u8, prop_oneof![any::<u8>(), Just(b'0'), Just(b' '), Just(0x11)]);
    (any_header(), prop::collection::vec(change, 0..4)).prop_map(|(mut bytes, changes)| {
        for (index, what, byte) in changes {
            let at = index.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => _ = bytes.remove(at),
                _ => {}
            }
        }
        bytes
    })
}

/// What another reader makes of a header: its length and the addresses it tells, or nothing.
type Accepted = Option<(usize, Option<(SocketAddr, SocketAddr)>)>;

fn by_ppp(bytes: &[u8]) -> Accepted {
    use ppp::{HeaderResult, v1, v2};
    let addr = |ip: IpAddr, port| SocketAddr::new(ip, port);
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(header) => {
            let header = header.ok()?;
            let ends = match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(ip) => Some((
                    addr(ip.source_address.into(), ip.source_port),
                    addr(ip.destination_address.into(), ip.destination_port),
                )),
                v1::Addresses::Tcp6(ip) => Some((
                    addr(ip.source_address.into(), ip.source_port),
                    addr(ip.destination_address.into(), ip.destination_port),
                )),
            };
            Some((header.header.len(), ends))
        }
        HeaderResult::V2(header) => {
            let header = header.ok()?;
            let ends = match header.addresses {
                v2::Addresses::IPv4(ip) => Some((
                    addr(ip.source_address.into(), ip.source_port),
                    addr(ip.destination_address.into(), ip.destination_port),
                )),
                v2::Addresses::IPv6(ip) => Some((
                    addr(ip.source_address.into(), ip.source_port),
                    addr(ip.destination_address.into(), ip.destination_port),
                )),
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            };
            let is_proxied = header.command == v2::Command::Proxy && header.protocol == v2::Protocol::Stream;
            Some((header.len(), ends.filter(|_| is_proxied)))
        }
    }
}

fn by_proxy_header(bytes: &[u8]) -> Accepted {
    let (header, length) = proxy_header::ProxyHeader::parse(bytes, Default::default()).ok()?;
    let proxied = header.proxied_address().filter(|addr| addr.protocol == proxy_header::Protocol::Stream);
    Some((length, proxied.map(|addr| (addr.source, addr.destination))))
}

/// What both others accept and we refuse, because the specification says so.
fn is_known_fault(flaw: Flaw) -> bool {
    matches!(flaw, Flaw::Datagrams | Flaw::Crc | Flaw::TooLong(_) | Flaw::Transport(_) | Flaw::BareLf)
}

fn ours(ends: (SocketAddr, SocketAddr)) -> Ends {
    Ends::canonical(ends.0, ends.1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_written_is_read_and_others_read_the_same(ends in any_ends(), is_v1: bool, rest: Vec<u8>) {
        let version = if is_v1 { SendProxy::V1 } else { SendProxy::V2 };
        let written = write(version, Some(ends), None).unwrap();
        let bytes = [&written[..], &rest].concat();
        let expected = Ends::canonical(ends.source, ends.destination);
        prop_assert_eq!((header(&bytes).length, header(&bytes).ends), (written.len(), Some(expected)));
        for accepted in [by_ppp(&bytes), by_proxy_header(&bytes)] {
            let (length, told) = accepted.unwrap();
            prop_assert_eq!((length, told.map(ours)), (written.len(), Some(expected)));
        }
    }

    #[test]
    fn a_header_ends_where_it_says_and_not_before(header in any_header(), rest: Vec<u8>) {
        let bytes = [&header[..], &rest].concat();
        match read(&bytes) {
            Read::Complete(found) => prop_assert_eq!(found.length, header.len()),
            other => prop_assert!(false, "{:?}", other),
        }
        for length in 0..header.len() {
            prop_assert_eq!(read(&header[..length]), Read::Incomplete, "after {} bytes", length);
        }
    }

    #[test]
    fn an_answer_never_changes_once_it_is_given(bytes in prop_oneof![mutated(), any::<Vec<u8>>()]) {
        let mut given = Read::Incomplete;
        for length in 0..=bytes.len() {
            let now = read(&bytes[..length]);
            match given {
                Read::Incomplete => given = now,
                Read::Malformed(_) => prop_assert!(matches!(now, Read::Malformed(_)), "{:?} {:?}", given, now),
                Read::Complete(_) => prop_assert_eq!(given, now),
            }
            match now {
                Read::Incomplete => prop_assert!(length < HEADER_MAX),
                Read::Complete(header) => prop_assert!(header.length <= length),
                Read::Malformed(flaw) => prop_assert!(flaw.to_string().is_ascii()),
            }
        }
    }

    #[test]
    fn what_two_others_accept_is_accepted_with_the_same_addresses(bytes in mutated()) {
        let (Some((length, told)), Some(other)) = (by_ppp(&bytes), by_proxy_header(&bytes)) else { return Ok(()) };
        if other != (length, told) {
            return Ok(());
        }
        match read(&bytes) {
            Read::Complete(header) => prop_assert_eq!((header.length, header.ends), (length, told.map(ours))),
            Read::Malformed(flaw) if is_known_fault(flaw) => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
