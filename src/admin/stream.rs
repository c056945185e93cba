//! Answers that go on: server-sent events, until the viewer leaves or the process drains.
//!
//! A viewer that takes nothing costs what hyper keeps for its connection, 64 KiB at most and the rest of a frame that all
//! viewers share, and delays nobody: its next frame is asked for only when there is room for it. When it has taken nothing for the time that any answer has, its
//! connection is closed. A stream that is silent says so every [`KEEP_ALIVE`], so that whoever stands between keeps the
//! connection, and a viewer that is gone is noticed. What is told is the feed's business.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use warp::http::header::CONTENT_TYPE;
use warp::http::{HeaderName, HeaderValue, StatusCode};
use warp::reply::Reply;

use super::reply::{Answer, Refusal};

/// The type of such an answer.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// Streams at a time, of all feeds together.
const VIEWERS_MAX: usize = 32;

/// How long a stream may be silent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// As much of a frame as hyper is given at a time: it takes whatever it is given.
const PIECE_MAX: usize = 16 * 1024;

/// What a silent stream says: a comment.
const ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Where frames come from.
pub(super) trait Feed: Send + Sync + 'static {
    /// The next frame: whole events. `None` ends the stream. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send + Sync;
}

/// The streams of the admin port.
pub(super) struct Streams {
    places: Arc<Semaphore>,
    draining: CancellationToken,
    keep_alive: Duration,
}

/// One viewer's stream; its place is free again when this is dropped.
struct Stream<F> {
    feed: F,
    /// What is left of the frame under way.
    rest: Bytes,
    draining: CancellationToken,
    keep_alive: Duration,
    _place: OwnedSemaphorePermit,
}

impl Streams {
    /// Streams that end when `draining` is cancelled.
    pub(super) fn new(draining: CancellationToken) -> Self {
        Self { places: Arc::new(Semaphore::new(VIEWERS_MAX)), draining, keep_alive: KEEP_ALIVE }
    }

    /// Answers with what `feed` tells.
    ///
    /// # Errors
    ///
    /// There are as many viewers as there may be, or the process drains.
    pub(super) fn open(&self, feed: impl Feed) -> Answer {
        if self.draining.is_cancelled() {
            let msg = "the proxy is stopping and tells no more";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", msg));
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let msg = format!("the admin port has {VIEWERS_MAX} viewers, as many as it may; close one and try again");
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_viewers", msg));
        };
        let (draining, keep_alive) = (self.draining.clone(), self.keep_alive);
        let stream = Stream { feed, rest: Bytes::new(), draining, keep_alive, _place: place };
        let frames = unfold(stream, |mut stream| async move {
            let frame = stream.next().await?;
            Some((Ok::<_, Infallible>(frame), stream))
        });
        let mut response = warp::reply::stream(frames).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
        // nginx would gather events before it passes them on.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        Ok(response)
    }
}

impl<F: Feed> Stream<F> {
    async fn next(&mut self) -> Option<Bytes> {
        if self.rest.is_empty() {
            self.rest = self.frame().await?;
        }
        Some(self.rest.split_to(self.rest.len().min(PIECE_MAX)))
    }

    async fn frame(&mut self) -> Option<Bytes> {
        tokio::select! {
            // What is there is told, also at the end.
            biased;
            frame = self.feed.next() => frame,
            () = self.draining.cancelled() => None,
            () = sleep(self.keep_alive) => Some(ALIVE),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::admin::reply::Response;

    struct Channel(mpsc::Receiver<Bytes>);

    impl Feed for Channel {
        async fn next(&mut self) -> Option<Bytes> {
            self.0.recv().await
        }
    }

    fn open(streams: &Streams) -> (mpsc::Sender<Bytes>, Answer) {
        let (sender, receiver) = mpsc::channel(8);
        (sender, streams.open(Channel(receiver)))
    }

    async fn frame(response: &mut Response) -> Option<Bytes> {
        Some(response.body_mut().frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn a_silent_stream_is_kept_alive_and_ends_when_the_drain_begins() {
        let draining = CancellationToken::new();
        let streams = Streams { keep_alive: Duration::from_millis(20), ..Streams::new(draining.clone()) };
        let (sender, answer) = open(&streams);
        let mut response = answer.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], EVENT_STREAM);
        for _ in 0..3 {
            assert_eq!(frame(&mut response).await.unwrap(), ALIVE);
        }
        sender.send(Bytes::from_static(b"last")).await.unwrap();
        draining.cancel();
        assert_eq!(frame(&mut response).await.unwrap(), "last", "what was there before the drain");
        assert_eq!(frame(&mut response).await, None);
        assert_eq!(open(&streams).1.unwrap_err().code, "stopping");
    }

    #[tokio::test]
    async fn a_long_frame_goes_in_pieces_and_is_told_to_its_end() {
        let draining = CancellationToken::new();
        let streams = Streams::new(draining.clone());
        let (sender, answer) = open(&streams);
        let mut response = answer.unwrap();
        let long: Bytes = (0..2 * PIECE_MAX + 7).map(|at| at as u8).collect();
        sender.send(long.clone()).await.unwrap();
        let mut told = frame(&mut response).await.unwrap().to_vec();
        assert_eq!(told.len(), PIECE_MAX);
        draining.cancel();
        while let Some(piece) = frame(&mut response).await {
            assert!(piece.len() <= PIECE_MAX);
            told.extend_from_slice(&piece);
        }
        assert_eq!(told, long);
    }

    #[tokio::test]
    async fn there_are_so_many_viewers_and_whoever_leaves_makes_room() {
        let streams = Streams::new(CancellationToken::new());
        let mut viewers: Vec<_> = (0..VIEWERS_MAX).map(|_| open(&streams)).collect();
        assert!(viewers.iter().all(|(_, answer)| answer.is_ok()));
        let refusal = open(&streams).1.unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.code), (503, "too_many_viewers"));
        // One leaves, and one feed ends by itself.
        drop(viewers.pop());
        let (sender, answer) = viewers.pop().unwrap();
        drop(sender);
        let mut response = answer.unwrap();
        assert_eq!(frame(&mut response).await, None);
        drop(response);
        assert!((0..2).all(|_| open(&streams).1.is_ok()));
    }
}
