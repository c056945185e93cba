//! The relay against scripted sockets: what arrives when, what fits when, and what fails.

mod script;

use proptest::prelude::*;
use rustix::io::Errno;

use super::flow::LARGE_READ;
use super::workspace::SCRATCH_SIZE;
use super::{FLUSH_TIME_MS, Pause, READS_PER_WAKE, Relay, Side};
use crate::base::clock;
use crate::counters::EndReason;
use script::{Bench, In, Out, Scripted, bytes, reason_of, some, whole};

#[test]
fn small_pieces_with_pauses_in_both_directions_arrive_in_order() {
    let up = [some(3), In::Pause, some(4), In::Pause, some(1), In::Pause, In::End];
    let down = [In::Pause, some(9), In::Interrupt, some(2), In::Pause, In::End];
    let (bench, end) = Bench::run(Scripted::new(up.clone()), Scripted::new(down.clone()));
    assert_eq!(bench.server.written, whole(&up));
    assert_eq!(bench.client.written, whole(&down));
    assert_eq!(end.reset, None);
    assert!(bench.server.is_finished || bench.client.is_finished);
}

#[test]
fn an_end_in_the_same_event_as_the_last_bytes_is_seen() {
    let (bench, end) = Bench::run(Scripted::new([In::Pause, In::End]), Scripted::new([some(5), In::End]));
    assert_eq!(bench.client.written, bytes(5));
    assert!(bench.client.is_finished, "the client is told at once");
    assert_eq!(reason_of(&end), (EndReason::ServerClosed, None));
}

#[test]
fn the_side_that_ends_first_is_the_reason() {
    let late = || Scripted::new([In::Pause, some(1), In::Pause, In::End]);
    let early = || Scripted::new([some(1), In::End]);
    assert_eq!(reason_of(&Bench::run(early(), late()).1), (EndReason::ClientClosed, None));
    assert_eq!(reason_of(&Bench::run(late(), early()).1), (EndReason::ServerClosed, None));
}

#[test]
fn what_was_read_before_a_server_was_found_comes_first() {
    for has_finished in [false, true] {
        let incoming = if has_finished { vec![In::End] } else { vec![some(7), In::End] };
        let server = Scripted::new([In::Pause, some(2), In::End]).taking([Out::Room(3), Out::Block]);
        let mut bench = Bench::new(Scripted::new(incoming.clone()), server);
        bench.relay = Relay::new(b"first".to_vec(), has_finished);
        let end = bench.finish();
        assert_eq!(bench.server.written, [b"first".to_vec(), whole(&incoming)].concat());
        assert_eq!(reason_of(&end), (EndReason::ClientClosed, None));
        assert!(bench.server.is_finished);
    }
}

#[test]
fn what_is_pending_is_delivered_before_the_end_is_passed_on() {
    for length in [10, SCRATCH_SIZE, 3 * SCRATCH_SIZE] {
        let room = [Out::Room(4), Out::Block, Out::Room(1), Out::Block, Out::Interrupt, Out::Room(2), Out::Block];
        let (bench, end) = Bench::run(
            Scripted::new([vec![In::Pause; 8], vec![In::End]].concat()).taking(room),
            Scripted::new([some(length), In::End]),
        );
        assert_eq!(bench.client.written, bytes(length));
        assert_eq!(reason_of(&end), (EndReason::ServerClosed, None));
    }
}

#[test]
fn a_reset_of_either_side_is_passed_on_after_what_came_before_it() {
    let reset = || Scripted::new([some(10), In::Fail(Errno::CONNRESET)]);
    let slow = || Scripted::new([In::Pause]).taking([Out::Room(3), Out::Block, Out::Room(1), Out::Block]);
    let (bench, end) = Bench::run(reset(), Scripted::new([In::Pause]));
    assert_eq!(reason_of(&end), (EndReason::ClientReset, Some(Side::Server)));
    assert_eq!(bench.server.written, bytes(10));
    assert!(!bench.server.is_finished, "an orderly end would say that it was all");
    let (bench, end) = Bench::run(slow(), reset());
    assert_eq!(reason_of(&end), (EndReason::ServerReset, Some(Side::Client)));
    assert_eq!(bench.client.written, bytes(10));
    assert!(!bench.client.is_finished);
}

