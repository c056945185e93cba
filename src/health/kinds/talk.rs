//! Our side of a conversation: what is sent and what comes, within a time and a size.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::base::failure::worded;
use crate::base::text::shown_bytes;
use crate::group::check::CheckCode;
use crate::health::wire::Wire;
use crate::tls::Connector;

/// How much of an answer is kept, in bytes.
pub(super) const ANSWER_MAX: usize = 16 << 10;

/// How much of an answer a message shows, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// The longest word that is taken for a code, in bytes.
const CODE_LEN_MAX: usize = 20;

/// Why a check failed.
#[derive(Debug)]
pub(in crate::health) struct Failure {
    /// For people.
    pub(in crate::health) why: String,
    /// The time is over.
    pub(in crate::health) is_late: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, is_late: false }
    }
}

/// What reading on has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Something,
    /// The server has ended.
    End,
    /// No more is kept.
    Full,
}

/// A conversation with a server.
pub(in crate::health) struct Talk<'s> {
    wire: &'s mut Wire,
    deadline: Instant,
    timeout: Duration,
    /// What has come and was not forgotten.
    seen: Vec<u8>,
    /// The code that the server has answered with.
    code: Option<CheckCode>,
}

impl<'s> Talk<'s> {
    /// A conversation that has until `deadline`, `timeout` after the check has begun.
    pub(in crate::health) fn new(wire: &'s mut Wire, deadline: Instant, timeout: Duration) -> Self {
        Self { wire, deadline, timeout, seen: Vec::new(), code: None }
    }

    pub(super) fn set_code(&mut self, code: CheckCode) {
        self.code = Some(code);
    }

    /// The same with a word of the server, if that is one.
    pub(super) fn set_word(&mut self, word: &[u8]) {
        if (1..=CODE_LEN_MAX).contains(&word.len()) && word.iter().all(u8::is_ascii_alphanumeric) {
            self.code = Some(CheckCode::Word(String::from_utf8_lossy(word).into()));
        }
    }

    /// The code that the server has answered with.
    pub(in crate::health) fn take_code(&mut self) -> Option<CheckCode> {
        self.code.take()
    }

    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Forgets the first bytes of what has come.
    pub(super) fn forget(&mut self, len: usize) {
        self.seen.drain(..len);
    }

    pub(super) fn forget_all(&mut self) {
        self.seen.clear();
    }

    /// Shakes hands with the server, which is configured with this host: what follows is said with TLS.
    pub(in crate::health) async fn secure(&mut self, connector: &Arc<Connector>, host: &str) -> Result<(), Failure> {
        match timeout_at(self.deadline, self.wire.secure(connector, host)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_elapsed) => {
                Err(Failure { why: format!("TLS: no handshake within {:?}", self.timeout), is_late: true })
            }
        }
    }

    pub(in crate::health) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match timeout_at(self.deadline, self.wire.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            // What the server has said before it closed tells more than that it has.
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                match self.more().await? {
                    Came::Something | Came::Full => Ok(()),
                    Came::End => Err(self.closed()),
                }
            }
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_elapsed) => Err(self.late()),
        }
    }

    /// Reads on.
    pub(super) async fn more(&mut self) -> Result<Came, Failure> {
        let room = ANSWER_MAX - self.seen.len();
        if room == 0 {
            return Ok(Came::Full);
        }
        match timeout_at(self.deadline, self.wire.read(&mut self.seen, room)).await {
            Ok(Ok(0)) => Ok(Came::End),
            Ok(Ok(_)) => Ok(Came::Something),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_elapsed) => Err(self.late()),
        }
    }

    /// Reads on until there are so many bytes.
    pub(super) async fn at_least(&mut self, len: usize) -> Result<(), Failure> {
        while self.seen.len() < len {
            self.some_more().await?;
        }
        Ok(())
    }

    /// Reads on; the answer is not over yet.
    pub(super) async fn some_more(&mut self) -> Result<(), Failure> {
        match self.more().await? {
            Came::Something => Ok(()),
            Came::End => Err(self.closed()),
            Came::Full => Err(format!("no end within 16 KiB: answered \"{}\"", self.shown()).into()),
        }
    }

    /// What has come, as messages show it, without the end of its last line.
    pub(super) fn shown(&self) -> String {
        shown(self.seen.trim_ascii_end())
    }

    /// The server speaks another protocol.
    pub(super) fn is_no(&self, protocol: &str) -> Failure {
        format!("no {protocol}: answered \"{}\"", self.shown()).into()
    }

    /// The server has ended before its answer was complete.
    pub(super) fn closed(&self) -> Failure {
        match self.seen.len() {
            0 => "closed without an answer".to_owned().into(),
            1 => "closed after 1 byte of the answer".to_owned().into(),
            len => format!("closed after {len} bytes of the answer").into(),
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        worded(error).into()
    }

    fn late(&self) -> Failure {
        let timeout = self.timeout;
        let why = match self.seen.is_empty() {
            true => format!("no answer within {timeout:?}"),
            false => format!("no whole answer within {timeout:?}, only \"{}\"", self.shown()),
        };
        Failure { why, is_late: true }
    }
}

/// What a server has said, as messages show it.
pub(super) fn shown(said: &[u8]) -> String {
    shown_bytes(said, SHOWN_CHARS_MAX)
}
