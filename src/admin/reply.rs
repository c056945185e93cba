//! What an answer looks like: JSON with `ok` and `msg`, and for a refusal a stable `code` and a true status.
//!
//! Every refusal of the admin port is a [`Refusal`], whoever refuses; the one place that gives a refused
//! change its status and code is here too. Serializing goes straight from the structs to bytes, because
//! heartbeats come by the thousand.

use serde::Serialize;
use warp::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};
use warp::http::{HeaderValue, StatusCode};

use super::codes;
use crate::base::text::echo;
use crate::config::Problem;
use crate::control::ChangeError;

pub(super) type Response = warp::reply::Response;

/// What every endpoint returns.
pub(super) type Answer = Result<Response, Refusal>;

/// A request that is not granted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Stable, for scripts.
    pub(super) code: &'static str,
    /// For people: *place: what is wrong with which value; what was expected*.
    pub(super) msg: String,
    pub(super) more: More,
}

/// What some refusals carry besides.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum More {
    Nothing,
    /// The methods that would do.
    Allow(&'static str),
    /// A token is wanted.
    Authenticate,
    /// The rest of the request is not read, so the connection cannot be used again.
    Close,
    /// Every mistake in the file.
    Errors(Vec<Problem>),
}

/// What the log says of an answer, handed from the endpoint to the place that logs.
#[derive(Clone, Debug, Default)]
pub(super) struct Note {
    /// The refusal's code; `None` for an answer that is ok.
    pub(super) code: Option<&'static str>,
    pub(super) group: Option<Box<str>>,
    pub(super) server: Option<Box<str>>,
    /// It changed nothing and comes by the thousand.
    pub(super) is_routine: bool,
    /// An operator has changed something.
    pub(super) is_change: bool,
}

/// Goes with an answer to a request that changed nothing and comes by the thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routine;

/// An answer that has nothing to say but `ok` and `msg`.
#[derive(Serialize)]
pub(super) struct Nothing {}

#[derive(Serialize)]
struct Granted<'a, T> {
    ok: bool,
    msg: &'a str,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct Refused<'a> {
    ok: bool,
    code: &'static str,
    msg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [Problem]>,
}

/// A positive answer with the fields of `body` beside `ok` and `msg`.
pub(super) fn granted(msg: &str, body: impl Serialize) -> Response {
    json(StatusCode::OK, &Granted { ok: true, msg, body })
}

