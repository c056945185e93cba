//! Limits: of sessions and of new sessions, of each client, of a group and of the process; and networks that are kept out.
//!
//! A client is turned away with a reset, one line in the log says why, and all that it had taken is given back. The tests
//! run at a tenth of their size or less; `LIMITS=full` runs them at full size, which takes minutes.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use serde_json::{Value, json};

use crate::support::{
    Client, Ended, FakeServer, Group, Setup, TestProxy, check, echo, eventually, let_pass, ports, replace, spawn,
    wait_for_instead_of,
};

/// True when the tests run at full size.
fn is_full() -> bool {
    std::env::var("LIMITS").is_ok_and(|size| size == "full")
}

/// Waits for so long until `is_so`, with a look every half second.
#[track_caller]
fn eventually_within(time_max: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < time_max, "waited in vain: {what}");
        let_pass(Duration::from_millis(500), "the pause between two looks");
    }
}

/// Connects from one of our own addresses.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<Client> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    rustix::net::connect(&socket, &to)?;
    Ok(Client::new(socket.into()))
}

/// A client with an address of its own among 127.200.0.0/16.
fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 200, (number >> 8) as u8, number as u8)
}

/// True when the client is served by an echo.
fn is_served(client: io::Result<Client>) -> bool {
    client.is_ok_and(|client| answers(client).is_some())
}

/// The client, if it is served by an echo.
fn answers(mut client: Client) -> Option<Client> {
    let mut byte = [0];
    let sent = io::Write::write_all(&mut client.stream, b"x");
    sent.and_then(|()| client.stream.read_exact(&mut byte)).ok().map(|()| client)
}

