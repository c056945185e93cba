//! Whatever a module does, every client is served, other groups hardly notice, and the proxy stays as it is.

mod guests;

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use guests::{Expected, Trap, Unfit, all_unfit, traps};

use crate::policy_kit::guests::Parts;
use crate::policy_kit::{
    Bystander, DELAY_MAX, Folder, LOOP, connect, counted, group_of, is_refused, later, listed, nth, patient, served_by,
    takes_over, three,
};
use crate::support::{FakeServer, Group, TestProxy, eventually, let_pass};

/// Memory that may come to stay with the process whatever modules do, in bytes.
const RESIDENT_GROWTH_MAX: u64 = 200 << 20;

/// Clients that come at the same moment.
const CROWD: usize = 6;

/// Clients that come at once: the names of their servers.
#[track_caller]
fn crowd(proxy: &TestProxy) -> Vec<char> {
    let addr = proxy.addr();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CROWD)
            .map(|_| {
                scope.spawn(move || {
                    let start = Instant::now();
                    let server = served_by(addr);
                    assert!(start.elapsed() < DELAY_MAX, "served after {:?}", start.elapsed());
                    server
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("every client is served")).collect()
    })
}

/// A proxy whose first group is the module's; the second is a bystander's.
fn proxy(folder: &Folder, policy: Value, servers: &[FakeServer]) -> TestProxy {
    folder.setup().group(group_of(policy, servers)).group(Group::new("ha", &[&servers[0]])).start()
}

/// Lines of the log that modules cause.
fn lines_about_modules(proxy: &TestProxy) -> usize {
    let is_about = |line: &Value| line["message"].as_str().is_some_and(|message| message.starts_with("policy"));
    proxy.log.all().into_iter().filter(is_about).count()
}

#[test]
fn no_bad_file_takes_the_place_of_a_good_one() {
    let folder = Folder::with("x.wasm", nth(1));
    let servers = three();
    let proxy = proxy(&folder, json!({ "wasm": "x", "fallback": "ha" }), &servers);
    let bystander = Bystander::of(proxy.addr_of(1));
    let (mut session, _) = connect(proxy.addr());
    let before = proxy.resident_bytes();
    let rows = all_unfit();
    let mut slowest = (Duration::ZERO, "");
    for (number, Unfit { what, content, says }) in rows.iter().enumerate() {
        let start = Instant::now();
        folder.drop_in("x.wasm", content);
        // The reason may be the one of the row before.
        eventually(what, || counted(&proxy, "refused_versions_total") > number as u64);
        let text = is_refused(&proxy, says);
        slowest = slowest.max((start.elapsed(), what));
        assert!(text.contains("x.wasm") && text.len() < 4_096, "{what}: {} bytes: {text}", text.len());
        assert_eq!(listed(&proxy, "wasm:x")["state"], "loaded", "{what}");
        assert_eq!(crowd(&proxy), ['B'; CROWD], "{what}");
    }
    session.echo(b"still there");
    folder.drop_in("x.wasm", vec![b' '; 9 << 20]);
    is_refused(&proxy, "x.wasm: has 9437184 bytes; expected at most 8388608 (policy_max_bytes");
    assert_eq!(crowd(&proxy), ['B'; CROWD]);
    folder.drop_in("x.wasm", nth(2));
    takes_over(&proxy, nth(2));
    assert_eq!(served_by(proxy.addr()), 'C');
    assert_eq!(counted(&proxy, "refused_versions_total"), rows.len() as u64 + 1);
    assert!(lines_about_modules(&proxy) < rows.len() + 10, "one line each");
    let growth = proxy.resident_bytes().saturating_sub(before);
    assert!(growth < RESIDENT_GROWTH_MAX, "{growth} bytes");
    let delay = bystander.was_served();
    println!(
        "{} files, the slowest refused after {slowest:?}; others waited {delay:?}; {growth} bytes more",
        rows.len()
    );
}

#[test]
fn a_proxy_starts_with_every_bad_file_there_is_and_the_fallback_serves() {
    let folder = Folder::new();
    let servers = three();
    let rows = all_unfit();
    let mut setup = folder.setup();
    for (number, row) in rows.iter().enumerate() {
        folder.drop_in(&format!("m{number}.wasm"), &row.content);
        setup = setup.group(group_of(json!({ "wasm": format!("m{number}"), "fallback": "ha" }), &servers));
    }
    let start = Instant::now();
    let mut proxy = setup.start();
    let start = start.elapsed();
    proxy.may_alarm("policy cannot be used: its fallback serves");
    for (number, Unfit { what, says, .. }) in rows.iter().enumerate() {
        assert_eq!(served_by(proxy.addr_of(number)), 'A', "{what}");
        let module = listed(&proxy, &format!("wasm:m{number}"));
        assert_eq!(module["state"], "refused", "{what}: {module}");
        assert!(module["error"].as_str().unwrap().contains(says), "{what}: {module}");
    }
    for number in 0..rows.len() {
        folder.drop_in(&format!("m{number}.wasm"), nth(2));
    }
    for number in 0..rows.len() {
        eventually("a good one takes over", || served_by(proxy.addr_of(number)) == 'C');
    }
    println!("{} bad modules at the start: ready after {start:?}", rows.len());
}

