use std::collections::HashMap as Map;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

fn allowance(sessions: u32, rate: Option<u32>) -> Allowance {
    let rate = rate.map(|sessions| Rate { per: Duration::from_secs(1), sessions, burst: None });
    Allowance::new(&ClientLimits { sessions, rate, ipv4: 32, ipv6: 64 })
}

fn key(ip: &str, allowance: &Allowance) -> ClientKey {
    ClientKey::new(ip.parse::<IpAddr>().unwrap().to_canonical(), 0, allowance)
}

fn nobody_else() -> Result<(), Limit> {
    Ok(())
}

#[test]
fn addresses_that_are_one_client_have_one_key() {
    let usual = allowance(1, None);
    let of = |ip: &str| key(ip, &usual);
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    // All of IPv4 comes from one /64 through NAT64.
    assert_eq!(of("64:ff9b::10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("64:ff9b::10.0.0.1"), of("64:ff9b::10.0.0.2"));
    assert_eq!(of("64:ff9b:1::10.0.0.1"), of("64:ff9b:1::10.0.0.2"), "not the well-known prefix");
    let wide = Allowance { ipv4: 24, ipv6: 48, ..usual };
    assert_eq!(key("10.0.0.1", &wide), key("10.0.0.255", &wide));
    assert_eq!(key("2001:db8:1::", &wide), key("2001:db8:1:ffff::", &wide));
    assert_eq!((key("10.0.7.9", &wide).ip(), key("10.0.7.9", &wide).bits()), ("10.0.7.0".parse().unwrap(), 24));
    let whole = Allowance { ipv4: 32, ipv6: 128, ..usual };
    assert_eq!(key("2001:db8::7", &whole).ip(), "2001:db8::7".parse::<IpAddr>().unwrap());
}

#[test]
fn an_entry_takes_no_more_memory_than_it_must() {
    assert_eq!((size_of::<(ClientKey, Entry)>(), size_of::<Option<Box<ClientKey>>>()), (40, 8));
}

#[test]
fn a_client_has_as_many_sessions_as_it_may_and_not_one_more() {
    let (table, allowance) = (ClientTable::default(), allowance(3, None));
    let client = key("10.0.0.1", &allowance);
    let enter = || table.enter(&client, &allowance, 1, nobody_else);
    assert!((0..3).all(|_| enter() == Ok(Entered::Counted)));
    assert_eq!(enter(), Err(Limit::ClientSessions));
    table.leave(&client, 1);
    assert_eq!((enter(), enter()), (Ok(Entered::Counted), Err(Limit::ClientSessions)));
    (0..3).for_each(|_| table.leave(&client, 1));
    assert_eq!(table.tracked(), 0, "nothing is left of it");
}

#[test]
fn many_threads_never_let_a_client_have_one_session_more() {
    let (table, allowance) = (ClientTable::default(), allowance(7, None));
    let clients: Vec<ClientKey> = (0..3).map(|low| key(&format!("10.0.0.{low}"), &allowance)).collect();
    let now: Vec<AtomicU32> = clients.iter().map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (table, clients, now) = (&table, &clients, &now);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                let mut held = Vec::new();
                for _ in 0..20_000 {
                    let at = random.usize(..clients.len());
                    if random.bool() && table.enter(&clients[at], &allowance, 1, nobody_else).is_ok() {
                        assert!(now[at].fetch_add(1, Relaxed) < 7);
                        held.push(at);
                    } else if let Some(at) = held.pop() {
                        now[at].fetch_sub(1, Relaxed);
                        table.leave(&clients[at], 1);
                    }
                }
                for at in held {
                    now[at].fetch_sub(1, Relaxed);
                    table.leave(&clients[at], 1);
                }
            });
        }
    });
    assert_eq!(table.tracked(), 0);
}

#[test]
fn a_client_is_forgotten_when_it_could_have_all_its_sessions_again() {
    let (table, allowance) = (ClientTable::default(), allowance(0, Some(10)));
    let client = key("10.0.0.1", &allowance);
    for _ in 0..10 {
        table.enter(&client, &allowance, SECOND_NS, nobody_else).unwrap();
        table.leave(&client, SECOND_NS);
    }
    let sweep_all = |now| (0..SHARDS).for_each(|shard| table.sweep(shard, now));
    sweep_all(2 * SECOND_NS - 1);
    assert_eq!(table.tracked(), 1);
    sweep_all(2 * SECOND_NS);
    assert_eq!(table.tracked(), 0);
}

