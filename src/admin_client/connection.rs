//! One request and its answer, on a connection of its own.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use warp::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use warp::http::{HeaderName, Request, Response, StatusCode};

use super::address::AdminAddr;
use super::error::AskError;
use super::messages::{Message, Messages};
use crate::base::secret::Secret;

/// The type of an answer that goes on.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// How long connecting may take, and then the beginning of an answer. A change waits for the file to be saved.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

type Io = TokioIo<Box<dyn Socket>>;
type Transport = Connection<Io, Empty<Bytes>>;

/// What moves the bytes of a connection, while somebody waits for something of it.
struct Driver(Option<Pin<Box<Transport>>>);

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) method: &'static str,
    /// A path with its parameters.
    pub(super) target: &'a str,
    /// The event that was seen last.
    pub(super) last_event_id: Option<u64>,
    /// How long the proxy may take before its answer begins, besides the usual time.
    pub(super) wait: Duration,
}

/// A request whose answer has begun.
pub(super) struct Exchange {
    addr: AdminAddr,
    response: Response<Incoming>,
    driver: Driver,
    /// Without it the connection would be closed.
    _sender: SendRequest<Empty<Bytes>>,
}

/// An answer that goes on: server-sent events.
pub struct Subscription {
    exchange: Exchange,
    messages: Messages,
    silence_max: Duration,
}

impl Driver {
    /// Waits for `work`, and lets the connection go on meanwhile.
    async fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            // How it ended is told to whoever waits for an answer.
            if self.0.as_mut().is_some_and(|connection| connection.as_mut().poll(context).is_ready()) {
                self.0 = None;
            }
            work.as_mut().poll(context)
        })
        .await
    }
}

impl Exchange {
    /// Connects, asks, and waits for the head of the answer.
    pub(super) async fn begin(
        addr: &AdminAddr,
        token: Option<&Secret>,
        question: Question<'_>,
    ) -> Result<Self, AskError> {
        let Question { method, target, last_event_id, wait } = question;
        let answer_time_max = ANSWER_TIME_MAX + wait;
        let io = TokioIo::new(connect(addr).await?);
        let broken = |error| ended_early(addr, error);
        let (mut sender, connection) = handshake(io).await.map_err(broken)?;
        let mut driver = Driver(Some(Box::pin(connection)));
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, addr.host_header())
            .header(ACCEPT, format!("{EVENT_STREAM}, application/json"));
        if method == "POST" {
            request = request.header(CONTENT_LENGTH, 0);
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if let Some(id) = last_event_id {
            request = request.header(LAST_EVENT_ID, id);
        }
        let request = request.body(Empty::new()).map_err(|error| AskError::Foreign {
            addr: addr.clone(),
            what: format!("a request cannot be made for it: {error}"),
        })?;
        let answer = driver.run(timeout(answer_time_max, sender.send_request(request))).await;
        let response = answer.map_err(|_elapsed| silent(addr, answer_time_max))?.map_err(broken)?;
        Ok(Self { addr: addr.clone(), response, driver, _sender: sender })
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn content_type(&self) -> &str {
        self.response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The whole body.
    pub(super) async fn body(mut self, bytes_max: usize) -> Result<Vec<u8>, AskError> {
        let mut body = Vec::new();
        while let Some(bytes) = self.bytes(ANSWER_TIME_MAX).await? {
            if body.len() + bytes.len() > bytes_max {
                let what = format!("its answer is longer than {bytes_max} bytes");
                return Err(AskError::Foreign { addr: self.addr, what });
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    /// The next bytes of the body. Dropping the future loses nothing.
    async fn bytes(&mut self, silence_max: Duration) -> Result<Option<Bytes>, AskError> {
        loop {
            let frame = self.driver.run(timeout(silence_max, self.response.body_mut().frame())).await;
            match frame.map_err(|_elapsed| silent(&self.addr, silence_max))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(AskError::Broken { addr: self.addr.clone(), error }),
                // What is not data is a trailer.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

impl Subscription {
    pub(super) fn new(exchange: Exchange, silence_max: Duration) -> Self {
        Self { exchange, messages: Messages::default(), silence_max }
    }

    /// The next event; `None` when the proxy has ended the answer. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// The connection broke, or nothing came for too long.
    pub async fn next(&mut self) -> Result<Option<Message>, AskError> {
        loop {
            if let Some(message) = self.messages.next() {
                return Ok(Some(message));
            }
            let Some(bytes) = self.exchange.bytes(self.silence_max).await? else { return Ok(None) };
            if self.messages.add(&bytes).is_err() {
                let what = "an event of it has no end".to_owned();
                return Err(AskError::Foreign { addr: self.exchange.addr.clone(), what });
            }
        }
    }
}

async fn connect(addr: &AdminAddr) -> Result<Box<dyn Socket>, AskError> {
    let connected = timeout(CONNECT_TIME_MAX, async {
        Ok::<Box<dyn Socket>, io::Error>(match addr {
            AdminAddr::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            AdminAddr::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    });
    let connected = connected.await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|error| AskError::Unreachable { addr: addr.clone(), error })
}

fn silent(addr: &AdminAddr, after: Duration) -> AskError {
    AskError::Silent { addr: addr.clone(), after }
}

/// Why there is no answer: what came is not HTTP, or the connection broke.
fn ended_early(addr: &AdminAddr, error: hyper::Error) -> AskError {
    let addr = addr.clone();
    match error.is_parse() || is_unasked(&error) {
        true => AskError::Foreign { addr, what: "it does not speak HTTP".to_owned() },
        false => AskError::Broken { addr, error },
    }
}

/// True when something came before the request was sent, as from a server that greets. hyper has no word of its own for
/// it: the request is cancelled for an error of the connection that has no cause in the system.
fn is_unasked(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    error.is_canceled() && cause.is_some_and(|cause| !cause.is_incomplete_message() && cause.source().is_none())
}
