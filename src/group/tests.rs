mod expanded;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::policy::built_in;
use crate::policy::spec::PolicySpec;
use crate::server::{SendProxy, ServerId, State};

const CLIENT: &str = "10.0.0.1:1000";

impl GroupSettings {
    /// Settings under which nothing happens by itself for as long as a test may take.
    pub(crate) fn for_tests(policy: &str) -> Self {
        Self {
            listen: "127.0.0.1:8081".parse::<SocketAddr>().unwrap().into(),
            open: true,
            policy: PolicySpec::parse(policy).unwrap(),
            connect_timeout: Duration::from_secs(2),
            connect_attempts: 3,
            connect_wait: Duration::ZERO,
            recheck_max: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(600),
            half_close_timeout: Some(Duration::from_secs(30)),
            max_session_age: Duration::ZERO,
            client_tcp: ClientTcp { keepalive: None, user_timeout: None },
            server_tcp: ServerTcp { keepalive: None, user_timeout: None, source: None },
            heartbeat_timeout: Duration::from_secs(600),
            forget_after: Duration::ZERO,
            max_sessions: 0,
            on_down: OnDown::default(),
            close_spread: Duration::ZERO,
            check: None,
            fail_open: true,
            eject: None,
            session_rate: None,
            client: None,
            allow: Default::default(),
            deny: Default::default(),
            accept_proxy: None,
            routes: None,
            route_default: RouteTo::Own,
            route_plain: RouteTo::Own,
            hello_timeout: Duration::from_secs(5),
            starttls: Starttls::None,
            tls: None,
            server_tls: None,
            send_proxy: SendProxy::None,
            proxy_unique_id: false,
            bind_retry: false,
            access_log: crate::access::AccessChoice::Inherited,
            name: None,
        }
    }
}

impl Group {
    /// A group whose policy is built in.
    pub(crate) fn for_tests(settings: GroupSettings, servers: Vec<ServerSettings>) -> Self {
        let policy = built_in::make(settings.policy.name()).unwrap();
        Self::new(settings, servers, policy)
    }

    /// A server has answered a connect of the proxy's own.
    pub(crate) fn answered_for_tests(&self, addr: &ServerAddr, now_ms: u64) {
        if let Some(server) = self.members().server_at(addr) {
            server.live.answered(300, now_ms);
        }
    }
}

pub(super) fn settings(policy: &str) -> GroupSettings {
    GroupSettings::for_tests(policy)
}

pub(super) fn server(addr: &str, origin: Origin) -> ServerSettings {
    ServerSettings::new(addr.parse().unwrap(), origin)
}

pub(super) fn file(addrs: &[&str]) -> Vec<ServerSettings> {
    addrs.iter().map(|addr| server(addr, Origin::File)).collect()
}

fn registration(addr: &str) -> Registration {
    Registration { server: server(addr, Origin::Heartbeat), addresses: Vec::new() }
}

fn picked(group: &Group, tried: &[ServerId]) -> Option<String> {
    let slot = group.pick(CLIENT.parse().unwrap(), tried, clock::coarse_ms()).ok()?;
    Some(slot.server.settings.addr.to_string())
}

fn addrs(group: &Group) -> Vec<String> {
    group.servers().into_iter().map(|server| server.addr).collect()
}

/// The server behind `addr`, as a pick would see it.
pub(super) fn shown(group: &Group, addr: &str) -> Arc<crate::server::Server> {
    let snapshot = group.snapshot();
    let mut all = snapshot.tiers.iter().flat_map(|tier| &tier.set.servers);
    Arc::clone(all.find(|server| server.settings.addr.as_str() == addr).unwrap())
}

pub(super) fn suspect(group: &Group, addr: &str) {
    let now_ms = clock::coarse_ms();
    shown(group, addr).live.connect_failed("refused", now_ms, now_ms);
}

