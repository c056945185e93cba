//! What `cargo fuzz` calls: each function takes any bytes and fails where a promise about input is broken.
//!
//! Compiled only with `--cfg fuzzing`, which that command sets; `fuzz/` has a target for each function. Input that was
//! found that way becomes a test beside the code that read it.

#![cfg(fuzzing)]

use std::path::Path;

use crate::config;
use crate::net::client_hello::{self, Read as Hello};
use crate::net::postgresql::{self, Request};
use crate::net::proxy_header::{self, Read};
use crate::policy::wasm::source::{self, SourceError};
use crate::server::ServerAddr;

/// The largest module that is taken apart, in bytes.
const MODULE_BYTES_MAX: u64 = 1 << 20;

/// A configuration: one that is read is written, and read again, as the same.
pub fn config(bytes: &[u8]) {
    let path = Path::new("/proxy.json");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(read) = config::parse(path, text) {
        let written = config::dump(&read, path, true);
        let again = config::parse(path, &written).expect("what is written can be read");
        assert_eq!(config::dump(&again, path, true), written);
    }
}

/// The parameters of an admin request: the first line is its query, the rest its body.
pub fn admin_request(bytes: &[u8]) {
    crate::admin::fuzz(bytes);
}

/// A server's address: what is printed is read again as the same.
pub fn server_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(addr) = text.parse::<ServerAddr>() {
        assert_eq!(addr.as_str().parse::<ServerAddr>().as_ref(), Ok(&addr));
        assert!(addr.port() > 0 && !addr.host().is_empty());
    }
}

/// The first bytes of a client: an answer is final, whatever comes after it.
pub fn proxy_header(bytes: &[u8]) {
    match proxy_header::read(bytes) {
        Read::Complete(header) => {
            assert!(header.length <= bytes.len());
            assert!(matches!(proxy_header::read(&bytes[..header.length]), Read::Complete(_)));
            let shorter = &bytes[..header.length - 1];
            assert!(matches!(proxy_header::read(shorter), Read::Incomplete));
        }
        Read::Incomplete => assert!(bytes.len() < proxy_header::HEADER_MAX),
        Read::Malformed(_) => {}
    }
}

/// The first bytes of a client in a group with routes: an answer is final, whatever comes after it.
pub fn client_hello(bytes: &[u8]) {
    let answer = client_hello::read(bytes);
    let is_whole = bytes.len() < client_hello::HELLO_MAX;
    assert!(answer != Hello::Incomplete || is_whole);
    for cut in (0..bytes.len().min(client_hello::HELLO_MAX)).rev().take(64) {
        let earlier = client_hello::read(&bytes[..cut]);
        assert!(earlier == Hello::Incomplete || earlier == answer);
    }
    assert!(bytes.len() < postgresql::SSL_REQUEST.len() || postgresql::read(bytes) != Request::Incomplete);
}

/// What a server answers to a check; the first byte picks the kind.
pub fn check_answer(bytes: &[u8]) {
    crate::health::fuzz(bytes);
}

/// A policy's file: whatever it is, nothing panics.
pub fn module(bytes: &[u8]) {
    let read = source::source("fuzzed.wasm", bytes, MODULE_BYTES_MAX);
    assert!(!matches!(read, Err(SourceError::Panicked)), "it panicked");
}
