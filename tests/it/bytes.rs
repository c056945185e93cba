//! Every byte arrives, in order, exactly once.

use crate::support::{FakeServer, Group, TestProxy};

#[test]
fn what_a_client_sends_reaches_the_server_and_the_answer_comes_back() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("round_robin", &[&server]));
    let mut client = proxy.connect();
    client.echo(b"hello");
    client.finish();
    assert_eq!(client.receive_all().0, b"");
    assert_eq!(proxy.log.wait_for_end("client_closed")["bytes.up"], 5);
}
