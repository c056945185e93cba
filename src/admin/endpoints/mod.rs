//! What each endpoint does: read its parameters, ask `control`, shape the answer.
//!
//! No decision about running state is made here; a refused change comes back as a `ChangeError` and is
//! turned into an answer in one place, [`Refusal`]. The names of the fields are public and stay.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use warp::http::StatusCode;

use super::METRICS_CONTENT_TYPE;
use super::params::Params;
use super::profile;
use super::reply::{self, Answer, Nothing, Refusal, granted};
use super::filter::App;
use crate::control::ChangeError;
use crate::counters::ModuleCounters;
use crate::group::view::{Candidate, GroupView, ServerView};
use crate::group::{ExplainError, Explanation, PickError};
use crate::policy::built_in;
use crate::policy::wasm::view::{ModuleState, ModuleView};
use crate::server::State;
use crate::sources::heartbeat::Keepalive;

/// How many sessions `session-list.do` shows.
const SESSIONS_SHOWN: usize = 1_000;

#[derive(Serialize)]
struct Heartbeat<'a> {
    server: &'a str,
    state: State,
    ttl_ms: u64,
    sessions: u32,
}

#[derive(Serialize)]
struct Sessions<T> {
    sessions: T,
}

#[derive(Serialize)]
struct Workers<'a> {
    list: Vec<&'a str>,
    servers: &'a [ServerView],
}

#[derive(Serialize)]
struct Groups {
    groups: Vec<GroupView>,
}

#[derive(Serialize)]
struct Policies {
    policies: Vec<PolicyView>,
}

/// A policy as `policy-list.do` shows it. What a built-in has no use for is null.
#[derive(Serialize)]
struct PolicyView {
    name: String,
    kind: &'static str,
    /// In `policies_dir`.
    file: Option<String>,
    version: Option<String>,
    sha256: Option<String>,
    state: ModuleState,
    error: Option<String>,
    calls: Option<u64>,
    faults: Option<u64>,
    fallbacks: Option<u64>,
    /// Ports of the groups that use it.
    groups: Vec<u16>,
}

#[derive(Serialize)]
struct Explained {
    server: Option<String>,
    policy: String,
    candidates: Vec<Candidate>,
    note: Option<String>,
}