/// The peer had ended in order and took no more, which is no reset.
#[test]
fn a_server_that_has_closed_ends_the_session_in_order_when_the_client_does() {
    let client = Scripted::new([some(10), In::Pause, some(10), In::Pause, some(10), In::Pause, In::End]);
    let server = Scripted::new([some(20), In::End]).taking([Out::Room(10), Out::Fail(Errno::PIPE)]);
    let (bench, end) = Bench::run(client, server);
    assert_eq!(reason_of(&end), (EndReason::ServerClosed, None));
    assert_eq!(bench.client.written, bytes(20));
    assert!(bench.client.incoming.iter().all(|step| matches!(step, In::End)), "or closing would reset the client");
}

#[test]
fn a_client_that_only_sends_is_reset_as_soon_as_the_server_is_known_to_be_gone() {
    let lines = || [some(10), In::Pause, some(10), In::Pause, some(10), In::Pause, some(10)];
    // Found by a write.
    let server = Scripted::new([In::End]).taking([Out::Room(10), Out::Fail(Errno::PIPE)]);
    let (bench, end) = Bench::run(Scripted::new(lines()), server);
    assert_eq!(reason_of(&end), (EndReason::ServerClosed, Some(Side::Client)));
    assert_eq!(bench.client.incoming.len(), 4, "nothing more was swallowed");
    // Told before the next one.
    let server = Scripted::new([In::Pause, In::End, In::Pause, In::Fail(Errno::PIPE)]);
    let (bench, end) = Bench::run(Scripted::new([some(10), In::Pause]), server);
    assert_eq!(reason_of(&end), (EndReason::ServerClosed, Some(Side::Client)));
    assert_eq!(bench.server.written, bytes(10));
}

#[test]
fn what_a_client_sends_to_a_server_that_has_closed_is_thrown_away_until_the_answer_has_arrived_and_no_longer() {
    let client = || Scripted::new([some(10), In::Pause]);
    let server = || Scripted::new([some(20), In::End]).taking([Out::Fail(Errno::PIPE)]);
    let mut bench = Bench::new(client(), server());
    let before_ms = bench.workspace.now_ms;
    let end = bench.finish();
    assert_eq!(reason_of(&end), (EndReason::ServerClosed, Some(Side::Client)));
    assert_eq!(bench.client.written, bytes(20));
    assert_eq!(bench.workspace.now_ms, before_ms + FLUSH_TIME_MS);
    // Nor for a client that takes none of it.
    let mut bench = Bench::new(client().taking([Out::Room(5), Out::Full]), server());
    let before_ms = bench.workspace.now_ms;
    let end = bench.finish();
    assert_eq!(reason_of(&end), (EndReason::ServerClosed, Some(Side::Client)));
    assert_eq!(bench.workspace.now_ms, before_ms + FLUSH_TIME_MS);
}

#[test]
fn a_clients_reset_ends_the_session_though_the_server_takes_nothing() {
    let client = Scripted::new([some(10), In::Pause, some(10), In::Fail(Errno::CONNRESET)]);
    let (bench, end) = Bench::run(client, Scripted::new([In::Pause]).taking([Out::Room(3), Out::Full]));
    assert_eq!(reason_of(&end), (EndReason::ClientReset, Some(Side::Server)));
    assert_eq!(bench.server.written, bytes(10)[..3]);
}

/// It had finished before: the failure is that of an answer that nobody takes.
#[test]
fn what_a_client_has_sent_before_it_closed_is_delivered_though_the_server_is_slow() {
    let client = Scripted::new([some(10), In::Pause, In::Fail(Errno::PIPE)]);
    let server = Scripted::new([In::Pause, some(5)]).taking([Out::Room(3), Out::Block, Out::Block, Out::Block]);
    let (bench, end) = Bench::run(client, server);
    assert_eq!(reason_of(&end), (EndReason::ClientClosed, None));
    assert_eq!(bench.server.written, bytes(10));
}

