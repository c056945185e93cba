//! Upgrades that fail: the old process goes on, nobody is refused, and the reason is told.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Client, FakeServer, Group, Setup, TestProxy, eventually, is_refusal, own_ip, replace};

/// What the log says of a failed upgrade, and what a process says that cannot take over.
const ALARMS: [&str; 3] = ["upgrade failed: this process goes on serving", "cannot serve", "mistake in proxy.json"];

/// A proxy whose program is a link to the real one, and can be replaced.
struct Replaceable {
    proxy: TestProxy,
    _server: FakeServer,
    _folder: TempDir,
    program: PathBuf,
}

fn start(change: impl FnOnce(Setup) -> Setup) -> Replaceable {
    let (server, folder) = (FakeServer::echo(), tempfile::tempdir().unwrap());
    let program = folder.path().join("goproxy");
    symlink(env!("CARGO_BIN_EXE_goproxy"), &program).unwrap();
    let setup = Setup::default().with("threads", 2).group(Group::new("ha", &[&server])).with_program(&program);
    let mut proxy = change(setup).start();
    ALARMS.iter().for_each(|alarm| proxy.may_alarm(alarm));
    Replaceable { proxy, _server: server, _folder: folder, program }
}

impl Replaceable {
    fn replace_program(&self, script: &str) {
        fs::remove_file(&self.program).unwrap();
        fs::write(&self.program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&self.program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn restore_program(&self) {
        let _ = fs::remove_file(&self.program);
        symlink(env!("CARGO_BIN_EXE_goproxy"), &self.program).unwrap();
    }

    /// Why an upgrade fails, in the answer and in the log; everything else goes on.
    #[track_caller]
    fn fails(&self) -> String {
        let proxy = &self.proxy;
        let mut held = proxy.connect();
        held.echo(b"before");
        let told_before = proxy.log.with_message(ALARMS[0]).len();
        let reply = proxy.request("POST", "/upgrade.do", "", b"");
        let json = is_refusal(&reply, 409, "upgrade_failed", "/upgrade.do");
        let msg = json["msg"].as_str().unwrap().to_owned();
        assert!(msg.ends_with("; this process goes on serving"), "{msg}");
        eventually("the log tells", || proxy.log.with_message(ALARMS[0]).len() > told_before);
        let told = proxy.log.with_message(ALARMS[0]).pop().unwrap();
        assert_eq!(
            msg,
            format!(
                "{}: {}; this process goes on serving",
                told["step"].as_str().unwrap(),
                told["error"].as_str().unwrap()
            )
        );
        held.echo(b"after");
        held.finish();
        (0..8).for_each(|_| proxy.connect().echo(b"new"));
        assert_eq!(proxy.get("/ready").status, 200);
        let server = proxy.servers(proxy.addr().port())[0]["addr"].as_str().unwrap().parse().unwrap();
        ["drain", "ready"].iter().for_each(|state| proxy.set_state(server, state));
        msg
    }
}

#[test]
fn a_program_that_cannot_be_started_or_is_another_changes_nothing() {
    let mut one = start(|setup| setup);
    fs::remove_file(&one.program).unwrap();
    assert!(one.fails().contains("goproxy: No such file or directory"));
    fs::write(&one.program, "data").unwrap();
    assert!(one.fails().contains("Permission denied"));
    one.replace_program("exit 7");
    assert!(one.fails().contains("exit status: 7"));
    one.replace_program("exec 0<&-; kill -9 $$");
    assert!(one.fails().contains("signal: 9"));
    // The version before upgrades were known, which opens the ports that are taken.
    one.replace_program(&format!("unset GOPROXY_UPGRADE; exec {} \"$@\"", env!("CARGO_BIN_EXE_goproxy")));
    assert!(one.fails().contains("exit status: 1"));
    one.restore_program();
    let first = one.proxy.pid();
    one.proxy.upgrade();
    one.proxy.wait_for_end_of(first);
    one.proxy.connect().echo(b"x");
}

#[test]
fn a_program_that_says_nothing_is_ended() {
    let one = start(|setup| setup);
    let marks = tempfile::tempdir().unwrap();
    let mark = marks.path().join("pid");
    one.replace_program(&format!("echo $$ > '{}'; exec sleep 1000", mark.display()));
    let msg = one.fails();
    assert!(msg.starts_with("starting the new process: it did not answer within"), "{msg}");
    let pid = fs::read_to_string(mark).unwrap();
    eventually("it is ended", || !Path::new(&format!("/proc/{}", pid.trim())).exists());
}

#[test]
fn a_file_with_a_mistake_or_a_port_that_is_taken_changes_nothing() {
    let one = start(|setup| setup);
    let good = one.proxy.file();
    // It does not see this file before it is to upgrade.
    replace(one.proxy.path(), &good.replacen("\"ha\"", "\"hha\"", 1));
    let reply = one.proxy.request("POST", "/upgrade.do", "", b"");
    let json = is_refusal(&reply, 409, "upgrade_failed", "/upgrade.do");
    let msg = json["msg"].as_str().unwrap();
    assert!(msg.contains("has 1 mistake, the first at ") && msg.contains("unknown policy \"hha\""), "{msg}");
    one.proxy.connect().echo(b"x");

    let taken = std::net::TcpListener::bind((own_ip(), 0)).unwrap();
    let mut file: Value = serde_json::from_str(&good).unwrap();
    let more = serde_json::json!({ "name": "more", "listen": taken.local_addr().unwrap().to_string() });
    file["groups"].as_array_mut().unwrap().push(more);
    replace(one.proxy.path(), &file.to_string());
    let reply = one.proxy.request("POST", "/upgrade.do", "", b"");
    let json = is_refusal(&reply, 409, "upgrade_failed", "/upgrade.do");
    let msg = json["msg"].as_str().unwrap();
    assert!(msg.contains(&format!("cannot listen on {}: ", taken.local_addr().unwrap())), "{msg}");
    replace(one.proxy.path(), &good);
    eventually("the file is in order again", || one.proxy.request("POST", "/config-reload.do", "", b"").status == 200);
    one.proxy.connect().echo(b"x");
}

#[test]
fn a_new_process_that_dies_is_as_if_it_had_never_been() {
    for place in ["upgrade-hello", "upgrade-ready", "upgrade-state"] {
        let one = start(|setup| setup.with_variable("GOPROXY_TEST_KILL", Path::new(place)));
        for _ in 0..2 {
            let msg = one.fails();
            assert!(msg.contains("the new process has ended, signal: 9"), "{place}: {msg}");
        }
    }
}

#[test]
fn a_process_that_was_to_take_over_ends_when_the_old_one_dies_before_it_can() {
    let mut one = start(|setup| setup);
    one.proxy.may_alarm("goproxy: cannot take over");
    let real = env!("CARGO_BIN_EXE_goproxy");
    one.replace_program(&format!("kill -9 $PPID; exec {real} \"$@\""));
    one.proxy.signal(Signal::USR2);
    // Its stderr is complete when no process has it any more.
    one.proxy.wait();
    assert_eq!(one.proxy.log.count("the process that was to hand over has ended"), 1, "{}", one.proxy.log.text());
    assert!(Client::try_connect(one.proxy.addr()).is_err());
}

#[test]
fn a_new_process_serves_when_the_old_one_dies_after_it_has_told_all() {
    let mut one = start(|setup| setup.with_variable("GOPROXY_TEST_KILL", Path::new("upgrade-told")));
    one.proxy.signal(Signal::USR2);
    let first = one.proxy.pid();
    one.proxy.wait_for_end_of(first);
    let told = one.proxy.log.wait_for("it takes over", |line| line["message"] == "taken over from the process before");
    assert_eq!(told["generation"], 2);
    let pid = one.proxy.log.with_message("goproxy starts").pop().unwrap()["pid"].as_u64().unwrap() as u32;
    one.proxy.has_successor(pid);
    one.proxy.connect().echo(b"x");
    eventually("its admin port answers", || one.proxy.try_get("/ready").is_some_and(|(status, _)| status == 200));
}

#[test]
fn a_signal_to_stop_ends_an_upgrade_and_then_the_process() {
    let mut one = start(|setup| setup);
    one.replace_program("exec sleep 1000");
    let mut held = one.proxy.connect();
    held.echo(b"x");
    one.proxy.signal(Signal::USR2);
    one.proxy.log.wait_for("it begins", |line| line["message"] == "upgrade begins");
    let another = one.proxy.request("POST", "/upgrade.do", "", b"");
    let msg = is_refusal(&another, 409, "cannot_upgrade", "/upgrade.do")["msg"].clone();
    assert_eq!(msg, "an upgrade is under way");
    one.proxy.signal(Signal::TERM);
    one.proxy.log.wait_for("it is given up", |line| line["message"] == "upgrade refused");
    held.echo(b"y");
    held.finish();
    assert_eq!(one.proxy.wait().code(), Some(0));
}

#[test]
fn too_many_processes_that_drain_are_a_reason_to_wait() {
    let server = FakeServer::echo();
    let mut proxy = Setup::default().group(Group::new("ha", &[&server])).start();
    let mut held = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..4 {
        let mut client = proxy.connect();
        client.echo(b"x");
        held.push(client);
        pids.push(proxy.pid());
        proxy.upgrade();
    }
    let reply = proxy.request("POST", "/upgrade.do", "", b"");
    let msg = is_refusal(&reply, 409, "cannot_upgrade", "/upgrade.do")["msg"].as_str().unwrap().to_owned();
    assert!(msg.starts_with("too many processes of former upgrades are draining"), "{msg}");
    held.iter_mut().for_each(|client| client.echo(b"y"));
    drop(held);
    pids.into_iter().for_each(|pid| proxy.wait_for_end_of(pid));
    eventually("it can be upgraded again", || {
        let reply = proxy.request("POST", "/upgrade.do", "", b"");
        let pid = reply.json()["pid"].as_u64();
        pid.inspect(|pid| proxy.has_successor(*pid as u32)).is_some()
    });
}