#[test]
fn a_suspect_server_is_picked_only_when_nobody_else_is_left() {
    let group = Group::for_tests(settings("ha"), file(&["10.0.0.1:1", "10.0.0.2:1"]));
    suspect(&group, "10.0.0.1:1");
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.2:1"));
    suspect(&group, "10.0.0.2:1");
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.1:1"), "both suspect: as if none were");
    let first = shown(&group, "10.0.0.1:1").id;
    assert_eq!(picked(&group, &[first]).as_deref(), Some("10.0.0.2:1"));
}

#[test]
fn a_client_for_whom_there_is_nobody_costs_no_turn() {
    let group = Group::for_tests(settings("round_robin"), Vec::new());
    assert_eq!(picked(&group, &[]), None);
    group.apply(settings("round_robin"), file(&["10.0.0.1:1", "10.0.0.2:1"]), None, &[], &[]);
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.1:1"));
}

#[test]
fn a_backup_is_picked_before_a_suspect_server_and_after_every_other() {
    let mut servers = file(&["10.0.0.9:1", "10.0.0.1:1"]);
    servers[0].backup = true;
    let group = Group::for_tests(settings("round_robin"), servers);
    for _ in 0..4 {
        assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.1:1"));
    }
    suspect(&group, "10.0.0.1:1");
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.9:1"));
    suspect(&group, "10.0.0.9:1");
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.1:1"));
}

#[test]
fn a_full_server_is_passed_over_and_gives_its_place_back() {
    let mut servers = file(&["10.0.0.1:1", "10.0.0.2:1"]);
    servers[0].max_sessions = 1;
    let group = Group::for_tests(settings("ha"), servers);
    let slot = group.pick(CLIENT.parse().unwrap(), &[], clock::coarse_ms()).unwrap();
    assert_eq!(slot.server.settings.addr.as_str(), "10.0.0.1:1");
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.2:1"));
    let views = group.servers();
    assert!(!views[0].online && views[0].cause.as_deref().unwrap().contains("max_sessions"));
    drop(slot);
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.1:1"));
}

#[test]
fn every_cause_alone_keeps_a_server_from_being_picked() {
    let mut servers = file(&["10.0.0.1:1", "10.0.0.2:1", "no-such-name.invalid:1"]);
    servers[0].state = State::Drain;
    servers[1].state = State::Maint;
    let group = Group::for_tests(settings("round_robin"), servers);
    assert_eq!(group.pick(CLIENT.parse().unwrap(), &[], clock::coarse_ms()).unwrap_err(), PickError::NoServer);
    let causes: Vec<_> = group.servers().into_iter().map(|server| server.cause.unwrap()).collect();
    assert!(
        causes[0].contains("drain") && causes[1].contains("maintenance") && causes[2].contains("name"),
        "{causes:?}"
    );
    let name = "no-such-name.invalid:1".parse().unwrap();
    group.resolved(&name, Err("nobody knows it".to_owned()));
    assert!(group.server(&name).unwrap().cause.unwrap().contains("nobody knows it"));
    group.resolved(&name, Ok(vec!["10.0.0.3:1".parse().unwrap()]));
    assert_eq!(picked(&group, &[]).as_deref(), Some("no-such-name.invalid:1"));
    group.resolved(&name, Err("the resolver is down".to_owned()));
    assert!(group.server(&name).unwrap().online, "what was known stays in use");
}

#[test]
fn an_old_copy_of_the_file_drops_no_live_server_and_brings_none_back() {
    let group = Group::for_tests(settings("ha"), file(&["10.0.0.1:1"]));
    group.apply(settings("ha"), file(&["10.0.0.1:1"]), None, &[registration("10.0.0.2:1")], &[]);
    assert_eq!(addrs(&group), ["10.0.0.1:1", "10.0.0.2:1"]);

    let mut old = file(&["10.0.0.1:1"]);
    old.push(server("10.0.0.3:1", Origin::Heartbeat));
    group.apply(settings("ha"), old, None, &[], &[]);
    assert_eq!(addrs(&group), ["10.0.0.1:1", "10.0.0.3:1", "10.0.0.2:1"]);
    let online: Vec<bool> = group.servers().iter().map(|server| server.online).collect();
    assert_eq!(online, [true, false, true]);

    group.renew(&"10.0.0.3:1".parse().unwrap(), None).unwrap();
    assert!(group.servers()[1].online, "its first heartbeat brings it online, at its place");
    group.apply(settings("ha"), file(&["10.0.0.1:1"]), None, &[], &["10.0.0.2:1".parse().unwrap()]);
    assert_eq!(addrs(&group), ["10.0.0.1:1", "10.0.0.3:1"], "removed by order, whatever its lease");
}

