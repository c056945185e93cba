//! The process: its file, its health, its metrics and its profiles.

use serde::Serialize;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, VARY};

use super::endpoint::Call;
use crate::admin::blocking::blocking;
use crate::admin::gzip;
use crate::admin::params::{NoParams, Value, deserialize_values, number, params};
use crate::admin::profile;
use crate::admin::reply::{self, Answer, Nothing, Refusal, granted};
use crate::control::{GroupParam, UpgradeError, Upgraded};
use crate::metrics::{self, Format};

/// How long a CPU profile takes.
#[derive(Debug)]
pub(super) struct Seconds(u64);

deserialize_values!(Seconds);

impl Value for Seconds {
    const EXPECTED: &'static str = "a number of 1 to 120";

    fn read(text: &str) -> Result<Self, String> {
        number(text, 1, profile::SECONDS_MAX, Self::EXPECTED).map(Self)
    }
}

params! {
    struct CpuProfile {
        /// For how long samples are taken; 30 when it is left out.
        seconds: Option<Seconds>,
    }
}

params! {
    struct Scrape {
        /// Only what is counted of this group and of its servers.
        group: Option<GroupParam>,
    }
}

#[derive(Serialize)]
struct NewProcess {
    pid: u32,
    version: String,
    sessions_left: u64,
}

#[derive(Serialize)]
struct Profiles {
    profiles: [&'static str; 2],
}

pub(super) async fn reload(call: Call, _: NoParams) -> Answer {
    let difference = call.control().reload().await?;
    let (opened, closed, changed) = (difference.opened.len(), difference.closed.len(), difference.changed.len());
    let mut parts = Vec::new();
    if opened + closed + changed > 0 {
        parts.push(format!("groups: {opened} opened, {closed} closed, {changed} changed"));
    }
    for (what, keys) in [("changed", &difference.settings), ("at the next start", &difference.at_restart)] {
        if !keys.is_empty() {
            parts.push(format!("{what}: {}", keys.join(", ")));
        }
    }
    let msg = if parts.is_empty() { "nothing has changed".to_owned() } else { parts.join("; ") };
    Ok(granted(&msg, difference))
}

pub(super) async fn upgrade(call: Call, _: NoParams) -> Answer {
    let Upgraded { pid, version, sessions_left } = call.control().upgrade().await.map_err(|error| {
        let code = match error {
            UpgradeError::Refused(_) => "cannot_upgrade",
            UpgradeError::Failed { .. } => "upgrade_failed",
        };
        Refusal::new(StatusCode::CONFLICT, code, error.to_string())
    })?;
    let msg = format!("process {pid}, version {version}, has taken over");
    Ok(granted(&msg, NewProcess { pid, version, sessions_left }))
}

pub(super) async fn live(_: Call, _: NoParams) -> Answer {
    Ok(granted("live", Nothing {}))
}

pub(super) async fn ready(call: Call, _: NoParams) -> Answer {
    if call.control().is_ready() {
        return Ok(granted("ready", Nothing {}));
    }
    let msg = "not ready: an open group does not listen yet, or the proxy is stopping";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", msg))
}

/// Written and packed on the blocking pool: with thousands of servers the text has megabytes.
pub(super) async fn metrics(call: Call, params: Scrape) -> Answer {
    let accept: Vec<&str> = call.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let (control, format) = (call.control().clone(), Format::for_accept(&accept.join(",")));
    let only = params.group.map(|group| control.group(&group)).transpose()?;
    let is_packed = gzip::is_accepted(&call.headers);
    let write = move || {
        let text = metrics::of(&control, only.as_deref(), format).into_bytes();
        if is_packed { gzip::pack(&text) } else { text }
    };
    let body = blocking("metrics_failed", "the metrics", write).await?;
    let mut response = reply::bytes(format.content_type(), body);
    if is_packed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    // The answer depends on both.
    for header in [ACCEPT, ACCEPT_ENCODING] {
        response.headers_mut().append(VARY, HeaderValue::from(header));
    }
    Ok(response)
}

pub(super) async fn profiles(_: Call, _: NoParams) -> Answer {
    let body = Profiles { profiles: ["heap", "profile?seconds=30"] };
    Ok(granted("read them with go tool pprof and this program's binary", body))
}

pub(super) async fn heap_profile(_: Call, _: NoParams) -> Answer {
    profile::heap().await
}

pub(super) async fn cpu_profile(_: Call, params: CpuProfile) -> Answer {
    profile::cpu(params.seconds.map_or(profile::SECONDS_DEFAULT, |seconds| seconds.0)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_takes_seconds_within_its_limit() {
        assert_eq!(Seconds::read("120").unwrap().0, 120);
        assert!(Seconds::EXPECTED.ends_with(&profile::SECONDS_MAX.to_string()));
        for text in ["0", "121", "1s", "-1"] {
            assert!(Seconds::read(text).is_err(), "{text}");
        }
    }
}
