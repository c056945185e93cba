use std::sync::Arc;

use super::*;
use crate::base::label::GroupLabel;

fn online(addr: &str) -> Event {
    Event::Server { group: GroupLabel::new(1, None), addr: addr.into(), change: ServerChange::Online }
}

/// Other tests publish, too: only events of this test's own server count.
fn addr_of(received: &Received) -> Option<&str> {
    match received {
        Received::Event(published) => match &published.event {
            Event::Server { addr, .. } if addr.starts_with("events-test") => Some(addr),
            _ => None,
        },
        Received::Gap(_) => None,
    }
}

#[test]
fn every_subscriber_has_each_event_in_order_with_growing_numbers() {
    let mut subscribers = [subscribe(), subscribe()];
    for index in 0..3 {
        publish(online(&format!("events-test-order-{index}")));
    }
    for subscriber in &mut subscribers {
        let received: Vec<_> = std::iter::from_fn(|| subscriber.try_next()).collect();
        let own: Vec<_> = received.iter().filter_map(addr_of).filter(|addr| addr.contains("order")).collect();
        assert_eq!(own, ["events-test-order-0", "events-test-order-1", "events-test-order-2"]);
        let numbers: Vec<_> = received
            .iter()
            .filter_map(|received| match received {
                Received::Event(published) => Some(published.number),
                Received::Gap(_) => None,
            })
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

#[test]
fn a_subscriber_that_stalls_costs_bounded_memory_and_finds_a_gap() {
    let mut stalled = subscribe();
    let event = Arc::<str>::from("events-test-stall");
    for _ in 0..3 * CHANGES_MAX {
        let change = ServerChange::Online;
        publish(Event::Server { group: GroupLabel::new(1, None), addr: Arc::clone(&event), change });
    }
    // The events that the channel has let go of are gone, whether the subscriber looks or not.
    assert!(Arc::strong_count(&event) <= CHANGES_MAX + HISTORY_MAX + 1, "{}", Arc::strong_count(&event));
    let Some(Received::Gap(lost)) = stalled.try_next() else { panic!("a gap comes first") };
    assert!(lost >= 2 * CHANGES_MAX as u64, "{lost}");
    let left = std::iter::from_fn(|| stalled.try_next()).count();
    assert!((1..=CHANGES_MAX).contains(&left), "{left}");
}

#[tokio::test]
async fn whoever_waits_for_an_event_is_woken_by_a_gap_as_well() {
    let mut waiting = subscribe();
    hand_on_gap(7);
    let gone = waiting.wait_for(|_| false);
    assert!(tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.is_ok());
}

#[test]
fn what_sessions_do_is_built_for_subscribers_only_while_there_are_some() {
    let queue = Queue::new();
    queue.push_session(Step::Connect, || panic!("built for nobody"));
    queue.set_subscribed(true);
    let mut is_built = false;
    let client = "10.0.0.7:51234".parse().unwrap();
    queue.push_session(Step::Connect, || {
        is_built = true;
        SessionEvent::ClientConnected {
            id: 1,
            group: GroupLabel::new(1, None),
            client,
            client_facts: None,
            is_logged: true,
            access: None,
        }
    });
    assert!(is_built);
    queue.set_subscribed(false);
    queue.push_session(Step::Connect, || panic!("built for nobody"));
}

#[test]
fn events_that_find_no_place_are_counted_for_the_gap() {
    let queue = Queue::new();
    for _ in 0..SHARD_ENTRIES_MAX + 5 {
        queue.push(What::Event(Box::new(online("events-test-full"))));
    }
    assert_eq!((queue.take_events_lost(), queue.take_events_lost()), (5, 0));
}
