//! Routes: which group gets a client, by the TLS hello that it sends first.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Client, Ended, FakeServer, Group, Setup, TestProxy, echo, eventually, hello, in_records, let_pass, pattern,
    replace, spawn,
};

/// Says its name of four letters, then sends back what it gets.
fn server(name: &'static str) -> FakeServer {
    FakeServer::start(move |mut client, _| {
        client.send(name.as_bytes());
        echo(client);
    })
}

/// A group that is reached by routes only.
fn target(name: &str, server: &FakeServer) -> Group {
    Group::new("round_robin", &[server]).with("name", name).with("open", false)
}

/// A group with its own server and these routes.
fn listener(own: &FakeServer, routes: Value) -> Group {
    Group::new("round_robin", &[own]).with("routes", routes).with("hello_timeout", "30s")
}

/// Which server a client gets that sends these bytes, each of which has to arrive there.
#[track_caller]
fn server_for(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut client = Client::connect(addr);
    client.send(bytes);
    served(client, bytes)
}

#[track_caller]
fn served(mut client: Client, sent: &[u8]) -> String {
    let name = String::from_utf8(client.receive(4)).unwrap();
    assert_eq!(client.receive(sent.len()), sent);
    client.echo(b"and more");
    client.finish();
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    name
}

/// A proxy whose first group has routes to three others.
fn routed() -> (TestProxy, [FakeServer; 4]) {
    let servers = ["self", "one!", "wild", "none"].map(server);
    let [own, one, wild, none] = &servers;
    let routes = json!([
        { "sni": ["*.example.com"], "group": "wild" },
        { "sni": ["db.example.com", "db.example.net"], "group": "one" },
        { "sni": null, "group": "none" },
        { "sni": ["alpn.example.com"], "alpn": ["postgresql"], "group": "none" },
    ]);
    let groups = [listener(own, routes), target("one", one), target("wild", wild), target("none", none)];
    let proxy = groups.into_iter().fold(Setup::default(), Setup::group).start();
    (proxy, servers)
}

#[test]
fn the_name_in_the_hello_decides_which_group_gets_the_client() {
    let (proxy, _servers) = routed();
    for (name, alpn, expected) in [
        (Some("db.example.com"), &[][..], "one!"),
        (Some("DB.Example.net"), &["h2"], "one!"),
        (Some("other.example.com"), &[], "wild"),
        (Some("a.b.example.com"), &[], "self"),
        (Some("example.com"), &[], "self"),
        (Some("alpn.example.com"), &["h2", "postgresql"], "none"),
        (Some("alpn.example.com"), &["h2"], "wild"),
        (None, &[], "none"),
    ] {
        assert_eq!(server_for(proxy.addr(), &hello(name, alpn)), expected, "{name:?} {alpn:?}");
    }
    // Without TLS it is known at the first byte.
    assert_eq!(server_for(proxy.addr(), b"G"), "self");
}

#[test]
fn a_hello_may_be_cut_anywhere_and_come_in_many_records() {
    let (proxy, _servers) = routed();
    let whole = hello(Some("db.example.com"), &["h2"]);
    assert!(whole.len() > 1_200, "it has a post-quantum key share: {}", whole.len());
    for length in [whole.len() / 2, whole.len() / 200] {
        assert_eq!(server_for(proxy.addr(), &in_records(&whole, length)), "one!");
    }
    const THREADS: usize = 8;
    let parts = (0..THREADS).map(|part| {
        let (whole, addr) = (whole.clone(), proxy.addr());
        spawn(move || {
            for cut in (1..whole.len()).filter(|cut| cut % THREADS == part) {
                let mut client = Client::connect(addr);
                client.send(&whole[..cut]);
                let_pass(Duration::from_millis(5), "the pace of the client");
                client.send(&whole[cut..]);
                assert_eq!(served(client, &whole), "one!", "cut at {cut}");
            }
        })
    });
    for part in parts.collect::<Vec<_>>() {
        part.join().unwrap();
    }
}

