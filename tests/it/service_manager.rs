//! What a service manager such as systemd is told, on the socket that it names (sd_notify(3)).

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::support::{DEADLINE, TestProxy, free_port, goproxy, own_ip, replace};

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
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
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

    let good = proxy.file();
    for (text, outcome) in [
        (good.clone(), "STATUS=proxy.json is in force"),
        (
            good.replacen("\"groups\"", "\"drain_timeout\": 5, \"groups\"", 1),
            "STATUS=proxy.json refused, what runs stays as it is: ",
        ),
        (good.replacen("\"groups\"", "\"drain_timeout\": \"5s\", \"groups\"", 1), "STATUS=proxy.json reloaded"),
    ] {
        replace(proxy.path(), &text);
        proxy.signal(Signal::HUP);
        // The proxy may have noticed the new file by itself, and tells how that ended at any moment.
        let (mut is_begun, mut is_over, mut is_told) = (false, false, false);
        while !(is_over && is_told) {
            let lines = told(&socket);
            match lines[0].as_str() {
                "RELOADING=1" => {
                    assert!(lines[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0, "{lines:?}");
                    is_begun = true;
                }
                "READY=1" => is_over = is_begun,
                status if status.starts_with(outcome) => is_told = true,
                status => assert!(status.starts_with("STATUS="), "{lines:?}"),
            }
        }
    }

    proxy.signal(Signal::TERM);
    while told(&socket) != ["STOPPING=1"] {}
    assert!(proxy.wait().success());
}

#[test]
fn the_watchdog_hears_that_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let ip = own_ip();
    let (admin, group) = (free_port(ip), free_port(ip));
    let text = format!(r#"{{ "admin": {{ "listen": "{admin}" }}, "groups": [ {{ "listen": "{group}" }} ] }}"#);
    let mut command = goproxy();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut proxy = TestProxy::spawn(command, &text, admin, vec![group]);
    // Time passes before it serves; afterwards there is nothing else to tell.
    while told(&socket) != ["READY=1"] {}
    assert_eq!([told(&socket), told(&socket), told(&socket)], [["WATCHDOG=1"], ["WATCHDOG=1"], ["WATCHDOG=1"]]);
    proxy.signal(Signal::TERM);
    while told(&socket) != ["STOPPING=1"] {}
    assert!(proxy.wait().success());
}