/// Expects the client to be turned away with a reset, which may come before its connect has returned.
#[track_caller]
fn is_reset(client: io::Result<Client>) {
    match client {
        Ok(mut client) => assert_eq!(client.receive_all(), (Vec::new(), Ended::Reset)),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

/// Ends in order: then the server has seen the end before the proxy has.
fn finish(mut client: Client) {
    client.finish();
    client.receive_all();
}

fn limited(proxy: &TestProxy, limit: &str) -> u64 {
    // What the settings rule out is shown when it has happened all the same.
    proxy.metric_if_shown("goproxy_limited_total", &[&format!("limit=\"{limit}\"")]).unwrap_or_default() as u64
}

/// Waits until a count is as expected: a client may see its reset a moment before it is counted.
#[track_caller]
fn becomes<T: PartialEq + std::fmt::Debug>(value: impl Fn() -> T, expected: T) {
    wait_for_instead_of("a count", || match value() {
        found if found == expected => Ok(()),
        found => Err((found, "expected", &expected)),
    });
}

/// What is shown of a group's limits.
#[track_caller]
fn limits_of(proxy: &TestProxy, group: usize) -> Value {
    let groups = proxy.ok("/group-list.do")["groups"].clone();
    let is_meant = |shown: &&Value| shown["group"] == proxy.addr_of(group).port();
    groups.as_array().unwrap().iter().find(is_meant).expect("the group is there")["limits"].clone()
}

#[track_caller]
fn nobody_is_counted(proxy: &TestProxy) {
    eventually("no session is left", || proxy.sessions() == 0);
    let groups = proxy.ok("/group-list.do")["groups"].clone();
    assert!(groups.as_array().unwrap().iter().all(|group| group["sessions"] == 0), "{groups}");
    for group in groups.as_array().unwrap() {
        let servers = proxy.servers(group["group"].as_u64().unwrap() as u16);
        assert!(servers.iter().all(|server| server["sessions"] == 0), "{servers:?}");
    }
    let clients = proxy.ok("/client-list.do");
    assert_eq!((&clients["tracked"], &clients["clients"]), (&0.into(), &json!([])), "{clients}");
}

/// The most at a time of something.
#[derive(Debug, Default)]
struct Peak {
    now: AtomicUsize,
    max: AtomicUsize,
}

impl Peak {
    fn enter(&self) {
        self.max.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, SeqCst);
    }

    fn max(&self) -> usize {
        self.max.load(SeqCst)
    }
}

#[test]
fn nobody_ever_has_one_session_more_than_he_may() {
    const OF_CLIENT: usize = 7;
    const OF_SERVER: usize = 3;
    let (threads, held_max, connects, of_group, sources, servers) =
        if is_full() { (64, 12, 200_000, 500, 100, 180) } else { (16, 5, 6_000, 40, 8, 16) };
    let all = Arc::new(Peak::default());
    let clients: Arc<Vec<Peak>> = Arc::new((0..sources).map(|_| Peak::default()).collect());
    let of_servers: Vec<Arc<Peak>> = (0..servers).map(|_| Arc::default()).collect();
    // Counted where no session is missed: a server's connection lasts no longer than the session.
    let fakes: Vec<FakeServer> = of_servers
        .iter()
        .map(|of_server| {
            let (all, clients, of_server) = (Arc::clone(&all), Arc::clone(&clients), Arc::clone(of_server));
            FakeServer::start(move |mut client, _| {
                all.enter();
                of_server.enter();
                let mut name = [0];
                if client.stream.read_exact(&mut name).is_ok() {
                    clients[usize::from(name[0])].enter();
                    client.send(&name);
                    let _ = client.stream.read_to_end(&mut Vec::new());
                    clients[usize::from(name[0])].leave();
                }
                of_server.leave();
                all.leave();
            })
        })
        .collect();
    let group = Group::new("least_sessions", &[]).with("max_sessions", of_group);
    let group = group.with("client", json!({ "sessions": OF_CLIENT }));
    let group = fakes.iter().fold(group, |group, fake| group.server(fake, json!({ "max_sessions": OF_SERVER })));
    let proxy = TestProxy::start(group);
    let addr = proxy.addr();
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread as u64);
                let (mut held, mut served) = (Vec::new(), 0);
                for _ in 0..connects / threads {
                    let name = random.usize(..sources);
                    let client = connect_from(source(name), addr).and_then(|mut client| {
                        io::Write::write_all(&mut client.stream, &[name as u8])?;
                        client.stream.read_exact(&mut [0])?;
                        Ok(client)
                    });
                    if let Ok(client) = client {
                        served += 1;
                        held.push(client);
                    }
                    if held.len() > random.usize(..held_max) {
                        finish(held.swap_remove(random.usize(..held.len())));
                    }
                }
                held.into_iter().for_each(finish);
                served
            })
        })
        .collect();
    let served: usize = running.into_iter().map(|thread| thread.join().unwrap()).sum();
    let of_server = of_servers.iter().map(|peak| peak.max()).max().unwrap();
    let of_client = clients.iter().map(Peak::max).max().unwrap();
    println!(
        "{served} of {connects} served; at a time {} in all, {of_server} of a server, {of_client} of a client",
        all.max()
    );
    assert!(all.max() <= of_group && of_server <= OF_SERVER && of_client <= OF_CLIENT);
    assert!(of_server == OF_SERVER && of_client == OF_CLIENT, "the limits were reached");
    assert!(limited(&proxy, "client_sessions") > 0);
    assert_eq!(proxy.ended("client_closed") as usize, served);
    nobody_is_counted(&proxy);
}

