//! The endpoints as warp filters: which path, which parameters, which method.
//!
//! Each endpoint is one filter that matches its path and answers everything else about the request by
//! itself, so no rejection of warp's, with its own texts, ever reaches a caller. A change runs as a task
//! of its own: a caller who hangs up in the middle does not leave it half done.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::task::TaskTracker;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderValue, Method, StatusCode};

use super::params::Params;
use super::reply::{Answer, More, Note, Refusal, Response, cut};
use super::{AdminContext, endpoints};

/// A server's heartbeat, without the leading slash.
pub(super) const KEEPALIVE: &str = "worker-keepalive.do";
/// Answers as long as the process does.
pub(super) const LIVE: &str = "live";
/// Answers whether clients are accepted.
pub(super) const READY: &str = "ready";

/// What the endpoints share.
pub(super) struct App {
    pub(super) context: AdminContext,
    /// Changes under way; they outlive the connection that asked for them.
    pub(super) changes: TaskTracker,
}

/// Whether an endpoint only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Change,
}

/// A request to a known path.
struct Call {
    method: Method,
    query: String,
    content_type: Option<HeaderValue>,
    body: Bytes,
}

/// Everything but profiles.
pub(super) fn admin(app: &Arc<App>) -> Vec<BoxedFilter<(Response,)>> {
    use Kind::{Change, Read};
    use endpoints as h;
    // A heartbeat is by far the most frequent request, so it is tried first.
    vec![
        route(app, KEEPALIVE, Change, &["group", "server", "weight", "state", "zone", "load"], h::keepalive),
        route(app, "worker-list.do", Read, &["group"], h::worker_list),
        route(app, "worker-remove.do", Change, &["group", "server"], h::worker_remove),
        route(app, "worker-state.do", Change, &["group", "server", "state"], h::worker_state),
        route(app, "group-open.do", Change, &["group", "policy"], h::group_open),
        route(app, "group-close.do", Change, &["group", "sessions"], h::group_close),
        route(app, "group-list.do", Read, &[], h::group_list),
        route(app, "group-policy.do", Change, &["group", "policy"], h::group_policy),
        route(app, "session-list.do", Read, &["group"], h::session_list),
        route(app, "session-close.do", Change, &["id"], h::session_close),
        route(app, "policy-list.do", Read, &[], h::policy_list),
        route(app, "policy-explain.do", Read, &["group", "client", "tried"], h::policy_explain),
        route(app, "config-reload.do", Change, &[], h::config_reload),
        route(app, LIVE, Read, &[], h::live),
        route(app, READY, Read, &[], h::ready),
        route(app, "metrics", Read, &[], h::metrics),
    ]
}

/// `/debug/pprof/`.
pub(super) fn profiles(app: &Arc<App>) -> Vec<BoxedFilter<(Response,)>> {
    vec![
        route(app, "debug/pprof", Kind::Read, &[], endpoints::profile_list),
        route(app, "debug/pprof/heap", Kind::Read, &[], endpoints::heap_profile),
        route(app, "debug/pprof/profile", Kind::Read, &["seconds"], endpoints::cpu_profile),
    ]
}

/// The first of `routes` whose path matches, or the answer that there is none.
pub(super) fn first_of(routes: Vec<BoxedFilter<(Response,)>>) -> BoxedFilter<(Response,)> {
    let nowhere = warp::path::full().map(|path: warp::path::FullPath| not_found(path.as_str()).into_response());
    routes.into_iter().rfold(nowhere.boxed(), |rest, route| route.or(rest).unify().boxed())
}

fn not_found(path: &str) -> Refusal {
    let msg = format!("{}: no such path; expected one of the documented endpoints, such as /group-list.do", cut(path));
    Refusal::new(StatusCode::NOT_FOUND, "unknown_path", msg)
}

