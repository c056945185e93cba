//! Hellos of any shape, and what is no hello.

use super::*;

/// An extension.
fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), body].concat()
}

/// A hello as a browser of today sends it, with a post-quantum key share, in one record.
pub(super) fn hello(name: Option<&[u8]>, alpn: &[&str]) -> Vec<u8> {
    let vector16 = |body: &[u8]| [&(body.len() as u16).to_be_bytes()[..], body].concat();
    let mut extensions = extension(0x0a0a, &[]);
    if let Some(name) = name {
        extensions.extend(extension(SERVER_NAME, &vector16(&[&[HOST_NAME][..], &vector16(name)].concat())));
    }
    extensions.extend(extension(0x0a, &vector16(&[0x11, 0xec, 0, 0x1d])));
    extensions.extend(extension(0x0d, &vector16(&[4, 3, 8, 4])));
    extensions.extend(extension(0x2b, &[4, 3, 4, 3, 3]));
    let share = [&[0x11, 0xec, 4, 0xc0][..], &[7; 1_216]].concat();
    extensions.extend(extension(0x33, &vector16(&share)));
    if !alpn.is_empty() {
        let list: Vec<u8> = alpn.iter().flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat()).collect();
        extensions.extend(extension(ALPN, &vector16(&list)));
    }
    let body =
        [&[3, 3][..], &[9; 32], &[32], &[8; 32], &[0, 4, 0x13, 1, 0xc0, 0x2b, 1, 0], &vector16(&extensions)].concat();
    let message = [&[CLIENT_HELLO, 0], &vector16(&body)[..]].concat();
    [&[HANDSHAKE, 3, 1][..], &vector16(&message)].concat()
}

/// The same in records of so many bytes.
pub(super) fn in_records(hello: &[u8], length: usize) -> Vec<u8> {
    let records = hello[RECORD_HEADER..].chunks(length);
    records.flat_map(|part| [&[HANDSHAKE, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat()).collect()
}

fn said(name: Option<&str>, alpn: &[&str]) -> Read {
    let alpn = alpn.iter().map(|protocol| protocol.as_bytes().into()).collect();
    Read::Hello(ClientHello { server_name: name.map(Into::into), alpn })
}

#[test]
fn name_and_protocols_are_read() {
    for (asked, name) in [
        ("db1.example.com", Some("db1.example.com")),
        ("DB1.Example.com", Some("db1.example.com")),
        ("db1.example.com.", Some("db1.example.com")),
        ("127.0.0.1", None),
        ("::1", None),
        (".", None),
        ("", None),
    ] {
        assert_eq!(read(&hello(Some(asked.as_bytes()), &["h2", "postgresql"])), said(name, &["h2", "postgresql"]));
    }
    assert_eq!(read(&hello(Some(b"a\xff\n"), &[])), said(Some("a\u{fffd}\n"), &[]));
    assert_eq!(read(&hello(None, &["h2"])), said(None, &["h2"]));
}

/// Cut anywhere it is incomplete, whole it is read, and what comes behind it is not looked at.
#[test]
fn a_hello_is_read_in_any_number_of_records_as_soon_as_it_is_there() {
    let whole = hello(Some(b"db1.example.com"), &["postgresql"]);
    assert!(whole.len() > 1_300, "{}", whole.len());
    for length in [1, 2, 3, 4, 5, 7, 100, 264, 1_000, 16_384] {
        let bytes = in_records(&whole, length);
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Read::Incomplete, "{cut} of {} in records of {length}", bytes.len());
        }
        for behind in [&b""[..], b"more", &[20, 3, 3, 0, 1, 1], &[0; 20_000]] {
            assert_eq!(read(&[&bytes[..], behind].concat()), said(Some("db1.example.com"), &["postgresql"]));
        }
    }
}

#[test]
fn what_is_not_tls_is_plain_at_the_first_byte_that_shows_it() {
    for bytes in [&b"G"[..], b"SSH-2.0-", b"\0", &[0x16, 2], &[0x16, 3, 1, 0x41, 1], &[0x16, 3, 3, 0xff, 0xff]] {
        assert_eq!(read(bytes), Read::Plain, "{bytes:?}");
    }
    for bytes in [&b""[..], &[0x16], &[0x16, 3], &[0x16, 3, 9], &[0x16, 3, 1, 0x41], &[0x16, 3, 1, 0x41, 0]] {
        assert_eq!(read(bytes), Read::Incomplete, "{bytes:?}");
    }
}