#[test]
fn at_the_start_a_server_that_registered_itself_has_a_whole_lease() {
    let group = Group::for_tests(settings("ha"), vec![server("10.0.0.2:1", Origin::Heartbeat)]);
    let view = group.server(&"10.0.0.2:1".parse().unwrap()).unwrap();
    assert!(view.online && view.lease_ms.unwrap() > 500_000);
}

#[test]
fn a_change_of_settings_keeps_counts_ids_and_the_policys_counter() {
    let group = Group::for_tests(settings("round_robin"), file(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]));
    let slot = group.pick(CLIENT.parse().unwrap(), &[], clock::coarse_ms()).unwrap();
    let before = shown(&group, "10.0.0.1:1").id;
    let mut servers = file(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
    servers[2].labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
    group.apply(settings("round_robin"), servers, None, &[], &[]);
    assert_eq!(shown(&group, "10.0.0.1:1").id, before);
    assert_eq!(group.servers()[0].sessions, 1);
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.2:1"), "the turn goes on where it was");
    drop(slot);
    assert_eq!(group.servers()[0].sessions, 0);
}

#[test]
fn the_server_that_is_gone_longest_makes_room_first() {
    let group = Group::for_tests(settings("ha"), Vec::new());
    assert_eq!(group.longest_gone(), None);
    let gone = vec![server("10.0.0.1:1", Origin::Heartbeat), server("10.0.0.2:1", Origin::Heartbeat)];
    group.apply(settings("ha"), gone, None, &[registration("10.0.0.1:1")], &[]);
    assert_eq!(group.longest_gone().unwrap().as_str(), "10.0.0.2:1", "the other one has a lease");
}

/// Lets the leases of a group whose servers were heard once run out, and be kept.
fn keep(group: &Group, servers: &[ServerSettings]) {
    for server in servers {
        group.renew(&server.addr, None).unwrap();
    }
    let start = clock::coarse_ms();
    while clock::coarse_ms() < start + 10 {
        std::hint::spin_loop();
    }
    assert!(group.check_leases(0).preserving);
}

fn leased_for_2_ms(servers: Vec<ServerSettings>) -> Group {
    let settings = GroupSettings { heartbeat_timeout: Duration::from_millis(2), ..settings("ha") };
    let group = Group::for_tests(settings, servers.clone());
    keep(&group, &servers);
    group
}

fn targets(group: &Group) -> Vec<String> {
    group.targets().into_iter().map(|(addr, _)| addr.to_string()).collect()
}

#[test]
fn a_server_whose_lease_is_kept_is_offline_while_it_does_not_answer_the_proxy() {
    let servers: Vec<_> = (1..=4).map(|it| server(&format!("10.0.0.{it}:1"), Origin::Heartbeat)).collect();
    let group = leased_for_2_ms(servers.clone());
    assert_eq!(targets(&group).len(), 4, "each is tried");
    let first = &servers[0].addr;
    let now_ms = clock::coarse_ms();
    group.tried(first, Err("connection refused"), now_ms);
    group.tried(&servers[1].addr, Ok(100), now_ms);
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.2:1"));
    let causes: Vec<_> = group.servers().into_iter().map(|server| server.cause).collect();
    let cause = "no heartbeat within heartbeat_timeout, and no answer: connection refused";
    assert_eq!(causes, [Some(cause.to_owned()), None, None, None]);
    assert_eq!(targets(&group).len(), 4, "it may come back");
    group.tried(first, Ok(100), now_ms);
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.1:1"), "it answers again");
    group.tried(first, Err("connection refused"), clock::coarse_ms() + 1);
    group.renew(first, None).unwrap();
    assert!(group.snapshot().tiers[0].set.servers.len() == 4, "a heartbeat counts for more");
    let view = group.server(first).unwrap();
    assert_eq!((view.suspect, view.cause.as_deref()), (true, Some("connection refused")), "but it is suspect");
}

