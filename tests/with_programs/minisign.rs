//! Keys and signatures of Debian's minisign, as docs/policies/sign.md has them made.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::run;
use crate::support::{Group, Setup, eventually, named_echo, wait_for};

#[test]
fn what_minisign_signs_serves_and_what_it_does_not_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("policies")).unwrap();
    run("minisign", &["-G", "-W", "-p", &path("ops.pub"), "-s", &path("ops.key")]);
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/round_robin.wat"), path("policies/x.wat")).unwrap();
    let sign = |file: &str| run("minisign", &["-S", "-s", &path("ops.key"), "-m", &path(file)]);
    sign("policies/x.wat");

    let server = named_echo();
    let key = format!("file:{}", path("ops.pub"));
    let setup = Setup::default().with("policies_dir", path("policies")).with("policy_keys", json!([key]));
    let proxy = setup.group(Group::new("", &[&server]).with("policy", "wasm:x")).start();
    let module = || {
        let list = proxy.ok("/policy-list.do");
        list["policies"].as_array().unwrap().iter().find(|policy| policy["name"] == "wasm:x").unwrap().clone()
    };
    assert_eq!(module()["state"], "loaded");
    // minisign shows the number of a key in the comment above it.
    let public = fs::read_to_string(path("ops.pub")).unwrap();
    let number = module()["signed_by"].as_str().unwrap().to_owned();
    assert!(public.lines().next().unwrap().ends_with(&number), "{public} and {number}");
    // What it accepts, so does the proxy, and the other way round.
    let minisign = |file: &str| {
        let output = Command::new("minisign").args(["-V", "-q", "-p", &path("ops.pub"), "-m", &path(file)]).output();
        output.unwrap().status.success()
    };
    assert!(minisign("policies/x.wat"));
    let mut text = fs::read_to_string(path("policies/x.wat")).unwrap();
    text.push_str(";; changed\n");
    fs::write(path("policies/x.wat"), &text).unwrap();
    assert!(!minisign("policies/x.wat"));
    let error = wait_for("a refusal", || module()["error"].as_str().map(str::to_owned));
    assert!(error.contains("x.wat.minisig does not fit x.wat"), "{error}");
    sign("policies/x.wat");
    eventually("the new version is in use", || module()["error"].is_null());
    // The old form, which signs the file itself.
    run("minisign", &["-S", "-l", "-s", &path("ops.key"), "-m", &path("policies/x.wat")]);
    let error = wait_for("a refusal", || module()["error"].as_str().map(str::to_owned));
    assert!(error.contains("x.wat.minisig is a legacy signature; sign again"), "{error}");
}