#[test]
fn a_reset_after_the_clients_end_is_seen_though_the_server_says_nothing() {
    let client = Scripted::new([some(10), In::End, In::Pause, In::Fail(Errno::PIPE)]);
    let (bench, end) = Bench::run(client, Scripted::new([In::Pause]));
    assert_eq!(reason_of(&end), (EndReason::ClientClosed, None));
    assert_eq!(bench.server.written, bytes(10));
}

#[test]
fn a_servers_reset_waits_for_a_client_that_takes_nothing_no_longer_than_for_an_answer_to_arrive() {
    let server = Scripted::new([some(10), In::Pause, some(10), In::Fail(Errno::CONNRESET)]);
    let mut bench = Bench::new(Scripted::new([In::Pause]).taking([Out::Room(3), Out::Full]), server);
    let before_ms = bench.workspace.now_ms;
    let end = bench.finish();
    assert_eq!(reason_of(&end), (EndReason::ServerReset, Some(Side::Client)));
    assert_eq!(bench.client.written, bytes(10)[..3]);
    assert_eq!(bench.workspace.now_ms, before_ms + FLUSH_TIME_MS);
}

#[test]
fn a_session_that_is_cut_knows_to_which_side_bytes_are_under_way() {
    let cut = |client: Scripted, server: Scripted| {
        let mut bench = Bench::new(client, server);
        let guard = bench.service.register(0, ([127, 0, 0, 2], 2).into(), &bench.group, clock::coarse_ms());
        let (client, server) = (&mut bench.client, &mut bench.server);
        bench.relay.advance(client, server, &mut bench.workspace, guard.record()).unwrap();
        bench.relay.is_cut(client, server)
    };
    let silent = || Scripted::new([In::Pause]);
    let talking = || Scripted::new([some(10), In::Pause]);
    let full = |side: Scripted| side.taking([Out::Room(3), Out::Full]);
    assert_eq!(cut(talking(), talking()), (false, false), "all was delivered");
    assert_eq!(cut(full(silent()), talking()), (true, false));
    assert_eq!(cut(talking(), full(silent())), (false, true));
    // Nothing was read: it has arrived since.
    let mut unread = silent();
    unread.incoming.push_front(some(1));
    assert_eq!(cut(silent(), unread), (true, false));
}

#[test]
fn an_end_that_came_with_bytes_which_the_server_no_longer_took_is_still_seen() {
    let client = Scripted::new([some(10), In::End]);
    let server = Scripted::new([some(20), In::End]).taking([Out::Fail(Errno::PIPE)]);
    let (bench, end) = Bench::run(client, server);
    assert_eq!(reason_of(&end), (EndReason::ServerClosed, None));
    assert_eq!(bench.client.written, bytes(20));
}

#[test]
fn a_client_that_has_closed_ends_the_session_in_order() {
    let client = Scripted::new([some(10), In::End]).taking([Out::Room(5), Out::Fail(Errno::PIPE)]);
    let server = Scripted::new([some(5), In::Pause, some(5), In::Pause, some(5)]);
    let (bench, end) = Bench::run(client, server);
    assert_eq!(reason_of(&end), (EndReason::ClientClosed, None));
    assert_eq!(bench.server.written, bytes(10));
}

#[test]
fn a_reset_found_while_writing_is_passed_on_after_what_that_side_had_sent() {
    let broken = || {
        let incoming = Scripted::new([In::Pause, some(6), In::End]);
        incoming.taking([Out::Room(1), Out::Block, Out::Fail(Errno::CONNRESET)])
    };
    let talking = || Scripted::new([some(10), In::Pause, some(10)]).taking([Out::Room(2), Out::Block]);
    let (bench, end) = Bench::run(talking(), broken());
    assert_eq!(reason_of(&end), (EndReason::ServerReset, Some(Side::Client)));
    assert_eq!(bench.client.written, bytes(6));
    assert!(!bench.client.is_finished, "an orderly end would say that it was all");
    let (bench, end) = Bench::run(broken(), talking());
    assert_eq!(reason_of(&end), (EndReason::ClientReset, Some(Side::Server)));
    assert_eq!(bench.server.written, bytes(6));
}

