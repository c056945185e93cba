//! `sticky`: a client's IP stays with its server, until it was away for too long.

use std::net::SocketAddr;
use std::time::Duration;

use crate::kit::{add_sessions, client, promise, refusal, server, server_with, servers};

const FILE: &str = "sticky.wasm";
const CLIENTS: u32 = 500;

/// How many of the clients are where they were.
fn same(before: &[u32], after: &[u32]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before == after).count()
}

#[test]
fn sticky_keeps_clients_where_they_are_while_servers_come_and_go() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..10));
        let before = group.picks(CLIENTS);
        group.show(servers(0..25).into_iter().rev());
        assert_eq!(group.picks(CLIENTS), before);
        group.show(servers(3..25));
        let after = group.picks(CLIENTS);
        assert!(before.iter().zip(&after).all(|(before, after)| *before < 3 || before == after));
        group.show(servers(0..40));
        assert_eq!(group.picks(CLIENTS), after, "who has moved stays where it is now");
    });
    // It is the table that keeps them: without it most would be elsewhere.
    promise(FILE, "{}", |group| {
        group.show(servers(0..10));
        let before = group.picks(CLIENTS);
        group.wait(Duration::from_secs(3_000));
        group.show(servers(0..25).into_iter().rev());
        assert!(same(&before, &group.picks(CLIENTS)) < 100);
    });
}

#[test]
fn sticky_does_not_look_at_the_port() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..10));
        let first = group.pick(client(1));
        for port in [1, 1_024, 65_535] {
            assert_eq!(group.pick(SocketAddr::new(client(1).ip(), port)), first);
        }
    });
}

#[test]
fn sticky_moves_a_client_for_good_when_its_server_fails_it_or_is_full() {
    promise(FILE, "{}", |group| {
        let all: Vec<_> = (0..4).map(|number| server_with(number, |settings| settings.max_sessions = 1)).collect();
        group.show(all.clone());
        let first = group.pick(client(1)).unwrap();
        let second = group.pick_again(client(1), &[first]).unwrap();
        assert_eq!(group.pick(client(1)), Some(second));
        add_sessions(&all[second as usize], 1);
        let third = group.pick(client(1)).unwrap();
        assert_ne!(third, second);
        all[second as usize].live.release();
        assert_eq!(group.pick(client(1)), Some(third));
    });
}

#[test]
fn sticky_forgets_a_client_that_was_away_for_its_time_and_no_sooner() {
    promise(FILE, r#"{"ttl_seconds": 60}"#, |group| {
        let left = |group: &mut crate::kit::Group, away: Duration| {
            group.show([server(0)]);
            let clients: Vec<_> = (0..CLIENTS).map(client).collect();
            clients.iter().for_each(|&client| assert_eq!(group.pick(client), Some(0)));
            group.show(servers(0..10));
            group.wait(away);
            clients.iter().filter(|&&client| group.pick(client) == Some(0)).count()
        };
        // The clients come 10 ms after each other: the last ones are 5 s younger than the first.
        assert_eq!(left(group, Duration::from_secs(54)), CLIENTS as usize);
        let stayed = left(group, Duration::from_secs(66));
        assert!(stayed < CLIENTS as usize / 5, "the hash says so of one in ten, not of {stayed}");
    });
}

#[test]
fn sticky_counts_the_time_from_the_last_visit() {
    promise(FILE, r#"{"ttl_seconds": 60}"#, |group| {
        group.show([server(0)]);
        group.picks(20);
        group.show(servers(0..10));
        for _ in 0..5 {
            group.wait(Duration::from_secs(50));
            assert_eq!(group.picks(20), [0; 20]);
        }
    });
}

#[test]
fn sticky_keeps_to_its_bound_and_forgets_who_was_away_for_longest() {
    promise(FILE, r#"{"entries_max": 100}"#, |group| {
        group.show([server(0)]);
        group.picks(100);
        // The first half was here again, so the other half is the older one.
        group.picks(50);
        (1_000..1_050).for_each(|number| _ = group.pick(client(number)));
        group.show(servers(0..10));
        assert_eq!(group.picks(50), [0; 50]);
        let others: Vec<_> = (50..100).map(|number| group.pick(client(number)).unwrap()).collect();
        assert!(same(&others, &[0; 50]) < 20, "{others:?}");
    });
}

#[test]
fn sticky_holds_its_largest_table_within_the_memory_that_a_policy_has() {
    promise(FILE, r#"{"entries_max": 50000}"#, |group| {
        group.show([server(0)]);
        group.picks(60_000);
        group.show(servers(0..10));
        assert_eq!(group.pick(client(59_999)), Some(0));
    });
}

#[test]
fn sticky_refuses_parameters_out_of_range_and_says_what_it_expects() {
    let text = refusal(FILE, r#"{"ttl_seconds": 0}"#);
    assert!(text.ends_with("params: ttl_seconds is 0; expected 1 or more"), "{text}");
    let text = refusal(FILE, r#"{"entries_max": 50001}"#);
    assert!(text.ends_with("params: entries_max is 50001; expected 1 to 50000"), "{text}");
    let text = refusal(FILE, r#"{"ttl": 5}"#);
    assert!(text.contains("params: unknown field `ttl`, expected `ttl_seconds` or `entries_max`"), "{text}");
}
