//! The examples of docs/migrate.md: the configuration of another proxy and the one that it becomes do the same.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;

use super::Background;
use super::proxy_protocol::{NGINX_HEAD, haproxy, nginx};
use super::support::{
    Client, DEADLINE, FakeServer, TestProxy, Visitor, eventually, hello, named_echo, ports, run as run_goproxy,
};

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
    let (theirs, _) = examples("## From gobetween", "toml");
    let [admin, port] = ports();
    let (servers, with_ports) = two_servers();
    let _ours = goproxy(&imported("gobetween", &with_ports(&theirs, port)), admin);
    let met: Vec<String> = (0..4).filter_map(|_| server_of(port)).collect();
    let [first, second] = [0, 1].map(|index| servers[index].addr.to_string());
    assert_eq!(met, [&first, &second, &first, &second].map(String::clone));
}

/// What `goproxy import` prints of a file.
fn imported(proxy: &str, text: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("theirs");
    fs::write(&path, text).unwrap();
    let said = run_goproxy(&["import", proxy, path.to_str().unwrap()]);
    assert!(said.status.success(), "{}\n{text}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

/// Both at work: the other proxy with its file, and this one with what it becomes, at another port.
struct Both {
    ports: [u16; 2],
    _theirs: Background,
    ours: TestProxy,
    _home: tempfile::TempDir,
}

impl Both {
    /// `text` says `LISTEN` where its port belongs.
    fn of_haproxy(text: &str) -> Self {
        let text = format!("defaults\n mode tcp\n timeout connect 2s\n timeout client 1m\n timeout server 1m\n{text}");
        Self::start("haproxy", &text, haproxy)
    }

    /// The same with what stands in `stream`.
    fn of_nginx(text: &str) -> Self {
        Self::start("nginx", &format!("{NGINX_HEAD}stream {{\n{text}}}\n"), nginx)
    }

    fn start(name: &str, text: &str, theirs_with: impl Fn(&Path, &str) -> Background) -> Self {
        let [admin, theirs, ours] = ports();
        let home = tempfile::tempdir().unwrap();
        let running = theirs_with(home.path(), &text.replace("LISTEN", &theirs.to_string()));
        let proxy = goproxy(&imported(name, &text.replace("LISTEN", &ours.to_string())), admin);
        for port in [theirs, ours] {
            eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        eventually("the first sessions are over", || proxy.sessions() == 0);
        Self { ports: [theirs, ours], _theirs: running, ours: proxy, _home: home }
    }

    /// Expects the same of both.
    fn each(&self, check: impl Fn(u16)) {
        self.ports.into_iter().for_each(check);
        eventually("no session is left", || self.ours.sessions() == 0);
    }
}

#[test]
fn a_primary_and_its_standby_are_imported() {
    let ([first, second], with_ports) = two_servers();
    let text = with_ports(
        "frontend Front.End\n bind 127.0.0.1:LISTEN\n default_backend db\nbackend db\n option tcp-check\n \
         default-server inter 200ms fall 2 rise 1\n server a 127.0.0.1:5433 check\n server b 127.0.0.1:5434 check backup\n",
        0,
    );
    let both = Both::of_haproxy(&text);
    both.each(|port| {
        for _ in 0..10 {
            assert_eq!(server_of(port).as_deref(), Some(&*first.addr.to_string()));
        }
    });
    let standby = second.addr.to_string();
    drop(first);
    both.each(|port| eventually("the standby serves", || server_of(port).as_ref() == Some(&standby)));
}

#[test]
fn a_hash_of_the_source_is_imported() {
    let (servers, with_ports) = two_servers();
    let text = "listen app\n bind 127.0.0.1:LISTEN\n balance source\n hash-type consistent\n server a 127.0.0.1:5433\n server b 127.0.0.1:5434\n";
    let both = Both::of_haproxy(&with_ports(text, 0));
    both.each(|port| {
        let server = server_of(port).expect("it serves");
        assert!((0..20).all(|_| server_of(port).as_ref() == Some(&server)), "one client, one server");
    });
    drop(servers);
}

#[test]
fn weights_and_the_fewest_sessions_are_imported() {
    let (servers, with_ports) = two_servers();
    for (balance, weight, of_first) in [("roundrobin", 3, 30), ("leastconn", 1, 20)] {
        let text = format!(
            "listen app\n bind 127.0.0.1:LISTEN\n balance {balance}\n server a 127.0.0.1:5433 weight {weight}\n server b 127.0.0.1:5434\n"
        );
        let both = Both::of_haproxy(&with_ports(&text, 0));
        both.each(|port| {
            let visitors: Vec<Visitor> = (0..40).map(|_| Visitor::connect(port)).collect();
            let counted = visitors.iter().filter(|visitor| visitor.server == servers[0].addr.to_string()).count();
            assert!((of_first - 1..=of_first + 1).contains(&counted), "{balance}: {counted} of 40");
        });
    }
}

/// Expects that a client at 127.0.0.9 gets nothing.
fn is_denied(port: u16) {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 9], 0))).unwrap();
    let denied = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let connected = rustix::net::connect(&socket, &denied);
    let mut client = Client::new(std::net::TcpStream::from(socket));
    assert!(connected.is_err() || client.receive_all().0.is_empty(), "a denied network");
}

