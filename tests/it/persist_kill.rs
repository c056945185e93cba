//! Pulling the plug: whatever was acknowledged is there afterwards, and no file is ever half-written.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Http, TestProxy, check, eventually, let_pass, ports, spawn};

/// How often the proxy is killed.
const KILLS: u64 = 100;

/// Who changes it at the same time.
const CALLERS: u64 = 4;

/// Registers servers as fast as they are taken, until the proxy is gone; answers those that were acknowledged.
fn register(admin: u16, group: u16, port: u64) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let Ok(mut http) = Http::try_connect(admin) else { return acknowledged };
    for number in 0.. {
        // The port tells who registered it.
        let server = format!("127.{}.{}.{}:{port}", 1 + number / 65_536, number / 256 % 256, number % 256);
        match http.try_get(&format!("/worker-keepalive.do?group={group}&server={server}")) {
            Ok(reply) if reply.status == 200 => acknowledged.push(server),
            Ok(reply) => panic!("{server}: {}", reply.json()),
            Err(_) => break,
        }
    }
    acknowledged
}

#[test]
fn kill_9_at_any_moment_leaves_a_whole_file_with_every_acknowledged_change() {
    let [admin, group] = ports();
    let padding = "// a line of a file that is longer than a page\n".repeat(500);
    let text = format!(
        r#"{padding}{{
  "admin": {{ "listen": "127.0.0.1:{admin}" }},
  "log": {{ "level": "warn" }},
  "groups": [{{ "listen": "127.0.0.1:{group}", "heartbeat_timeout": "1h" }}]
}}
"#
    );
    let mut rng = fastrand::Rng::with_seed(20);
    let mut proxy = TestProxy::with_file(admin, &text);
    let mut total = 0;
    for kill in 0..KILLS {
        // Each caller has a port that no other round uses.
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let port = 1 + kill * CALLERS + caller;
                spawn(move || register(admin, group, port))
            })
            .collect();
        let old = proxy.file();
        eventually("the first change is made", || proxy.file() != old);
        let_pass(Duration::from_micros(rng.u64(0..20_000)), "until any moment");
        proxy.kill();
        let acknowledged: Vec<String> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        total += acknowledged.len();

        let (is_good, said) = check(proxy.path());
        assert!(is_good, "after kill {kill}: {said}");
        let file = proxy.file();
        assert!(file.starts_with(&padding));
        let lost: Vec<_> = acknowledged.iter().filter(|server| !file.contains(&format!("\"{server}\""))).collect();
        assert!(lost.is_empty(), "after kill {kill}, acknowledged and not in the file: {lost:?}");
        let left = std::fs::read_dir(proxy.home()).unwrap().count();
        assert!(left <= 2, "after kill {kill}: {left} files");

        proxy = proxy.again();
        let online: BTreeSet<String> = proxy.online(group).into_iter().collect();
        let lost: Vec<_> = acknowledged.iter().filter(|server| !online.contains(*server)).collect();
        assert!(lost.is_empty(), "after kill {kill}, acknowledged and not online: {lost:?}");
        // The next round starts from a short list again.
        std::fs::write(proxy.path(), &text).unwrap();
        proxy.kill();
        proxy = proxy.again();
    }
    assert!(total > KILLS as usize, "{total} changes were acknowledged");
    println!("{KILLS} kills, {total} acknowledged changes");
    Http::connect(admin).get(&format!("/worker-keepalive.do?group={group}&server=127.0.0.1:1"));
    assert_eq!(std::fs::read_dir(proxy.home()).unwrap().count(), 1, "nothing is left behind");
}