#[test]
fn no_client_is_lost_whatever_a_module_does_after_it_was_tried() {
    let folder = Folder::with("x.wat", nth(2));
    let servers = three();
    let mut proxy = proxy(&folder, json!({ "wasm": "x", "fallback": "round_robin" }), &servers);
    let bystander = Bystander::of(proxy.addr_of(1));
    let (mut session, _) = connect(proxy.addr());
    let (before, start) = (proxy.resident_bytes(), Instant::now());
    let mut report = String::new();
    for Trap { what, text, expected } in traps() {
        let faults = |reason: &str| proxy.metric("goproxy_policy_faults_total", &[reason]);
        let reason = match expected {
            Expected::Fails(reason) | Expected::Faults(reason) => reason,
            Expected::Answers | Expected::Either => "",
        };
        let before = faults(reason);
        // Forgiven with the new version, so each of them starts anew.
        folder.drop_in("x.wat", &text);
        takes_over(&proxy, &text);
        let (calls, began) = (counted(&proxy, "fallbacks_total"), Instant::now());
        let served = crowd(&proxy).len();
        let took = began.elapsed();
        let fallbacks = counted(&proxy, "fallbacks_total") - calls;
        match expected {
            Expected::Fails(_) => {
                assert_eq!(fallbacks, served as u64, "{what}: the fallback answers");
                assert!(faults(reason) > before, "{what}: {reason}");
            }
            Expected::Faults(_) => eventually(what, || faults(reason) > before),
            Expected::Answers => eventually(what, || served_by(proxy.addr()) == 'A'),
            Expected::Either => {}
        }
        write!(report, "\n{what}: {took:?}, {} faults", faults(reason) - before).unwrap();
        session.echo(b"still there");
    }
    let growth = proxy.resident_bytes().saturating_sub(before);
    let lines = lines_about_modules(&proxy);
    folder.drop_in("x.wat", nth(1));
    takes_over(&proxy, nth(1));
    eventually("the good one is back", || served_by(proxy.addr()) == 'B');
    assert!(proxy.runs());
    // At once and for each second: 20 and 1 of the module itself, as many about it; and one for each version.
    let seconds = start.elapsed().as_secs() as usize;
    let lines_max = 2 * (20 + seconds) + 2 * traps().len() + 10;
    assert!(lines < lines_max, "{lines} lines, {lines_max} expected at most");
    assert!(growth < RESIDENT_GROWTH_MAX, "{growth} bytes");
    let delay = bystander.was_served();
    println!("{report}\n{lines} lines; {growth} bytes more; others waited {delay:?}");
}

#[test]
fn a_module_that_takes_long_to_compile_delays_nobody() {
    let folder = Folder::with("x.wat", nth(1));
    let servers = three();
    let proxy = proxy(&folder, patient(), &servers);
    let bystander = Bystander::of(proxy.addr_of(1));
    let before = proxy.resident_bytes();
    let mut functions = String::new();
    for number in 0..20_000 {
        write!(functions, "(func (result i32) (i32.const {number}))").unwrap();
    }
    let text = nth(2).replacen("(func ", &format!("{functions}\n(func "), 1);
    let start = Instant::now();
    folder.drop_in("x.wat", &text);
    let mut meanwhile = 0;
    while served_by(proxy.addr()) == 'B' {
        meanwhile += 1;
        assert!(start.elapsed() < Duration::from_secs(120), "compiled in the end");
        let_pass(Duration::from_millis(5), "the pace of the clients");
    }
    assert_eq!(served_by(proxy.addr()), 'C');
    assert_eq!(counted(&proxy, "fallbacks_total"), 0);
    let delay = bystander.was_served();
    let growth = proxy.resident_bytes().saturating_sub(before);
    assert!(growth < 2 * RESIDENT_GROWTH_MAX, "{growth} bytes");
    println!(
        "20,000 functions were in use after {:?}, {meanwhile} clients served meanwhile, others waited {delay:?}; \
         {growth} bytes more",
        start.elapsed()
    );
}

#[test]
fn a_module_that_keeps_looping_is_left_alone_and_tried_again() {
    let folder = Folder::with("x.wat", nth(2));
    let servers = three();
    let proxy = proxy(&folder, json!({ "wasm": "x", "fallback": "ha" }), &servers);
    let bystander = Bystander::of(proxy.addr_of(1));
    let timed = || {
        let mut times: Vec<Duration> = (0..30)
            .map(|_| {
                let start = Instant::now();
                served_by(proxy.addr());
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let healthy = timed();
    let text = later(LOOP, Parts::default());
    folder.drop_in("x.wat", &text);
    takes_over(&proxy, &text);
    let faults = || counted(&proxy, "faults_total");
    let is_quarantined = || {
        let module = listed(&proxy, "wasm:x");
        let is_shown = module["error"].as_str().is_some_and(|text| text.contains("pick took longer than 5 ms"));
        module["state"] == "quarantined" && is_shown && counted(&proxy, "quarantined") == 1
    };
    eventually("it is left alone", || {
        assert_eq!(served_by(proxy.addr()), 'A');
        is_quarantined()
    });
    // The pauses double, so one of them is long enough even for a busy machine.
    let mut seen = 0;
    eventually("clients are served as quickly as ever while it is left alone", || {
        seen = faults();
        if !is_quarantined() {
            assert_eq!(served_by(proxy.addr()), 'A');
            return false;
        }
        let alone = timed();
        let is_one_pause = is_quarantined() && faults() == seen;
        if is_one_pause {
            println!(
                "connect, send, receive: {healthy:?} with a good module, {alone:?} while the bad one is left alone"
            );
            assert!(alone < healthy * 5 + Duration::from_millis(50), "{alone:?} after {healthy:?}");
        }
        is_one_pause
    });
    eventually("it is tried again", || {
        assert_eq!(served_by(proxy.addr()), 'A');
        faults() > seen
    });
    folder.drop_in("x.wat", nth(2));
    takes_over(&proxy, nth(2));
    assert_eq!((served_by(proxy.addr()), counted(&proxy, "quarantined")), ('C', 0));
    bystander.was_served();
}
