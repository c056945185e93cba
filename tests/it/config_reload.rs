//! The file may be edited at any moment: the last valid content is in force soon, a bad one changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goproxy::config::watch::QUIET;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{TestProxy, Visitor, eventually, is_refusal, let_pass, named_echo, ports, replace};

/// Promised is one second; the machine that tests may be busy.
const SOON: Duration = Duration::from_secs(5);

/// A file in which one number tells which version is in force.
fn numbered(admin: u16, group: u16, number: u32) -> String {
    format!(
        "{{\n  \"admin\": {{ \"listen\": \"127.0.0.1:{admin}\" }},\n  \"log\": {{ \"status_interval\": \"0s\" }},\n  \
         \"groups\": [ {{ \"listen\": \"127.0.0.1:{group}\", \"servers\": [ \"127.0.0.1:1\", \"127.0.0.2:{number}\" ] }} ]\n}}\n"
    )
}

fn in_force(proxy: &TestProxy, group: u16) -> u32 {
    let online = proxy.online(group);
    online[1].rsplit(':').next().unwrap().parse().unwrap()
}

/// Waits for a version; how long that took.
#[track_caller]
fn comes_into_force(proxy: &TestProxy, group: u16, number: u32, how: &str) -> Duration {
    let written = Instant::now();
    eventually(how, || in_force(proxy, group) == number);
    let lag = written.elapsed();
    assert!(lag < SOON, "{how}: {lag:?}");
    lag
}

#[test]
fn however_a_file_is_saved_its_last_content_is_in_force_soon() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &numbered(admin, group, 1));
    let path = proxy.path();
    let text = |number| numbered(admin, group, number);
    let mut lags: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut measure = |how: &'static str, number, save: &dyn Fn()| {
        save();
        let lag = comes_into_force(&proxy, group, number, how);
        let slowest = lags.entry(how).or_default();
        *slowest = lag.max(*slowest);
    };
    for round in 0..3 {
        let number = 10 + 10 * round;
        measure("in place", number, &|| fs::write(path, text(number)).unwrap());
        measure("by rename", number + 1, &|| replace(path, &text(number + 1)));
        measure("as vim does", number + 2, &|| {
            let backup = path.with_extension("json~");
            fs::rename(path, &backup).unwrap();
            fs::write(path, text(number + 2)).unwrap();
            fs::remove_file(backup).unwrap();
        });
        measure("in pieces", number + 3, &|| {
            let mut file = fs::File::create(path).unwrap();
            for piece in text(number + 3).as_bytes().chunks(24) {
                file.write_all(piece).unwrap();
                file.sync_data().unwrap();
                let_pass(Duration::from_millis(60), "the pace of a slow writer");
            }
        });
        measure("deleted and made again", number + 4, &|| {
            fs::remove_file(path).unwrap();
            let_pass(QUIET + Duration::from_millis(100), "the time in which a change would be noticed");
            assert_eq!(in_force(&proxy, group), number + 3, "a deleted file changes nothing");
            fs::write(path, text(number + 4)).unwrap();
        });
    }
    measure("a hundred times a second", 500, &|| {
        let start = Instant::now();
        for save in 0..300 {
            replace(path, &text(200 + save));
            let next = start + Duration::from_millis(10) * (save + 1);
            let_pass(next.saturating_duration_since(Instant::now()), "the pace of the writer");
        }
        replace(path, &text(500));
    });
    println!("after the last write: {lags:?}");
    assert_eq!(proxy.log.count("proxy.json refused"), proxy.log.count("mistake in proxy.json"), "each is told in full");
}

