//! Exit codes and what is said with them; outputs that are closed.

use std::fs;
use std::net::TcpListener;
use std::process::{Output, Stdio};

use serde_json::json;

use crate::support::{Client, FakeServer, Group, Setup, free_port, goproxy, own_ip, run};

/// Code, stdout and stderr.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A folder with this file.
fn folder_with(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("proxy.json"), text).unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_port_that_is_taken_stops_the_start_with_its_name() {
    let ip = own_ip();
    let taken = TcpListener::bind((ip, 0)).unwrap();
    let (taken_addr, admin) = (taken.local_addr().unwrap(), free_port(ip));
    for (admin, listen, what) in
        [(admin, taken_addr, format!("{taken_addr}")), (taken_addr, free_port(ip), "admin port".to_owned())]
    {
        let file = json!({
            "admin": { "listen": admin.to_string() },
            "groups": [{ "listen": listen.to_string() }],
        });
        let (_folder, path) = folder_with(&file.to_string());
        let (code, stdout, stderr) = said(&run(&["-c", &path]));
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(&what) && stderr.contains("in use"), "{stderr}");
    }
}

#[test]
fn a_wrong_command_line_is_told_with_exit_code_2() {
    for args in [&["--no-such-flag"][..], &["no-such-command"], &["check", "--config"], &["run", "--dump"]] {
        let (code, _, stderr) = said(&run(args));
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains("error:"), "{stderr}");
    }
}

#[test]
fn check_answers_with_one_line_or_with_every_mistake() {
    let (_folder, path) = folder_with(r#"{ "groups": [{ "listen": "127.0.0.1:1", "servers": ["127.0.0.1:2"] }] }"#);
    for args in [&["check", "-c", &path][..], &["-t", "-c", &path]] {
        let (code, stdout, stderr) = said(&run(args));
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
    }
    let (_folder, path) = folder_with("{\n  \"groups\": [{ \"listen\": 1, \"polcy\": \"ha\" }]\n}");
    for args in [&["check", "-c", &path][..], &["-t", "-c", &path], &["-c", &path]] {
        let (code, stdout, stderr) = said(&run(args));
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("proxy.json:2:26: groups[0].listen"), "{stderr}");
        assert!(stderr.contains("did you mean policy"), "{stderr}");
    }
}

#[test]
fn a_file_that_is_not_there_is_told_with_the_places_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let output = goproxy().current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
    let (code, _, stderr) = said(&output);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("looked at proxy.json, config/proxy.json"), "{stderr}");
}

#[test]
fn closed_outputs_neither_stop_nor_block_it() {
    let server = FakeServer::echo();
    let setup = Setup::default().group(Group::new("round_robin", &[&server])).with_closed_outputs();
    let mut proxy = setup.start();
    for _ in 0..20 {
        proxy.connect().echo(b"nobody reads the log");
    }
    proxy.stop();
}

#[test]
fn an_output_that_nobody_reads_any_more_neither_stops_nor_blocks_it() {
    let server = FakeServer::echo();
    let ip = own_ip();
    let (admin, listen) = (free_port(ip), free_port(ip));
    let file = json!({
        "admin": { "listen": admin.to_string() },
        "groups": [{ "listen": listen.to_string(), "servers": [server.addr.to_string()] }],
    });
    let (_folder, path) = folder_with(&file.to_string());
    for is_closed in [true, false] {
        let mut child = goproxy().args(["-c", &path]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Either a broken pipe, or one that is full after 64 KiB and stays so.
        let pipes = (child.stdout.take(), child.stderr.take());
        let kept = (!is_closed).then_some(pipes);
        crate::support::eventually("it listens", || std::net::TcpStream::connect(listen).is_ok());
        for _ in 0..500 {
            Client::connect(listen).echo(b"hello");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        drop(kept);
    }
}
