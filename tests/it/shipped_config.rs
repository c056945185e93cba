//! The file that is shipped is in order, and runs as it is.

use std::fs;

use crate::support::{FakeServer, TestProxy, free_port, goproxy, own_ip, run};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/proxy.json");

#[test]
fn the_shipped_file_is_in_order() {
    let output = run(&["check", "--strict", "-c", PATH]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_shipped_file_runs_and_serves_a_server_that_registers() {
    let ip = own_ip();
    let (admin, first, second) = (free_port(ip), free_port(ip), free_port(ip));
    // Its ports may be in use on this machine; everything else stays.
    let mut text = fs::read_to_string(PATH).unwrap();
    for (shipped, own) in [("127.0.0.1:8080", admin), ("127.0.0.1:8081", first), ("127.0.0.1:8083", second)] {
        let quoted = format!("\"{shipped}\"");
        assert_eq!(text.matches(&quoted).count(), 1, "{shipped} is in the shipped file once");
        text = text.replace(&quoted, &format!("\"{own}\""));
    }
    let text = text.replace("\"format\": \"text\"", "\"format\": \"json\"");
    let mut proxy = TestProxy::spawn(goproxy(), &text, admin, vec![first, second]);
    proxy.wait_until_ready();
    let server = FakeServer::echo();
    let path = format!("/worker-keepalive.do?group={}&server={}", first.port(), server.addr);
    assert_eq!(proxy.ok(&path)["ok"], true);
    proxy.connect().echo(b"as shipped");
}
