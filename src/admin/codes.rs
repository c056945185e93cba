//! Every code that a refusal can have, with its status, for the documents.

/// Status, code, and when it is given.
///
/// Codes are for scripts: they stay.
pub const CODES: &[(u16, &str, &str)] = &[
    (400, "missing_parameter", "a required parameter was not sent"),
    (400, "unknown_parameter", "the endpoint has no such parameter"),
    (400, "repeated_parameter", "a parameter was sent more than once"),
    (400, "empty_parameter", "a parameter was sent without a value"),
    (400, "bad_parameter", "a value cannot be used; `msg` says what was expected"),
    (400, "bad_encoding", "a name or a value is not percent-encoded UTF-8"),
    (400, "unknown_policy", "no policy can have this name"),
    (400, "policy_refused", "the module of the policy is not there or is unfit"),
    (400, "not_accepted", "the change would make a file with mistakes"),
    (400, "bad_body", "the body broke off or is badly framed"),
    (400, "bad_host", "`Host` is missing or was sent twice"),
    (401, "unauthorized", "the token is missing or wrong"),
    (403, "token_not_enough", "the register token, or the read token, does not allow this"),
    (403, "foreign_host", "`Host` is a name that is not known to mean this machine, and no token is configured"),
    (403, "cross_site", "a web page of another site asks"),
    (403, "no_record_dir", "recording writes files, and `record_dir` does not say where"),
    (403, "server_refused", "this address may not register"),
    (404, "unknown_path", "no endpoint has this path"),
    (404, "group_not_found", "no group has this name, port or address"),
    (404, "server_not_found", "the group has no such server"),
    (404, "no_state_file", "the file has no `state_file`: changes are written into the file itself"),
    (404, "session_not_found", "no session has this id"),
    (405, "method_not_allowed", "the endpoint does not answer this method; `Allow` names those that it does"),
    (408, "body_timeout", "the body was not complete in time"),
    (409, "group_ambiguous", "several groups have this port; `msg` names them"),
    (409, "no_check", "the group has no check, or not for this server"),
    (409, "not_checked", "the server is not checked now"),
    (409, "cannot_listen", "the port cannot be opened"),
    (409, "cannot_open_log", "the file of an access log cannot be opened"),
    (409, "file_invalid", "the file on disk has mistakes; `errors` names all of them"),
    (409, "recording", "the picks of the group are recorded already"),
    (409, "not_recording", "the picks of the group are not recorded"),
    (409, "too_many_recordings", "`record_dir` has as many recordings as it may"),
    (409, "too_many_servers", "the group has as many servers as it may"),
    (409, "profile_running", "a profile of this kind is being taken"),
    (413, "body_too_large", "the body has more than 64 KiB"),
    (415, "unsupported_media_type", "the body is not a form"),
    (500, "internal", "the change failed with an internal error; the log says more"),
    (503, "internal", "the answer failed with an internal error; the log says more"),
    (503, "cannot_persist", "the file cannot be read or written"),
    (503, "record_failed", "a recording cannot begin: its file or a fresh policy cannot be made"),
    (503, "cannot_rehearse", "the policy cannot be asked without a client"),
    (503, "not_ready", "an open group does not listen yet, or the proxy is stopping"),
    (503, "stopping", "the proxy is stopping: it takes no change and tells no events"),
    (503, "too_many_connections", "the admin port answers as many requests as it can"),
    (503, "too_many_viewers", "as many callers watch events as may"),
    (503, "too_many_changes", "the admin port has as many changes under way as it can"),
    (503, "metrics_failed", "the metrics could not be written; the log says more"),
    (503, "profile_failed", "the profile could not be taken"),
    (503, "profiling_inactive", "the allocator's profiling is off"),
];

/// True for a code that is documented with this status.
pub(super) fn is_documented(status: u16, code: &str) -> bool {
    CODES.iter().any(|(known, name, _)| (*known, *name) == (status, code))
}