#[test]
fn bulk_goes_through_a_pipe_after_two_large_reads_and_until_only_little_comes() {
    let counts = |up: &[In]| {
        let (bench, _) = Bench::run(Scripted::new(up.to_vec()), Scripted::new([In::Pause, In::End]));
        assert!(bench.server.written == whole(up));
        (bench.client.recvs, bench.client.splices)
    };
    let spliced = |up: &[In]| counts(up).1;
    let then = |head: usize, tail: &[usize]| {
        let mut up = vec![some(head)];
        up.extend(tail.iter().flat_map(|size| [In::Pause, some(*size)]));
        [up, vec![In::End]].concat()
    };
    // Two large reads; the rest is spliced, small pieces between large ones as well.
    let bulk = 3 * SCRATCH_SIZE;
    assert_eq!(counts(&then(bulk, &[100, LARGE_READ, 100, 100, LARGE_READ])).0, 2);
    // Small pieces alone are soon copied again.
    let (recvs, splices) = counts(&then(bulk, &[100; 20]));
    assert_eq!(counts(&then(bulk, &[100; 40])).1, splices);
    assert!(recvs > 10, "{recvs} reads");
    // They may come in pauses, but in a row.
    let (large, small) = (LARGE_READ, LARGE_READ - 1);
    assert!(spliced(&[some(large), In::Pause, some(large), In::Pause, some(large), In::End]) > 0);
    assert_eq!(spliced(&[some(large), In::Pause, some(small), In::Pause, some(large), In::End]), 0);
}

#[test]
fn bulk_is_copied_where_either_side_cannot_splice() {
    for is_source_wrapped in [true, false] {
        let (up, down) = ([some(5 * SCRATCH_SIZE), In::End], [In::Pause, In::End]);
        let (mut client, mut server) = (Scripted::new(up.clone()), Scripted::new(down));
        match is_source_wrapped {
            true => client = client.wrapped(),
            false => server = server.wrapped(),
        }
        let (bench, _) = Bench::run(client, server);
        assert_eq!((bench.client.recvs, bench.client.splices), (6, 0));
        assert!(bench.server.written == whole(&up));
    }
}

#[test]
fn a_pipe_with_bytes_that_nobody_took_is_not_used_again() {
    let room = [Out::Room(2 * SCRATCH_SIZE), Out::Room(1_000), Out::Block, Out::Fail(Errno::CONNRESET)];
    let server = Scripted::new([In::Pause, In::End]).taking(room);
    let (mut bench, end) = Bench::run(Scripted::new([some(4 * SCRATCH_SIZE)]), server);
    assert_eq!(reason_of(&end), (EndReason::ServerReset, Some(Side::Client)));
    assert!(bench.client.splices > 0);
    let pipe = bench.workspace.pipes.take().expect("a descriptor is left");
    assert_eq!(rustix::io::ioctl_fionread(&pipe.reader).unwrap(), 0);
}

#[test]
fn a_source_that_never_blocks_leaves_the_thread_to_others_and_comes_back() {
    let flood = || Scripted::new([some(64 * SCRATCH_SIZE), In::End]);
    let mut bench = Bench::new(flood(), flood());
    let guard = bench.service.register(0, ([127, 0, 0, 2], 2).into(), &bench.group, clock::coarse_ms());
    let (client, server) = (&mut bench.client, &mut bench.server);
    let pause = bench.relay.advance(client, server, &mut bench.workspace, guard.record()).unwrap();
    assert_eq!(pause, Pause::ForOthers, "it comes back by itself");
    for side in [client, server] {
        // Two full reads, then splices, each of which may move as much as four.
        assert_eq!((side.recvs, side.splices), (2, 4));
        assert!(!side.written.is_empty(), "neither direction waits for the other");
    }
    drop(guard);
    let most = (READS_PER_WAKE as usize + 3) * SCRATCH_SIZE;
    assert!(bench.client.written.len() <= most && bench.server.written.len() <= most);
}

