use super::*;

const TIMEOUT: Duration = Duration::from_secs(1);

/// Every set of claims, and whether one of them is live, and whether one holds a place.
fn all_claims() -> Vec<(Claims, bool, bool)> {
    let mut all = Vec::new();
    for is_in_file in [false, true] {
        for is_remembered in [false, true] {
            for is_discovered in [false, true] {
                for lease in [None, Some(Lease::new(0, TIMEOUT)), Some(Lease::kept()), Some(Lease::ended())] {
                    let mut claims = Claims::default();
                    let is_leased = lease.as_ref().is_some_and(Lease::is_live);
                    lease.into_iter().for_each(|lease| claims.set(Claim::Heartbeat(lease)));
                    for (claim, is_made) in [
                        (Claim::File, is_in_file),
                        (Claim::Remembered, is_remembered),
                        (Claim::Discovered, is_discovered),
                    ] {
                        if is_made {
                            claims.set(claim);
                        }
                    }
                    let is_live = is_in_file || is_discovered || is_leased;
                    all.push((claims, is_live, is_live || is_remembered));
                }
            }
        }
    }
    all
}

fn member(claims: Claims, state: State, [is_suspect, is_resolved, is_full]: [bool; 3]) -> Member {
    let mut settings = ServerSettings::new("name.invalid:1".parse().unwrap(), Origin::File);
    (settings.state, settings.max_sessions) = (state, 1);
    let addresses = if is_resolved { vec!["10.0.0.1:1".parse().unwrap()] } else { Vec::new() };
    let mut member = Member::new(ServerId(1), settings, addresses);
    member.claims = claims;
    if is_suspect {
        assert!(member.server.live.connect_failed("connection refused", 0, 0));
    }
    if is_full {
        assert!(member.server.live.try_acquire(1));
    }
    member
}

#[test]
fn a_server_is_online_while_a_claim_is_live_and_no_verdict_is_against_it() {
    let mut seen = 0;
    for (claims, is_live, has_place) in all_claims() {
        let is_kept = claims.lease().is_some_and(Lease::is_kept);
        for state in [State::Ready, State::Drain, State::Maint] {
            for bits in 0..8 {
                let verdicts @ [is_suspect, is_resolved, is_full] = [1, 2, 4].map(|bit| bits & bit != 0);
                let member = member(claims.clone(), state, verdicts);
                // In the order in which they are told.
                let against = [
                    (state == State::Drain, "drained by an operator"),
                    (state == State::Maint, "in maintenance"),
                    (!is_live, "no heartbeat within heartbeat_timeout"),
                    (is_kept && is_suspect, "no heartbeat within heartbeat_timeout, and no answer: connection refused"),
                    (!is_resolved, "its name is not resolved: it is being resolved"),
                    (is_suspect, "connection refused"),
                    (is_full, "holds max_sessions = 1 sessions"),
                ];
                let expected = against.iter().find(|(is_so, _)| *is_so).map(|(_, why)| (*why).to_owned());
                assert_eq!(member.offline().map(|why| why.to_string()), expected, "{member:?}");
                let is_hidden = against[..5].iter().any(|(is_so, _)| *is_so);
                assert_eq!(
                    member.hidden().is_none(),
                    !is_hidden,
                    "policies are shown suspect and full servers: {member:?}"
                );
                assert_eq!(member.claims.standing() > Standing::Over, has_place, "{member:?}");
                let view = member.view(0);
                assert_eq!((view.online, view.cause), (expected.is_none(), expected));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 32 * 24);
}

#[test]
fn there_is_one_claim_of_each_kind() {
    let mut claims = Claims::default();
    for _ in 0..2 {
        claims.set(Claim::File);
        claims.set(Claim::Heartbeat(Lease::ended()));
        claims.set(Claim::Heartbeat(Lease::new(0, TIMEOUT)));
    }
    let mut other = Claims::default();
    other.set(Claim::File);
    other.set(Claim::Heartbeat(Lease::new(0, TIMEOUT)));
    assert_eq!(claims, other);
    assert!(claims.withdraw(&Claim::File) && !claims.withdraw(&Claim::File));
}

#[test]
fn what_the_file_says_of_a_server_decides_what_else_counts() {
    let settings = |origin| ServerSettings::new("10.0.0.1:1".parse().unwrap(), origin);
    let mut member = Member::new(ServerId(1), settings(Origin::Heartbeat), Vec::new());
    member.take_settings(settings(Origin::Heartbeat), 0, TIMEOUT);
    assert_eq!(member.offline(), Some(Offline::Silent), "the file alone brings nobody back who registered itself");
    member.take_settings(settings(Origin::File), 0, TIMEOUT);
    assert_eq!(member.offline(), None);
    assert_eq!(member.view(0).lease_ms, None, "a server of the file has no lease");
    member.take_settings(settings(Origin::Heartbeat), 500, TIMEOUT);
    assert_eq!(member.view(500).lease_ms, Some(1_000), "one whole lease to send its first heartbeat");
    member.take_settings(settings(Origin::File), 600, TIMEOUT);
    assert_eq!(member.claims.lease(), None);
}

#[test]
fn the_addresses_of_a_name_stay_for_an_hour_of_lookups_that_find_none() {
    const HOUR_MS: u64 = 3_600_000;
    let mut claims = Claims::default();
    claims.set(Claim::File);
    let mut member = member(claims, State::Ready, [false, true, false]);
    member.resolved(Ok(vec!["10.0.0.2:1".parse().unwrap()]), 1_000);
    for outcome in [Ok(Vec::new()), Err("no such host".to_owned())] {
        member.resolved(outcome, HOUR_MS + 999);
        assert_eq!((member.offline(), member.server.live.addresses().all().len()), (None, 1));
    }
    member.resolved(Err("no such host".to_owned()), HOUR_MS + 1_000);
    assert_eq!(member.offline().unwrap().to_string(), "its name is not resolved: no such host");
    assert!(member.server.live.addresses().is_empty());
    member.resolved(Ok(vec!["10.0.0.3:1".parse().unwrap()]), HOUR_MS + 2_000);
    assert_eq!(member.offline(), None);
}

#[test]
fn an_address_that_failed_is_tried_by_the_proxy_alone() {
    let mut claims = Claims::default();
    claims.set(Claim::File);
    let mut member = member(claims, State::Ready, [false, true, false]);
    let addresses: Vec<SocketAddr> = ["10.0.0.2:1", "10.0.0.3:1"].map(|addr| addr.parse().unwrap()).to_vec();
    member.resolved(Ok(addresses.clone()), 0);
    let settings = GroupSettings::for_tests("ha");
    assert_eq!(member.target(&settings), None);
    member.server.live.addresses().fail(0);
    let target = member.target(&settings).unwrap();
    assert_eq!((target.addresses, target.is_partial), (addresses[..1].to_vec(), true));
    member.server.live.connect_failed("connection refused", 0, 0);
    let target = member.target(&settings).unwrap();
    assert_eq!((target.addresses.len(), target.is_partial), (2, false), "now it is tried as a whole");
}
