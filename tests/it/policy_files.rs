//! However a module's file is written, replaced or taken away: what is whole is used, and nothing else.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::policy_kit::{
    Folder, connect, counted, group_of, is_refused, link, listed, nth, patient, served_by, takes_over, three,
};
use crate::support::{FakeServer, TestProxy, eventually, let_pass};

fn proxy(folder: &Folder, servers: &[FakeServer]) -> TestProxy {
    folder.setup().group(group_of(patient(), servers)).start()
}

fn binary(place: u32) -> Vec<u8> {
    wat::parse_str(nth(place)).unwrap()
}

#[test]
fn a_file_that_is_copied_slowly_is_used_once_it_is_whole() {
    let folder = Folder::with("x.wasm", binary(1));
    let servers = three();
    let proxy = proxy(&folder, &servers);
    let whole = binary(2);
    let (first, second) = whole.split_at(whole.len() / 2);
    let mut file = fs::File::create(folder.path("x.wasm")).unwrap();
    file.write_all(first).unwrap();
    file.sync_data().unwrap();
    // Longer than anybody waits for the rest: then it is told, and what is loaded stays.
    let text = is_refused(&proxy, "x.wasm: ends in the middle, at byte ");
    assert!(text.ends_with("still being copied?"), "{text}");
    assert_eq!((served_by(proxy.addr()), listed(&proxy, "wasm:x")["state"].clone()), ('B', json!("loaded")));
    file.write_all(second).unwrap();
    file.sync_data().unwrap();
    takes_over(&proxy, &whole);
    assert_eq!(served_by(proxy.addr()), 'C');

    // In many pieces, none of which is worth a word.
    let whole = binary(0);
    let refused = counted(&proxy, "refused_versions_total");
    let mut file = fs::File::create(folder.path("x.wasm")).unwrap();
    for piece in whole.chunks(whole.len() / 20) {
        file.write_all(piece).unwrap();
        let_pass(Duration::from_millis(20), "the pace of somebody who copies");
        assert!(matches!(served_by(proxy.addr()), 'C' | 'A'));
    }
    takes_over(&proxy, &whole);
    assert_eq!((served_by(proxy.addr()), counted(&proxy, "fallbacks_total")), ('A', 0));
    println!("{} refused while in pieces", counted(&proxy, "refused_versions_total") - refused);
}

#[test]
fn a_file_that_is_taken_away_leaves_what_it_held_in_use() {
    let folder = Folder::with("x.wat", nth(1));
    let servers = three();
    let proxy = proxy(&folder, &servers);
    let (mut session, _) = connect(proxy.addr());
    fs::remove_file(folder.path("x.wat")).unwrap();
    is_refused(&proxy, "x.wasm: there is no such file, nor x.wat");
    assert_eq!(served_by(proxy.addr()), 'B');
    // A change of servers reaches it even so.
    proxy.set_state(servers[2].addr, "maint");
    assert_eq!(served_by(proxy.addr()), 'B');
    proxy.set_state(servers[2].addr, "ready");
    folder.drop_in("x.wat", nth(1));
    eventually("the same file is back", || listed(&proxy, "wasm:x")["error"].is_null());
    assert_eq!(counted(&proxy, "swaps_total"), 0, "it is what was loaded");
    // The whole folder, and back.
    let home = folder.path("x.wat").parent().unwrap().to_owned();
    let away = home.with_extension("away");
    fs::rename(&home, &away).unwrap();
    is_refused(&proxy, "there is no such file");
    fs::write(away.join("x.wat"), nth(2)).unwrap();
    fs::rename(&away, &home).unwrap();
    takes_over(&proxy, nth(2));
    assert_eq!((served_by(proxy.addr()), counted(&proxy, "fallbacks_total")), ('C', 0));
    session.echo(b"still there");
}

#[test]
fn links_may_be_swapped_below_and_above_a_file() {
    let folder = Folder::new();
    let versions = [Folder::with("x.wat", nth(1)), Folder::with("x.wat", nth(2)), Folder::with("x.wat", nth(0))];
    let servers = three();
    link(&versions[0].path("x.wat"), &folder.path("x.wat"));
    let proxy = proxy(&folder, &servers);
    assert_eq!(served_by(proxy.addr()), 'B');
    link(&versions[1].path("x.wat"), &folder.path("x.wat"));
    takes_over(&proxy, nth(2));
    assert_eq!(served_by(proxy.addr()), 'C');
    // As Kubernetes mounts a ConfigMap: the file is a link through a folder that is a link, which is swapped.
    link(versions[1].path("").as_path(), &folder.path("data"));
    link(Path::new("data/x.wat"), &folder.path("x.wat"));
    assert_eq!(served_by(proxy.addr()), 'C');
    link(versions[2].path("").as_path(), &folder.path("data"));
    takes_over(&proxy, nth(0));
    assert_eq!(served_by(proxy.addr()), 'A');
    // Written through the link.
    fs::write(versions[2].path("x.wat"), nth(1)).unwrap();
    takes_over(&proxy, nth(1));
    assert_eq!((served_by(proxy.addr()), counted(&proxy, "fallbacks_total")), ('B', 0));
}