#[test]
fn whatever_ends_a_session_its_client_may_come_again() {
    let server = FakeServer::start(|mut client, _| {
        let mut order = [0];
        while client.stream.read_exact(&mut order).is_ok() {
            match order[0] {
                b'c' => return,
                b'r' => return client.reset(),
                byte => client.send(&[byte]),
            }
        }
    });
    let of_client = json!({ "sessions": 1, "rate": "100000/s" });
    let one = |servers: &[&FakeServer]| Group::new("ha", servers).with("client", of_client.clone());
    let setup = Setup::default().group(one(&[&server])).group(one(&[])).group(one(&[&FakeServer::refusing()]));
    let proxy = setup.group(one(&[&server]).with("idle_timeout", "300ms")).start();
    let connect = |group| connect_from(source(1), proxy.addr_of(group)).unwrap();
    let served = |group| {
        let client = answers(connect(group)).expect("its place was given back");
        is_reset(connect_from(source(1), proxy.addr_of(group)));
        client
    };
    let mut rounds = 0;
    let mut is_over = |end: &str| {
        eventually(end, || proxy.ended(end) > 0);
        rounds += 1;
        nobody_is_counted(&proxy);
    };
    finish(served(0));
    is_over("client_closed");
    served(0).reset();
    is_over("client_reset");
    let mut client = served(0);
    client.send(b"c");
    client.receive_all();
    drop(client);
    is_over("server_closed");
    let mut client = served(0);
    client.send(b"r");
    assert_eq!(client.receive_all().1, Ended::Reset);
    is_over("server_reset");
    let mut client = served(0);
    let sessions = || proxy.ok("/session-list.do")["sessions"].as_array().expect("a list").clone();
    // The one over the limit may still be among them.
    becomes(|| sessions().len(), 1);
    let id = sessions()[0]["id"].clone();
    proxy.ok(&format!("/session-close.do?id={id}"));
    client.receive_all();
    is_over("killed");
    connect(1).receive_all();
    is_over("no_server");
    connect(2).receive_all();
    is_over("connect_failed");
    served(3).receive_all();
    is_over("idle_timeout");
    becomes(|| (limited(&proxy, "client_sessions"), proxy.ended("limit")), (6, 6));
    assert_eq!(rounds, 8);
}

#[test]
fn a_rate_lets_through_what_it_says_and_no_more() {
    let (rate, seconds, threads) = if is_full() { (500, 10, 8) } else { (200, 2, 2) };
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("session_rate", format!("{rate}/s")));
    let (addr, start) = (proxy.addr(), Instant::now());
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            spawn(move || {
                let (mut offered, mut served) = (0, 0);
                while start.elapsed() < Duration::from_secs(seconds) {
                    offered += 1;
                    served += usize::from(is_served(connect_from(source(thread), addr)));
                }
                (offered, served)
            })
        })
        .collect();
    let counts: Vec<(usize, usize)> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
    let elapsed = start.elapsed().as_secs_f64();
    let (offered, served) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    let allowed = f64::from(rate) * (1.0 + elapsed);
    println!("{served} of {offered} served in {elapsed:.3} s; {allowed:.0} allowed with the burst");
    assert!(served as f64 <= allowed + 1.0);
    // A busy machine pauses clients for longer than a token waits; only a quiet one can be held to all of it.
    let share = if is_full() { 0.99 } else { 0.5 };
    assert!(served as f64 >= share * allowed || offered < 2 * served, "{served} of {offered}");
    becomes(|| limited(&proxy, "group_rate") as usize, offered - served);
}

#[test]
fn a_client_over_its_own_rate_takes_nothing_from_the_others() {
    let server = FakeServer::echo();
    let group = Group::new("ha", &[&server]).with("session_rate", "500/s");
    let proxy = TestProxy::start(group.with("client", json!({ "rate": "10/s" })));
    let (addr, others) = (proxy.addr(), 40);
    let is_over = Arc::new(AtomicUsize::new(0));
    let greedy = spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let (mut offered, mut served) = (0, 0);
            while is_over.load(SeqCst) == 0 {
                offered += 1;
                served += usize::from(is_served(connect_from(source(7), addr)));
            }
            (offered, served)
        }
    });
    eventually("it is over its rate", || limited(&proxy, "client_rate") > 500);
    let refused: Vec<usize> =
        (0..5 * others).filter(|number| !is_served(connect_from(source(100 + number % others), addr))).collect();
    is_over.store(1, SeqCst);
    let (offered, served) = greedy.join().unwrap();
    println!("the greedy one: {served} of {offered} served; the others: all but {} of {}", refused.len(), 5 * others);
    assert!(refused.is_empty(), "{refused:?}");
    becomes(|| limited(&proxy, "client_rate") as usize, offered - served);
    assert_eq!(limited(&proxy, "group_rate"), 0);
    let greedy = || {
        let shown = proxy.ok("/client-list.do");
        let is_greedy = |client: &&Value| client["client"] == source(7).to_string();
        shown["clients"].as_array().unwrap().iter().find(is_greedy).expect("it is known").clone()
    };
    eventually("its sessions are over", || greedy()["sessions"] == 0);
    let greedy = greedy();
    assert_eq!(greedy["prefix"], 32, "{greedy}");
    assert!(greedy["refused"].as_u64().unwrap() > 500, "{greedy}");
}

