//! What has to be done about limits beside the data path: forget clients that need not be known, and tell what is not
//! told of each client.
//!
//! Once a second a part of the clients is looked through, and the log learns how many clients were turned away without
//! being named. Once a minute it learns what makes limits for each client useless: one client that is nearly all of them,
//! or more clients than there is room for.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Control;
use crate::counters::Limit;
use crate::events::{self, Event, GroupChange, LimitEvent};
use crate::group::Group;
use crate::limits::Unsaid;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);

/// Rounds between two looks at what seldom happens.
const ROUNDS_A_MINUTE: usize = 60;

/// Looks after limits until `stop`.
pub(crate) async fn look_after_limits(control: Control, stop: CancellationToken) {
    let keep = async {
        let mut untracked_told = 0;
        for round in 0_usize.. {
            tokio::time::sleep(ROUND).await;
            let limits = control.sessions().limits();
            limits.sweep(round);
            tell_unsaid(limits.take_unsaid());
            if round % ROUNDS_A_MINUTE == ROUNDS_A_MINUTE - 1 {
                tell_one_client(&control);
                let untracked = limits.untracked();
                if untracked > untracked_told {
                    let clients = untracked - untracked_told;
                    events::publish(Event::Limits(LimitEvent::Untracked { clients }));
                    untracked_told = untracked;
                }
            }
        }
    };
    stop.run_until_cancelled(keep).await;
}

fn tell_unsaid(unsaid: Unsaid) {
    let Unsaid { clients, denied, headers, hellos, handshakes, loops, no_server, limited } = unsaid;
    if clients == 0 {
        return;
    }
    let some = NonZeroU64::new;
    let over = |limit: Limit| some(limited[limit as usize]);
    events::publish(Event::Limits(LimitEvent::Refused {
        clients,
        denied: some(denied),
        headers: some(headers),
        hellos: some(hellos),
        handshakes: some(handshakes),
        loops: some(loops),
        no_server: some(no_server),
        client_sessions: over(Limit::ClientSessions),
        client_rate: over(Limit::ClientRate),
        group_sessions: over(Limit::GroupSessions),
        waiting: over(Limit::Waiting),
        group_rate: over(Limit::GroupRate),
        process_sessions: over(Limit::ProcessSessions),
        process_rate: over(Limit::ProcessRate),
        descriptors: over(Limit::Descriptors),
    }));
}

fn tell_one_client(control: &Control) {
    // Where proxies tell who their clients are, one client is one.
    let is_meant =
        |group: &Group| group.limits().take_is_one_client() && group.snapshot().settings.accept_proxy.is_none();
    for group in control.groups().values().filter(|group| is_meant(group)) {
        events::publish(Event::Group { group: group.label().clone(), change: GroupChange::OneClient });
    }
}
