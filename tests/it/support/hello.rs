//! TLS hellos, as browsers of today send them.

/// The header of a TLS record.
const RECORD_HEADER: usize = 5;

fn vector(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes()[..], body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(body)].concat()
}

/// A hello that asks for `name` and offers these protocols, with a post-quantum key share, in one record.
pub(crate) fn hello(name: Option<&str>, alpn: &[&str]) -> Vec<u8> {
    let mut extensions = extension(0x0a0a, &[]);
    if let Some(name) = name {
        let host_name = [&[0][..], &vector(name.as_bytes())].concat();
        extensions.extend(extension(0, &vector(&host_name)));
    }
    // Groups, signatures, versions, and a share for X25519MLKEM768.
    extensions.extend(extension(10, &vector(&[0x11, 0xec, 0, 0x1d])));
    extensions.extend(extension(13, &vector(&[4, 3, 8, 4])));
    extensions.extend(extension(43, &[4, 3, 4, 3, 3]));
    extensions.extend(extension(51, &vector(&[&[0x11, 0xec][..], &vector(&[7; 1_216])].concat())));
    if !alpn.is_empty() {
        let list: Vec<u8> = alpn.iter().flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat()).collect();
        extensions.extend(extension(16, &vector(&list)));
    }
    let random_and_session = [&[3, 3][..], &[9; 32], &[32], &[8; 32]].concat();
    let body = [&random_and_session[..], &[0, 4, 0x13, 1, 0xc0, 0x2b, 1, 0], &vector(&extensions)].concat();
    let message = [&[1, 0][..], &vector(&body)].concat();
    [&[22, 3, 1][..], &vector(&message)].concat()
}

/// The same hello in records of so many bytes.
pub(crate) fn in_records(hello: &[u8], length: usize) -> Vec<u8> {
    hello[RECORD_HEADER..].chunks(length).flat_map(|part| [&[22, 3, 1][..], &vector(part)].concat()).collect()
}
