//! The endpoints: one table that says of each what it is called, who may call it, what it takes and what it does.
//!
//! The filter, the guard, the error texts and `docs/admin-api.md` follow from the table. A handler reads its
//! parameters, asks `control` and shapes the answer; it decides nothing about running state. The names of
//! paths, parameters and fields are public and stay.

mod clients;
mod endpoint;
mod events;
mod groups;
mod page;
mod policies;
mod process;
mod recordings;
mod servers;
mod sessions;
mod shadows;
mod state;
mod values;

pub(super) use endpoint::{Call, Endpoint, Kind};

use warp::http::header::ACCEPT;
use warp::http::request::Parts;

use super::guard::Audience;
use super::params::{NoParams, Params};
use endpoint::endpoint;

/// Where profiles are.
const PROFILES: &str = "debug/pprof";

/// Every endpoint, in the order in which they are documented.
///
/// A heartbeat is by far the most frequent request, so it comes first.
#[rustfmt::skip]
pub(super) static ENDPOINTS: &[Endpoint] = &[
    endpoint!(Change Workers "worker-keepalive.do" servers::keepalive { servers::Keepalive }
        "A server says that it is there: registers it, or renews its lease. A weight, a state or a zone that has \
         changed is written to the file. `ttl_ms` is how long the server is believed without another heartbeat."),
    endpoint!(Read Readers "worker-list.do" servers::list { servers::List }
        "`list` names the servers that are online, `servers` shows all servers of the group; `cause` says why a \
         server is not online, `lease_ms` how much of its lease is left."),
    endpoint!(Change Both "worker-remove.do" servers::remove { servers::Remove }
        "Takes a server out of its group. With `sessions=close` its sessions end with `server_down`, with `sessions=keep` \
         they go on. `sessions` is how many it has left. With the register token only a server that registered itself can \
         be taken out."),
    endpoint!(Change Operators "worker-check.do" servers::check { servers::CheckNow }
        "Checks a server now, waits for the result and counts it like any other. `ok` is true when that was done; `check` says \
         what came of it."),
    endpoint!(Change Operators "worker-state.do" servers::set_state { servers::SetState }
        "Sets what an operator wants of a server: with `drain` and `maint` it gets no new sessions, and those that it \
         has go on, unless the group's `on_down` closes those of a server in `maint`. With `wait` the answer comes when the \
         server has no session left, or when that time is over: `sessions` is how many are left. The state stays set \
         when the caller hangs up."),
    endpoint!(Change Operators "group-open.do" groups::open { groups::Open }
        "Opens the port of a group. A port that no group has makes a new group, on `0.0.0.0`."),
    endpoint!(Change Operators "group-close.do" groups::close { groups::Close }
        "Closes the port of a group. Its sessions go on unless `sessions=close` ends them; `sessions` is how many it had."),
    endpoint!(Read Readers "group-list.do" groups::list { NoParams }
        "All groups."),
    endpoint!(Change Operators "group-policy.do" groups::set_policy { groups::SetPolicy }
        "Gives a group another policy. No session is touched."),
    endpoint!(Read Readers "session-list.do" sessions::list { sessions::List }
        "The newest 1,000 sessions; `total` says how many there are. `via` is the proxy whose PROXY header told the client, if one did."),
    endpoint!(Read Readers "client-list.do" clients::list { clients::List }
        "The 100 clients with most sessions, of groups that say `client`: `client` is an address and `prefix` how many of its \
         bits count, `sessions` how many it has, `refused` how often it was turned away since it is known. `tracked` is how \
         many clients of all groups are known."),
    endpoint!(Change Operators "session-close.do" sessions::close { sessions::Close }
        "Ends a session, or all sessions of a server, with the reason `killed`. `sessions` is how many."),
    endpoint!(Read Readers "policy-list.do" policies::list { NoParams }
        "The policies, built in and modules, with the groups that use each. What a built-in has no use for is null. A \
         module is `loaded`, `quarantined` (it failed too often in a row; its fallback serves), `refused` (its file \
         cannot be used; its fallback serves) or `available` (no group names it)."),
    endpoint!(Read Readers "policy-explain.do" policies::explain { policies::Explain }
        "Which server this client would get now, and why not each of the others. Changes nothing: the policy is asked \
         as for a client, with counters of its own. With `tried` it says which server comes next when these have not \
         answered; `note` says what the answer cannot tell."),
    endpoint!(Change Operators "record-start.do" recordings::start { recordings::Start }
        "Records what the group's policy is asked and answers, into a new file in `record_dir`, for `goproxy policy replay`. The \
         policy is started anew for it: what it has learned of earlier clients is forgotten. No session is touched."),
    endpoint!(Change Operators "record-stop.do" recordings::stop { recordings::Stop }
        "Ends the recording of a group, and answers when its file is complete. The policy goes on with what it has learned."),
    endpoint!(Read Readers "record-list.do" recordings::list { NoParams }
        "The recordings under way and the last one of each group. `why` says why one has ended, `lost` how many picks could not be \
         written before that."),
    endpoint!(Change Operators "shadow-start.do" shadows::start { shadows::Start }
        "Tries a policy beside the one that serves the group: it is asked the same, on a thread of its own, and sees the load that it \
         would have made. Nobody is affected. Ends with the process."),
    endpoint!(Change Operators "shadow-stop.do" shadows::stop { shadows::Stop }
        "Ends that, and says how both did."),
    endpoint!(Read Readers "shadow-list.do" shadows::list { NoParams }
        "The policies that are tried, and the last one of each group. `live` is how evenly the policy that serves spreads sessions, \
         `shadow` how evenly the candidate would have; `differ` of `sessions` would have got another server, `dropped` says how much \
         was not looked at."),
    endpoint!(Change Operators "config-reload.do" process::reload { NoParams }
        "Reads the file now and puts it in force. A file with mistakes changes nothing, and `errors` names all of them."),
    endpoint!(Read Readers "state-list.do" state::list { NoParams }
        "With `state_file`: what changes over HTTP have said that `proxy.json` does not. `base` is what the file says, `now` what \
         holds; `key` is the file's, or `group` or `server` for all of it, and null is one that is not there."),
    endpoint!(Change Operators "state-clear.do" state::clear { state::Clear }
        "With `state_file`: drops what changes over HTTP have said of a server, of a group, or of everything, so that `proxy.json` \
         is in force there. Servers that have a lease stay. `cleared` is how many values that were."),
    endpoint!(PostedChange Operators "upgrade.do" process::upgrade { NoParams }
        "Starts the program anew, as it is on disk now, and hands everything over to the new process, so that no client notices. \
         Answers when the new one serves, or cannot: then nothing has changed. `sessions_left` go on in the old process."),
    endpoint!(Probe Everyone "live" process::live { NoParams }
        "Answers as long as the process does. Needs no token."),
    endpoint!(Probe Everyone "ready" process::ready { NoParams }
        "Answers 200 while every open group listens and the proxy is not stopping, 503 otherwise. Needs no token."),
    endpoint!(Read Readers "metrics" process::metrics { process::Scrape }
        "All metrics: the Prometheus text format 0.0.4, or OpenMetrics 1.0 for those whose `Accept` asks for it; packed with gzip \
         for those whose `Accept-Encoding` does. With `group`, those of one group and its servers, without what there is once."),
    endpoint!(Read Readers "events" events::watch { events::Watch }
        "What happens, as server-sent events; [events.md](events.md) lists them. The answer goes on until the caller leaves or \
         the proxy drains. At most 32 callers at a time watch."),
    endpoint!(Read Everyone "" page::index { NoParams }
        "The [dashboard](dashboard.md), for browsers. The page itself needs no token, and asks for it where one is configured. \
         With `Accept: text/plain`, and the token, all groups and servers as a table."),
    endpoint!(Read Everyone "dashboard/app.js" page::script { NoParams }
        "A part of the dashboard."),
    endpoint!(Read Everyone "dashboard/style.css" page::style { NoParams }
        "A part of the dashboard."),
    endpoint!(Read Readers "debug/pprof" process::profiles { NoParams }
        "Which profiles there are."),
    endpoint!(Read Readers "debug/pprof/heap" process::heap_profile { NoParams }
        "What the heap holds, for `go tool pprof`."),
    endpoint!(Read Readers "debug/pprof/profile" process::cpu_profile { process::CpuProfile }
        "Where CPU time goes, for `go tool pprof`. Answers when the time is over."),
];

