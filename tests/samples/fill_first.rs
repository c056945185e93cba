//! `fill_first`: the first server until it has what it has room for, then the second, and so on.

use std::sync::Arc;

use goproxy::server::Server;

use crate::kit::{Group, add_sessions, client, labelled, promise, server, server_with, servers};

const FILE: &str = "fill_first.wasm";

/// So many clients come and stay; the sessions of each server then.
fn come(group: &mut Group, all: &[Arc<Server>], clients: u32) -> Vec<u32> {
    for number in 0..clients {
        let picked = group.pick(client(number)).expect("somebody is left");
        add_sessions(&all[picked as usize], 1);
    }
    all.iter().map(|server| server.live.sessions()).collect()
}

#[test]
fn fill_first_fills_one_server_after_the_other() {
    promise(FILE, "{}", |group| {
        let all = [labelled(0, "room", "3"), labelled(1, "zone", "a"), labelled(2, "room", "2"), server(3)];
        group.show(all.clone());
        assert_eq!(come(group, &all, 3), [3, 0, 0, 0]);
        assert_eq!(come(group, &all, 100), [3, 100, 0, 0], "100 without a label");
        assert_eq!(come(group, &all, 4), [3, 100, 2, 2]);
    });
}

#[test]
fn fill_first_comes_back_to_a_server_that_has_room_again() {
    promise(FILE, "{}", |group| {
        let all = servers(0..3);
        group.show(all.clone());
        assert_eq!(come(group, &all, 150), [100, 50, 0]);
        all[0].live.release();
        assert_eq!(group.pick(client(1)), Some(0));
    });
}

#[test]
fn fill_first_takes_the_fewest_sessions_for_the_room_when_all_are_full() {
    promise(FILE, "{}", |group| {
        let all = [labelled(0, "room", "10"), labelled(1, "room", "20")];
        group.show(all.clone());
        assert_eq!(come(group, &all, 30), [10, 20]);
        assert_eq!(come(group, &all, 300), [110, 220]);
    });
}

#[test]
fn fill_first_passes_over_servers_that_failed_the_client_or_are_at_their_limit() {
    promise(FILE, "{}", |group| {
        let all = [server_with(0, |settings| settings.max_sessions = 2), server(1), server(2)];
        group.show(all.clone());
        assert_eq!(group.pick_again(client(1), &[0]), Some(1));
        assert_eq!(group.pick_again(client(1), &[0, 1]), Some(2));
        assert_eq!(come(group, &all, 5), [2, 3, 0]);
    });
}

#[test]
fn fill_first_takes_a_label_that_is_no_number_for_none() {
    promise(FILE, "{}", |group| {
        for room in ["", "0", "many", "-5"] {
            let all = [labelled(0, "room", room), server(1)];
            group.show(all.clone());
            assert_eq!(come(group, &all, 101), [100, 1], "{room}");
        }
    });
}
