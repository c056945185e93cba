//! A session whose client has asked for TLS in the words of PostgreSQL: its server is asked the same before it gets the hello.
//!
//! The client has had its answer already, because only after that does it send the hello that decides where it goes. The
//! server has to grant the request with one byte, and nothing may come behind that byte: whatever did would be taken for
//! the server's although nobody has encrypted it.

use std::io;

use super::dial::{self, Connected, Context, Dial, Dialling};
use super::opening::{NotConnected, Opened};
use super::relay::Socket;
use crate::base::clock;
use crate::counters::EndReason;
use crate::data::deadlines::NEVER;
use crate::data::poll::Ready;
use crate::group::GroupSettings;
use crate::net::postgresql::{GRANTED, REFUSED, SSL_REQUEST};

/// Why a server gets no hello.
#[derive(Debug, thiserror::Error)]
enum StarttlsError {
    #[error("the server does not take TLS")]
    Refused,
    #[error("the server answers SSLRequest with byte {0}; expected S or N")]
    Other(u8),
    #[error("the server has sent more than its answer to SSLRequest")]
    TooMuch,
    #[error("the server has closed instead of answering SSLRequest")]
    Closed,
    #[error("no answer to SSLRequest within {0} ms")]
    Late(u64),
    #[error("{0}")]
    Broken(io::Error),
}

/// A session whose server has not granted TLS yet.
#[derive(Debug)]
pub(super) struct Starting {
    hello: Vec<u8>,
    progress: Progress,
    /// How long the server may take for its answer.
    timeout_ms: u64,
}

#[derive(Debug)]
enum Progress {
    Dialling(Box<Dialling>),
    /// The server has the request, but perhaps for its last bytes, and until then it may take for its answer.
    Asked(Box<Connected>, u64),
    /// The server has granted TLS, and the session is elsewhere.
    Over,
}

impl Starting {
    /// Finds a server for the client, and asks it for TLS.
    ///
    /// # Errors
    ///
    /// As [`dial::start`].
    pub(super) fn begin(
        opened: Opened<'_>,
        settings: &GroupSettings,
        context: Context<'_>,
    ) -> Result<Box<Self>, NotConnected> {
        let (hello, timeout_ms) = (opened.first_bytes.to_vec(), clock::as_ms(settings.connect_timeout));
        let progress = match dial::start(Opened { first_bytes: &SSL_REQUEST, ..opened }, settings, context)? {
            Dial::UnderWay(dialling) => Progress::Dialling(dialling),
            Dial::Over(connected) => Progress::Asked(Box::new(connected), context.now_ms + timeout_ms),
        };
        Ok(Box::new(Self { hello, progress, timeout_ms }))
    }

    /// Keeps what the reactor says of the server's socket.
    pub(super) fn on_ready(&mut self, ready: Ready) {
        match &mut self.progress {
            Progress::Dialling(dialling) => dialling.on_ready(ready),
            Progress::Asked(connected, _) => connected.server.on_ready(ready),
            Progress::Over => {}
        }
    }

    /// When it has to be looked at, whatever happens until then.
    pub(super) fn due_ms(&self) -> u64 {
        match &self.progress {
            Progress::Dialling(dialling) => dialling.due_ms(),
            Progress::Asked(_, until_ms) => *until_ms,
            Progress::Over => NEVER,
        }
    }

    /// Goes on. The server gets the hello when it has granted TLS. Not to be called again once it has.
    ///
    /// # Errors
    ///
    /// No server was reached, or the one that was does not grant TLS.
    pub(super) fn advance(&mut self, context: Context<'_>) -> Result<Option<Connected>, NotConnected> {
        if let Progress::Dialling(dialling) = &mut self.progress {
            let Some(connected) = dialling.advance(context)? else { return Ok(None) };
            self.progress = Progress::Asked(Box::new(connected), context.now_ms + self.timeout_ms);
        }
        let Progress::Asked(connected, until_ms) = &mut self.progress else { unreachable!("it has become so above") };
        match ask(connected) {
            Ok(true) => {}
            Ok(false) if context.now_ms >= *until_ms => return Err(refused(StarttlsError::Late(self.timeout_ms))),
            Ok(false) => {
                connected.server.rearm(context.token, context.reactor).map_err(NotConnected::out_of_descriptors)?;
                return Ok(None);
            }
            Err(error) => return Err(refused(error)),
        }
        let Progress::Asked(connected, _) = std::mem::replace(&mut self.progress, Progress::Over) else {
            unreachable!("it was so a moment ago")
        };
        // The request is none of the client's bytes.
        Ok(Some(Connected { unsent: std::mem::take(&mut self.hello), sent: 0, ..*connected }))
    }
}

fn refused(error: StarttlsError) -> NotConnected {
    NotConnected { reason: EndReason::StarttlsRefused, error: Some(io::Error::other(error)) }
}

/// Sends what is left of the request, and reads the answer. True when TLS is granted; false while there is no answer.
fn ask(connected: &mut Connected) -> Result<bool, StarttlsError> {
    let server = &mut connected.server;
    let is_later = |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
    if !connected.unsent.is_empty() && server.is_writable() {
        match server.send(&connected.unsent, false) {
            Ok(sent) => drop(connected.unsent.drain(..sent)),
            Err(error) if is_later(&error) => server.write_blocked(),
            Err(error) => return Err(StarttlsError::Broken(error)),
        }
    }
    let mut answer = [0; 2];
    match server.recv(&mut answer) {
        Ok(0) => Err(StarttlsError::Closed),
        Ok(1) if answer[0] == GRANTED => Ok(true),
        Ok(1) if answer[0] == REFUSED => Err(StarttlsError::Refused),
        Ok(1) => Err(StarttlsError::Other(answer[0])),
        Ok(_) => Err(StarttlsError::TooMuch),
        Err(error) if is_later(&error) => {
            server.read_blocked();
            Ok(false)
        }
        Err(error) => Err(StarttlsError::Broken(error)),
    }
}
