//! The way of every request: guard, body, endpoint, headers, one event.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::timeout;
use tracing::Level;
use warp::filters::BoxedFilter;
use warp::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use warp::http::{HeaderValue, Method, Request, StatusCode};

use super::endpoints::{self, Kind, Serves};
use super::filter::Admitted;
use super::guard::{self, Audience};
use super::reply::{More, Note, Refusal, Response};
use super::server::Caller;
use crate::base::clock;
use crate::base::text::echo;
use crate::config::AdminSettings;
use crate::events::{self, AdminEvent, Event, RequestLines};

/// The largest request body, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// How long a request body may take.
const BODY_TIME: Duration = Duration::from_secs(5);

/// What holds for a request, whatever it asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) settings: &'a AdminSettings,
    /// Which requests the log writes.
    pub(super) lines: RequestLines,
    /// What is served where the request came in.
    pub(super) serves: Serves,
    /// Nobody needs a token there.
    pub(super) is_public: bool,
}

/// Answers one request by `filter`, or refuses it before it gets there.
pub(super) async fn answer<B>(
    request: Request<B>,
    caller: Caller,
    rules: Rules<'_>,
    filter: BoxedFilter<(Response,)>,
) -> Response
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let started = Instant::now();
    let peer = caller.peer;
    let (mut head, body) = request.into_parts();
    let (method, path) = (head.method.clone(), echo(head.uri.path()));
    let endpoint = endpoints::find_for(&head, rules.serves);
    let audience = endpoint.map_or(Audience::Operators, |endpoint| endpoint.audience);
    let is_probe = endpoint.is_some_and(|endpoint| endpoint.kind == Kind::Probe);
    let checked = match rules.is_public {
        true => guard::check_public(&head),
        false => guard::check(&head, peer.is_none(), audience, rules.settings),
    };
    let admitted = match checked {
        Ok(_) if caller.is_spare && !is_probe => Err(busy()),
        Ok(rights) => {
            head.extensions.insert(Admitted { endpoint, rights, peer });
            read(body, BODY_TIME).await
        }
        Err(refusal) => Err(refusal),
    };
    let mut response = match admitted {
        Ok(body) => {
            let service = TowerToHyperService::new(warp::service(filter));
            let Ok(response) = service.call(Request::from_parts(head, Full::new(body))).await;
            response
        }
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let mut note = response.extensions_mut().remove::<Note>().unwrap_or_default();
    if rules.lines == RequestLines::Changes {
        // A probe that is refused is no attempt at anything.
        let looks = endpoint.is_some_and(|endpoint| endpoint.kind == Kind::Read && note.code.is_none());
        note.is_routine |= looks || is_probe;
    }
    tell(&method, &path, peer, response.status(), note, started.elapsed());
    response
}

fn busy() -> Refusal {
    let msg = "the admin port answers as many requests as it can; try again later";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", msg).with(More::Close)
}

/// Reads the whole body, at most [`BODY_MAX`] bytes and within `time`.
async fn read<B>(body: B, time: Duration) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let too_large = || {
        let msg = format!("body: too large; expected at most {BODY_MAX} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", msg).with(More::Close)
    };
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    match timeout(time, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::bad("bad_body", "body: broken off or badly framed").with(More::Close)),
        Err(_elapsed) => {
            let msg = format!("body: incomplete after {time:?}");
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", msg).with(More::Close))
        }
    }
}

/// Tells what came of a request; never the query, which may hold anything.
fn tell(method: &Method, path: &str, peer: Option<SocketAddr>, status: StatusCode, note: Note, elapsed: Duration) {
    let is_routine = note.is_routine;
    let event = || {
        Event::Admin(AdminEvent::Request {
            method: echo(method.as_str()).into(),
            path: path.into(),
            client: peer.map_or_else(|| "unix".into(), |addr| addr.to_string().into()),
            group: note.group,
            server: note.server,
            status: status.as_u16(),
            code: note.code.unwrap_or("ok"),
            elapsed_ms: clock::as_ms(elapsed),
            is_routine,
            is_change: note.is_change,
        })
    };
    if is_routine { events::log_only(Level::DEBUG, event) } else { events::publish(event()) }
}

#[cfg(test)]
mod tests;