#[test]
fn a_full_table_lets_new_clients_through_uncounted_and_never_grows() {
    let (table, allowance) = (ClientTable::default(), allowance(1, None));
    // All in one shard.
    let mut keys = (0_u32..).map(|low| ClientKey::new(Ipv4Addr::from(low).into(), 0, &allowance));
    let shard = |key: &ClientKey| (table.seed.hash_one(key) >> 40) as usize % SHARDS;
    let mut keys = keys.by_ref().filter(|key| shard(key) == 5);
    let first: Vec<ClientKey> = keys.by_ref().take(SHARD_CLIENTS_MAX).collect();
    for key in &first {
        assert_eq!(table.enter(key, &allowance, 1, nobody_else), Ok(Entered::Counted));
    }
    let late = keys.next().unwrap();
    assert_eq!(table.enter(&late, &allowance, 2, nobody_else), Ok(Entered::Untracked));
    assert_eq!(table.enter(&late, &allowance, 2, nobody_else), Ok(Entered::Untracked));
    assert_eq!(table.enter(&first[0], &allowance, 2, nobody_else), Err(Limit::ClientSessions), "known as before");
    assert_eq!((table.tracked(), table.untracked()), (SHARD_CLIENTS_MAX as u64, 2));
    assert_eq!(table.shards[5].part().clients.capacity(), SHARD_CLIENTS_MAX, "it has not doubled for the last one");
    table.leave(&first[0], 2);
    assert_eq!(table.enter(&late, &allowance, 2, nobody_else), Ok(Entered::Counted));
    // What a flood has left behind is given back.
    first[1..].iter().chain([&late]).for_each(|key| table.leave(key, 3));
    table.sweep(5, 3);
    assert_eq!((table.tracked(), table.shards[5].part().clients.capacity()), (0, 0));
}

#[test]
fn a_full_shard_is_searched_for_free_places_now_and_then() {
    let (table, allowance) = (ClientTable::default(), allowance(0, Some(1)));
    let shard = |key: &ClientKey| (table.seed.hash_one(key) >> 40) as usize % SHARDS;
    let keys = (0_u32..).map(|low| ClientKey::new(Ipv4Addr::from(low).into(), 0, &allowance));
    let mut keys = keys.filter(|key| shard(key) == 0);
    for key in keys.by_ref().take(SHARD_CLIENTS_MAX) {
        table.enter(&key, &allowance, SECOND_NS, nobody_else).unwrap();
        table.leave(&key, SECOND_NS);
    }
    let mut enter = |now| table.enter(&keys.next().unwrap(), &allowance, now, nobody_else).unwrap();
    assert_eq!(enter(2 * SECOND_NS - 1), Entered::Untracked);
    // Their tokens are back, but it was searched a moment ago.
    assert_eq!(enter(2 * SECOND_NS), Entered::Untracked);
    assert_eq!(enter(3 * SECOND_NS), Entered::Counted);
    assert_eq!(table.tracked(), 1);
}

#[test]
fn the_busiest_clients_come_first() {
    let (table, allowance) = (ClientTable::default(), allowance(5, None));
    for (low, sessions) in [(1, 2), (2, 5), (3, 1), (4, 2)] {
        let client = key(&format!("10.0.0.{low}"), &allowance);
        (0..sessions).for_each(|_| _ = table.enter(&client, &allowance, 1, nobody_else).unwrap());
    }
    let refused = table.enter(&key("10.0.0.4", &allowance), &allowance, 1, || Err(Limit::GroupRate));
    assert_eq!(refused, Err(Limit::GroupRate));
    let shown: Vec<_> = table.busiest(3, |_| true).iter().map(|it| (it.key.ip().to_string(), it.sessions)).collect();
    assert_eq!(shown, [("10.0.0.2".to_owned(), 5), ("10.0.0.4".to_owned(), 2), ("10.0.0.1".to_owned(), 2)]);
    assert!(table.busiest(3, |group| group != 0).is_empty());
}

/// Beside a map that knows everything for ever.
fn as_a_plain_map_would(steps: Vec<(u8, bool, u64)>, sessions: u32, rate: u32) -> Result<(), TestCaseError> {
    let (table, allowance) = (ClientTable::default(), allowance(sessions, Some(rate)));
    let pace = allowance.pace.unwrap();
    let (mut plain, mut now): (Map<u8, (u32, u64)>, u64) = (Map::new(), SECOND_NS);
    for (client, comes, pause) in steps {
        now += pause;
        let key = key(&format!("10.0.0.{client}"), &allowance);
        let (held, full) = plain.entry(client).or_default();
        if comes {
            let expected = match pace.next(*full, now) {
                _ if *held >= sessions => Err(Limit::ClientSessions),
                None => Err(Limit::ClientRate),
                Some(next) => {
                    (*held, *full) = (*held + 1, next);
                    Ok(Entered::Counted)
                }
            };
            prop_assert_eq!(table.enter(&key, &allowance, now, nobody_else), expected);
        } else if *held > 0 {
            *held -= 1;
            table.leave(&key, now);
        } else {
            table.sweep(client.into(), now);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn forgetting_clients_makes_no_difference_to_them(
        steps in proptest::collection::vec((0_u8..6, any::<bool>(), 0_u64..300_000_000), 1..400),
        sessions in 1_u32..4,
        rate in 1_u32..6,
    ) {
        as_a_plain_map_would(steps, sessions, rate)?;
    }
}