#[test]
fn a_write_that_is_interrupted_goes_on_without_an_event() {
    let up = [some(10), In::Pause, some(10), In::Pause, some(10), In::End];
    // Events come only for full buffers.
    let room = [Out::Room(4), Out::Block, Out::Room(6), Out::Interrupt, Out::Room(10), Out::Interrupt];
    let (bench, _) = Bench::run(Scripted::new(up.clone()), Scripted::new([In::Pause, In::End]).taking(room));
    assert_eq!(bench.server.written, whole(&up));
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        12 => 1..200usize,
        4 => (16 << 10) - 1..(16 << 10) + 2usize,
        4 => SCRATCH_SIZE - 1..SCRATCH_SIZE + 2,
        2 => 2 * SCRATCH_SIZE..3 * SCRATCH_SIZE,
        1 => (1 << 20) - 1..(1 << 20) + 2usize,
    ]
}

fn incoming() -> impl Strategy<Value = Vec<In>> {
    let step = prop_oneof![5 => sizes().prop_map(some), 3 => Just(In::Pause), 1 => Just(In::Interrupt)];
    prop::collection::vec(step, 0..12).prop_map(|mut steps| {
        steps.push(In::End);
        steps
    })
}

fn outgoing() -> impl Strategy<Value = Vec<Out>> {
    let step = prop_oneof![4 => sizes().prop_map(Out::Room), 3 => Just(Out::Block), 1 => Just(Out::Interrupt)];
    prop::collection::vec(step, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_comes_and_fits_when_every_byte_arrives_in_order_exactly_once(
        up in incoming(),
        down in incoming(),
        client_takes in outgoing(),
        server_takes in outgoing(),
        unsent in 0..100usize,
    ) {
        let mut bench = Bench::new(
            Scripted::new(up.clone()).taking(client_takes),
            Scripted::new(down.clone()).taking(server_takes),
        );
        bench.relay = Relay::new(bytes(unsent), false);
        let end = bench.finish();
        prop_assert!(bench.server.written == [bytes(unsent), whole(&up)].concat(), "up differs");
        prop_assert!(bench.client.written == whole(&down), "down differs");
        prop_assert!(end.reset.is_none() && end.error.is_none());
        prop_assert!(bench.server.is_finished || bench.client.is_finished);
    }

    /// With a failure anywhere, what did arrive is a beginning of what was sent, and the session ends.
    #[test]
    fn whatever_fails_when_nothing_arrives_that_was_not_sent(
        mut up in incoming(),
        mut down in incoming(),
        mut client_takes in outgoing(),
        mut server_takes in outgoing(),
        at in any::<prop::sample::Index>(),
        place in 0..4u8,
        is_reset: bool,
    ) {
        let error = if is_reset { Errno::CONNRESET } else { Errno::PIPE };
        match place {
            0 => up.insert(at.index(up.len()), In::Fail(Errno::CONNRESET)),
            1 => down.insert(at.index(down.len()), In::Fail(Errno::CONNRESET)),
            2 => client_takes.insert(at.index(client_takes.len() + 1), Out::Fail(error)),
            _ => server_takes.insert(at.index(server_takes.len() + 1), Out::Fail(error)),
        }
        let (bench, _end) = Bench::run(
            Scripted::new(up.clone()).taking(client_takes),
            Scripted::new(down.clone()).taking(server_takes),
        );
        prop_assert!(whole(&up).starts_with(&bench.server.written), "up differs");
        prop_assert!(whole(&down).starts_with(&bench.client.written), "down differs");
    }
}