#[test]
fn what_comes_behind_the_hello_arrives_whatever_its_size() {
    let (proxy, _servers) = routed();
    let bytes = [hello(Some("db.example.com"), &[]), pattern(1, 4 << 20)].concat();
    let mut client = proxy.connect();
    let mut sender = client.twin();
    let sent = bytes.clone();
    let sending = spawn(move || sender.send(&sent));
    assert_eq!(client.receive(4), b"one!");
    assert!(client.receive(bytes.len()) == bytes);
    sending.join().unwrap();
    client.finish();
    client.receive_all();
}

#[test]
fn the_session_is_one_of_the_group_it_was_routed_to() {
    let (proxy, _servers) = routed();
    let mut client = proxy.connect();
    client.send(&hello(Some("db.example.com"), &["h2", "\"\n"]));
    client.receive(4);
    let (own, one) = (proxy.addr().port(), proxy.addr_of(1).port());
    let session = proxy.ok("/session-list.do")["sessions"][0].clone();
    assert_eq!(
        (&session["group"], &session["group_name"], &session["listener"], &session["sni"]),
        (&json!(one), &json!("one"), &json!(own), &json!("db.example.com"))
    );
    assert_eq!(proxy.ok("/session-list.do?group=one")["total"], 1);
    assert_eq!(proxy.ok(&format!("/session-list.do?group={own}"))["total"], 0);
    let own_label = format!("group=\"{own}\"");
    let listener = |name: &str| proxy.metric(name, &[&own_label]);
    let target = |name: &str| proxy.metric(name, &["group=\"one\""]);
    assert_eq!((listener("goproxy_sessions_active"), target("goproxy_sessions_active")), (0.0, 1.0));
    assert_eq!((listener("goproxy_sessions_total"), target("goproxy_sessions_total")), (1.0, 1.0));
    assert_eq!(listener("goproxy_sessions_routed_total"), 1.0);
    let routes = &proxy.ok("/group-list.do")["groups"][0]["routes"];
    assert_eq!(*routes, json!({ "count": 4, "default": "self", "plain": "self", "waiting": 0, "routed": 1 }));
    client.finish();
    client.receive_all();
    for message in ["client connected", "session closed"] {
        let line = proxy.log.wait_for(message, |line| line["message"] == message);
        let is = |field: &str, value: Value| assert_eq!(line[field], value, "{field} of {line}");
        is("group", json!(one));
        is("group.name", json!("one"));
        is("listener", json!(own));
        is("tls.sni", json!("db.example.com"));
        is("tls.alpn", json!("h2,\\\"\\n"));
    }
    eventually("it is over", || target("goproxy_sessions_active") == 0.0);
    assert_eq!(listener("goproxy_sessions_active"), 0.0);
}

/// The end of a client that is turned away with a reset.
#[track_caller]
fn turned_away(mut client: Client) {
    let (bytes, ended) = client.receive_all();
    assert_eq!((bytes.len(), ended), (0, Ended::Reset));
}

#[test]
fn clients_without_a_route_are_turned_away_where_the_group_says_so() {
    let [own, one] = ["self", "one!"].map(server);
    let routes = json!([{ "sni": ["db.example.com"], "group": "one" }]);
    let group = listener(&own, routes).with("route_default", "close").with("route_plain", "close");
    let proxy = Setup::default().group(group).group(target("one", &one)).start();
    assert_eq!(server_for(proxy.addr(), &hello(Some("db.example.com"), &[])), "one!");
    for bytes in [hello(Some("x.example.com"), &["h2"]), hello(None, &[]), b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut client = proxy.connect();
        client.send(&bytes);
        turned_away(client);
    }
    eventually("they are counted", || proxy.ended("no_route") == 3);
    let line = proxy.log.wait_for("the name is told", |line| line["end"] == "no_route" && line["tls.alpn"] == "h2");
    assert_eq!((&line["tls.sni"], &line["group"]), (&json!("x.example.com"), &json!(proxy.addr().port())));
    assert!(line.get("listener").is_none() && line["level"] == "WARN", "{line}");
    assert_eq!(own.accepted(), 0);
}

