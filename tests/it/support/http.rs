//! The admin port, as a test asks it: what fails is a failure of the test.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};

use goproxy::demo::http;
use serde_json::Value;

use super::DEADLINE;

/// One answer.
#[derive(Debug)]
pub(crate) struct Reply(http::Reply);

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        self.to_json().unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.text()))
    }
}

impl Deref for Reply {
    type Target = http::Reply;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A connection that is kept alive.
#[derive(Debug)]
pub(crate) struct Http(http::Http);

impl Http {
    /// To a port of 127.0.0.1.
    #[track_caller]
    pub(crate) fn connect(port: u16) -> Self {
        Self::try_connect(port).expect("the admin port answers")
    }

    pub(crate) fn try_connect(port: u16) -> io::Result<Self> {
        Self::connect_to((Ipv4Addr::LOCALHOST, port).into())
    }

    pub(crate) fn connect_to(addr: SocketAddr) -> io::Result<Self> {
        http::Http::connect(addr, DEADLINE).map(Self)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Reply {
        self.try_get(target).unwrap_or_else(|error| panic!("{target}: {error}"))
    }

    pub(crate) fn try_get(&mut self, target: &str) -> io::Result<Reply> {
        self.0.get(target).map(Reply)
    }

    /// Reads one answer; `is_head` when it has no body, whatever its length says.
    pub(crate) fn reply(&mut self, is_head: bool) -> io::Result<Reply> {
        self.0.reply(is_head).map(Reply)
    }

    /// Reads to the end of the connection.
    #[track_caller]
    pub(crate) fn rest(self) -> Vec<u8> {
        self.0.rest().unwrap_or_else(|error| panic!("the connection was not closed: {error}"))
    }
}

impl Deref for Http {
    type Target = http::Http;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Http {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// Checks that an answer is a refusal in the common form.
#[track_caller]
pub(crate) fn is_refusal(reply: &Reply, status: u16, code: &str, what: &str) -> Value {
    let json = reply.json();
    let found = (reply.status, &json["ok"], &json["code"]);
    assert_eq!(found, (status, &Value::Bool(false), &Value::from(code)), "{what}: {json}");
    assert!(json["msg"].as_str().is_some_and(|msg| !msg.is_empty() && msg.len() < 600), "{what}: {json}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{what}");
    json
}
