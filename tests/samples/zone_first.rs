//! `zone_first`: the servers of the own zone, and the others when none of those is left.

use std::sync::Arc;

use goproxy::server::Server;

use crate::kit::{add_sessions, client, labelled, promise, refusal, server, server_with, shares};

const FILE: &str = "zone_first.wasm";
const CONFIG: &str = r#"{"zone": "a"}"#;

/// A server of zone a with room for one session.
fn small(number: u32) -> Arc<Server> {
    server_with(number, |settings| {
        settings.max_sessions = 1;
        settings.labels.insert("zone".to_owned(), "a".to_owned());
    })
}

#[test]
fn zone_first_gives_all_clients_to_its_own_zone_by_turns() {
    promise(FILE, CONFIG, |group| {
        let zones = ["b", "a", "c", "a", "b", "a"];
        group.show(zones.iter().zip(0..).map(|(zone, number)| labelled(number, "zone", zone)));
        assert_eq!(shares(6, &group.picks(300)), [0, 100, 0, 100, 0, 100]);
    });
}

#[test]
fn zone_first_spills_over_while_its_own_zone_is_full_and_comes_back() {
    promise(FILE, CONFIG, |group| {
        let own = small(0);
        group.show([own.clone(), labelled(1, "zone", "b"), server(2)]);
        assert_eq!(group.picks(4), [0; 4]);
        add_sessions(&own, 1);
        assert_eq!(shares(3, &group.picks(40)), [0, 20, 20]);
        own.live.release();
        assert_eq!(group.picks(4), [0; 4]);
    });
}

#[test]
fn zone_first_spills_over_while_its_own_zone_has_no_server() {
    promise(FILE, CONFIG, |group| {
        let others = [labelled(1, "zone", "b"), labelled(2, "rack", "a"), server(3)];
        group.show(others.clone());
        assert_eq!(shares(4, &group.picks(30)), [0, 10, 10, 10]);
        group.show(others.into_iter().chain([labelled(0, "zone", "a")]));
        assert_eq!(group.picks(4), [0; 4]);
    });
}

#[test]
fn zone_first_sends_a_client_that_its_own_zone_failed_to_another() {
    promise(FILE, CONFIG, |group| {
        group.show([labelled(0, "zone", "a"), labelled(1, "zone", "a"), labelled(2, "zone", "b")]);
        for number in 0..10 {
            assert_eq!(group.pick_again(client(number), &[0]), Some(1));
            assert_eq!(group.pick_again(client(number), &[0, 1]), Some(2));
        }
    });
}

#[test]
fn zone_first_refuses_to_work_without_a_zone_and_says_what_it_expects() {
    let text = refusal(FILE, "{}");
    let expected =
        "configure refused {}: params: missing field `zone` at line 1 column 2; expected {\"zone\": \"NAME\"}";
    assert!(text.ends_with(expected), "{text}");
    let text = refusal(FILE, r#"{"zone": ""}"#);
    assert!(text.ends_with("params: zone is empty; expected the label that the servers of this zone have"), "{text}");
    let text = refusal(FILE, r#"{"zon": "a"}"#);
    assert!(text.contains("params: unknown field `zon`"), "{text}");
}
