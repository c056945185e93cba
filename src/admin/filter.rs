//! The one warp filter: takes a request that passed the guard apart and has its endpoint answer it.
//!
//! The filter matches every path and answers whatever is wrong with the request by itself, so no rejection of
//! warp's, with its own texts, ever reaches a caller. A change runs as a task of its own: a caller who hangs up
//! in the middle does not leave it half done.

use std::sync::Arc;

use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::filters::path::FullPath;
use warp::http::header::CONTENT_TYPE;
use warp::http::{HeaderMap, Method, StatusCode};

use super::app::App;
use super::endpoints::{Call, Endpoint, Kind};
use super::guard::{Audience, Rights};
use super::params::Pairs;
use super::reply::{Answer, More, Note, Refusal, Response, Routine};
use super::server::Peer;
use crate::base::text::echo;

/// What is known of a request that passed the guard; stands among its extensions.
#[derive(Clone)]
pub(super) struct Admitted {
    /// `None` for a path that nothing answers.
    pub(super) endpoint: Option<&'static Endpoint>,
    pub(super) rights: Rights,
    pub(super) peer: Peer,
}

/// Answers requests that carry [`Admitted`].
pub(super) fn filter(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let app = Arc::clone(app);
    let query = warp::query::raw().or_else(|_none| async { Ok::<_, warp::Rejection>((String::new(),)) });
    warp::ext::get::<Admitted>()
        .and(warp::path::full())
        .and(warp::method())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::bytes())
        .then(move |admitted: Admitted, path: FullPath, method, query, headers, body| {
            let request = Request { method, query, headers, body };
            let app = Arc::clone(&app);
            async move {
                match admitted.endpoint {
                    Some(endpoint) => respond(app, endpoint, &admitted, request).await,
                    None => not_found(path.as_str()).into_response(),
                }
            }
        })
        .boxed()
}

struct Request {
    method: Method,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}

async fn respond(app: Arc<App>, endpoint: &Endpoint, admitted: &Admitted, request: Request) -> Response {
    let mut note = Note::default();
    let answer = answer(app, endpoint, admitted, request, &mut note).await;
    // Workers come and go by themselves, which is told of the server.
    note.is_change = endpoint.kind.is_change() && endpoint.audience != Audience::Workers && answer.is_ok();
    note.code = answer.as_ref().err().map(|refusal| refusal.code);
    let mut response = answer.unwrap_or_else(Refusal::into_response);
    note.is_routine = response.extensions_mut().remove::<Routine>().is_some();
    response.extensions_mut().insert(note);
    response
}

async fn answer(app: Arc<App>, endpoint: &Endpoint, admitted: &Admitted, request: Request, note: &mut Note) -> Answer {
    // The settings are looked at only where they matter: reads need no look.
    let get_changes = !endpoint.kind.is_change() || app.control.config().admin.allow_get_changes;
    check_method(&request.method, endpoint.kind, get_changes)?;
    let content_type = request.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("not ASCII"));
    let pairs = Pairs::parse(&request.query, content_type, &request.body)?;
    note.group = pairs.text("group").map(|text| echo(text).into());
    note.server = pairs.text("server").map(|text| echo(text).into());
    let Admitted { rights, peer, .. } = *admitted;
    let call = Call { app: Arc::clone(&app), pairs, headers: request.headers, rights, peer };
    let answering = (endpoint.answer)(call)?;
    if endpoint.kind.is_change() { app.to_the_end(answering).await } else { answering.await }
}

fn not_found(path: &str) -> Refusal {
    let msg = format!("{}: no such path; expected one of the documented endpoints, such as /group-list.do", echo(path));
    Refusal::new(StatusCode::NOT_FOUND, "unknown_path", msg)
}

fn check_method(method: &Method, kind: Kind, get_changes: bool) -> Result<(), Refusal> {
    let allowed = match (kind, get_changes) {
        (Kind::Read | Kind::Probe, _) => "GET, HEAD, POST",
        (Kind::Change, true) => "GET, POST",
        (Kind::Change, false) | (Kind::PostedChange, _) => "POST",
    };
    if allowed.split(", ").any(|name| name == method.as_str()) {
        return Ok(());
    }
    let msg = format!("method {}: not allowed here; expected {}", echo(method.as_str()), allowed.replace(", ", " or "));
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", msg).with(More::Allow(allowed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_need_post_when_get_changes_are_off() {
        for (kind, get_changes, method, is_allowed) in [
            (Kind::Read, true, Method::GET, true),
            (Kind::Read, true, Method::HEAD, true),
            (Kind::Probe, false, Method::POST, true),
            (Kind::Read, true, Method::PUT, false),
            (Kind::Probe, true, Method::OPTIONS, false),
            (Kind::Change, true, Method::GET, true),
            (Kind::Change, true, Method::POST, true),
            (Kind::Change, true, Method::HEAD, false),
            (Kind::Change, false, Method::GET, false),
            (Kind::Change, false, Method::HEAD, false),
            (Kind::Change, false, Method::POST, true),
            (Kind::Change, true, Method::DELETE, false),
            (Kind::PostedChange, true, Method::GET, false),
            (Kind::PostedChange, true, Method::POST, true),
        ] {
            let checked = check_method(&method, kind, get_changes);
            assert_eq!(checked.is_ok(), is_allowed, "{kind:?} {get_changes} {method}");
        }
        let refusal = check_method(&Method::GET, Kind::Change, false).unwrap_err();
        assert_eq!(refusal.more, More::Allow("POST"));
        assert_eq!(refusal.status, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn an_unknown_path_is_404_and_no_long_path_is_repeated() {
        let refusal = not_found(&format!("/{}", "x".repeat(5_000)));
        assert_eq!((refusal.status, refusal.code), (StatusCode::NOT_FOUND, "unknown_path"));
        assert!(refusal.msg.len() < 200);
    }
}
