//! `two_choices`: of two servers at random the one with fewer sessions for its weight.

use crate::kit::{add_sessions, client, promise, server_with, servers, shares};

const FILE: &str = "two_choices.wat";

#[test]
fn two_choices_never_takes_the_server_with_the_most_sessions() {
    promise(FILE, "{}", |group| {
        let all = servers(0..10);
        all.iter().zip(0..).for_each(|(server, number)| add_sessions(server, number));
        group.show(all);
        let shares = shares(10, &group.picks(9_000));
        // The server at rank n wins 2 × (9 - n) of 90 pairs; five standard deviations are less than 200 of 9,000.
        for (number, &share) in shares.iter().enumerate() {
            assert!(share.abs_diff((9 - number) * 200) <= 200, "{shares:?}");
        }
        assert_eq!(shares[9], 0);
    });
}

#[test]
fn two_choices_counts_sessions_by_weight() {
    promise(FILE, "{}", |group| {
        let all: Vec<_> =
            [1, 4].iter().zip(0..).map(|(&weight, number)| server_with(number, |it| it.weight = weight)).collect();
        add_sessions(&all[0], 3);
        add_sessions(&all[1], 10);
        group.show(all.clone());
        assert_eq!(group.picks(20), [1; 20], "11 for a weight of 4 is less than 4 for a weight of 1");
        add_sessions(&all[1], 10);
        assert_eq!(group.picks(20), [0; 20]);
    });
}

#[test]
fn two_choices_takes_the_only_server_that_has_not_failed_the_client() {
    promise(FILE, "{}", |group| {
        for size in [2, 3, 10, 100] {
            let all = servers(0..size);
            let left = size / 2;
            // It is also the worst.
            add_sessions(&all[left as usize], 1_000);
            group.show(all);
            let tried: Vec<_> = (0..size).filter(|&number| number != left).collect();
            for number in 0..200 {
                assert_eq!(group.pick_again(client(number), &tried), Some(left));
            }
        }
    });
}

#[test]
fn two_choices_keeps_sessions_even() {
    promise(FILE, "{}", |group| {
        let all = servers(0..100);
        group.show(all.clone());
        for number in 0..10_000 {
            let picked = group.pick(client(number)).unwrap();
            add_sessions(&all[picked as usize], 1);
        }
        // By chance alone the fullest of 100 servers would have about 125.
        let sessions: Vec<_> = all.iter().map(|server| server.live.sessions()).collect();
        assert!(sessions.iter().all(|sessions| (90..=106).contains(sessions)), "{sessions:?}");
    });
}
