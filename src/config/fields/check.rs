//! The keys of `check`.

use std::time::Duration;

use jsonc_parser::ast::Value;

use super::MINUTE_MS;
use super::server_tls::server_tls;
use crate::config::declare::{Fields, settings};
use crate::config::key::keys;
use crate::config::kinds::{
    Time, bytes, http_headers, http_host, http_path, http_status, list, matching, optional, password, section_with,
    shared, switch, text, time, whole, with_tls, word,
};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::time_text;
use crate::group::GroupSettings;
use crate::group::check::{CheckKind, CheckRole, CheckSettings, CheckStart, HttpMethod, StatusSet, Step};
use crate::group::ejection::EjectSettings;
use crate::server::SendProxy;
use crate::tls::ServerTlsName;

const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Most steps of an exchange.
const STEPS_MAX: usize = 16;
/// Longest name of a user, in bytes.
const USER_LEN_MAX: usize = 128;

/// What the times of `eject` may be.
const TIME: Time = time(100, HOUR_MS);
const MAX_TIME: Time = time(100, 24 * HOUR_MS);

settings! {
    impl CheckSettings {
        /// What a check does. tcp: it connects; tls: it shakes hands, and the server proves who it is; exchange: it sends bytes and looks at the answer; http: it asks for a page;
        /// redis, postgresql, mysql: it talks to such a server. Each ends the connection in order.
        kind as word::<CheckKind>(), AtOnce;
        /// The port that is checked, on the server's host; 0 for the server's own.
        port as whole::<u16>(0, u16::MAX as u64) => 0, AtOnce;
        /// The pause between two checks while the server is up.
        interval as time(100, HOUR_MS) => Duration::from_secs(2), AtOnce;
        /// The pause while the server's state is changing or not known yet; null for a quarter of interval, at least 100ms.
        fast_interval as optional(time(50, HOUR_MS)), AtOnce;
        /// The pause while the server is down; null for interval.
        down_interval as optional(time(100, HOUR_MS)), AtOnce;
        /// How long a check may take, but for its orderly end; null for interval, at most 2s.
        timeout as optional(time(10, MINUTE_MS)), AtOnce;
        /// Passes in a row after which a server that is down is up.
        rise as whole::<u32>(1, 100) => 2, AtOnce;
        /// Failures in a row after which a server that is up is down.
        fall as whole::<u32>(1, 100) => 3, AtOnce;
        /// By how many percent each pause is longer or shorter, so that checks spread.
        jitter as whole::<u32>(0, 50) => 10, AtOnce;
        /// What a new server counts as until its first check. up: it gets clients at once; down: it gets none; checked: it
        /// gets none, and /ready waits for the check.
        start as word::<CheckStart>() => CheckStart::Up, AtOnce;
        /// True: a session that connected counts as a check that passed. Only with kind tcp on the server's own port.
        traffic_counts as switch() => true, AtOnce;
        /// The PROXY header that a check begins with. v1: with the addresses of its own connection; v2: LOCAL; null: as sessions
        /// with the server where the check goes to the server's own port, otherwise none.
        send_proxy as optional(word::<SendProxy>()), AtOnce;
        /// How a check speaks TLS, written as server_tls of a group is; null: as sessions with the server where the check goes to the
        /// server's own port or is one of kind tls, otherwise not at all. Not with kind tcp.
        server_tls as optional(shared(with_tls(server_tls()))), AtOnce;
        /// With kind exchange: what is sent.
        send as optional(bytes()), AtOnce;
        /// With kind exchange: what the answer has to be like. An object says prefix, contains or regex, and may say
        /// "not": true.
        expect as optional(matching()), AtOnce;
        /// With kind exchange, in the place of send and expect: objects with send, expect or both. Each expect looks at what
        /// has come since the last send, 16 KiB at most.
        steps as list(section_with(check_step), STEPS_MAX) => Vec::new(), AtOnce;
        /// With kind http: the method of the request.
        method as word::<HttpMethod>() => HttpMethod::Get, AtOnce;
        /// With kind http: what is asked for.
        path as http_path() => "/".to_owned(), AtOnce;
        /// With kind http: the header Host; null for the server's address as configured.
        host as optional(http_host()), AtOnce;
        /// With kind http: more headers, names with text as values.
        headers as http_headers() => Vec::new(), AtOnce;
        /// With kind http: the statuses with which the check passes; redirects are not followed.
        status as http_status() => StatusSet::default(), AtOnce;
        /// With kind http: what the body has to be like, of which 16 KiB are read; written as expect is.
        body as optional(matching()), AtOnce;
        /// With kind redis: what the server has to be.
        role as word::<CheckRole>() => CheckRole::Any, AtOnce;
        /// Who logs in. redis: beside password, where the server has users; postgresql: null for postgres; mysql: required,
        /// somebody without password and rights.
        user as optional(text()), AtOnce;
        /// With kind redis: the password: the text itself, env:NAME or file:PATH (relative to the folder of this file).
        password as optional(password()), AtOnce;
    }
}