#[test]
fn what_is_no_hello_is_refused_and_told() {
    let (proxy, servers) = routed();
    for (bytes, error) in [
        (&[0x16, 3, 1, 0, 5, 2, 0, 0, 1][..], "TLS hello: begins with a message of type 2"),
        (&[0x16, 3, 1, 0, 0], "TLS hello: a record of 0 bytes"),
        (&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 9], "TLS hello: its random does not fit into it"),
    ] {
        for cut in [0, 6.min(bytes.len() - 1)] {
            let mut client = proxy.connect();
            client.send(&bytes[..cut]);
            let_pass(Duration::from_millis(if cut > 0 { 20 } else { 0 }), "the pace of the client");
            // It may have been turned away for the first ones, which the write tells.
            if client.stream.write_all(&bytes[cut..]).is_ok() {
                turned_away(client);
            }
        }
        proxy.log.wait_for("it is told", |line| line["end"] == "bad_hello" && line["error"] == error);
    }
    eventually("they are counted", || proxy.ended("bad_hello") == 6);
    assert_eq!(servers.iter().map(FakeServer::accepted).sum::<usize>(), 0);
}

#[test]
fn an_incomplete_hello_is_waited_for_no_longer_than_it_may_take() {
    let [own, one] = ["self", "one!"].map(server);
    let routes = json!([{ "sni": ["db.example.com"], "group": "one" }]);
    let group = listener(&own, routes).with("hello_timeout", "500ms");
    let proxy = Setup::default().group(group).group(target("one", &one)).start();
    let whole = hello(Some("db.example.com"), &[]);
    for cut in [1, 700, whole.len() - 1] {
        let mut client = proxy.connect();
        client.send(&whole[..cut]);
        turned_away(client);
        let error = format!("TLS hello: incomplete after 500ms ({cut} bytes)");
        proxy.log.wait_for("it is told", |line| line["end"] == "hello_timeout" && line["error"] == error);
    }
    // Who leaves before is a probe of the port, and no news.
    let mut client = proxy.connect();
    client.send(&whole[..100]);
    drop(client);
    eventually("it is counted", || proxy.ended("client_closed") == 1);
    assert!(!proxy.log.ends().contains(&"client_closed".to_owned()));
    assert_eq!(own.accepted() + one.accepted(), 0);
    assert_eq!(proxy.ended("hello_timeout"), 3);
}

/// A server that speaks first is reached by a client that waits for that.
#[test]
fn a_silent_client_goes_where_clients_without_tls_go() {
    let [own, smtp] = ["self", "smtp"].map(server);
    let group = |plain: &str| listener(&own, json!([])).with("hello_timeout", "300ms").with("route_plain", plain);
    let setup = Setup::default().group(group("smtp")).group(group("self")).group(group("close"));
    let proxy = setup.group(target("smtp", &smtp)).start();
    for (at, name) in [(0, "smtp"), (1, "self")] {
        let mut client = Client::connect(proxy.addr_of(at));
        assert_eq!(client.receive(4), name.as_bytes());
        client.echo(b"EHLO");
    }
    turned_away(Client::connect(proxy.addr_of(2)));
    proxy.log.wait_for_end("hello_timeout");
}