#[test]
fn a_swapped_link_in_a_folder_above_is_noticed() {
    let [admin, group] = ports();
    let home = Arc::new(tempfile::tempdir().unwrap());
    let volume = home.path().join("volume");
    let version = |number: u32| {
        let folder = volume.join(format!("..{number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("proxy.json"), numbered(admin, group, number)).unwrap();
        format!("..{number}")
    };
    // As Kubernetes mounts a ConfigMap: proxy.json -> ..data/proxy.json, ..data -> the version.
    let first = version(1);
    symlink(first, volume.join("..data")).unwrap();
    symlink("..data/proxy.json", volume.join("proxy.json")).unwrap();
    let proxy = TestProxy::with_file_at(Arc::clone(&home), volume.join("proxy.json"), admin);
    for number in 2..6 {
        let next = version(number);
        symlink(next, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        fs::remove_dir_all(volume.join(format!("..{}", number - 1))).unwrap();
        comes_into_force(&proxy, group, number, "a swapped link");
    }
}

/// What a mistake is in, and the text that has it.
fn broken(good: &str, admin: u16, group: u16) -> Vec<(String, &'static str)> {
    let edit = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    vec![
        (String::new(), "an empty file"),
        (good[..good.len() / 2].to_owned(), "half of it"),
        (good.replace('}', ""), "no closing brace"),
        (edit("\"groups\"", "groups"), "no quotes"),
        (edit("\"groups\": [", "\"groups\": [,"), "a comma too many"),
        (format!("{good}{good}"), "twice"),
        ("[]".to_owned(), "a list"),
        ("\0".repeat(good.len()), "zeros, as after a crash"),
        (edit("\"groups\"", "\"grups\""), "an unknown key"),
        (edit("\"listen\": \"127.0.0.1:", "\"listen\": \"127.0.0.1:9"), "a port that is none"),
        (edit("\"0s\"", "\"5\""), "a time without a unit"),
        (edit("\"0s\"", "\"-1s\""), "a time before now"),
        (edit("\"0s\"", "0"), "a number for a time"),
        (edit("127.0.0.1:1\"", "127.0.0.1\""), "a server without a port"),
        (edit("127.0.0.1:1\"", "127.0.0.2:7\""), "a server that is there twice"),
        (edit("\"servers\": [", "\"servers\": {"), "a wrong bracket"),
        (edit("\"servers\"", "\"policy\": \"round_robbin\", \"servers\""), "an unknown policy"),
        (edit("\"servers\"", "\"open\": \"yes\", \"servers\""), "a text for a switch"),
        (edit("\"servers\"", "\"max_sessions\": -1, \"servers\""), "less than nothing"),
        (edit(&format!("127.0.0.1:{group}"), &format!("127.0.0.1:{admin}")), "the admin port"),
        (edit(" ] }", &format!(" ] }}, {{ \"listen\": \"0.0.0.0:{group}\" }}")), "a port twice"),
        (edit("\"groups\"", "\"threads\": 1e9, \"groups\""), "too many threads"),
        (edit("\"admin\": {", "\"admin\": { \"token\": \"env:NO_SUCH_VARIABLE\","), "a secret that is not there"),
        (edit("\"127.0.0.1:1\"", "\"127.0.0.1:1\u{1}\""), "a control character"),
    ]
}

#[test]
fn a_file_broken_in_twenty_ways_changes_nothing_and_the_log_tells_where() {
    let [admin, group] = ports();
    let good = numbered(admin, group, 7);
    let proxy = TestProxy::with_file(admin, &good);
    let echo = named_echo();
    fs::write(proxy.path(), good.replace("127.0.0.1:1\"", &format!("{}\"", echo.addr))).unwrap();
    eventually("the echo is a server", || proxy.online(group)[0] == echo.addr.to_string());
    let good = proxy.file();
    let good_for_mistakes = good.replace(&echo.addr.to_string(), "127.0.0.1:1");
    let mut session = Visitor::connect(group);
    let (_, before) = proxy.state();
    let ways = broken(&good_for_mistakes, admin, group);
    assert!(ways.len() >= 20);
    for (number, (text, what)) in ways.iter().enumerate() {
        // Noticed by itself, and told by those who ask.
        replace(proxy.path(), text);
        eventually(what, || proxy.series("goproxy_config_reload_errors_total").unwrap() > 2.0 * number as f64);
        assert_eq!(proxy.series("goproxy_config_reload_success"), Some(0.0), "{what}");
        let reply = proxy.get("/config-reload.do");
        let json = is_refusal(&reply, 409, "file_invalid", what);
        for error in json["errors"].as_array().unwrap() {
            assert!(error["line"].as_u64().unwrap() >= 1 && error["column"].as_u64().unwrap() >= 1, "{what}: {json}");
            assert!(error["path"].is_string() && !error["message"].as_str().unwrap().is_empty(), "{what}: {json}");
            let place = format!("{}:{}:{}: ", proxy.path().display(), error["line"], error["column"]);
            eventually(what, || proxy.log.count(&place) >= 2);
        }
        assert_eq!(
            (proxy.file(), proxy.ok("/group-list.do")["groups"][0]["group"].clone()),
            (text.clone(), json!(group))
        );
        session.round_trip(what.as_bytes());
    }
    fs::write(proxy.path(), b"{\"groups\": [], \"\xff\": 1}").unwrap();
    let json = proxy.refused("/config-reload.do", 409, "file_invalid");
    assert!(json["msg"].as_str().unwrap().contains("not UTF-8"), "{json}");
    replace(proxy.path(), &good);
    eventually("all is well again", || proxy.series("goproxy_config_reload_success") == Some(1.0));
    assert_eq!(proxy.state().1, before);
    session.round_trip(b"the same session");
}

#[test]
fn a_file_that_is_touched_or_says_the_same_is_no_reload() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &numbered(admin, group, 7));
    let text = proxy.file();
    let generation = proxy.series("goproxy_config_generation");
    for _ in 0..3 {
        fs::File::options().write(true).open(proxy.path()).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        replace(proxy.path(), &text);
    }
    proxy.signal(Signal::HUP);
    let json = proxy.ok("/config-reload.do");
    assert_eq!((&json["opened"], &json["closed"], &json["changed"]), (&json!([]), &json!([]), &json!([])));
    // A change proves that everything before it has been looked at.
    replace(proxy.path(), &numbered(admin, group, 8));
    comes_into_force(&proxy, group, 8, "a change");
    eventually("the reload is logged", || proxy.log.count("proxy.json reloaded") == 1);
    assert_eq!(proxy.series("goproxy_config_generation"), generation.map(|generation| generation + 1.0));
    // Our own writes wake the watcher too, and are nothing new to it.
    proxy.ok(&format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"));
    replace(proxy.path(), &proxy.file().replace("127.0.0.2:8", "127.0.0.2:9"));
    eventually("the next", || proxy.online(group) == ["127.0.0.2:9"]);
    eventually("the reload is logged", || proxy.log.count("proxy.json reloaded") == 2);
}

#[test]
fn hup_and_config_reload_apply_the_difference_at_once_and_tell_it() {
    let [admin, a, b, c] = ports();
    let groups = |list: &str| format!(r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [{list}] }}"#);
    let group = |port: u16, more: &str| format!(r#"{{ "listen": "127.0.0.1:{port}"{more} }}"#);
    let proxy = TestProxy::with_file(admin, &groups(&format!("{}, {}", group(a, ""), group(b, ""))));
    // Before the watcher has waited for quiet, nearly always; whoever is first, each change is told once.
    let mut told = 0;
    for round in 0..5 {
        let (closed, opened) = if round % 2 == 0 { (b, c) } else { (c, b) };
        let policy = if round % 2 == 0 { r#", "policy": "ha""# } else { "" };
        replace(proxy.path(), &groups(&format!("{}, {}", group(a, policy), group(opened, ""))));
        let json = proxy.ok("/config-reload.do");
        if json["opened"] == json!([opened]) {
            assert_eq!((&json["closed"], &json["changed"]), (&json!([closed]), &json!([a])));
            told += 1;
        }
        TcpStream::connect(("127.0.0.1", opened)).expect("it is in force when the answer comes");
        assert!(TcpStream::connect(("127.0.0.1", closed)).is_err());
    }
    assert!(told >= 1, "the request is faster than the watcher");
    eventually("each is logged once", || proxy.log.count("proxy.json reloaded") == 5);
    replace(proxy.path(), &groups(&group(a, "")));
    proxy.signal(Signal::HUP);
    eventually("the signal is obeyed", || proxy.ok("/group-list.do")["groups"].as_array().unwrap().len() == 1);
}

#[test]
fn a_busy_port_refuses_the_whole_reload() {
    let [admin, group, new] = ports();
    let text = numbered(admin, group, 7);
    let proxy = TestProxy::with_file(admin, &text);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap();
    let (_, before) = proxy.state();
    let more = format!(" ] }}, {{ \"listen\": \"127.0.0.1:{new}\" }}, {{ \"listen\": \"{busy}\" }}");
    let edited = text.replace("127.0.0.2:7", "127.0.0.2:8").replacen(" ] }", &more, 1);
    replace(proxy.path(), &edited);
    let json = proxy.refused("/config-reload.do", 409, "cannot_listen");
    assert!(json["msg"].as_str().unwrap().contains(&busy.to_string()), "{json}");
    assert_eq!(proxy.state().1, before);
    assert!(TcpStream::connect(("127.0.0.1", new)).is_err(), "nothing of it is done");
    eventually("the log tells it", || proxy.log.count(&format!("cannot listen on {busy}")) >= 1);
    // A change over HTTP goes on top of the file, so it is refused as well.
    proxy.refused(&format!("/worker-state.do?group={group}&server=127.0.0.1:1&state=drain"), 409, "cannot_listen");
    assert_eq!((proxy.file(), proxy.state().1), (edited, before));
    drop(taken);
    let json = proxy.ok("/config-reload.do");
    assert_eq!((&json["opened"], &json["changed"]), (&sorted([new, busy.port()]), &json!([group])));
    TcpStream::connect(("127.0.0.1", new)).unwrap();
}

fn sorted(mut ports: [u16; 2]) -> Value {
    ports.sort_unstable();
    json!(ports)
}

#[test]
fn a_reload_of_settings_beside_the_groups_is_told_and_in_force() {
    let [admin, group] = ports();
    let text = numbered(admin, group, 7);
    let proxy = TestProxy::with_file(admin, &text);
    let edited = text
        .replace("\"admin\": {", "\"admin\": { \"allow_get_changes\": false, \"pprof_listen\": \"127.0.0.1:9\",")
        .replace("\"0s\"", "\"1h\", \"level\": \"debug\"")
        .replace("\"groups\"", "\"drain_timeout\": \"1s\", \"threads\": 7, \"pin_threads\": true, \"groups\"");
    fs::write(proxy.path(), edited).unwrap();
    let settings = "settings=\"admin.allow_get_changes, log.level, log.status_interval, drain_timeout\"";
    eventually("the reload is logged", || proxy.log.count(settings) == 1);
    eventually("what needs a restart is told", || proxy.log.count("takes effect at the next start") == 3);
    proxy.refused("/config-reload.do", 405, "method_not_allowed");
    // Asking is faster than the watcher, nearly always.
    fs::write(proxy.path(), &text).unwrap();
    let json = proxy.request("POST", "/config-reload.do", "", b"").json();
    if json["msg"] != "nothing has changed" {
        let keys = ["admin.allow_get_changes", "log.level", "log.status_interval", "drain_timeout"];
        let at_restart = ["admin.pprof_listen", "threads", "pin_threads"];
        assert_eq!((&json["settings"], &json["at_restart"]), (&json!(keys), &json!(at_restart)));
    }
    proxy.ok("/config-reload.do");
}

#[test]
fn an_edit_that_is_taken_back_right_after_it_was_read_is_noticed() {
    let [admin, group] = ports();
    let proxy = TestProxy::with_file(admin, &numbered(admin, group, 1));
    for round in 0..5 {
        // One is read at once because somebody asks, and has gone before the watcher looks.
        replace(proxy.path(), &numbered(admin, group, 100 + round));
        proxy.ok("/config-reload.do");
        assert_eq!(in_force(&proxy, group), 100 + round);
        replace(proxy.path(), &numbered(admin, group, 1));
        comes_into_force(&proxy, group, 1, "taken back");
    }
}
