//! The servers of a group: heartbeats, lists, and what an operator wants of a server.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use warp::http::StatusCode;

use super::endpoint::Call;
use super::values::{Load, Server, Sessions, Wait, Wanted, Weight, Zone};
use crate::admin::guard::Rights;
use crate::admin::params::params;
use crate::admin::reply::{Answer, Refusal, Routine, granted};
use crate::base::text::echo;
use crate::control::{ChangeError, GroupParam, KeepaliveOutcome};
use crate::group::Said;
use crate::group::check::LastCheck;
use crate::group::view::ServerView;
use crate::server::{Live, Origin, State};
use crate::sources::heartbeat;

/// How long a check may take that was asked for, with its place in the queue.
const CHECK_WAIT: Duration = Duration::from_secs(65);

params! {
    struct Keepalive {
        /// The group that the server belongs to.
        group: GroupParam,
        /// The address at which the proxy reaches the server.
        server: Server,
        /// The server's share of the sessions.
        weight: Option<Weight>,
        /// What the server wants for itself.
        state: Option<Wanted>,
        /// Where the server stands; kept as its label `zone`.
        zone: Option<Zone>,
        /// The server's own idea of its load in per cent, for policies; kept in memory only.
        load: Option<Load>,
    }
}

params! {
    struct List {
        /// The group.
        group: GroupParam,
    }
}

params! {
    struct Remove {
        /// The group.
        group: GroupParam,
        /// The server.
        server: Server,
        /// What becomes of its sessions; without it, what `on_down` of the group says.
        sessions: Option<Sessions>,
        /// How long to wait until it has no session left.
        wait: Option<Wait>,
    }
}

params! {
    struct SetState {
        /// The group.
        group: GroupParam,
        /// The server.
        server: Server,
        /// What is wanted of it.
        state: Wanted,
        /// How long to wait until it has no session left.
        wait: Option<Wait>,
    }
}

params! {
    struct CheckNow {
        /// The group.
        group: GroupParam,
        /// The server.
        server: Server,
    }
}

#[derive(Serialize)]
struct Checked {
    check: Option<LastCheck>,
}

#[derive(Serialize)]
struct Heartbeat<'a> {
    server: &'a str,
    state: State,
    ttl_ms: u64,
    sessions: u32,
}

#[derive(Serialize)]
struct Workers<'a> {
    list: Vec<&'a str>,
    servers: &'a [ServerView],
}

#[derive(Serialize)]
struct SessionsOf {
    sessions: u32,
}

pub(super) async fn keepalive(call: Call, params: Keepalive) -> Answer {
    let control = call.control();
    let group = control.group(&params.group)?;
    let said = Said {
        weight: params.weight.map(|weight| weight.0),
        state: params.state.map(|state| state.0),
        zone: params.zone.map(|zone| zone.0),
    };
    let keepalive = heartbeat::Keepalive { said, load: params.load.map(|load| load.0), caller: call.peer };
    let KeepaliveOutcome { view, is_news } = control.keepalive(group.id(), &params.server.0, keepalive).await?;
    // A server of the file has no lease; the time it would have tells it how often to come back.
    let ttl_ms =
        view.lease_ms.unwrap_or_else(|| crate::base::clock::as_ms(group.snapshot().settings.heartbeat_timeout));
    let msg = view.cause.as_ref().map(|cause| format!("known, but not online: {cause}"));
    let body = Heartbeat { server: &view.addr, state: view.state, ttl_ms, sessions: view.sessions };
    let mut answer = granted(msg.as_deref().unwrap_or("online"), body);
    if !is_news {
        answer.extensions_mut().insert(Routine);
    }
    Ok(answer)
}

pub(super) async fn list(call: Call, params: List) -> Answer {
    let servers = call.control().group(&params.group)?.servers();
    let list: Vec<&str> = servers.iter().filter(|server| server.online).map(|server| server.addr.as_str()).collect();
    let msg = format!("servers online: {} of {}", list.len(), servers.len());
    Ok(granted(&msg, Workers { list, servers: &servers }))
}

pub(super) async fn remove(call: Call, params: Remove) -> Answer {
    let control = call.control();
    let group = control.group(&params.group)?;
    let is_foreign = |server: &ServerView| server.origin != Origin::Heartbeat;
    if call.rights == Rights::Worker && group.server(&params.server.0).is_some_and(|server| is_foreign(&server)) {
        let msg = format!(
            "server: \"{}\" stands in the file; expected a server that registered itself, or the admin token",
            echo(params.server.0.as_str())
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, "token_not_enough", msg));
    }
    let lives = control.remove_server(group.id(), &params.server.0, params.sessions.map(Sessions::are_closed)).await?;
    let sessions = left(&lives, params.wait).await;
    Ok(granted(&format!("removed; its sessions: {sessions}"), SessionsOf { sessions }))
}

/// The sessions that servers have left when they have none, or after this time.
async fn left(lives: &[Arc<Live>], wait: Option<Wait>) -> u32 {
    if let Some(Wait(time)) = wait {
        let all_ended = async {
            for live in lives {
                live.all_ended().await;
            }
        };
        // Its end is no error: the answer says what is left.
        let _ = tokio::time::timeout(time, all_ended).await;
    }
    lives.iter().map(|live| live.sessions()).sum()
}

pub(super) async fn check(call: Call, params: CheckNow) -> Answer {
    let group = call.control().group(&params.group)?;
    let addr = &params.server.0;
    let unknown = || ChangeError::ServerNotFound { group: group.id().clone(), server: addr.clone() };
    group.server(addr).ok_or_else(unknown)?;
    let refuse = |code, msg: &str| Refusal::new(StatusCode::CONFLICT, code, msg.to_owned());
    let asked =
        group.ask_check(addr).ok_or_else(|| refuse("no_check", "the group has no check, or not for this server"))?;
    let not_checked = || {
        refuse(
            "not_checked",
            "the server is in maintenance, silent or unresolved, or its group is closed: it is not checked now",
        )
    };
    group.check_target(addr).ok_or_else(not_checked)?;
    // A server that leaves meanwhile takes the other end with it.
    tokio::time::timeout(CHECK_WAIT, asked).await.ok().and_then(Result::ok).ok_or_else(not_checked)?;
    let check = group.server(addr).ok_or_else(unknown)?.last_check;
    let error = check.as_ref().and_then(|check| check.error.as_deref());
    let msg = error.map_or_else(|| "passed".to_owned(), |error| format!("failed: {error}"));
    Ok(granted(&msg, Checked { check }))
}

pub(super) async fn set_state(call: Call, params: SetState) -> Answer {
    let control = call.control();
    let group = control.group(&params.group)?;
    let addr = &params.server.0;
    let lives = group.lives(addr);
    let view = control.set_server_state(group.id(), addr, params.state.0).await?;
    let sessions = left(&lives, params.wait).await;
    Ok(granted(&format!("state is {}", view.state), SessionsOf { sessions }))
}