#[derive(Serialize)]
struct Profiles {
    profiles: [&'static str; 2],
}

pub(super) async fn keepalive(app: Arc<App>, params: Params) -> Answer {
    let (group, server) = (params.group()?, params.server()?);
    let keepalive = Keepalive {
        weight: params.weight_if_any()?,
        state: params.state_if_any()?,
        zone: params.zone_if_any()?,
        load: params.load_if_any()?,
    };
    let control = &app.context.control;
    let view = control.keepalive(group, &server, keepalive).await?;
    // A server of the file has no lease; the time it would have tells it how often to come back.
    let ttl_ms = view.lease_ms.unwrap_or_else(|| {
        let config = control.config();
        let group = config.groups.iter().find(|known| known.settings.listen.port() == group);
        group.map_or(0, |group| crate::base::clock::as_ms(group.settings.heartbeat_timeout))
    });
    let msg = view.cause.as_ref().map(|cause| format!("known, but not online: {cause}"));
    let body = Heartbeat { server: &view.addr, state: view.state, ttl_ms, sessions: view.sessions };
    Ok(granted(msg.as_deref().unwrap_or("online"), body))
}

pub(super) async fn worker_list(app: Arc<App>, params: Params) -> Answer {
    let servers = app.context.control.group(params.group()?)?.servers();
    let list: Vec<&str> = servers.iter().filter(|server| server.online).map(|server| server.addr.as_str()).collect();
    let msg = format!("servers online: {} of {}", list.len(), servers.len());
    Ok(granted(&msg, Workers { list, servers: &servers }))
}

pub(super) async fn worker_remove(app: Arc<App>, params: Params) -> Answer {
    let (group, server) = (params.group()?, params.server()?);
    app.context.control.remove_server(group, &server).await?;
    Ok(granted("removed; its sessions go on", Nothing {}))
}

pub(super) async fn worker_state(app: Arc<App>, params: Params) -> Answer {
    let (group, server, state) = (params.group()?, params.server()?, params.state()?);
    let view = app.context.control.set_server_state(group, &server, state).await?;
    Ok(granted(&format!("state is {}", view.state), Sessions { sessions: view.sessions }))
}

pub(super) async fn group_open(app: Arc<App>, params: Params) -> Answer {
    let (group, policy) = (params.group()?, params.policy_if_any()?);
    let view = app.context.control.open_group(group, policy).await?;
    Ok(granted(&format!("listening on {}", view.listen), view))
}

pub(super) async fn group_close(app: Arc<App>, params: Params) -> Answer {
    let (group, closes_sessions) = (params.group()?, params.closes_sessions()?);
    let sessions = app.context.control.close_group(group, closes_sessions).await?;
    let msg = if closes_sessions { "closed, and its sessions ended" } else { "closed; its sessions go on" };
    Ok(granted(msg, Sessions { sessions }))
}

pub(super) async fn group_list(app: Arc<App>, _params: Params) -> Answer {
    let groups: Vec<GroupView> = app.context.control.groups().values().map(|group| group.view()).collect();
    Ok(granted(&format!("groups: {}", groups.len()), Groups { groups }))
}

pub(super) async fn group_policy(app: Arc<App>, params: Params) -> Answer {
    let (group, policy) = (params.group()?, params.policy()?);
    let view = app.context.control.set_policy(group, policy).await?;
    Ok(granted(&format!("policy is {}", view.policy), view))
}

pub(super) async fn session_list(app: Arc<App>, params: Params) -> Answer {
    let control = &app.context.control;
    let group = params.group_if_any()?;
    group.map(|port| control.group(port)).transpose()?;
    let list = control.sessions().list(group, SESSIONS_SHOWN);
    Ok(granted(&format!("sessions: the newest {} of {}", list.sessions.len(), list.total), list))
}

pub(super) async fn session_close(app: Arc<App>, params: Params) -> Answer {
    let id = params.id()?;
    if app.context.control.sessions().close(id) {
        return Ok(granted("ended", Nothing {}));
    }
    let msg = format!("no session {id}; session-list.do shows the sessions");
    Err(Refusal::new(StatusCode::NOT_FOUND, "session_not_found", msg))
}

/// On the blocking pool: the folder of the modules is read.
pub(super) async fn policy_list(app: Arc<App>, _params: Params) -> Answer {
    let control = Arc::clone(&app.context.control);
    let modules = blocking("internal", "the list of policies", move || control.policies().modules().views()).await?;
    let groups: Vec<GroupView> = app.context.control.groups().values().map(|group| group.view()).collect();
    let built_in = built_in::BUILT_IN.iter().map(|name| built_in(name, &groups));
    let policies: Vec<PolicyView> = built_in.chain(modules.into_iter().map(|module| wasm(module, &groups))).collect();
    Ok(granted(&format!("policies: {}", policies.len()), Policies { policies }))
}

/// On the blocking pool: a module may take as long as its deadline.
pub(super) async fn policy_explain(app: Arc<App>, params: Params) -> Answer {
    let (port, client, tried) = (params.group()?, params.client()?, params.tried()?);
    let group = app.context.control.group(port)?;
    let explained = blocking("internal", "the explanation", move || group.explain(client, &tried)).await?;
    let Explanation { server, policy, candidates, notes } = explained.map_err(|error| match error {
        ExplainError::ServerNotFound(server) => ChangeError::ServerNotFound { group: port, server }.into(),
        ExplainError::CannotRehearse(_) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "cannot_rehearse", format!("group {port}: {error}"))
        }
    })?;
    let ip = client.ip();
    let msg = match &server {
        Ok(server) => format!("{ip} would get {server}"),
        Err(PickError::NoServer) => format!("{ip} would get no server: none will do"),
        Err(error) => format!("{ip} would get no server: {error}"),
    };
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    let body = Explained { server: server.ok(), policy: policy.to_string(), candidates, note };
    Ok(granted(&msg, body))
}