#[test]
fn the_limits_of_the_target_hold_and_those_of_the_listener_while_it_looks() {
    let [own, one, few] = ["self", "one!", "few!"].map(server);
    let routes = json!([
        { "sni": ["one.example"], "group": "one" },
        { "sni": ["few.example"], "group": "few" },
        { "sni": ["denied.example"], "group": "denied" },
    ]);
    let group = listener(&own, routes).with("max_sessions", 2).with("client", json!({ "sessions": 2 }));
    let setup = Setup::default().group(group).group(target("one", &one));
    let setup = setup.group(target("few", &few).with("max_sessions", 1));
    let setup = setup.group(target("denied", &one).with("deny", json!(["127.0.0.0/8"])));
    let proxy = setup.start();
    let connect = |name: &str| {
        let mut client = proxy.connect();
        client.send(&hello(Some(name), &[]));
        client
    };
    // Those of another group take no place in the group that they came through.
    let served: Vec<Client> = std::iter::repeat_with(|| {
        let mut client = connect("one.example");
        assert_eq!(client.receive(4), b"one!");
        client
    })
    .take(4)
    .collect();
    let mut first = connect("few.example");
    assert_eq!(first.receive(4), b"few!");
    turned_away(connect("few.example"));
    let line = proxy.log.wait_for_end("limit");
    assert_eq!((&line["limit"], &line["group.name"]), (&json!("group_sessions"), &json!("few")));
    turned_away(connect("denied.example"));
    assert_eq!(proxy.log.wait_for_end("denied")["group.name"], "denied");
    // While their hello is waited for, they are clients of the group that they came to.
    let waiting: Vec<Client> = (0..2).map(|_| proxy.connect()).collect();
    eventually("both are there", || proxy.ok(&format!("/session-list.do?group={}", proxy.addr().port()))["total"] == 2);
    let mut client = proxy.connect();
    assert_eq!(client.receive_all().1, Ended::Reset);
    drop(waiting);
    eventually("their places are free", || proxy.ended("client_closed") == 2);
    assert_eq!(server_for(proxy.addr(), &hello(Some("one.example"), &[])), "one!");
    assert_eq!(served.len(), 4);
}

/// A client counts once for the process, and where it goes for the group.
#[test]
fn a_routed_client_is_counted_once_for_the_process() {
    let [own, one] = ["self", "one!"].map(server);
    let routes = json!([{ "sni": ["one.example"], "group": "one" }]);
    let setup = Setup::default().with("session_rate", "4/h").group(listener(&own, routes));
    let proxy = setup.group(target("one", &one).with("client", json!({ "sessions": 10 }))).start();
    for _ in 0..4 {
        assert_eq!(server_for(proxy.addr(), &hello(Some("one.example"), &[])), "one!");
    }
    turned_away(proxy.connect());
    assert_eq!(proxy.log.wait_for_end("limit")["limit"], "process_rate");
}

#[test]
fn a_reload_changes_where_new_clients_go_and_nothing_else() {
    let [own, one, two] = ["self", "one!", "two!"].map(server);
    let routes = json!([{ "sni": ["db.example.com"], "group": "one" }]);
    let setup = Setup::default().group(listener(&own, routes)).group(target("one", &one));
    let proxy = setup.group(target("two", &two)).start();
    let whole = hello(Some("db.example.com"), &[]);
    let mut before = proxy.connect();
    before.send(&whole);
    assert_eq!(before.receive(4), b"one!");
    assert_eq!(before.receive(whole.len()), whole);
    // One whose hello is under way is routed as when it came.
    let mut during = proxy.connect();
    during.send(&whole[..100]);
    eventually("it is there", || proxy.sessions() == 2);
    let edited = |change: &dyn Fn(&mut Value)| {
        let mut file: Value = serde_json::from_str(&proxy.file()).unwrap();
        change(&mut file["groups"][0]);
        replace(proxy.path(), &file.to_string());
        proxy.ok("/config-reload.do")
    };
    edited(&|group| group["routes"][0]["group"] = "two".into());
    assert_eq!(server_for(proxy.addr(), &whole), "two!");
    before.echo(b"still here");
    during.send(&whole[100..]);
    assert_eq!(served(during, &whole), "one!");
    edited(&|group| group["routes"] = Value::Null);
    assert_eq!(server_for(proxy.addr(), &whole), "self");
    // A mistake changes nothing.
    let mut file: Value = serde_json::from_str(&proxy.file()).unwrap();
    file["groups"][0]["routes"] = json!([{ "sni": ["db.example.com"], "group": "three" }]);
    let text = proxy.file();
    replace(proxy.path(), &file.to_string());
    let refused = proxy.refused("/config-reload.do", 409, "file_invalid");
    assert!(refused.to_string().contains("there is no group \\\"three\\\""), "{refused}");
    replace(proxy.path(), &text);
    assert_eq!(server_for(proxy.addr(), &whole), "self");
}

