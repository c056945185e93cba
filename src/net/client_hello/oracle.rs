//! Another reader of hellos, rustls: whatever it accepts we accept, with the same name and the same protocols.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::tests::{hello, in_records};
use super::*;

/// The name and the protocols that rustls reads; `None` when it refuses the bytes, or waits for more.
fn by_rustls(bytes: &[u8]) -> Option<ClientHello> {
    let (mut acceptor, mut rest) = (Acceptor::default(), bytes);
    loop {
        let read = acceptor.read_tls(&mut rest).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().into_iter().flatten().map(Into::into).collect();
            return Some(ClientHello { server_name: hello.server_name().map(Into::into), alpn });
        }
        if read == 0 {
            return None;
        }
    }
}

/// What is read of these bytes is what rustls reads. True when that accepts them.
fn agrees(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let Some(theirs) = by_rustls(bytes) else { return Ok(false) };
    let Read::Hello(ours) = read(bytes) else {
        return Err(TestCaseError::fail(format!("{:?}, but rustls reads {theirs:?}", read(bytes))));
    };
    prop_assert_eq!(&ours.alpn, &theirs.alpn);
    match (&ours.server_name, &theirs.server_name) {
        // What cannot be a host's name is none to rustls; we say what was asked for, and no route has it.
        (Some(name), None) => prop_assert!(!matches!(ServerName::try_from(&**name), Ok(ServerName::DnsName(_)))),
        (ours, theirs) => prop_assert_eq!(ours.as_deref(), theirs.as_deref().map(|name| name.trim_end_matches('.'))),
    }
    Ok(true)
}

/// One change of one byte: another value, one more, one less.
fn change() -> impl Strategy<Value = (prop::sample::Index, u8, u8)> {
    (any::<prop::sample::Index>(), 0_u8..3, any::<u8>())
}

#[test]
fn what_rustls_accepts_of_damaged_hellos_is_read_the_same() {
    let accepted = AtomicUsize::new(0);
    let cases = ("[a-z0-9.A-Z_-]{0,40}", prop::collection::vec("[a-z0-9/.]{1,9}", 0..4), 1_usize..2_000);
    let cases = (cases, prop::collection::vec(change(), 0..4));
    let mut runner = TestRunner::new(ProptestConfig { cases: 10_000, failure_persistence: None, ..Default::default() });
    let tried = runner.run(&cases, |((name, alpn, length), changes)| {
        let alpn: Vec<&str> = alpn.iter().map(String::as_str).collect();
        let name = (!name.is_empty()).then_some(name.as_bytes());
        let mut bytes = in_records(&hello(name, &alpn), length);
        for (at, how, byte) in changes {
            // Most of what matters is at the beginning.
            let at = at.index(if byte % 2 == 0 { bytes.len().min(160) } else { bytes.len() });
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        accepted.fetch_add(usize::from(agrees(&bytes)?), Relaxed);
        Ok(())
    });
    tried.unwrap();
    assert!(accepted.into_inner() > 1_000, "most that is compared would be refused otherwise");
}

#[test]
fn hellos_that_rustls_sends_are_read() {
    for alpn in [&[][..], &["h2", "http/1.1"]] {
        for versions in [rustls::ALL_VERSIONS, &[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
            let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
            let builder = builder.with_protocol_versions(versions).unwrap();
            let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
            config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            let config = Arc::new(config);
            for name in ["db1.example.com", "10.0.0.1"] {
                let name = ServerName::try_from(name).unwrap();
                let mut bytes = Vec::new();
                ClientConnection::new(Arc::clone(&config), name).unwrap().write_tls(&mut bytes).unwrap();
                for length in [16_384, 264, 100, 10, 1] {
                    assert!(agrees(&in_records(&bytes, length)).unwrap(), "in records of {length}");
                }
            }
        }
    }
}