pub(super) async fn config_reload(app: Arc<App>, _params: Params) -> Answer {
    let difference = app.context.control.reload().await?;
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

pub(super) async fn live(_app: Arc<App>, _params: Params) -> Answer {
    Ok(granted("live", Nothing {}))
}

pub(super) async fn ready(app: Arc<App>, _params: Params) -> Answer {
    if app.context.control.is_ready() {
        return Ok(granted("ready", Nothing {}));
    }
    let msg = "not ready: an open group does not listen yet, or the proxy is stopping";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", msg))
}

/// Written on the blocking pool: with thousands of servers the text has megabytes.
pub(super) async fn metrics(app: Arc<App>, _params: Params) -> Answer {
    let text = blocking("metrics_failed", "metrics", move || (app.context.metrics)()).await?;
    Ok(reply::bytes(METRICS_CONTENT_TYPE, text.into_bytes()))
}

pub(super) async fn profile_list(_app: Arc<App>, _params: Params) -> Answer {
    let body = Profiles { profiles: ["heap", "profile?seconds=30"] };
    Ok(granted("read them with go tool pprof and this program's binary", body))
}

pub(super) async fn heap_profile(_app: Arc<App>, _params: Params) -> Answer {
    profile::heap().await
}

pub(super) async fn cpu_profile(_app: Arc<App>, params: Params) -> Answer {
    let seconds = params.seconds_if_any(profile::SECONDS_MAX)?;
    profile::cpu(seconds.unwrap_or(profile::SECONDS_DEFAULT)).await
}

/// Runs what may take a while where it delays nobody.
async fn blocking<T: Send + 'static>(
    code: &'static str,
    what: &str,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(job).await.map_err(|error| {
        tracing::error!(%error, what, "admin answer ended by a fault of ours");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, format!("{what} could not be written; the log says more"))
    })
}

fn users(policy: &str, groups: &[GroupView]) -> Vec<u16> {
    groups.iter().filter(|view| view.policy == policy).map(|view| view.group).collect()
}

fn wasm(module: ModuleView, groups: &[GroupView]) -> PolicyView {
    let ModuleView { name, file, version, sha256, state, error, counters } = module;
    let counters = counters.as_deref();
    PolicyView {
        groups: users(&name, groups),
        name: name.to_string(),
        kind: "wasm",
        file: Some(file),
        version,
        sha256,
        state,
        error,
        calls: counters.map(|counters| counters.picks.load(Relaxed)),
        faults: counters.map(ModuleCounters::faults_total),
        fallbacks: counters.map(|counters| counters.fallbacks.load(Relaxed)),
    }
}

fn built_in(name: &'static str, groups: &[GroupView]) -> PolicyView {
    PolicyView {
        name: name.into(),
        kind: "built_in",
        file: None,
        version: None,
        sha256: None,
        state: ModuleState::Loaded,
        error: None,
        calls: None,
        faults: None,
        fallbacks: None,
        groups: users(name, groups),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::FaultKind;

    fn group(port: u16, policy: &str) -> GroupView {
        GroupView {
            group: port,
            listen: format!("0.0.0.0:{port}"),
            open: true,
            policy: policy.to_owned(),
            sessions: 0,
            servers_online: 0,
            servers_total: 0,
        }
    }

    #[test]
    fn a_module_is_listed_with_what_it_did_and_the_groups_that_name_it() {
        let counters = Arc::<ModuleCounters>::default();
        counters.picks.store(3, Relaxed);
        counters.fault(FaultKind::Trap);
        counters.fault(FaultKind::Deadline);
        counters.fallbacks.store(4, Relaxed);
        let module = ModuleView {
            name: "wasm:sticky".into(),
            file: "sticky.wasm".to_owned(),
            version: Some("1.2.3".to_owned()),
            sha256: Some("ab".repeat(32)),
            state: ModuleState::Quarantined,
            error: Some("pick took too long".to_owned()),
            counters: Some(counters),
        };
        let groups = [group(1, "wasm:sticky"), group(2, "ha"), group(3, "wasm:sticky2"), group(4, "wasm:sticky")];
        let shown = serde_json::to_value(wasm(module, &groups)).unwrap();
        let expected = serde_json::json!({
            "name": "wasm:sticky", "kind": "wasm", "file": "sticky.wasm", "version": "1.2.3",
            "sha256": "ab".repeat(32), "state": "quarantined", "error": "pick took too long",
            "calls": 3, "faults": 2, "fallbacks": 4, "groups": [1, 4],
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_module_that_no_group_names_has_done_nothing_that_could_be_told() {
        let module = ModuleView {
            name: "wasm:idle".into(),
            file: "idle.wat".to_owned(),
            version: None,
            sha256: None,
            state: ModuleState::Available,
            error: None,
            counters: None,
        };
        let shown = serde_json::to_value(wasm(module, &[group(1, "ha")])).unwrap();
        assert_eq!((&shown["state"], &shown["groups"]), (&"available".into(), &serde_json::json!([])));
        for name in ["version", "sha256", "error", "calls", "faults", "fallbacks"] {
            assert!(shown[name].is_null(), "{name}");
        }
    }
}