#[test]
fn a_server_whose_lease_is_kept_is_offline_when_a_client_could_not_connect() {
    let servers: Vec<_> = (1..=4).map(|it| server(&format!("10.0.0.{it}:1"), Origin::Heartbeat)).collect();
    let group = leased_for_2_ms(servers.clone());
    suspect(&group, "10.0.0.1:1");
    group.look_again(&servers[0].addr);
    let server = group.server(&servers[0].addr).unwrap();
    assert!(!server.online && server.cause.unwrap().ends_with("no answer: refused"));
    group.tried(&servers[0].addr, Ok(100), clock::coarse_ms());
    let server = group.server(&servers[0].addr).unwrap();
    assert!(server.online && !server.suspect);
}

#[test]
fn a_server_that_would_get_no_clients_anyway_is_not_tried() {
    let mut servers: Vec<_> = (1..=4).map(|it| server(&format!("10.0.0.{it}:1"), Origin::Heartbeat)).collect();
    servers[0].state = State::Maint;
    servers[1].addr = "no-such-name.invalid:1".parse().unwrap();
    assert_eq!(targets(&leased_for_2_ms(servers)), ["10.0.0.3:1", "10.0.0.4:1"]);
}

#[test]
fn a_server_that_failed_is_tried_until_it_answers() {
    let group = Group::for_tests(settings("ha"), file(&["10.0.0.1:1", "10.0.0.2:1"]));
    assert_eq!(targets(&group), [""; 0]);
    suspect(&group, "10.0.0.1:1");
    assert_eq!(targets(&group), ["10.0.0.1:1"]);
    let addr = "10.0.0.1:1".parse().unwrap();
    let view = group.server(&addr).unwrap();
    assert!(view.suspect && view.untried && !view.online && group.view().servers_online == 1);
    group.tried(&addr, Ok(100), clock::coarse_ms());
    assert_eq!(targets(&group), [""; 0]);
    let view = group.server(&addr).unwrap();
    assert!(!view.suspect && !view.untried && view.online && view.connect_errors == 1 && view.sessions_total == 0);
}

#[test]
fn what_the_file_says_of_silence_counts_at_the_start_only_and_is_put_right() {
    let mut servers = vec![server("10.0.0.1:1", Origin::Heartbeat), server("10.0.0.2:1", Origin::Heartbeat)];
    servers[0].silent = true;
    let group = Group::for_tests(settings("ha"), servers.clone());
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.2:1"));
    assert_eq!(group.unnoted_silence(), [], "the file is right");
    group.renew(&servers[0].addr, None).unwrap();
    assert_eq!(picked(&group, &[]).as_deref(), Some("10.0.0.1:1"));
    assert_eq!(group.unnoted_silence(), [(servers[0].addr.clone(), false)]);
    assert!(group.leased().iter().all(|server| !server.silent));
    servers[1].silent = true;
    group.apply(settings("ha"), servers.clone(), None, &[], &[]);
    assert!(group.servers().iter().all(|server| server.online), "on a reload the lease decides");
    servers.iter_mut().for_each(|server| server.silent = false);
    group.apply(settings("ha"), servers, None, &[], &[]);
    assert_eq!(group.unnoted_silence(), []);
}

#[test]
fn a_group_that_follows_another_knows_what_the_file_has_not_been_told_yet() {
    let mut servers: Vec<_> = (1..=3).map(|it| server(&format!("10.0.0.{it}:1"), Origin::Heartbeat)).collect();
    servers[0].silent = true;
    let known = [(servers[0].addr.clone(), false), (servers[1].addr.clone(), true)];
    let group = Group::after(settings("ha"), servers, built_in::make("ha").unwrap(), &known.clone().into());
    let online: Vec<bool> = group.servers().iter().map(|server| server.online).collect();
    assert_eq!(online, [true, false, true]);
    assert_eq!(group.unnoted_silence(), known, "the file is told");
}
