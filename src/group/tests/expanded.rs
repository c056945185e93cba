//! Names of which each address is a server of its own.

use super::*;

const NAME: &str = "db:5432";

fn name() -> ServerAddr {
    NAME.parse().unwrap()
}

/// A name that is expanded, and what else the file says.
fn servers(others: &[&str]) -> Vec<ServerSettings> {
    let mut servers = file(&[&[NAME], others].concat());
    servers[0].expand = true;
    servers
}

/// A group of [`servers`] whose name resolves to addresses with these last bytes.
fn expanded(policy: &str, others: &[&str], lasts: &[u8]) -> Group {
    let group = Group::for_tests(settings(policy), servers(others));
    resolve(&group, lasts);
    group
}

fn resolve(group: &Group, lasts: &[u8]) {
    group.resolved(&name(), Ok(lasts.iter().map(|last| SocketAddr::from(([10, 0, 0, *last], 5_432))).collect()));
}

/// Every server by the last byte of its address, and those that are offline with their cause.
fn shown_as(group: &Group) -> Vec<String> {
    let servers = group.servers().into_iter();
    let short = |addr: &str| addr.replace("db:5432@10.0.0.", "");
    servers
        .map(|it| it.cause.map_or_else(|| short(&it.addr), |cause| format!("{}: {cause}", short(&it.addr))))
        .collect()
}

#[test]
fn each_address_of_a_name_is_a_server_in_the_order_of_the_addresses() {
    let group = expanded("ha", &["10.9.9.9:1"], &[3, 1, 2, 1]);
    assert_eq!(shown_as(&group), ["1", "2", "3", "10.9.9.9:1"]);
    assert_eq!((group.view().servers_online, group.view().servers_total), (4, 4));
    let one = shown(&group, "db:5432@10.0.0.1");
    assert_eq!(*one.live.addresses().all(), ["10.0.0.1:5432".parse().unwrap()]);
    assert_eq!(picked(&group, &[]).as_deref(), Some("db:5432@10.0.0.1"));
    assert_eq!(picked(&group, &[one.id]).as_deref(), Some("db:5432@10.0.0.2"));
    let cause = group.server(&name()).unwrap().cause.unwrap();
    assert_eq!(cause, "each of its 3 addresses is a server of its own");
}

#[test]
fn three_addresses_share_three_hundred_clients() {
    let group = expanded("round_robin", &[], &[1, 2, 3]);
    let mut counts = BTreeMap::new();
    (0..300).for_each(|_| *counts.entry(picked(&group, &[]).unwrap()).or_insert(0) += 1);
    assert_eq!(counts.into_values().collect::<Vec<i32>>(), [100, 100, 100]);
}

#[test]
fn an_address_comes_and_goes_with_lookups_and_its_sessions_go_on() {
    let group = expanded("ha", &[], &[1, 2]);
    let slot = group.pick(CLIENT.parse().unwrap(), &[], 0).unwrap();
    let second = shown(&group, "db:5432@10.0.0.2").id;
    resolve(&group, &[2, 0]);
    assert_eq!(shown_as(&group), ["0", "2"]);
    assert_eq!(shown(&group, "db:5432@10.0.0.2").id, second, "it is the same server still");
    assert_eq!(slot.server.live.sessions(), 1, "a session on the one that has left");
    assert!(group.has_lost(&slot.server.settings.addr) && group.live(&slot.server.settings.addr).is_none());
    resolve(&group, &[1, 2]);
    assert_eq!(shown_as(&group), ["1", "2"]);
}

#[test]
fn a_lookup_that_finds_nothing_changes_nothing() {
    let group = Group::for_tests(settings("ha"), servers(&[]));
    assert_eq!(shown_as(&group), ["db:5432: its name is not resolved: it is being resolved"]);
    resolve(&group, &[1, 2]);
    for outcome in [Ok(Vec::new()), Err("the resolver is down".to_owned())] {
        group.resolved(&name(), outcome);
        assert_eq!(shown_as(&group), ["1", "2"]);
    }
}

#[test]
fn what_the_file_says_of_the_name_holds_for_each_address() {
    let group = expanded("ha", &[], &[1, 2]);
    let mut drained = servers(&[]);
    (drained[0].state, drained[0].weight) = (State::Drain, 7);
    group.apply(settings("ha"), drained, None, &[], &[]);
    assert_eq!(shown_as(&group), ["1: drained by an operator", "2: drained by an operator"]);
    assert!(group.servers().iter().all(|server| server.weight == 7));
    group.apply(settings("ha"), servers(&[]), None, &[], &[]);
    assert_eq!(shown_as(&group), ["1", "2"]);
    group.apply(settings("ha"), file(&["10.9.9.9:1"]), None, &[], &[]);
    assert_eq!(shown_as(&group), ["10.9.9.9:1"], "they go with their name");
}

#[test]
fn an_address_has_settings_of_its_own_where_the_file_gives_them() {
    let group = expanded("ha", &["db:5432@10.0.0.1", "db:5432@10.0.0.9"], &[1, 2]);
    assert_eq!(
        shown_as(&group),
        ["2", "1", "9: its name does not resolve to this address"],
        "with its place in the file"
    );
    let mut drained = servers(&["db:5432@10.0.0.1"]);
    drained[1].state = State::Drain;
    group.apply(settings("ha"), drained, None, &[], &[]);
    assert_eq!(shown_as(&group), ["2", "1: drained by an operator"]);
    group.apply(settings("ha"), servers(&[]), None, &[], &["db:5432@10.0.0.1".parse().unwrap()]);
    assert_eq!(shown_as(&group), ["1", "2"], "as its name says from now on");
    assert_eq!(group.longest_gone(), None, "none of them ever registered itself");
}

#[test]
fn expand_can_be_switched_on_and_off() {
    let group = Group::for_tests(settings("ha"), file(&[NAME]));
    resolve(&group, &[2, 1]);
    assert_eq!(shown_as(&group), [NAME]);
    group.apply(settings("ha"), servers(&[]), None, &[], &[]);
    assert_eq!(shown_as(&group), ["1", "2"], "without another lookup");
    group.apply(settings("ha"), file(&[NAME]), None, &[], &[]);
    assert_eq!(shown_as(&group), [NAME]);
    assert_eq!(picked(&group, &[]).as_deref(), Some(NAME));
}

#[test]
fn what_fails_at_one_address_counts_as_a_failure_of_the_name() {
    let group = expanded("ha", &[], &[1, 2]);
    assert_eq!(group.failures(&name()), 0);
    suspect(&group, "db:5432@10.0.0.2");
    assert_eq!(group.failures(&name()), 1);
    assert_eq!(picked(&group, &[]).as_deref(), Some("db:5432@10.0.0.1"));
    assert_eq!(group.with_expansion(&name()).len(), 3);
}