/// What stands in the place of the page for whoever wants text.
#[rustfmt::skip]
static PAGE_AS_TEXT: Endpoint = endpoint!(Read Readers "" page::text { NoParams }
    "All groups and servers as text.");

/// Which endpoints a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    All,
    Profiles,
    AllButProfiles,
    /// What is for monitoring: metrics and probes.
    Metrics,
}

/// What is served with [`Serves::Metrics`].
const METRICS: [&str; 3] = ["metrics", "live", "ready"];

/// The endpoint for this request, if it is served here.
pub(super) fn find_for(head: &Parts, serves: Serves) -> Option<&'static Endpoint> {
    let endpoint = find(head.uri.path(), serves)?;
    Some(if endpoint.path.is_empty() && wants_text(head) { &PAGE_AS_TEXT } else { endpoint })
}

/// No browser asks for text and not for HTML.
fn wants_text(head: &Parts) -> bool {
    let accepted =
        |kind| head.headers.get_all(ACCEPT).iter().any(|value| value.to_str().is_ok_and(|it| it.contains(kind)));
    accepted("text/plain") && !accepted("text/html")
}

/// The endpoint at this path, if it is served here.
fn find(path: &str, serves: Serves) -> Option<&'static Endpoint> {
    let path = path.strip_prefix('/').filter(|rest| *rest != "/")?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_profile = path.strip_prefix(PROFILES).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_served = match serves {
        Serves::All => true,
        Serves::Profiles => is_profile,
        Serves::AllButProfiles => !is_profile,
        Serves::Metrics => METRICS.contains(&path),
    };
    ENDPOINTS.iter().find(|endpoint| is_served && endpoint.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_leads_to_its_endpoint_and_no_other_path_does() {
        for endpoint in ENDPOINTS {
            let path = format!("/{}", endpoint.path);
            let with_slash = if endpoint.path.is_empty() { path.clone() } else { format!("{path}/") };
            for path in [path, with_slash] {
                assert!(std::ptr::eq(find(&path, Serves::All).unwrap(), endpoint), "{path}: listed twice?");
            }
        }
        for path in ["", "//", "//live", "/live//", "live", "/LIVE", "/live/x", "/debug", "/debug/pprofx", "/%6cive"] {
            assert!(find(path, Serves::All).is_none(), "{path}");
        }
    }

    #[test]
    fn the_page_is_text_for_whoever_wants_that() {
        for (accept, is_text) in [
            ("text/plain", true),
            ("text/plain;q=0.9, */*;q=0.1", true),
            ("*/*", false),
            ("text/html,application/xhtml+xml,text/plain;q=0.8", false),
        ] {
            let head = warp::http::Request::get("/").header(ACCEPT, accept).body(()).unwrap().into_parts().0;
            let endpoint = find_for(&head, Serves::All).unwrap();
            assert_eq!(endpoint.audience == Audience::Readers, is_text, "{accept}");
            assert!(find_for(&head, Serves::Profiles).is_none() && find_for(&head, Serves::Metrics).is_none());
        }
    }

    #[test]
    fn profiles_can_have_a_place_of_their_own() {
        for (path, is_profile) in [("/debug/pprof/", true), ("/debug/pprof/heap", true), ("/live", false)] {
            assert_eq!(find(path, Serves::Profiles).is_some(), is_profile, "{path}");
            assert_eq!(find(path, Serves::AllButProfiles).is_some(), !is_profile, "{path}");
        }
    }

    #[test]
    fn what_only_looks_is_for_readers_and_nothing_else_is() {
        for endpoint in ENDPOINTS {
            // The files of the page show nothing of what runs.
            let is_file = endpoint.path.is_empty() || endpoint.path.starts_with("dashboard/");
            let is_for_readers = endpoint.kind == Kind::Read && !is_file;
            assert_eq!(endpoint.audience == Audience::Readers, is_for_readers, "{}", endpoint.path);
        }
        let monitored: Vec<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
        let monitored: Vec<&str> =
            monitored.into_iter().filter(|path| find(&format!("/{path}"), Serves::Metrics).is_some()).collect();
        assert_eq!(monitored, ["live", "ready", "metrics"]);
    }

    #[test]
    fn every_endpoint_and_every_parameter_is_documented() {
        for endpoint in ENDPOINTS {
            assert!(endpoint.doc.ends_with('.'), "{}", endpoint.path);
            for param in endpoint.params {
                assert!(
                    param.doc.trim().ends_with('.') && !param.expected.is_empty(),
                    "{} {}",
                    endpoint.path,
                    param.name
                );
            }
        }
    }
}
