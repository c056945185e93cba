//! `client_hash`: the client's IP decides, and a server that goes moves its own clients only.

use std::net::{Ipv6Addr, SocketAddr};

use goproxy::policy::Outcome;
use goproxy::server::{Server, ServerId};

use crate::kit::{Group, client, promise, servers, shares};

const FILE: &str = "client_hash.wat";
const CLIENTS: u32 = 5_000;

#[test]
fn client_hash_sends_a_client_to_the_same_server_from_any_port() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..10));
        let first = group.picks(CLIENTS);
        group.report(3, Outcome::Failed);
        assert_eq!(group.picks(CLIENTS), first);
        let from = |group: &mut Group, port: u16| -> Vec<_> {
            (0..CLIENTS).map(|number| group.pick(SocketAddr::new(client(number).ip(), port)).unwrap()).collect()
        };
        assert_eq!(from(group, 1), first);
        assert_eq!(from(group, 65_535), first);
    });
}

#[test]
fn client_hash_moves_only_the_clients_of_a_server_that_goes_and_spreads_them() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..10));
        let before = group.picks(CLIENTS);
        group.show(servers(0..10).into_iter().filter(|server| server.id != servers(4..5)[0].id));
        let after = group.picks(CLIENTS);
        let moved: Vec<u32> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(_, after)| *after).collect();
        assert_eq!(moved.len(), before.iter().filter(|&&number| number == 4).count());
        let shares = shares(10, &moved);
        assert!(shares.iter().enumerate().all(|(number, &share)| (number == 4) == (share == 0)), "{shares:?}");

        group.show(servers(0..10));
        assert_eq!(group.picks(CLIENTS), before, "it is back, and so are they");
        group.show(servers(0..11));
        let after = group.picks(CLIENTS);
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == 10));
        assert!(after.contains(&10));
    });
}

#[test]
fn client_hash_does_not_depend_on_the_order_of_the_servers() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..100));
        let first = group.picks(CLIENTS);
        group.show(servers(0..100).into_iter().rev());
        assert_eq!(group.picks(CLIENTS), first);
    });
}

#[test]
fn client_hash_does_not_depend_on_ids_so_that_proxies_agree() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..10));
        let first = group.picks(CLIENTS);
        // The addresses of the servers 0 to 9, which another proxy numbers the other way round.
        let renumbered = servers(0..10).into_iter().map(|server| {
            let [first, last] = [0, 9].map(|number| servers(number..number + 1)[0].id.0);
            let (id, live) = (ServerId(first + last - server.id.0), server.live.clone());
            std::sync::Arc::new(Server { id, settings: server.settings.clone(), live })
        });
        group.show(renumbered);
        let mirrored: Vec<_> = group.picks(CLIENTS).into_iter().map(|number| 9 - number).collect();
        assert_eq!(mirrored, first);
    });
}

#[test]
fn client_hash_spreads_clients_of_both_kinds() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..10));
        let v4 = group.picks(20_000);
        let v6 = |number: u128| SocketAddr::from((Ipv6Addr::from(0x2001_0db8_u128 << 96 | number), 40_000));
        let v6: Vec<_> = (0..20_000).map(|number| group.pick(v6(number)).unwrap()).collect();
        for picks in [v4, v6] {
            let shares = shares(10, &picks);
            // Five standard deviations; the clients are always the same ones.
            assert!(shares.iter().all(|share| (1_788..=2_212).contains(share)), "{shares:?}");
        }
    });
}

#[test]
fn client_hash_sends_a_client_that_was_failed_to_where_it_would_go_without_that_server() {
    promise(FILE, "{}", |group| {
        group.show(servers(0..3));
        let first = group.picks(200);
        let clients = (0..200).map(client).zip(&first);
        let second: Vec<_> = clients.map(|(client, &tried)| group.pick_again(client, &[tried]).unwrap()).collect();
        for gone in 0..3 {
            group.show((0..3).filter(|&number| number != gone).map(crate::kit::server));
            for number in (0..200).filter(|&number| first[number] == gone) {
                assert_eq!(group.pick(client(number as u32)), Some(second[number]));
            }
        }
    });
}