#[test]
fn limits_of_the_process_hold_for_all_groups_and_change_while_it_runs() {
    let server = FakeServer::echo();
    let group = || Group::new("ha", &[&server]);
    let setup = Setup::default().with("max_sessions", 3).group(group()).group(group());
    let proxy = setup.start();
    let started = proxy.log.wait_for("the first line", |line| line["message"] == "goproxy starts");
    assert_eq!(started["sessions_max"], 3);
    let connect = |group: usize| Client::try_connect(proxy.addr_of(group));
    let mut held: Vec<Client> = [0, 1, 0].map(|group| answers(connect(group).unwrap()).unwrap()).into();
    is_reset(connect(1));
    assert_eq!(proxy.log.wait_for_end("limit")["limit"], "process_sessions");

    // Lower than what runs ends nobody.
    let change = |from: &str, to: &str| {
        replace(proxy.path(), &proxy.file().replace(from, to));
        proxy.ok("/config-reload.do");
    };
    change("\"max_sessions\": 3", "\"max_sessions\": 1");
    held.iter_mut().for_each(|client| client.echo(b"still here"));
    finish(held.remove(0));
    finish(held.remove(0));
    eventually("two have gone", || proxy.sessions() == 1);
    is_reset(connect(0));
    change("\"max_sessions\": 1", "\"max_sessions\": 0, \"session_rate\": { \"per\": \"1h\", \"sessions\": 2 }");
    held.push(answers(connect(0).unwrap()).unwrap());
    held.push(answers(connect(1).unwrap()).unwrap());
    is_reset(connect(1));
    becomes(|| limited(&proxy, "process_rate"), 1);
    // The tokens that are spent are spent.
    change("\"sessions\": 2", "\"sessions\": 5");
    is_reset(connect(1));
    change("\"sessions\": 5 }", "\"sessions\": 5 }, \"drain_timeout\": \"1s\"");
    is_reset(connect(1));
    becomes(|| (limited(&proxy, "process_rate"), limited(&proxy, "process_sessions")), (3, 2));
    assert_eq!([0, 1].map(|group| limits_of(&proxy, group)["refused"].clone()), [1, 4]);
    assert_eq!(limits_of(&proxy, 0), json!({ "sessions": 0, "rate": null, "refused": 1 }));
}

#[test]
fn a_changed_limit_of_a_group_counts_for_the_next_client() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]));
    let connect = |number| connect_from(source(number), proxy.addr());
    let change = |keys: &str| {
        let file = proxy.file();
        let (start, rest) = file.split_once("\"policy\"").unwrap();
        let start = start.split("\"client\"").next().unwrap();
        replace(proxy.path(), &format!("{start}{keys}\"policy\"{rest}"));
        proxy.ok("/config-reload.do");
    };
    // Whoever was there before is not counted.
    let mut early = answers(connect(1).unwrap()).unwrap();
    change("\"client\": { \"sessions\": 1 }, ");
    let mut held = answers(connect(1).unwrap()).unwrap();
    is_reset(connect(1));
    change("\"client\": { \"sessions\": 2, \"ipv4\": 24 }, ");
    // Another network is another client.
    let other = [2, 3].map(|number| answers(connect(number).unwrap()).unwrap());
    is_reset(connect(4));
    change("");
    let more = answers(connect(4).unwrap()).unwrap();
    early.echo(b"all");
    held.echo(b"go on");
    other.into_iter().chain([early, held, more]).for_each(finish);
    nobody_is_counted(&proxy);
}

