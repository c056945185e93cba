//! Answers to checks, for `cargo fuzz`.

#![cfg(fuzzing)]

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::kinds::{self, Talk};
use super::wire::Wire;
use crate::config;
use crate::group::check::CheckSettings;
use crate::server::ServerAddr;

const TIMEOUT: Duration = Duration::from_secs(5);

/// One of each kind that talks.
const KINDS: [&str; 7] = [
    r#"{ "kind": "exchange", "send": "x", "expect": { "contains": "y" } }"#,
    r#"{ "kind": "exchange", "steps": [ { "expect": "220" }, { "send": "x" }, { "expect": { "regex": "^2[0-9]" } } ] }"#,
    r#"{ "kind": "http" }"#,
    r#"{ "kind": "http", "body": { "contains": "ok", "not": true } }"#,
    r#"{ "kind": "redis", "role": "master" }"#,
    r#"{ "kind": "postgresql" }"#,
    r#"{ "kind": "mysql", "user": "me" }"#,
];

static CHECKS: LazyLock<Vec<Arc<CheckSettings>>> = LazyLock::new(|| KINDS.into_iter().map(settings).collect());

fn settings(check: &str) -> Arc<CheckSettings> {
    let text = format!(r#"{{ "groups": [ {{ "listen": "0.0.0.0:1", "check": {check} }} ] }}"#);
    let config = config::parse(Path::new("/proxy.json"), &text).expect("it is in order");
    Arc::clone(config.groups[0].settings.check.as_ref().expect("the group has one"))
}

/// Holds the conversation that the first byte picks with a server that says the rest and ends.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some((kind, answer)) = bytes.split_first() else { return };
    let settings = &CHECKS[usize::from(*kind) % CHECKS.len()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the system has room");
    let addr: ServerAddr = "db:1".parse().expect("it is an address");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let to = listener.local_addr().expect("it is bound");
        let (stream, server) = tokio::join!(TcpStream::connect(to), listener.accept());
        let (stream, mut server) = (stream.expect("it listens"), server.expect("it listens").0);
        let mut wire = Wire::from(stream);
        let mut talk = Talk::new(&mut wire, Instant::now() + TIMEOUT, TIMEOUT);
        let serving = async {
            // The check may have ended already.
            let _ = server.write_all(answer).await;
            let _ = server.shutdown().await;
        };
        let (held, ()) = tokio::join!(kinds::hold(&mut talk, settings, &addr), serving);
        if let Err(failure) = held {
            assert!(!failure.is_late, "it waited for a server that has ended");
            assert!(!failure.why.is_empty());
        }
    });
}
