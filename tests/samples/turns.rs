//! `round_robin`: 1..N in order, then again.

use crate::kit::{add_sessions, client, promise, server, server_with, servers};

const FILE: &str = "round_robin.wat";

#[test]
fn round_robin_gives_each_server_its_turn_in_order() {
    promise(FILE, "{}", |group| {
        group.show([5, 1, 4, 2, 3].map(server));
        assert_eq!(group.picks(12), [5, 1, 4, 2, 3, 5, 1, 4, 2, 3, 5, 1]);
    });
}

#[test]
fn round_robin_is_exact_with_ten_thousand_servers() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..10_000));
        let round = Vec::from_iter(0..10_000);
        assert_eq!(group.picks(20_000), [round.clone(), round].concat());
    });
}

#[test]
fn round_robin_skips_the_turn_of_a_server_that_is_full() {
    promise(FILE, "{}", |group| {
        let full = server_with(1, |settings| settings.max_sessions = 1);
        add_sessions(&full, 1);
        group.show([server(0), full.clone(), server(2), server(3)]);
        assert_eq!(group.picks(6), [0, 2, 3, 0, 2, 3]);
        full.live.release();
        assert_eq!(group.picks(5), [0, 1, 2, 3, 0]);
    });
}

#[test]
fn round_robin_moves_on_from_servers_that_failed_the_client() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..5));
        assert_eq!(group.pick(client(1)), Some(0));
        assert_eq!(group.pick_again(client(1), &[0]), Some(1));
        assert_eq!(group.pick_again(client(2), &[2, 3]), Some(4));
        assert_eq!(group.pick_again(client(2), &[0, 1, 2, 4]), Some(3));
        assert_eq!(group.pick(client(3)), Some(4));
    });
}

#[test]
fn round_robin_keeps_its_turn_when_servers_come_and_starts_again_when_the_list_is_too_short() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..5));
        assert_eq!(group.picks(3), [0, 1, 2]);
        group.show(servers(0..6));
        assert_eq!(group.picks(4), [3, 4, 5, 0]);
        group.picks(3);
        group.show(servers(0..2));
        assert_eq!(group.picks(3), [0, 1, 0]);
    });
}