#[test]
fn networks_are_kept_out_in_whichever_form_a_client_comes() {
    let server = FakeServer::echo();
    let any: IpAddr = "::".parse().unwrap();
    let setup = Setup::default();
    let setup =
        setup.group(Group::new("ha", &[&server]).on(any).with("deny", json!(["127.200.0.0/24", "127.200.1.7"])));
    let setup = setup.group(Group::new("ha", &[&server]).on(any).with("allow", json!(["127.200.1.0/24", "::/0"])));
    let proxy = setup
        .group(
            Group::new("ha", &[&server]).with("allow", json!(["127.200.0.0/16"])).with("deny", json!(["127.200.1.7"])),
        )
        .start();
    let ports = [0, 1].map(|group| proxy.addr_of(group).port());
    let to = |group: usize| match group {
        2 => proxy.addr_of(2),
        group => SocketAddr::from((Ipv4Addr::LOCALHOST, ports[group])),
    };
    // Which groups let each of them in.
    for (number, expected) in [(5, [false, false, true]), (256 + 7, [false, true, false]), (256 + 8, [true; 3])] {
        let served = [0, 1, 2].map(|group| is_served(connect_from(source(number), to(group))));
        assert_eq!(served, expected, "{}", source(number));
    }
    assert!(is_served(Client::try_connect(SocketAddr::new("::1".parse().unwrap(), ports[1]))));
    is_reset(connect_from(source(5), to(0)));
    let line = proxy.log.wait_for_end("denied");
    assert_eq!((line.get("limit"), line.get("server.addr"), &line["attempts"]), (None, None, &0.into()), "{line}");
    becomes(|| proxy.ended("denied"), 5);
    let explained = proxy.ok(&format!("/policy-explain.do?group={}&client=127.200.0.5", ports[0]));
    assert!(explained["note"].as_str().unwrap().contains("keep this client out"), "{explained}");
}

#[test]
fn a_file_of_networks_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
    let server = FakeServer::echo();
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("blocked.txt");
    std::fs::write(&list, "# nobody yet\n").unwrap();
    let entry = format!("file:{}", list.display());
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("deny", json!(["10.0.0.0/8", entry])));
    let is_served = || is_served(connect_from(source(1), proxy.addr()));
    assert!(is_served());
    replace(&list, &format!("192.0.2.0/24\n{}   # him\n", source(1)));
    eventually("it is denied", || !is_served());
    eventually("the log says which group changed", || proxy.log.count("proxy.json reloaded") == 1);

    std::fs::write(&list, "127.200.0.2\nfoo\n").unwrap();
    let wrong = format!("{entry}: line 2: \\\"foo\\\": expected a network");
    eventually("the log says so", || proxy.log.count(&format!("groups[0].deny[1]: {wrong}")) == 1);
    assert!(!is_served(), "the old list is in force");
    // Everything else can still be changed, but not by hand without a word.
    proxy.ok(&format!("/group-policy.do?group={}&policy=random", proxy.addr().port()));
    let file = proxy.file();
    replace(proxy.path(), &file.replace("\"random\"", "\"p2c\""));
    let refused = proxy.refused("/config-reload.do", 409, "file_invalid");
    assert!(refused["errors"][0].to_string().contains("line 2"), "{refused}");
    replace(proxy.path(), &file);
    proxy.ok("/config-reload.do");
    std::fs::remove_file(&list).unwrap();
    eventually("the log says so", || proxy.log.count("No such file") >= 1);
    assert!(!is_served(), "the old list is in force");

    std::fs::write(&list, "").unwrap();
    eventually("nobody is denied", is_served);
    eventually("the log says so", || proxy.log.count("lists of networks can be read again") == 1);
}

#[test]
fn an_allow_list_that_has_become_empty_does_not_shut_everybody_out() {
    let server = FakeServer::echo();
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("friends.txt");
    std::fs::write(&list, source(1).to_string()).unwrap();
    let proxy =
        TestProxy::start(Group::new("ha", &[&server]).with("allow", json!([format!("file:{}", list.display())])));
    let is_served = |number| is_served(connect_from(source(number), proxy.addr()));
    assert!(is_served(1) && !is_served(2));
    std::fs::write(&list, "").unwrap();
    eventually("the log says so", || proxy.log.count("nobody is let in") == 1);
    assert!(is_served(1) && !is_served(2));
    std::fs::write(&list, source(2).to_string()).unwrap();
    eventually("the new list is in force", || is_served(2) && !is_served(1));
}