/// One endpoint: its path, the parameters it knows, and what answers it.
fn route<H, F>(
    app: &Arc<App>,
    path: &'static str,
    kind: Kind,
    known: &'static [&'static str],
    handler: H,
) -> BoxedFilter<(Response,)>
where
    H: Fn(Arc<App>, Params) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let app = Arc::clone(app);
    let answer = move |call: Call| {
        let (app, handler) = (Arc::clone(&app), handler.clone());
        async move {
            let mut note = Note::default();
            let answer = match admit(&app, kind, known, &call) {
                Ok(params) => {
                    note.group = params.text("group").map(|text| cut(text).into());
                    note.server = params.text("server").map(|text| cut(text).into());
                    let answer = handler(Arc::clone(&app), params);
                    if kind == Kind::Change { to_the_end(&app, answer).await } else { answer.await }
                }
                Err(refusal) => Err(refusal),
            };
            note.code = answer.as_ref().err().map(|refusal| refusal.code);
            note.is_heartbeat = path == KEEPALIVE && answer.is_ok();
            let mut response = answer.unwrap_or_else(Refusal::into_response);
            response.extensions_mut().insert(note);
            response
        }
    };
    let at_path = path.split('/').fold(warp::any().boxed(), |filter, part| filter.and(warp::path(part)).boxed());
    at_path.and(warp::path::end()).and(call()).then(answer).boxed()
}

fn call() -> impl Filter<Extract = (Call,), Error = warp::Rejection> + Clone {
    let query = warp::query::raw().or_else(|_none| async { Ok::<_, warp::Rejection>((String::new(),)) });
    let content_type = warp::header::headers_cloned()
        .map(|headers: warp::http::HeaderMap| headers.get(warp::http::header::CONTENT_TYPE).cloned());
    warp::method().and(query).and(content_type).and(warp::body::bytes()).map(|method, query, content_type, body| Call {
        method,
        query,
        content_type,
        body,
    })
}

/// Checks the method and reads the parameters.
fn admit(app: &App, kind: Kind, known: &[&'static str], call: &Call) -> Result<Params, Refusal> {
    // The settings are looked at only where they matter: reads need no look.
    let get_changes = kind == Kind::Read || app.context.control.config().admin.allow_get_changes;
    check_method(&call.method, kind, get_changes)?;
    let content_type = call.content_type.as_ref().map(|value| value.to_str().unwrap_or("not ASCII"));
    Params::parse(&call.query, content_type, &call.body, known)
}

fn check_method(method: &Method, kind: Kind, get_changes: bool) -> Result<(), Refusal> {
    let allowed = match (kind, get_changes) {
        (Kind::Read, _) => "GET, HEAD, POST",
        (Kind::Change, true) => "GET, POST",
        (Kind::Change, false) => "POST",
    };
    if allowed.split(", ").any(|name| name == method.as_str()) {
        return Ok(());
    }
    let msg = format!("method {}: not allowed here; expected {}", cut(method.as_str()), allowed.replace(", ", " or "));
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", msg).with(More::Allow(allowed)))
}

/// Runs a change so that it ends even when nobody waits for the answer any more.
async fn to_the_end(app: &App, answer: impl Future<Output = Answer> + Send + 'static) -> Answer {
    app.changes.spawn(answer).await.unwrap_or_else(|error| {
        tracing::error!(%error, "admin change ended by a fault of ours");
        Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the change failed; the log says more"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_need_post_when_get_changes_are_off() {
        for (kind, get_changes, method, is_allowed) in [
            (Kind::Read, true, Method::GET, true),
            (Kind::Read, true, Method::HEAD, true),
            (Kind::Read, false, Method::POST, true),
            (Kind::Read, true, Method::PUT, false),
            (Kind::Read, true, Method::OPTIONS, false),
            (Kind::Change, true, Method::GET, true),
            (Kind::Change, true, Method::POST, true),
            (Kind::Change, true, Method::HEAD, false),
            (Kind::Change, false, Method::GET, false),
            (Kind::Change, false, Method::HEAD, false),
            (Kind::Change, false, Method::POST, true),
            (Kind::Change, true, Method::DELETE, false),
        ] {
            let checked = check_method(&method, kind, get_changes);
            assert_eq!(checked.is_ok(), is_allowed, "{kind:?} {get_changes} {method}");
        }
        let refusal = check_method(&Method::GET, Kind::Change, false).unwrap_err();
        assert_eq!(refusal.more, More::Allow("POST"));
        assert_eq!(refusal.status, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn an_unknown_path_is_404_in_the_common_form_and_repeats_no_long_path() {
        for path in ["/", "/nowhere", &format!("/{}", "x".repeat(5_000)), "//live", "/%ff"] {
            let request = warp::http::Request::get(path).body(http_body_util::Full::<Bytes>::default()).unwrap();
            let service = hyper_util::service::TowerToHyperService::new(warp::service(first_of(Vec::new())));
            let Ok(response) = hyper::service::Service::call(&service, request).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&json["ok"], &json["code"]), (&false.into(), &"unknown_path".into()));
            assert!(body.len() < 300);
        }
    }
}