#[test]
fn limits_of_clients_and_denied_networks_are_imported() {
    let (servers, with_ports) = two_servers();
    let text = "frontend in\n bind 127.0.0.1:LISTEN\n acl bad src 127.0.0.9\n tcp-request connection reject if bad\n \
                stick-table type ip size 100 store conn_cur\n tcp-request connection track-sc0 src\n \
                tcp-request connection reject if { sc0_conn_cur gt 3 }\n default_backend app\nbackend app\n server a 127.0.0.1:5433\n";
    let both = Both::of_haproxy(&with_ports(text, 0));
    both.each(|port| {
        eventually("the sessions before are over", || Visitor::try_connect(port).is_ok());
        let mut held = Vec::new();
        eventually("three are held", || {
            held.extend(Visitor::try_connect(port));
            held.len() == 3
        });
        assert!(Visitor::try_connect(port).is_err(), "the fourth is turned away");
        held.pop();
        eventually("there is room again", || Visitor::try_connect(port).is_ok());
        drop(held);
        is_denied(port);
    });
    drop(servers);
}

#[test]
fn proxy_headers_on_both_sides_are_imported() {
    let recorder = FakeServer::start(|mut client, _| {
        let header = client.receive_all().0;
        client.send(&header);
        client.finish();
    });
    let text = format!(
        "listen in\n bind 127.0.0.1:LISTEN\n tcp-request connection expect-proxy layer4 if {{ src 127.0.0.0/8 }}\n \
         server a {} send-proxy\n",
        recorder.addr
    );
    let both = Both::of_haproxy(&text);
    both.each(|port| {
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        client.send(b"PROXY TCP4 10.1.2.3 10.4.5.6 1000 2000\r\nhello");
        client.finish();
        let (bytes, _) = client.receive_all();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.starts_with("PROXY TCP4 10.1.2.3 10.4.5.6 1000 2000\r\n") && text.ends_with("hello"), "{text}");
    });
}

#[test]
fn upstreams_of_nginx_with_weights_and_a_backup_are_imported() {
    let ([first, second], with_ports) = two_servers();
    let (one, other) = (first.addr.to_string(), second.addr.to_string());
    let weighted = " upstream app {\n  server 127.0.0.1:5433 weight=3 max_fails=1;\n  server 127.0.0.1:5434;\n }\n \
                    server { listen 127.0.0.1:LISTEN; proxy_connect_timeout 2s; proxy_pass app; }\n";
    let both = Both::of_nginx(&with_ports(weighted, 0));
    both.each(|port| {
        let visitors: Vec<Visitor> = (0..40).map(|_| Visitor::connect(port)).collect();
        let counted = visitors.iter().filter(|visitor| visitor.server == one).count();
        assert!((29..=31).contains(&counted), "{counted} of 40");
    });
    drop(both);
    let standby = " upstream app {\n  server 127.0.0.1:5433;\n  server 127.0.0.1:5434 backup;\n }\n \
                   server { listen 127.0.0.1:LISTEN; proxy_connect_timeout 2s; proxy_pass app; }\n";
    let both = Both::of_nginx(&with_ports(standby, 0));
    both.each(|port| assert!((0..10).all(|_| server_of(port).as_ref() == Some(&one))));
    drop(first);
    both.each(|port| eventually("the backup serves", || server_of(port).as_ref() == Some(&other)));
}

#[test]
fn a_hash_and_a_denied_network_of_nginx_are_imported() {
    let (servers, with_ports) = two_servers();
    let text = " upstream app {\n  hash $remote_addr consistent;\n  server 127.0.0.1:5433;\n  server 127.0.0.1:5434;\n }\n \
                server { listen 127.0.0.1:LISTEN; deny 127.0.0.9; allow all; proxy_pass app; }\n";
    let both = Both::of_nginx(&with_ports(text, 0));
    both.each(|port| {
        let server = server_of(port).expect("it serves");
        assert!((0..20).all(|_| server_of(port).as_ref() == Some(&server)), "one client, one server");
        is_denied(port);
    });
    drop(servers);
}

/// The server to which a hello with this name leads; `None` for a client that is turned away.
fn server_of_name(port: u16, name: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&hello(Some(name), &[])).ok()?;
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line).unwrap_or(0);
    (read > 0).then(|| line.trim_end().to_owned())
}

#[test]
fn backends_that_are_chosen_by_the_name_in_a_hello_are_imported() {
    let ([first, second], with_ports) = two_servers();
    let text = with_ports(
        "frontend tls\n bind 127.0.0.1:LISTEN\n tcp-request inspect-delay 5s\n tcp-request content accept if { req_ssl_hello_type 1 }\n \
         use_backend two if { req.ssl_sni -i b.example c.example }\n use_backend two if { req.ssl_sni -m end .d.example }\n \
         use_backend one if { req.ssl_sni -i a.example }\nbackend one\n server a 127.0.0.1:5433\nbackend two\n server b 127.0.0.1:5434\n",
        0,
    );
    let both = Both::of_haproxy(&text);
    both.each(|port| {
        let server = |of: &FakeServer| Some(of.addr.to_string());
        for (name, expected) in [
            ("a.example", server(&first)),
            ("c.example", server(&second)),
            ("x.d.example", server(&second)),
            ("other.example", None),
        ] {
            assert_eq!(server_of_name(port, name), expected, "{name} at {port}");
        }
    });
}

#[test]
fn upstreams_that_are_chosen_by_the_name_in_a_hello_are_imported() {
    let ([first, second], with_ports) = two_servers();
    let text = with_ports(
        "map $ssl_preread_server_name $to {\n hostnames;\n a.example one;\n *.b.example two;\n default one;\n}\n\
         upstream one { server 127.0.0.1:5433; }\nupstream two { server 127.0.0.1:5434; }\n\
         server { listen 127.0.0.1:LISTEN; ssl_preread on; proxy_pass $to; }\n",
        0,
    );
    let both = Both::of_nginx(&text);
    both.each(|port| {
        for (name, expected) in [("a.example", &first), ("x.b.example", &second), ("other.example", &first)] {
            assert_eq!(server_of_name(port, name), Some(expected.addr.to_string()), "{name} at {port}");
        }
    });
}
