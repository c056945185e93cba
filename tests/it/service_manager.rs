//! What a service manager such as systemd is told, on the socket that it names (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{TestProxy, free_port, goproxy, own_ip};

/// The next message, as its lines.
fn told(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 1_024];
    let length = socket.recv(&mut buffer).expect("a message within the time");
    String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_service_manager_is_told_of_start_reload_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ip = own_ip();
    let (admin, group) = (free_port(ip), free_port(ip));
    let text = format!(
        r#"{{ "admin": {{ "listen": "{admin}" }}, "log": {{ "format": "json" }}, "groups": [ {{ "listen": "{group}" }} ] }}"#
    );
    let mut command = goproxy();
    command.env("NOTIFY_SOCKET", &path);
    let mut proxy = TestProxy::spawn(command, &text, admin, vec![group]);

    assert_eq!(told(&socket), ["READY=1"]);
    proxy.connect().finish();

    proxy.signal(Signal::HUP);
    let reloading = told(&socket);
    assert_eq!(reloading[0], "RELOADING=1");
    assert!(reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0, "{reloading:?}");
    assert_eq!(told(&socket), ["READY=1"]);

    proxy.signal(Signal::TERM);
    assert_eq!(told(&socket), ["STOPPING=1"]);
    assert!(proxy.wait().success());
}