#[test]
fn a_flood_of_refused_clients_fills_neither_the_log_nor_the_kernel() {
    let (flood, threads) = if is_full() { (200_000, 8) } else { (4_000, 2) };
    let server = FakeServer::start(|client, _| echo(client));
    let group = Group::new("ha", &[&server]).with("deny", json!(["127.200.1.0/24"]));
    let proxy = TestProxy::start(group.with("client", json!({ "sessions": 1 })));
    let addr = proxy.addr();
    let mut served = answers(connect_from(source(1), addr).unwrap()).unwrap();
    let start = Instant::now();
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let from = source(if thread % 2 == 0 { 1 } else { 256 + thread });
            spawn(move || (0..flood / threads).for_each(|_| is_reset(connect_from(from, addr))))
        })
        .collect();
    let mut echoes = Vec::new();
    loop {
        let sent = Instant::now();
        served.echo(b"meanwhile");
        echoes.push(sent.elapsed());
        if running.iter().all(|thread| thread.is_finished()) {
            break;
        }
        let_pass(Duration::from_millis(1), "the pace of a client that talks");
    }
    running.into_iter().for_each(|thread| thread.join().unwrap());
    let elapsed = start.elapsed();
    echoes.sort_unstable();
    let (median, p99) = (echoes[echoes.len() / 2], echoes[echoes.len() * 99 / 100]);
    println!("{flood} turned away in {elapsed:?}; an echo meanwhile took {median:?}, one in a hundred {p99:?} or more");
    finish(served);
    let named =
        || proxy.log.with_message("session closed").iter().filter(|line| line["end"] != "client_closed").count();
    let counted = |field: &str| -> u64 {
        proxy.log.with_message("refused more clients").iter().filter_map(|line| line[field].as_u64()).sum()
    };
    eventually("all are told of", || named() as u64 + counted("clients") == flood as u64);
    assert_eq!(counted("denied") + counted("client_sessions"), counted("clients"));
    assert!(counted("denied") > 0 && counted("client_sessions") > 0);
    // By the second of their stamps.
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for line in proxy.log.all().iter().filter(|line| line["end"] == "limit" || line["end"] == "denied") {
        *lines.entry(line["timestamp"].as_str().unwrap()[..19].to_owned()).or_default() += 1;
    }
    assert!(lines.values().all(|lines| *lines <= 100), "{lines:?}");
    assert_eq!(proxy.log.with_message("client connected").len(), 1, "the others have one line each");
    assert_eq!((proxy.ended("limit") + proxy.ended("denied")) as usize, flood);
    assert_eq!(time_waits(addr), 0);
}

