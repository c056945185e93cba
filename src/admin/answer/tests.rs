use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Frame;
use warp::Filter;

use super::*;
use crate::admin::reply;

fn settings() -> AdminSettings {
    AdminSettings::for_tests()
}

fn rules(settings: &AdminSettings) -> Rules<'_> {
    Rules { settings, lines: RequestLines::All, serves: Serves::All, is_public: false }
}

/// Repeats how many bytes the body had.
fn echo() -> BoxedFilter<(Response,)> {
    warp::body::bytes().map(|body: Bytes| reply::granted(&body.len().to_string(), reply::Nothing {})).boxed()
}

async fn send<B>(host: &str, body: B) -> (StatusCode, serde_json::Value, warp::http::HeaderMap)
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let request = Request::post("/x").header("host", host).body(body).unwrap();
    let response =
        answer(request, Caller { peer: "127.0.0.1:9".parse().ok(), is_spare: false }, rules(&settings()), echo()).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, serde_json::from_slice(&body).unwrap(), head.headers)
}

/// A body whose length nobody knows before it has been read: chunks without end, or one that never comes.
struct Endless {
    is_stuck: bool,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_stuck {
            Poll::Pending
        } else {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'a'; 1024])))))
        }
    }
}

#[tokio::test]
async fn every_answer_has_the_safe_headers() {
    for host in ["localhost", "evil.example"] {
        let (_, _, headers) = send(host, Full::<Bytes>::default()).await;
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["content-type"], "application/json");
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read_and_a_byte_more_is_refused() {
    let (status, json, _) = send("localhost", Full::new(Bytes::from(vec![b'a'; BODY_MAX]))).await;
    assert_eq!((status, &json["ok"], &json["msg"]), (StatusCode::OK, &true.into(), &"65536".into()));
    let (status, json, headers) = send("localhost", Full::new(Bytes::from(vec![b'a'; BODY_MAX + 1]))).await;
    assert_eq!((status, &json["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &"body_too_large".into()));
    assert_eq!(headers["connection"], "close");
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_in_size_and_time() {
    let (status, json, _) = send("localhost", Endless { is_stuck: false }).await;
    assert_eq!((status, &json["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &"body_too_large".into()));
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let refusal = read(Endless { is_stuck: true }, Duration::from_millis(20)).await.unwrap_err();
    assert_eq!((refusal.status, refusal.code), (StatusCode::REQUEST_TIMEOUT, "body_timeout"));
    assert_eq!(refusal.more, More::Close);
}

#[tokio::test]
async fn a_refused_caller_is_answered_before_its_body_is_read() {
    let (status, json, _) = send("evil.example", Endless { is_stuck: true }).await;
    assert_eq!((status, &json["code"]), (StatusCode::FORBIDDEN, &"foreign_host".into()));
}