settings! {
    impl Step {
        /// What is sent.
        send as optional(bytes()), AtOnce;
        /// What the answer has to be like.
        expect as optional(matching()), AtOnce;
    }
}

/// The kinds that a key belongs to, where it does not belong to all.
fn kinds_of(key: &str) -> Option<&'static [CheckKind]> {
    use CheckKind::{Exchange, Http, Mysql, Postgresql, Redis, Tls};
    match key {
        "send" | "expect" | "steps" => Some(&[Exchange]),
        "method" | "path" | "host" | "headers" | "status" | "body" => Some(&[Http]),
        "server_tls" => Some(&[Tls, Exchange, Http, Redis, Postgresql, Mysql]),
        "role" | "password" => Some(&[Redis]),
        "user" => Some(&[Redis, Postgresql, Mysql]),
        _ => None,
    }
}

/// Reports checks of a group that should speak TLS as its sessions do, and cannot.
pub(super) fn check_tls_of_check(reader: &mut Reader, object: &Object, settings: &GroupSettings) {
    let Some(check) = settings.check.as_ref().filter(|check| check.speaks_tls_as_sessions()) else { return };
    let message = match &settings.server_tls {
        None if check.kind == CheckKind::Tls => {
            "kind \"tls\" has to be told how servers speak TLS; expected server_tls in the group, or in its check"
        }
        Some(tls) if tls.name == ServerTlsName::Client => {
            "checks have no client whose name they could ask for, as server_tls says; expected server_tls with a name in check"
        }
        _ => return,
    };
    reader.problems.add(object.offset("check"), Place::Key(object.place, "check"), message);
}

/// True for a key that says something of this check.
pub(super) fn is_check_key(check: &CheckSettings, key: &str) -> bool {
    match key {
        "traffic_counts" => !check.traffic_counts || check.is_proven_by_traffic(),
        // What is not there is not said: one of them would exclude the others.
        "send" => check.send.is_some(),
        "expect" => check.expect.is_some(),
        "steps" => !check.steps.is_empty(),
        key => kinds_of(key).is_none_or(|kinds| kinds.contains(&check.kind)),
    }
}

/// Reports a step that does nothing.
fn check_step(reader: &mut Reader, object: &Object, _: &Step) {
    if !object.says("send") && !object.says("expect") {
        reader.problems.add(object.offset(""), object.place, "the step does nothing; expected send, expect or both");
    }
}

settings! {
    impl EjectSettings {
        /// After so many faults in a row: connects that failed, or sessions that the server reset before a byte came.
        failures as whole::<u32>(1, 1_000) => 5, AtOnce;
        /// For how long, the first time; each further time doubles it.
        time as TIME => Duration::from_secs(10), AtOnce;
        /// The longest time; it is halved again for each such time without an ejection.
        max_time as MAX_TIME => Duration::from_secs(300), AtOnce;
        /// At most so many percent of the group's servers at a time, rounded down.
        max_percent as whole::<u32>(0, 100) => 50, AtOnce;
    }
}