#[test]
fn files_that_change_at_once_are_all_noticed() {
    let folder = Folder::with("x.wat", nth(1));
    folder.drop_in("y.wat", nth(1));
    let servers = three();
    let y = json!({ "wasm": "y", "fallback": "ha", "deadline": "1s" });
    let proxy = folder.setup().group(group_of(patient(), &servers)).group(group_of(y, &servers)).start();
    let by_both = || [0, 1].map(|group| served_by(proxy.addr_of(group)));
    assert_eq!(by_both(), ['B', 'B']);
    for (place, server) in [(2, 'C'), (0, 'A'), (1, 'B')] {
        folder.drop_in("x.wat", nth(place));
        folder.drop_in("y.wat", nth(place));
        eventually("both take over", || by_both() == [server; 2]);
    }
    // A bad one beside a good one.
    folder.drop_in("x.wat", "(module)");
    folder.drop_in("y.wat", nth(2));
    is_refused(&proxy, "x.wat: does not export ");
    eventually("the good one takes over", || by_both() == ['B', 'C']);
}

#[test]
fn a_second_file_of_the_same_name_is_an_error_until_one_of_them_goes() {
    let folder = Folder::with("x.wat", nth(1));
    let servers = three();
    let proxy = proxy(&folder, &servers);
    assert_eq!(served_by(proxy.addr()), 'B');
    folder.drop_in("x.wasm", binary(2));
    is_refused(&proxy, "x.wasm and x.wat: two files for one policy");
    assert_eq!((served_by(proxy.addr()), &listed(&proxy, "wasm:x")["file"]), ('B', &json!("x.wat")));
    fs::remove_file(folder.path("x.wat")).unwrap();
    assert_eq!(takes_over(&proxy, binary(2))["file"], "x.wasm");
    assert_eq!(served_by(proxy.addr()), 'C');
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let folder = Folder::with("x.wat", nth(1));
    let servers = three();
    let proxy = proxy(&folder, &servers);
    fs::remove_file(folder.path("x.wat")).unwrap();
    let odd = folder.path("x.wasm");
    fs::create_dir(&odd).unwrap();
    is_refused(&proxy, "x.wasm: is a folder; expected a .wasm or .wat file");
    fs::remove_dir(&odd).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&odd).status();
    assert!(made.expect("every Linux has mkfifo").success());
    is_refused(&proxy, "x.wasm: is a pipe, a socket or a device");
    fs::remove_file(&odd).unwrap();
    std::os::unix::fs::symlink(&odd, &odd).unwrap();
    // A link to itself is no file.
    is_refused(&proxy, "x.wasm: there is no such file");
    fs::remove_file(&odd).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &odd).unwrap();
    is_refused(&proxy, "x.wasm: is a pipe, a socket or a device");
    assert_eq!((served_by(proxy.addr()), counted(&proxy, "fallbacks_total")), ('B', 0));
    let module: Value = listed(&proxy, "wasm:x");
    assert_eq!(module["state"], "loaded");
}

#[test]
fn a_file_that_is_rewritten_all_the_time_is_used_now_and_then_and_in_the_end() {
    let folder = Folder::with("x.wat", nth(1));
    let servers = three();
    let proxy = proxy(&folder, &servers);
    let (start, mut writes) = (Instant::now(), 0);
    // Longer than the proxy waits for quiet at most.
    while start.elapsed() < Duration::from_secs(3) {
        folder.drop_in("x.wat", format!("{};; {writes}", nth(1 + writes % 2)));
        assert!(matches!(served_by(proxy.addr()), 'B' | 'C'));
        writes += 1;
        let_pass(Duration::from_millis(5), "the pace of the writer");
    }
    assert!(counted(&proxy, "swaps_total") >= 1, "it does not wait for ever");
    folder.drop_in("x.wat", nth(0));
    takes_over(&proxy, nth(0));
    let swaps = counted(&proxy, "swaps_total");
    assert_eq!((served_by(proxy.addr()), counted(&proxy, "fallbacks_total")), ('A', 0));
    println!("{writes} writes, {swaps} swaps");
}
