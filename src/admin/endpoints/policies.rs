//! The policies: which there are, and what one of them would say to a client.

use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use warp::http::StatusCode;

use super::endpoint::Call;
use super::values::{Client, Servers};
use crate::admin::blocking::blocking;
use crate::admin::params::{NoParams, params};
use crate::admin::reply::{Answer, Refusal, granted};
use crate::control::{ChangeError, GroupParam};
use crate::counters::ModuleCounters;
use crate::group::view::{Candidate, GroupView};
use crate::group::{ExplainError, Explanation, GroupId, PickError};
use crate::policy::built_in;
use crate::policy::wasm::view::{ModuleState, ModuleView};

params! {
    struct Explain {
        /// The group.
        group: GroupParam,
        /// The client: an IP, or one with a port as in the log.
        client: Client,
        /// The servers that the client has tried already.
        tried: Option<Servers>,
        /// Servers to be thought away: who would get this client if they were gone.
        without: Option<Servers>,
    }
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
    /// The number of the key that signed the module, where `policy_keys` asks for that.
    signed_by: Option<String>,
    state: ModuleState,
    error: Option<String>,
    calls: Option<u64>,
    faults: Option<u64>,
    fallbacks: Option<u64>,
    nones: Option<u64>,
    /// Ports of the groups that use it.
    groups: Vec<GroupId>,
}

#[derive(Serialize)]
struct Explained {
    server: Option<String>,
    policy: String,
    candidates: Vec<Candidate>,
    note: Option<String>,
}

/// On the blocking pool: the folder of the modules is read.
pub(super) async fn list(call: Call, _: NoParams) -> Answer {
    let control = call.control().clone();
    let modules = blocking("internal", "the list of policies", move || control.policies().modules().views()).await?;
    let groups: Vec<GroupView> = call.control().groups().values().map(|group| group.view()).collect();
    let built_in = built_in::BUILT_IN.iter().map(|name| built_in(name, &groups));
    let policies: Vec<PolicyView> = built_in.chain(modules.into_iter().map(|module| wasm(module, &groups))).collect();
    Ok(granted(&format!("policies: {}", policies.len()), Policies { policies }))
}

/// On the blocking pool: a module may take as long as its deadline.
pub(super) async fn explain(call: Call, params: Explain) -> Answer {
    let (client, tried) = (params.client.0, params.tried.unwrap_or_default().0);
    let without = params.without.unwrap_or_default().0;
    let group = call.control().group(&params.group)?;
    let id = group.id().clone();
    let explained =
        blocking("internal", "the explanation", move || group.explain_without(client, &tried, &without)).await?;
    let Explanation { server, policy, candidates, notes } = explained.map_err(|error| match error {
        ExplainError::ServerNotFound(server) => ChangeError::ServerNotFound { group: id, server }.into(),
        ExplainError::CannotRehearse(_) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "cannot_rehearse", format!("group {id}: {error}"))
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

fn users(policy: &str, groups: &[GroupView]) -> Vec<GroupId> {
    groups.iter().filter(|view| view.policy == policy).map(id_of).collect()
}

/// The name, or else the port.
fn id_of(view: &GroupView) -> GroupId {
    view.name.as_deref().map_or_else(|| view.group.into(), GroupId::named)
}

fn wasm(module: ModuleView, groups: &[GroupView]) -> PolicyView {
    let ModuleView { name, file, version, sha256, signed_by, state, error, counters } = module;
    let counters = counters.as_deref();
    PolicyView {
        groups: users(&name, groups),
        name: name.to_string(),
        kind: "wasm",
        file: Some(file),
        version,
        sha256,
        signed_by,
        state,
        error,
        calls: counters.map(|counters| counters.picks.load(Relaxed)),
        faults: counters.map(ModuleCounters::faults_total),
        fallbacks: counters.map(|counters| counters.fallbacks.load(Relaxed)),
        nones: counters.map(|counters| counters.nones.load(Relaxed)),
    }
}

fn built_in(name: &'static str, groups: &[GroupView]) -> PolicyView {
    PolicyView {
        name: name.into(),
        kind: "built_in",
        file: None,
        version: None,
        sha256: None,
        signed_by: None,
        state: ModuleState::Loaded,
        error: None,
        calls: None,
        faults: None,
        fallbacks: None,
        nones: None,
        groups: users(name, groups),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::counters::FaultKind;
    use crate::group::view::LimitsView;

    fn group(port: u16, policy: &str) -> GroupView {
        GroupView {
            group: port,
            name: None,
            listen: format!("0.0.0.0:{port}"),
            open: true,
            policy: policy.to_owned(),
            sessions: 0,
            limits: LimitsView { sessions: 0, rate: None, refused: 0 },
            routes: None,
            servers_online: 0,
            servers_total: 0,
            shadow: None,
            records: None,
        }
    }

    #[test]
    fn a_module_is_listed_with_what_it_did_and_the_groups_that_name_it() {
        let counters = Arc::<ModuleCounters>::default();
        counters.picks.store(3, Relaxed);
        counters.fault(FaultKind::Trap);
        counters.fault(FaultKind::Deadline);
        counters.fallbacks.store(4, Relaxed);
        counters.nones.store(7, Relaxed);
        let module = ModuleView {
            name: "wasm:sticky".into(),
            file: "sticky.wasm".to_owned(),
            version: Some("1.2.3".to_owned()),
            sha256: Some("ab".repeat(32)),
            signed_by: Some("92FC99E1C7F7F3E7".to_owned()),
            state: ModuleState::Quarantined,
            error: Some("pick took too long".to_owned()),
            counters: Some(counters),
        };
        let groups = [group(1, "wasm:sticky"), group(2, "ha"), group(3, "wasm:sticky2"), group(4, "wasm:sticky")];
        let shown = serde_json::to_value(wasm(module, &groups)).unwrap();
        let expected = serde_json::json!({
            "name": "wasm:sticky", "kind": "wasm", "file": "sticky.wasm", "version": "1.2.3",
            "sha256": "ab".repeat(32), "signed_by": "92FC99E1C7F7F3E7", "state": "quarantined", "error": "pick took too long",
            "calls": 3, "faults": 2, "fallbacks": 4, "nones": 7, "groups": [1, 4],
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
            signed_by: None,
            state: ModuleState::Available,
            error: None,
            counters: None,
        };
        let shown = serde_json::to_value(wasm(module, &[group(1, "ha")])).unwrap();
        assert_eq!((&shown["state"], &shown["groups"]), (&"available".into(), &serde_json::json!([])));
        for name in ["version", "sha256", "error", "calls", "faults", "fallbacks", "nones"] {
            assert!(shown[name].is_null(), "{name}");
        }
    }
}
