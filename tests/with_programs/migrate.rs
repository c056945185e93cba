//! The examples of docs/migrate.md: the configuration of another proxy and the one that it becomes do the same.

use std::fs;
use std::path::Path;

use super::Background;
use super::proxy_protocol::{NGINX_HEAD, haproxy, nginx};
use super::support::{FakeServer, TestProxy, Visitor, eventually, named_echo, ports};

/// The two examples below a heading: that of the other proxy, in its language, and ours.
fn examples(heading: &str, language: &str) -> (String, String) {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrate.md")).unwrap();
    let (_, section) = page.split_once(heading).expect("the page has the section");
    let block = |language: &str| {
        let (_, rest) = section.split_once(&format!("```{language}\n")).expect("the section has the example");
        rest.split("```").next().unwrap_or_default().to_owned()
    };
    (block(language), block("jsonc"))
}

/// Servers in the place of those of the examples, and the examples with their ports.
fn two_servers() -> ([FakeServer; 2], impl Fn(&str, u16) -> String) {
    let servers = [named_echo(), named_echo()];
    let [first, second] = [servers[0].addr, servers[1].addr].map(|addr| addr.to_string());
    (servers, move |text: &str, listen: u16| {
        text.replace("127.0.0.1:5432", &format!("127.0.0.1:{listen}"))
            .replace("127.0.0.1:5433", &first)
            .replace("127.0.0.1:5434", &second)
    })
}

fn goproxy(text: &str, admin: u16) -> TestProxy {
    let text = text.replacen('{', &format!("{{ \"admin\": {{ \"listen\": \"127.0.0.1:{admin}\" }},"), 1);
    TestProxy::with_file(admin, &text)
}

/// The server of a new client; `None` while there is none.
fn server_of(listen: u16) -> Option<String> {
    Visitor::try_connect(listen).ok().map(|visitor| visitor.server.clone())
}

#[test]
fn the_example_of_haproxy_prefers_the_first_server_and_moves_to_the_backup_in_both() {
    let (theirs, ours) = examples("## From HAProxy", "haproxy");
    let [admin, their_port, our_port] = ports();
    let home = tempfile::tempdir().unwrap();
    let ([first, second], with_ports) = two_servers();
    let _theirs: Background = haproxy(home.path(), &with_ports(&theirs, their_port));
    let _ours = goproxy(&with_ports(&ours, our_port), admin);
    for port in [their_port, our_port] {
        eventually("it serves", || server_of(port).is_some());
        for _ in 0..10 {
            assert_eq!(server_of(port).unwrap(), first.addr.to_string());
        }
    }
    drop(first);
    for port in [their_port, our_port] {
        eventually("the backup serves", || server_of(port) == Some(second.addr.to_string()));
    }
}

#[test]
fn the_example_of_nginx_spreads_sessions_that_stay_by_weight_in_both() {
    let (theirs, ours) = examples("## From nginx stream", "nginx");
    let [admin, their_port, our_port] = ports();
    let home = tempfile::tempdir().unwrap();
    let (servers, with_ports) = two_servers();
    let _theirs = nginx(home.path(), &format!("{NGINX_HEAD}{}", with_ports(&theirs, their_port)));
    let _ours = goproxy(&with_ports(&ours, our_port), admin);
    for port in [their_port, our_port] {
        eventually("it serves", || server_of(port).is_some());
        let mut visitors: Vec<Visitor> = (0..60).map(|_| Visitor::connect(port)).collect();
        visitors.iter_mut().for_each(|visitor| visitor.round_trip(b"hello"));
        let of_first = visitors.iter().filter(|visitor| visitor.server == servers[0].addr.to_string()).count();
        assert!((38..=42).contains(&of_first), "{of_first} of 60 on the server of weight 2");
    }
}

/// gobetween itself is in no package: its example is only read by us.
#[test]
fn what_the_example_of_gobetween_becomes_serves_by_turns() {
    let (_, ours) = examples("## From gobetween", "toml");
    let [admin, port] = ports();
    let (servers, with_ports) = two_servers();
    let _ours = goproxy(&with_ports(&ours, port), admin);
    let met: Vec<String> = (0..4).filter_map(|_| server_of(port)).collect();
    let [first, second] = [0, 1].map(|index| servers[index].addr.to_string());
    assert_eq!(met, [&first, &second, &first, &second].map(String::clone));
}
