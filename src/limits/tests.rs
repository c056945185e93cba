use std::time::Duration;

use super::*;

fn rate(sessions: u32) -> Rate {
    // So slow that no token comes back while a test runs.
    Rate { per: Duration::from_secs(3_600), sessions, burst: None }
}

fn list(networks: &[&str]) -> AddressList {
    let written: Vec<String> = networks.iter().map(|network| (*network).to_owned()).collect();
    let parsed: Vec<ipnet::IpNet> = networks.iter().map(|network| network.parse().unwrap()).collect();
    AddressList::new(written, Vec::new(), Networks::new(parsed))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const CLIENT: ClientLimits = ClientLimits { sessions: 2, rate: None, ipv4: 32, ipv6: 64 };

fn limits(rate: Option<Rate>, client: Option<ClientLimits>) -> Arc<GroupLimits> {
    let none = AddressList::default();
    GroupLimits::new(&Arc::default(), rate.as_ref(), client.as_ref(), (&none, &none)).unwrap()
}

#[test]
fn a_group_without_limits_has_none() {
    let none = AddressList::default();
    assert!(GroupLimits::new(&Arc::default(), None, None, (&none, &none)).is_none());
    let process = ProcessLimits::default();
    assert!(!process.has_rate());
    assert_eq!(admit(ip("10.0.0.1"), None, &process), Ok(None));
}

#[test]
fn deny_beats_allow_and_who_is_not_allowed_is_denied() {
    let state = Arc::default();
    let (deny, allow) = (list(&["10.1.0.0/16"]), list(&["10.0.0.0/8", "2001:db8::/32"]));
    let group = GroupLimits::new(&state, None, None, (&deny, &allow)).unwrap();
    let process = ProcessLimits::default();
    for client in ["10.0.0.1", "::ffff:10.2.0.1", "2001:db8::1"] {
        assert_eq!(admit(ip(client), Some(&group), &process), Ok(None), "{client}");
    }
    for client in ["10.1.0.1", "::ffff:10.1.0.1", "192.0.2.1", "2001:db9::1"] {
        assert_eq!(admit(ip(client), Some(&group), &process), Err(Refusal::Denied), "{client}");
    }
}

#[test]
fn who_is_over_a_limit_of_his_own_spends_nobody_elses_tokens() {
    let (group, process) = (limits(Some(rate(5)), Some(CLIENT)), ProcessLimits::default());
    process.set_rate(Some(&rate(100)));
    let greedy = || admit(ip("10.0.0.1"), Some(&group), &process);
    let first = greedy().unwrap().unwrap();
    greedy().unwrap().unwrap();
    for _ in 0..50 {
        assert_eq!(greedy(), Err(Refusal::Over(Limit::ClientSessions)));
    }
    // Three are left of the group's five.
    for client in ["10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        admit(ip(client), Some(&group), &process).unwrap();
    }
    assert_eq!(admit(ip("10.0.0.5"), Some(&group), &process), Err(Refusal::Over(Limit::GroupRate)));
    // A client that the group turned away has nothing.
    assert_eq!((process.tracked(), process.untracked()), (4, 0));
    process.leave(&first);
    assert_eq!(greedy(), Err(Refusal::Over(Limit::GroupRate)), "he has a place, the group has no token");
    assert_eq!(process.busiest(1, None)[0].refused, 51);
}

#[test]
fn a_token_of_the_group_is_not_taken_when_the_process_has_none() {
    let (group, process) = (limits(Some(rate(3)), None), ProcessLimits::default());
    process.set_rate(Some(&rate(1)));
    let admit = || admit(ip("10.0.0.1"), Some(&group), &process);
    assert_eq!(admit(), Ok(None));
    for _ in 0..10 {
        assert_eq!(admit(), Err(Refusal::Over(Limit::ProcessRate)));
    }
    process.set_rate(None);
    assert_eq!((admit(), admit(), admit()), (Ok(None), Ok(None), Err(Refusal::Over(Limit::GroupRate))));
}

#[test]
fn the_rate_of_a_client_is_its_own() {
    let group = limits(None, Some(ClientLimits { sessions: 0, rate: Some(rate(2)), ..CLIENT }));
    let process = ProcessLimits::default();
    for client in ["10.0.0.1", "10.0.0.2", "2001:db8::1"] {
        for _ in 0..2 {
            process.leave(&admit(ip(client), Some(&group), &process).unwrap().unwrap());
        }
        assert_eq!(admit(ip(client), Some(&group), &process), Err(Refusal::Over(Limit::ClientRate)), "{client}");
    }
    // They have no session, but what they have spent is known.
    assert_eq!(process.tracked(), 3);
    (0..ProcessLimits::PARTS).for_each(|round| process.sweep(round));
    assert_eq!(process.tracked(), 3);
}

#[test]
fn groups_count_their_clients_apart() {
    let (one, other) = (limits(None, Some(CLIENT)), limits(None, Some(CLIENT)));
    let process = ProcessLimits::default();
    for group in [&one, &other, &one, &other] {
        admit(ip("10.0.0.1"), Some(group), &process).unwrap().unwrap();
    }
    for group in [&one, &other] {
        let refused = admit(ip("10.0.0.1"), Some(group), &process);
        assert_eq!(refused, Err(Refusal::Over(Limit::ClientSessions)));
        let shown = process.busiest(10, Some(&[&group.state]));
        assert_eq!((shown.len(), shown[0].sessions, shown[0].refused), (1, 2, 1));
        assert!(group.state.is_of(&shown[0].key));
    }
}
