//! Each direction ends by itself: an orderly end is passed on at once, and cuts nothing.

use std::io::Write;

use crate::support::{Client, Ended, FakeServer, Group, TestProxy, eventually, pattern, sha256};

/// More than every buffer of the proxy's holds.
const LONG: usize = 3 << 20;

/// More than the kernel's buffers on the way hold together.
const TOO_LONG: usize = 12 << 20;

#[test]
fn a_client_that_has_finished_still_gets_the_whole_answer() {
    let server = FakeServer::start(|mut client, _| {
        // Only the end says that the question is complete.
        let (question, _) = client.receive_all();
        client.send(&pattern(question.len() as u64, LONG));
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    client.send(b"question");
    client.finish();
    let (answer, ended) = client.receive_all();
    assert_eq!((answer.len(), ended), (LONG, Ended::InOrder));
    assert_eq!(sha256(&answer), sha256(&pattern(8, LONG)));
    let line = proxy.log.wait_for_end("client_closed");
    assert_eq!((line["bytes.up"].as_u64(), line["bytes.down"].as_u64()), (Some(8), Some(LONG as u64)));
}

#[test]
fn a_server_that_has_finished_still_gets_all_that_the_client_sends() {
    let (done, hash) = std::sync::mpsc::channel();
    let server = FakeServer::start(move |mut client, _| {
        client.send(b"go on");
        client.finish();
        let (all, ended) = client.receive_all();
        done.send((all.len(), sha256(&all), ended)).expect("the test waits");
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    assert_eq!(client.receive_all(), (b"go on".to_vec(), Ended::InOrder));
    client.send(&pattern(3, LONG));
    client.finish();
    let received = hash.recv_timeout(crate::support::DEADLINE).expect("the server reads to the end");
    assert_eq!(received, (LONG, sha256(&pattern(3, LONG)), Ended::InOrder));
    let line = proxy.log.wait_for_end("server_closed");
    assert_eq!((line["bytes.up"].as_u64(), line["bytes.down"].as_u64()), (Some(LONG as u64), Some(5)));
}

#[test]
fn an_end_without_a_single_byte_is_passed_on() {
    let server = FakeServer::start(|mut client, _| {
        assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
        client.send(b"you said nothing");
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    client.finish();
    assert_eq!(client.receive_all(), (b"you said nothing".to_vec(), Ended::InOrder));
}

/// The end comes in the same moment as the last bytes: an edge-triggered reader may miss it.
#[test]
fn an_end_that_comes_together_with_the_last_bytes_is_not_missed() {
    let server = FakeServer::start(|mut client, _| {
        let _question = client.receive(1);
        client.send(b"answer");
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    for _ in 0..200 {
        let mut client = proxy.connect();
        client.send(b"?");
        assert_eq!(client.receive_all(), (b"answer".to_vec(), Ended::InOrder));
    }
}

/// A server may close before it has read everything it was sent and ask for no more; the answer counts.
#[test]
fn a_client_that_goes_on_sending_to_a_server_that_has_closed_gets_the_answer_before_a_reset() {
    let server = FakeServer::start(|mut client, _| {
        let _first = client.receive(5);
        client.send(b"enough");
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    client.send(b"first");
    // Only then is it certain that the server closed with nothing unread, which would be a reset.
    assert_eq!(client.receive_all(), (b"enough".to_vec(), Ended::InOrder));
    // It is told that nobody reads this, but not before the answer has had a second to arrive.
    eventually("writing fails", || client.stream.write_all(&[0; 1_000]).is_err());
    assert_eq!(proxy.log.wait_for_end("server_closed")["bytes.down"], 6);
}

#[test]
fn a_slow_reader_on_either_side_gets_every_byte() {
    let server = FakeServer::start(|mut client, _| {
        client.hold_little();
        let hash = sha256(&read_slowly(&mut client));
        client.send(&hash);
        client.send(&pattern(9, TOO_LONG));
    });
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    client.hold_little();
    client.send(&pattern(8, TOO_LONG));
    assert_eq!(client.receive(32), sha256(&pattern(8, TOO_LONG)));
    assert_eq!(sha256(&read_slowly(&mut client)), sha256(&pattern(9, TOO_LONG)));
    client.finish();
}

fn read_slowly(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < TOO_LONG {
        bytes.extend(client.receive((TOO_LONG - bytes.len()).min(40_000)));
        std::thread::yield_now();
    }
    bytes
}