#[track_caller]
fn flaw(bytes: &[u8]) -> String {
    match read(bytes) {
        Read::Malformed(flaw) => flaw.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_that_carry_no_hello_are_malformed() {
    let whole = hello(Some(b"db1.example.com"), &[]);
    let begun = &in_records(&whole[..205], 100)[..];
    assert_eq!(flaw(&[0x16, 3, 1, 0, 0]), "a record of 0 bytes");
    assert_eq!(flaw(&[0x16, 3, 1, 0, 9, 2]), "begins with a message of type 2");
    assert_eq!(flaw(&[0x16, 3, 1, 0, 9, 1, 1, 0, 0]), "65536 bytes are too many");
    assert_eq!(flaw(&[begun, &[0x15, 3, 1, 0, 2, 2, 0]].concat()), "a record of type 21 inside it");
    assert_eq!(flaw(&[begun, &[0x16, 2, 1, 0, 2, 2, 0]].concat()), "a record of version 2.x inside it");
    assert_eq!(flaw(&[begun, &[0x16, 3, 1, 0x50, 0]].concat()), "a record of 20480 bytes");
    // One that never ends.
    let endless =
        |records| [&[0x16, 3, 1, 0, 4, 1, 0, 0x3f, 0xf0][..], &[0x16, 3, 1, 0, 1, 7].repeat(records)].concat();
    assert_eq!(read(&endless(2_000)), Read::Incomplete);
    assert!(flaw(&endless(3_000)).ends_with(" bytes are too many"));
}

#[test]
fn lengths_that_do_not_fit_are_malformed() {
    let message = |body: &[u8]| [&[0x16, 3, 1, 0, 4 + body.len() as u8, 1, 0, 0, body.len() as u8], body].concat();
    assert_eq!(flaw(&message(&[0; 33])), "its random does not fit into it");
    assert_eq!(flaw(&message(&[&[0; 34][..], &[9]].concat())), "its session id does not fit into it");
    assert_eq!(flaw(&message(&[&[0; 35][..], &[9]].concat())), "its list of ciphers does not fit into it");
    // Up to the compressions, and no extensions: a hello of old.
    let old = [&[0; 35][..], &[0, 2, 0, 1, 1, 0]].concat();
    assert_eq!(flaw(&message(&old[..40])), "its list of compressions does not fit into it");
    assert_eq!(read(&message(&old)), said(None, &[]));
    assert_eq!(flaw(&message(&[&old[..], &[0, 9]].concat())), "its list of extensions does not fit into it");
    let with = |extensions: &[u8]| message(&[&old[..], &[0, extensions.len() as u8], extensions].concat());
    assert_eq!(flaw(&with(&[0])), "its last extension does not fit into it");
    assert_eq!(flaw(&with(&[0, 5, 0, 1])), "its last extension does not fit into it");
    assert_eq!(flaw(&with(&extension(SERVER_NAME, &[0, 9, 0]))), "its server name does not fit into it");
    assert_eq!(flaw(&with(&extension(ALPN, &[0, 1, 7]))), "its list of protocols does not fit into it");
    // An empty name is what a server answers; behind a name of another type nothing can be found.
    assert_eq!(read(&with(&extension(SERVER_NAME, &[]))), said(None, &[]));
    assert_eq!(read(&with(&extension(SERVER_NAME, &[0, 4, 1, 0, 1, b'a']))), said(None, &[]));
}

/// A damaged hello hangs or panics nowhere, and an answer is final: bytes that come later change nothing.
#[test]
fn an_answer_to_a_damaged_hello_is_final() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..10_000 {
        let mut bytes = in_records(&hello(Some(b"db1.example.com"), &["h2"]), [16_384, 200, 41][round % 3]);
        for _ in 0..random.usize(1..4) {
            // Most of what matters is at the beginning.
            let end = if random.bool() { 160 } else { bytes.len() };
            let at = random.usize(..end);
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.insert(at, random.u8(..)),
                _ => drop(bytes.remove(at)),
            }
        }
        let cuts = (0..200).chain((200..=bytes.len()).step_by(37));
        if let Some(cut) = cuts.into_iter().find(|cut| read(&bytes[..*cut]) != Read::Incomplete) {
            assert_eq!(read(&bytes[..cut]), read(&bytes), "{bytes:?}");
        }
    }
}