/// Any bytes, for what is not JSON: metrics and profiles.
pub(super) fn bytes(content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, msg: impl Into<String>) -> Self {
        Self { status, code, msg: msg.into(), more: More::Nothing }
    }

    /// Input that cannot be used.
    pub(super) fn bad(code: &'static str, msg: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, msg)
    }

    pub(super) fn with(self, more: More) -> Self {
        Self { more, ..self }
    }

    pub(super) fn into_response(self) -> Response {
        let status = self.status.as_u16();
        debug_assert!(codes::is_documented(status, self.code), "{status} {} belongs into codes.rs", self.code);
        let errors = match &self.more {
            More::Errors(problems) => Some(problems.as_slice()),
            _ => None,
        };
        let mut response = json(self.status, &Refused { ok: false, code: self.code, msg: &self.msg, errors });
        let mut set = |name: HeaderName, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
        match self.more {
            More::Allow(methods) => set(ALLOW, methods),
            More::Authenticate => set(WWW_AUTHENTICATE, "Bearer"),
            More::Close => set(CONNECTION, "close"),
            More::Nothing | More::Errors(_) => None,
        };
        response.extensions_mut().insert(Note { code: Some(self.code), ..Note::default() });
        response
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        let msg = match &error {
            // Both repeat an address of up to 255 characters that somebody sent.
            ChangeError::ServerNotFound { group, server } => {
                format!("group {group} has no server {}; worker-list.do shows its servers", echo(server.as_str()))
            }
            ChangeError::ServerRefused { server, why } => format!("{} may not register: {why}", echo(server.as_str())),
            other => other.to_string(),
        };
        let (status, code) = match &error {
            ChangeError::GroupNotFound(_) | ChangeError::CannotOpen(_) => (StatusCode::NOT_FOUND, "group_not_found"),
            ChangeError::GroupAmbiguous { .. } => (StatusCode::CONFLICT, "group_ambiguous"),
            ChangeError::ServerNotFound { .. } => (StatusCode::NOT_FOUND, "server_not_found"),
            ChangeError::ServerRefused { .. } => (StatusCode::FORBIDDEN, "server_refused"),
            ChangeError::TooManyServers { .. } => (StatusCode::CONFLICT, "too_many_servers"),
            ChangeError::Unfit(_) => (StatusCode::BAD_REQUEST, "not_accepted"),
            ChangeError::Listen { .. } => (StatusCode::CONFLICT, "cannot_listen"),
            ChangeError::AccessLog { .. } => (StatusCode::CONFLICT, "cannot_open_log"),
            ChangeError::Policy { .. } => (StatusCode::BAD_REQUEST, "policy_refused"),
            ChangeError::FileInvalid { .. } => (StatusCode::CONFLICT, "file_invalid"),
            ChangeError::Persist { .. } | ChangeError::StateFile { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "cannot_persist")
            }
            ChangeError::NoStateFile => (StatusCode::NOT_FOUND, "no_state_file"),
            ChangeError::NoRecordDir => (StatusCode::FORBIDDEN, "no_record_dir"),
            ChangeError::Recording { .. } => (StatusCode::CONFLICT, "recording"),
            ChangeError::NotRecording(_) => (StatusCode::CONFLICT, "not_recording"),
            ChangeError::TooManyRecordings { .. } => (StatusCode::CONFLICT, "too_many_recordings"),
            ChangeError::Shadowed { .. } => (StatusCode::CONFLICT, "shadowed"),
            ChangeError::NotShadowed(_) => (StatusCode::CONFLICT, "not_shadowed"),
            ChangeError::SamePolicy(_) => (StatusCode::BAD_REQUEST, "same_policy"),
            ChangeError::Busy(_) => (StatusCode::CONFLICT, "policy_changed"),
            ChangeError::RecordFailed(_) => (StatusCode::SERVICE_UNAVAILABLE, "record_failed"),
            ChangeError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            ChangeError::Upgrading => (StatusCode::SERVICE_UNAVAILABLE, "upgrading"),
        };
        let more = match error {
            ChangeError::FileInvalid { problems, .. } => More::Errors(problems),
            _ => More::Nothing,
        };
        Self { status, code, msg, more }
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut text = serde_json::to_vec(body).expect("an answer has string keys and no failing part");
    // So that a shell's prompt, or the next answer, begins on a line of its own.
    text.push(b'\n');
    let mut response = bytes("application/json", text);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::policy::wasm::ModuleError;

    async fn read(response: Response) -> (StatusCode, warp::http::HeaderMap, String) {
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let line = text.strip_suffix('\n').expect("an answer ends with a newline");
        (head.status, head.headers, line.to_owned())
    }

    #[tokio::test]
    async fn fields_stand_beside_ok_and_msg() {
        #[derive(Serialize)]
        struct Body {
            sessions: u32,
        }
        let (status, headers, text) = read(granted("done", Body { sessions: 3 })).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, r#"{"ok":true,"msg":"done","sessions":3}"#));
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(read(granted("done", Nothing {})).await.2, r#"{"ok":true,"msg":"done"}"#);
    }

    #[tokio::test]
    async fn a_refusal_has_a_code_its_status_and_its_headers() {
        let refusal = Refusal::bad("bad_parameter", "group: cannot use \"\u{1}\"; expected a port");
        let (status, _, text) = read(refusal.into_response()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(
            text,
            r#"{"ok":false,"code":"bad_parameter","msg":"group: cannot use \"\u0001\"; expected a port"}"#
        );
        let header =
            async |more, name| read(Refusal::bad("bad_body", "x").with(more).into_response()).await.1[name].clone();
        assert_eq!(header(More::Authenticate, WWW_AUTHENTICATE).await, "Bearer");
        assert_eq!(header(More::Allow("POST"), ALLOW).await, "POST");
        assert_eq!(header(More::Close, CONNECTION).await, "close");
    }

    #[tokio::test]
    async fn a_refused_change_has_its_status_code_and_text() {
        let server = || "db:1".parse().unwrap();
        let io = || std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
        let problem = Problem { line: 3, column: 5, path: "groups[0].listen".to_owned(), message: "bad".to_owned() };
        for (error, status, code) in [
            (ChangeError::GroupNotFound(1.into()), 404, "group_not_found"),
            (ChangeError::CannotOpen(1.into()), 404, "group_not_found"),
            (ChangeError::NoStateFile, 404, "no_state_file"),
            (ChangeError::NoRecordDir, 403, "no_record_dir"),
            (ChangeError::Recording { group: 1.into(), file: "f".to_owned() }, 409, "recording"),
            (ChangeError::NotRecording(1.into()), 409, "not_recording"),
            (ChangeError::TooManyRecordings { folder: "f".to_owned(), max: 8 }, 409, "too_many_recordings"),
            (ChangeError::Shadowed { group: 1.into(), candidate: "p2c".to_owned() }, 409, "shadowed"),
            (ChangeError::NotShadowed(1.into()), 409, "not_shadowed"),
            (ChangeError::SamePolicy(1.into()), 400, "same_policy"),
            (ChangeError::Busy(1.into()), 409, "policy_changed"),
            (ChangeError::RecordFailed("why".to_owned()), 503, "record_failed"),
            (ChangeError::GroupAmbiguous { port: 1, names: "a, b".into() }, 409, "group_ambiguous"),
            (ChangeError::ServerNotFound { group: 1.into(), server: server() }, 404, "server_not_found"),
            (ChangeError::ServerRefused { server: server(), why: "why".to_owned() }, 403, "server_refused"),
            (ChangeError::TooManyServers { group: 1.into(), max: 2 }, 409, "too_many_servers"),
            (
                ChangeError::Listen { listen: "0.0.0.0:1".parse().unwrap(), source: std::sync::Arc::new(io()) },
                409,
                "cannot_listen",
            ),
            (
                ChangeError::Persist { action: "write", path: "p".to_owned(), source: std::sync::Arc::new(io()) },
                503,
                "cannot_persist",
            ),
            (
                ChangeError::Policy { group: 1.into(), source: ModuleError::Proxy("why".to_owned()) },
                400,
                "policy_refused",
            ),
            (ChangeError::AccessLog { path: "p".to_owned(), why: "why".to_owned() }, 409, "cannot_open_log"),
            (ChangeError::Stopping, 503, "stopping"),
            (ChangeError::Upgrading, 503, "upgrading"),
        ] {
            let text = error.to_string();
            let refusal = Refusal::from(error);
            assert_eq!((refusal.status.as_u16(), refusal.code, refusal.msg), (status, code, text));
        }
        let error = ChangeError::FileInvalid { path: "proxy.json".to_owned(), problems: vec![problem] };
        let (status, _, text) = read(Refusal::from(error).into_response()).await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &json["code"]), (StatusCode::CONFLICT, &"file_invalid".into()));
        let expected = r#"[{"line":3,"column":5,"path":"groups[0].listen","message":"bad"}]"#;
        assert_eq!(json["errors"].to_string(), expected);
    }

    #[test]
    fn a_refused_change_repeats_no_long_address() {
        let server: crate::server::ServerAddr =
            format!("{}:1", ["a".repeat(60), "b".repeat(60)].join(".")).parse().unwrap();
        let why = "not in register_allow".to_owned();
        for error in [
            ChangeError::ServerNotFound { group: 1.into(), server: server.clone() },
            ChangeError::ServerRefused { server, why },
        ] {
            let refusal = Refusal::from(error);
            assert!(!refusal.msg.contains(&"b".repeat(10)) && refusal.msg.contains('…'), "{}", refusal.msg);
        }
    }
}
