//! The life of one connection: it waits for a request, is served, and waits again.
//!
//! While it waits there is no HTTP: hyper's buffers, some 20 KB, are made when the first byte of a request is
//! there and given back when its answer is written, so thousands of kept connections cost little. So the time
//! for a head begins with its first byte, and a waiting connection can be closed without touching a request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use warp::http::header::{CONNECTION, HeaderName};
use warp::http::{HeaderValue, Request};

use super::limits::{Caller, IDLE_PROMISED, Limits, Peer};
use super::places::{Place, Waits};
use super::stream::{Impatient, Stream};
use crate::admin::reply::Response;

/// Enough for a head and a good piece of a body; hyper would take more than 400 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

/// One connection of the admin port.
pub(super) struct Connection<H> {
    peer: Peer,
    state: Arc<State>,
    limits: Limits,
    handler: H,
    shutdown: CancellationToken,
}

/// What the connection, its stream and its requests tell each other.
struct State {
    place: Mutex<Place>,
    /// A request is being answered: from its head to the end of its answer's body.
    is_answering: AtomicBool,
    /// The last request has been read to its end.
    is_read: AtomicBool,
    /// At least one answer was given since the connection waited.
    has_answered: AtomicBool,
    is_flushed: Arc<AtomicBool>,
}

impl State {
    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when nothing is left of the requests so far, neither of them nor of their answers.
    fn is_between_requests(&self) -> bool {
        self.has_answered.load(Relaxed)
            && self.is_read.load(Relaxed)
            && self.is_flushed.load(Relaxed)
            && !self.is_answering.load(Relaxed)
    }
}

impl<H, F> Connection<H>
where
    H: Fn(Caller, Request<Tracked<Incoming>>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    pub(super) fn new(peer: Peer, place: Place, limits: Limits, handler: H, shutdown: CancellationToken) -> Self {
        let state = State {
            place: Mutex::new(place),
            is_answering: AtomicBool::new(false),
            is_read: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            is_flushed: Arc::default(),
        };
        Self { peer, state: Arc::new(state), limits, handler, shutdown }
    }

    /// Serves until the other side ends, a limit is over, the place is lost, or the shutdown.
    pub(super) async fn run<I: Stream>(self, mut io: I) {
        let mut early = Bytes::new();
        let mut waits = Waits::FirstRequest;
        loop {
            if early.is_empty() && !self.has_request(&io, waits).await {
                return;
            }
            waits = Waits::NextRequest;
            // On the heap, so that a waiting connection does not carry the room for it.
            match Box::pin(self.serve(io, early)).await {
                Some(next) => (io, early) = next,
                None => return,
            }
        }
    }

    /// Waits for the first byte of a request. False when the connection is to be closed.
    async fn has_request<I: Stream>(&self, io: &I, waits: Waits) -> bool {
        self.state.place().waits(waits);
        let evicted = self.state.place().evicted();
        tokio::select! {
            biased;
            has_bytes = io.has_bytes() => has_bytes.unwrap_or(false),
            () = evicted.cancelled() => false,
            () = sleep(self.limits.idle_time) => false,
            () = self.shutdown.cancelled() => false,
        }
    }

    /// Serves requests until none is under way. The stream and what has been read of the next request, unless
    /// the connection is over.
    async fn serve<I: Stream>(&self, io: I, early: Bytes) -> Option<(I, Bytes)> {
        let state = &self.state;
        state.place().waits(Waits::Head);
        state.has_answered.store(false, Relaxed);
        let io = Impatient::new(io, early, self.limits.write_time, Arc::clone(&state.is_flushed));
        let service = service_fn(|request| self.answer(request));
        let mut http = self.http().serve_connection(TokioIo::new(io), service);
        let evicted = state.place().evicted();
        let (mut evicted, mut stopped) = (pin!(evicted.cancelled()), pin!(self.shutdown.cancelled()));
        let mut is_stopping = false;
        let ended = poll_fn(|context| {
            if !is_stopping && stopped.as_mut().poll(context).is_ready() {
                is_stopping = true;
                Pin::new(&mut http).graceful_shutdown();
            }
            if let Poll::Ready(ended) = Pin::new(&mut http).poll(context) {
                return Poll::Ready(Some(ended));
            }
            if !is_stopping && state.is_between_requests() {
                return Poll::Ready(None);
            }
            // A request that is there is answered.
            let is_answering = state.is_answering.load(Relaxed);
            if !is_answering && evicted.as_mut().poll(context).is_ready() {
                Poll::Ready(Some(Ok(())))
            } else {
                Poll::Pending
            }
        })
        .await;
        match ended {
            Some(ended) => {
                if let Err(error) = ended {
                    let client = self.peer.map(tracing::field::display);
                    tracing::debug!(%error, client.addr = client, "admin connection failed");
                }
                None
            }
            None => {
                let parts = http.into_parts();
                let (io, early) = parts.io.into_inner().into_parts();
                Some((io, joined(parts.read_buf, early)))
            }
        }
    }

    fn http(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_time)
            .max_header_size(self.limits.head_bytes)
            .max_buf_size(BUFFER_BYTES)
            // A script that has sent its request may shut down its side and still wait for the answer.
            .half_close(true);
        http
    }

    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<warp::http::Response<Tracked<ResponseBody>>, Infallible>> + Send + use<H, F> {
        let state = Arc::clone(&self.state);
        state.is_answering.store(true, Relaxed);
        state.is_read.store(request.body().is_end_stream(), Relaxed);
        let is_spare = {
            let mut place = state.place();
            place.is_busy();
            place.is_spare()
        };
        let read = Arc::clone(&state);
        let request = request.map(|body| {
            Tracked::new(body, move |is_whole| {
                if is_whole {
                    read.is_read.store(true, Relaxed);
                }
            })
        });
        let answer = (self.handler)(Caller { peer: self.peer, is_spare }, request);
        async move {
            let mut response = answer.await;
            announce(&mut response, state.place().is_crowded());
            let body = |body| {
                Tracked::new(body, move |_| {
                    state.has_answered.store(true, Relaxed);
                    state.is_answering.store(false, Relaxed);
                })
            };
            Ok(response.map(|answer| body(Box::pin(answer) as ResponseBody)))
        }
    }
}

/// The body of an answer, under a name: warp has none for it.
type ResponseBody = Pin<Box<dyn Body<Data = Bytes, Error = warp::Error> + Send + Sync>>;

/// Says how long the connection is kept, or that it is not.
fn announce(response: &mut Response, is_crowded: bool) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    let headers = response.headers_mut();
    if is_crowded {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    } else if !headers.contains_key(CONNECTION) {
        let promise = HeaderValue::try_from(format!("timeout={IDLE_PROMISED}"));
        headers.insert(KEEP_ALIVE, promise.expect("digits are fit for a header"));
    }
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    if second.is_empty() {
        return first;
    }
    let mut all = BytesMut::from(first);
    all.extend_from_slice(&second);
    all.freeze()
}

/// A body that tells when nobody needs it any more, and whether it had been read to its end.
pub(in crate::admin) struct Tracked<B> {
    body: B,
    is_whole: bool,
    at_end: Option<Box<dyn FnOnce(bool) + Send + Sync>>,
}

impl<B> Tracked<B> {
    fn new(body: B, at_end: impl FnOnce(bool) + Send + Sync + 'static) -> Self {
        Self { body, is_whole: false, at_end: Some(Box::new(at_end)) }
    }
}

impl<B> Drop for Tracked<B> {
    fn drop(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            at_end(self.is_whole);
        }
    }
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.is_whole |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