/// Connections accepted at this address that the kernel keeps after their end.
fn time_waits(addr: SocketAddr) -> usize {
    let SocketAddr::V4(addr) = addr else { panic!("{addr}: the tests' own addresses are of IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(addr.ip().octets()), addr.port());
    let tcp = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = tcp.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields.get(1) == Some(&&*local) && fields[3] == "06").count()
}

#[test]
fn as_many_clients_as_there_are_addresses_cost_bounded_memory_that_is_given_back() {
    const FIRST: u32 = u32::from_be_bytes([127, 64, 0, 0]);
    const THREADS: u32 = 4;
    // So slow that all of them are known at the end, and gone in time at full size.
    let (clients, per) = if is_full() { (1_000_000, "2m") } else { (20_000, "1h") };
    let setup = Setup::default().with("log", json!({ "level": "error" }));
    let of_client = json!({ "rate": { "per": per, "sessions": 1 } });
    let proxy = setup.group(Group::new("ha", &[]).with("client", of_client)).start();
    let (addr, start) = (proxy.addr(), Instant::now());
    let come = move |clients: u32, thread: u32| {
        (thread..clients).step_by(THREADS as usize).for_each(|number| {
            match connect_from(Ipv4Addr::from(FIRST + number), addr) {
                Ok(mut client) => {
                    // There is no server, so it is over at once. A reset leaves no port behind.
                    let _ended = client.stream.read(&mut [0]);
                    client.reset();
                }
                // It has come a second time.
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            }
        });
    };
    // Everything else has grown to its size.
    come(1_000, 0);
    let before = proxy.resident_bytes();
    let running: Vec<_> = (0..THREADS).map(|thread| spawn(move || come(clients, thread))).collect();
    running.into_iter().for_each(|thread| thread.join().unwrap());
    let tracked = || proxy.ok("/client-list.do")["tracked"].as_u64().unwrap();
    let grown = |now: u64| now.saturating_sub(before) >> 10;
    let (known, full) = (tracked(), proxy.resident_bytes());
    println!("{known} clients known after {:?}; grown by {} KiB", start.elapsed(), grown(full));
    assert_eq!((known, proxy.metric("goproxy_clients_untracked_total", &[])), (clients.into(), 0.0));
    assert!(grown(full) <= if is_full() { 96 << 10 } else { 16 << 10 }, "{} KiB", grown(full));
    if is_full() {
        let mut shown = Instant::now();
        eventually_within(Duration::from_secs(120 + 120), "they are forgotten", || {
            if shown.elapsed() > Duration::from_secs(20) {
                shown = Instant::now();
                println!("{:?}: {} known, grown by {} KiB", start.elapsed(), tracked(), grown(proxy.resident_bytes()));
            }
            tracked() == 0 && grown(proxy.resident_bytes()) < 16 << 10
        });
        println!("{:?}: all is given back but {} KiB", start.elapsed(), grown(proxy.resident_bytes()));
    }
}

/// The first block of a document that begins so.
fn block<'d>(document: &'d str, begins: &str) -> &'d str {
    let blocks = document.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let mut texts = blocks.map(|(_language, text)| text);
    texts.find(|text| text.starts_with(begins)).unwrap_or_else(|| panic!("a block that begins with {begins}"))
}

#[test]
fn the_examples_of_the_document_run() {
    let document = include_str!("../../docs/limits.md");
    let home = Arc::new(tempfile::tempdir().unwrap());
    let path = home.path().join("proxy.json");
    std::fs::write(home.path().join("blocked.txt"), block(document, "# blocked.txt")).unwrap();
    let [admin, first, second] = ports();
    let text = block(document, "{\n").replace(":5432", &format!(":{first}")).replace(":6379", &format!(":{second}"));
    std::fs::write(&path, text.replacen('{', &format!("{{ \"admin\": {{ \"listen\": \"127.0.0.1:{admin}\" }},"), 1))
        .unwrap();
    assert!(check(&path).0, "{}", check(&path).1);
    let proxy = TestProxy::with_file_at(home, path, admin);
    let groups = proxy.ok("/group-list.do")["groups"].clone();
    let limits =
        |port: u16| groups.as_array().unwrap().iter().find(|it| it["group"] == port).unwrap()["limits"].clone();
    is_reset(Client::try_connect((Ipv4Addr::LOCALHOST, first).into()));
    becomes(|| proxy.ended("denied"), 1);
    let shown = limits(first).to_string().replace("\"refused\":0", "\"refused\":12");
    assert!(document.contains(&format!("\"limits\": {shown}")), "{shown}");
    assert_eq!(limits(second)["rate"], Value::Null);
}

#[test]
fn a_limit_in_defaults_is_one_for_each_group_and_null_takes_it_back() {
    let server = FakeServer::echo();
    let setup = Setup::default().with("defaults", json!({ "session_rate": { "per": "1h", "sessions": 1 } }));
    let setup = setup.group(Group::new("ha", &[&server])).group(Group::new("ha", &[&server]));
    let proxy = setup.group(Group::new("ha", &[&server]).with("session_rate", Value::Null)).start();
    let served = |group| is_served(Client::try_connect(proxy.addr_of(group)));
    assert_eq!([0, 0, 1, 1, 2, 2].map(served), [true, false, true, false, true, true]);
    becomes(|| limits_of(&proxy, 0), json!({ "sessions": 0, "rate": "1/h", "refused": 1 }));
    assert_eq!(limits_of(&proxy, 2), json!({ "sessions": 0, "rate": null, "refused": 0 }));
}