#[test]
fn the_hello_may_stand_behind_a_proxy_header() {
    let [own, one] = ["self", "one!"].map(server);
    let routes = json!([{ "sni": ["db.example.com"], "group": "one" }]);
    let accept_proxy = json!({ "from": ["127.0.0.1"], "timeout": "30s" });
    let group = listener(&own, routes).with("accept_proxy", accept_proxy);
    let proxy = Setup::default().group(group).group(target("one", &one)).start();
    let header = b"PROXY TCP4 10.1.2.3 192.0.2.1 4 80\r\n";
    let whole = hello(Some("db.example.com"), &[]);
    let both = [&header[..], &whole].concat();
    for cut in [0, 1, 10, header.len(), header.len() + 1, header.len() + 700, both.len() - 1] {
        let mut client = proxy.connect();
        client.send(&both[..cut]);
        let_pass(Duration::from_millis(5), "the pace of the client");
        client.send(&both[cut..]);
        assert_eq!(served(client, &whole), "one!", "cut at {cut}");
    }
    let line = proxy.log.wait_for_end("client_closed");
    assert_eq!((&line["client.addr"], &line["tls.sni"]), (&json!("10.1.2.3:4"), &json!("db.example.com")));
    let mut client = proxy.connect();
    client.send(&[&header[..], b"plain"].concat());
    assert_eq!(served(client, b"plain"), "self");
}

/// Each costs the proxy less than this in memory; the benchmark of a build with optimizations is in the documents.
const WAITING_MAX: u64 = 4_096;

#[test]
fn clients_that_never_finish_their_hello_cost_little_and_are_gone_in_time() {
    let count = std::env::var("GOPROXY_HELLOS").map_or(2_000, |count| count.parse().unwrap());
    let [own, one] = ["self", "one!"].map(server);
    let routes = json!([{ "sni": ["one.example"], "group": "one" }]);
    let timeout = Duration::from_secs(if count > 2_000 { 30 } else { 8 });
    let group = listener(&own, routes).with("hello_timeout", format!("{}s", timeout.as_secs()));
    let group = group.with("max_sessions", count + 10);
    let setup = Setup::default().with("log", json!({ "format": "json", "sessions": "none", "status_interval": "0s" }));
    let proxy = setup.group(group).group(target("one", &one)).start();
    for _ in 0..200 {
        assert_eq!(server_for(proxy.addr(), &hello(Some("one.example"), &[])), "one!");
    }
    let (before, start) = (proxy.resident_bytes(), Instant::now());
    let clients: Vec<Client> = std::iter::repeat_with(|| {
        let mut client = proxy.connect();
        client.send(&[0x16]);
        client
    })
    .take(count)
    .collect();
    let waiting = proxy.sessions();
    let each = proxy.resident_bytes().saturating_sub(before) / waiting.max(1);
    println!("{each} bytes resident per client of {waiting} that have sent one byte");
    assert!(each < WAITING_MAX, "{each} bytes each");
    // Others are served meanwhile.
    assert_eq!(server_for(proxy.addr(), &hello(Some("one.example"), &[])), "one!");
    eventually("all are gone", || proxy.ended("hello_timeout") == clients.len() as u64);
    println!("all were gone {:?} after the first had come", start.elapsed());
    assert_eq!((proxy.sessions(), own.accepted()), (0, 0));
}