/// Reports what does not fit together within `eject`.
pub(super) fn check_eject(reader: &mut Reader, object: &Object, eject: &EjectSettings) {
    if eject.max_time < eject.time {
        let (time, max) = (time_text(eject.time), time_text(eject.max_time));
        let message = format!("{max} is shorter than the time of {time}; expected at least that");
        reader.problems.add(object.offset("max_time"), Place::Key(object.place, "max_time"), message);
    }
}

/// Reports what does not fit together within `check`.
pub(super) fn check_check(reader: &mut Reader, object: &Object, check: &CheckSettings) {
    check_times(reader, object, check);
    for (name, kinds) in keys(CheckSettings::TABLE, false).filter_map(|key| Some((key.name, kinds_of(key.name)?))) {
        if object.says(name) && !kinds.contains(&check.kind) {
            report(reader, object, name, format!("only with kind {}", listed(kinds)));
        }
    }
    if check.server_tls.as_ref().is_some_and(|tls| tls.name == ServerTlsName::Client) {
        report(
            reader,
            object,
            "server_tls",
            "a check has no client whose name it could ask for; expected null or a name".to_owned(),
        );
    }
    match check.kind {
        CheckKind::Exchange => check_exchange(reader, object, check),
        CheckKind::Http if check.body.is_some() && check.method == HttpMethod::Head => {
            report(reader, object, "body", "an answer to HEAD has no body; expected another method".to_owned());
        }
        CheckKind::Redis if object.says("user") && !object.says("password") => {
            report(
                reader,
                object,
                "user",
                "a user without a password is not asked for; expected password too".to_owned(),
            );
        }
        CheckKind::Mysql if !object.says("user") => {
            let why = "required with kind \"mysql\": MySQL locks out a proxy that never logs in; \
                       CREATE USER 'goproxy'@'%'";
            report(reader, object, "user", why.to_owned());
        }
        _ => {}
    }
    if check.user.as_ref().is_some_and(|user| user.len() > USER_LEN_MAX || user.contains(char::is_control)) {
        let message = format!("expected at most {USER_LEN_MAX} bytes without control characters");
        report(reader, object, "user", message);
    }
}

fn report(reader: &mut Reader, object: &Object, name: &str, message: String) {
    reader.problems.add(object.offset(name), Place::Key(object.place, name), message);
}

fn check_times(reader: &mut Reader, object: &Object, check: &CheckSettings) {
    let interval = time_text(check.interval);
    if check.timeout() > check.interval {
        let timeout = time_text(check.timeout());
        let message = format!(
            "{timeout} is longer than the interval of {interval}; expected a check to be over before the next begins"
        );
        report(reader, object, "timeout", message);
    }
    if let Some(fast) = check.fast_interval.filter(|fast| *fast > check.interval) {
        let message = format!("{} is longer than the interval of {interval}; expected at most that", time_text(fast));
        report(reader, object, "fast_interval", message);
    }
    if object.says("traffic_counts") && check.traffic_counts && !check.is_proven_by_traffic() {
        let message = "true proves nothing here; expected it only with kind tcp on the server's own port";
        report(reader, object, "traffic_counts", message.to_owned());
    }
}

fn check_exchange(reader: &mut Reader, object: &Object, check: &CheckSettings) {
    let has_pair = object.says("send") || object.says("expect");
    let has_steps = object.value("steps").and_then(Value::as_array).is_some_and(|list| !list.elements.is_empty());
    if !has_pair && !has_steps {
        let message = "kind \"exchange\" needs \"send\" or \"expect\", or \"steps\"";
        reader.problems.add(object.offset("kind"), object.place, message);
    }
    if has_pair && has_steps {
        let message = "there are send or expect as well; expected either those or steps";
        report(reader, object, "steps", message.to_owned());
    }
    let steps = Place::Key(object.place, "steps");
    for (index, step) in check.steps.iter().enumerate().take(check.steps.len().saturating_sub(1)) {
        if step.expect.as_ref().is_some_and(|expect| !expect.is_decided_early()) {
            let place = Place::Index(&steps, index);
            let message = "with not it waits for the end of the answer; expected it in the last step";
            reader.problems.add(object.offset("steps"), Place::Key(&place, "expect"), message);
        }
    }
}

/// `redis, postgresql or mysql`.
fn listed(kinds: &[CheckKind]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
