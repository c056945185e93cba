//! `goproxy policy`: what is said of modules that are fit and of those that are not, and what it writes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{free_port, own_ip, run};

/// Exit code, stdout and stderr.
fn policy(args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(&[&["policy"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}

/// The generated policy, as text.
fn generated() -> String {
    let folder = tempfile::tempdir().unwrap();
    let (code, ..) = policy(&["new", "x", "--lang", "wat", "--dir", text(folder.path())]);
    assert_eq!(code, Some(0));
    fs::read_to_string(folder.path().join("x.wat")).unwrap()
}

/// The generated policy with one part of its text replaced.
fn spoilt(part: &str, by: &str) -> String {
    let good = generated();
    assert_eq!(good.matches(part).count(), 1, "{part}");
    good.replace(part, by)
}

/// The generated policy, but `pick` does this first.
fn picking(code: &str) -> String {
    let locals = "(local $left i32) (local $server i32)";
    spoilt(locals, &format!("{locals} (i32.store8 (i32.const 32) (i32.const 0)) {code}"))
}

/// A folder with this as `x.wat`.
fn module(text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.wat");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn report(path: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let (code, stdout, stderr) = policy(&[&["check", text(path), "--json"], more].concat());
    assert_eq!((stderr.as_str(), stdout.lines().count()), ("", 1), "{stdout}");
    (code, serde_json::from_str(&stdout).expect("JSON"))
}

#[test]
fn a_generated_module_is_fit_and_everything_about_it_is_told() {
    let (_folder, path) = module(generated());
    let (code, stdout, stderr) = policy(&["check", text(&path)]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.ends_with("x.wat: fit\n") && !stdout.contains('\x1b') && !stdout.contains('█'), "{stdout}");
    let (code, report) = report(&path, &["--config", "{ }"]);
    assert_eq!((code, &report["fit"], &report["reasons"]), (Some(0), &json!(true), &json!([])));
    for (key, value) in [
        ("name", json!("x")),
        ("version", json!("0.1.0")),
        ("format", json!("text")),
        ("imports", json!(["goproxy:balance/host@1.0.0#already-tried"])),
        ("config", json!({})),
        ("deadline_ms", json!(5.0)),
        ("memory_max_bytes", json!(16 << 20)),
        ("file_bytes", json!(fs::metadata(&path).unwrap().len())),
    ] {
        assert_eq!(report[key], value, "{key}");
        assert!(
            key == "config"
                || key.contains("ms")
                || key.ends_with("bytes")
                || stdout.contains(value.as_str().unwrap_or("")),
            "{key}"
        );
    }
    let sha256 = report["sha256"].as_str().unwrap();
    assert!(sha256.len() == 64 && stdout.contains(sha256));
    assert!(report["exports"].as_array().unwrap().contains(&json!("goproxy:balance/policy@1.0.0#pick")));
    assert!(report["memory"]["with_10_servers"].as_u64() < report["memory"]["with_10000_servers"].as_u64());
    let costs = report["cost"].as_array().unwrap();
    assert_eq!((&costs[0]["servers"], &costs[1]["servers"]), (&json!(10), &json!(1_000)));
    for cost in costs {
        let [min, median, p99] = ["min_ns", "median_ns", "p99_ns"].map(|key| cost[key].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= p99, "{cost}");
    }
    let clients = report["spread"]["clients"].as_u64().unwrap();
    let spread: Vec<_> = report["spread"]["servers"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!((spread.len(), spread.iter().sum::<u64>()), (10, clients));
    assert!(spread.iter().all(|count| count.abs_diff(clients / 10) <= 1), "in turn: {spread:?}");
    // A busy machine gets less far, and says so; there is nothing else to say.
    assert_eq!(report["notes"].as_array().unwrap().len(), usize::from(clients < 100_000), "{report}");
    assert!(report["leaving"]["clients"].as_u64() > report["leaving"]["moved"].as_u64());
    assert!(
        report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|check| check["ok"] == true && check["picks"].as_u64() > Some(0))
    );
}

#[test]
fn the_shipped_samples_are_fit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut seen = 0;
    for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|ending| ending == "wasm" || ending == "wat") {
            let needs_zone = path.file_stem().is_some_and(|stem| stem == "zone_first");
            let (code, report) = report(&path, &["--config", if needs_zone { r#"{"zone":"a"}"# } else { "{}" }]);
            assert_eq!((code, &report["reasons"]), (Some(0), &json!([])), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 4, "the samples lie in {}", folder.display());
}

#[test]
#[allow(clippy::too_many_lines, reason = "a list of cases")]
fn an_unfit_module_is_refused_with_the_fault_as_the_reason() {
    let some = "(i32.store8 (i32.const 32) (i32.const 1))";
    for (kind, text, reason) in [
        ("loops", picking("(loop $ever (br $ever))"), "pick took longer than 5 ms and was stopped"),
        (
            "loops on a retry",
            picking("(if (local.get $attempt) (then (loop $ever (br $ever))))"),
            "pick took longer than 5 ms and was stopped (in clients, retries)",
        ),
        ("traps", picking("(unreachable)"), "pick failed: wasm trap: wasm `unreachable` instruction executed"),
        (
            "names nobody there is",
            picking(&format!("{some} (i32.store (i32.const 36) (i32.const 7)) (return (i32.const 32))")),
            "pick answered 7",
        ),
        (
            "knows no retry",
            spoilt("(if (local.get $attempt)", "(if (i32.const 0)"),
            "and was tried already (in retries)",
        ),
        (
            "knows no state",
            spoilt("(if (i32.load8_u offset=24 (local.get $server))", "(if (i32.const 1)"),
            "and not available (in unavailable",
        ),
        (
            "keeps its first servers",
            spoilt(
                "(global.set $count (i32.const 0))\n",
                "(if (global.get $count) (then (return))) (global.set $count (i32.const 0))\n",
            ),
            "which is not a server of the group (in ",
        ),
        ("answers none", picking("(return (i32.const 32))"), "times although there were available servers"),
        (
            "loops in set-servers",
            spoilt("(global.set $count (i32.const 0))\n", "(loop $ever (br $ever))\n"),
            "set-servers took longer than 20 ms and was stopped",
        ),
        (
            "has room for few servers",
            spoilt("(memory (export \"memory\") 2)", "(memory (export \"memory\") 2 3)"),
            "set-servers failed: wasm trap: wasm `unreachable` instruction executed",
        ),
        (
            "loops in configure",
            spoilt("(i32.store8 (i32.const 16) (i32.const 0))", "(loop $ever (br $ever)) (unreachable)"),
            "configure took longer than 100 ms and was stopped",
        ),
        (
            "wants WASI",
            spoilt(
                "(memory (export",
                "(import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32))) (memory (export",
            ),
            "imports wasi_snapshot_preview1 (fd_write): policies run without WASI",
        ),
        (
            "speaks another version",
            generated().replace("policy@1.0.0", "policy@2.0.0"),
            "speaks goproxy:balance@2.0.0; this proxy speaks 1.x",
        ),
        ("lacks an export", spoilt("policy@1.0.0#pick", "policy@1.0.0#choose"), "does not export"),
        ("is no WebAssembly", "hello".to_owned(), "is not WebAssembly (begins with \"hell\")"),
        ("is empty", String::new(), "is empty"),
    ] {
        let (_folder, path) = module(text);
        let (code, stdout, stderr) = policy(&["check", path.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{kind}: {stdout}{stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert!(lines.iter().any(|line| line.contains(reason)), "{kind}: {stderr}");
        let in_front = format!("{}: ", path.display());
        assert!(lines.iter().all(|line| line.starts_with(&in_front)), "{kind}: {stderr}");
        assert!(!stderr.contains(&in_front.repeat(2)), "{kind}: {stderr}");
        assert!(stdout.ends_with(": unfit\n"), "{kind}: {stdout}");
    }
}

/// Imports a function of the host's, under its own name with `_` for `-`.
fn importing(name: &str, signature: &str, text: &str) -> String {
    let import =
        format!("(import \"goproxy:balance/host@1.0.0\" \"{name}\" (func ${} {signature}))", name.replace('-', "_"));
    text.replacen("(memory (export", &format!("{import}\n  (memory (export"), 1)
}

/// The traffic of one afternoon meets nearly every port, both kinds of addresses, retries, and in the end every time.
#[test]
fn a_module_that_fails_for_some_clients_or_at_some_times_only_is_found_out() {
    let when = |condition: &str| picking(&format!("(if {condition} (then (unreachable)))"));
    let at = |condition: &str| importing("now-nanos", "(result i64)", &when(condition));
    for (kind, text) in [
        ("a third of the ports", when("(i32.eq (i32.rem_u (local.get $client_port) (i32.const 3)) (i32.const 2))")),
        ("the last port", when("(i32.eq (local.get $client_port) (i32.const 65535))")),
        ("IPv6", when("(local.get $family)")),
        ("a fourth try", when("(i32.eq (local.get $attempt) (i32.const 3))")),
        ("right after the start", at("(i64.lt_u (call $now_nanos) (i64.const 100000000))")),
        ("when milliseconds take more than 32 bits", at("(i64.gt_u (call $now_nanos) (i64.const 4294967296000000))")),
    ] {
        let (_folder, path) = module(text);
        let (code, report) = report(&path, &[]);
        let is_found = report["reasons"].as_array().unwrap().iter().any(|reason| {
            reason["text"].as_str().unwrap().contains("pick failed: wasm trap: wasm `unreachable`")
                && reason["seen_in"].as_array().unwrap().contains(&json!("clients"))
        });
        assert_eq!((code, is_found), (Some(1), true), "{kind}: {report}");
    }
}

#[test]
fn the_first_twenty_lines_that_a_module_says_are_shown() {
    // The last letter of the text is the next one each time, and after the last the first again.
    let say = "(call $log (i32.const 1) (i32.const 512) (i32.const 6))
        (i32.store8 (i32.const 517)
          (i32.add (i32.const 97) (i32.rem_u (i32.sub (i32.load8_u (i32.const 517)) (i32.const 96)) (i32.const 26))))";
    let text = importing("log", "(param i32 i32 i32)", &picking(say)).replacen(
        "(data ",
        "(data (i32.const 512) \"line a\")\n  (data ",
        1,
    );
    let (_folder, path) = module(&text);
    let expected: Vec<String> = ('a'..='t').map(|letter| format!("warn: line {letter}")).collect();
    let (code, report) = self::report(&path, &[]);
    assert_eq!((code, &report["says"]), (Some(0), &json!(expected)));
    let (_, stdout, _) = policy(&["check", path.to_str().unwrap()]);
    assert!(stdout.contains("\nsays          warn: line a\n              warn: line b\n"), "{stdout}");
    assert!(stdout.contains("warn: line t\n") && !stdout.contains("warn: line u"), "{stdout}");

    // Why a module that never works does so is told, too.
    let panicking = "(call $log (i32.const 0) (i32.const 512) (i32.const 6)) (unreachable)";
    let text = importing("log", "(param i32 i32 i32)", &picking(panicking)).replacen(
        "(data ",
        "(data (i32.const 512) \"panic!\")\n  (data ",
        1,
    );
    let (_folder, path) = module(text);
    let (code, report) = self::report(&path, &[]);
    assert_eq!((code, &report["says"]), (Some(1), &json!(["error: panic!"])));
    assert!(report["reasons"][0]["text"].as_str().unwrap().ends_with("; it said: panic!"), "{report}");
}

#[test]
fn what_limits_are_given_holds() {
    let (_folder, path) = module(generated());
    for (limits, reason) in [
        (&["--max-bytes", "1KiB"][..], " bytes; expected at most 1024 (policy_max_bytes"),
        (&["--memory", "64KiB"], "memory"),
    ] {
        let (code, report) = report(&path, limits);
        assert_eq!(code, Some(1));
        assert!(report["reasons"][0]["text"].as_str().unwrap().contains(reason), "{report}");
        assert!(report["spread"].is_null(), "{report}");
    }
    // A good one, but too slow for the shortest deadline, whenever the clock ticks.
    let (_folder, path) = module(picking(&SLOW.replace("3000000", "300000000")));
    assert_eq!(report(&path, &["--deadline", "5ms"]).0, Some(1));
}

/// Takes some milliseconds.
const SLOW: &str = "(local.set $left (i32.const 3000000))
    (loop $more (local.set $left (i32.sub (local.get $left) (i32.const 1))) (br_if $more (local.get $left)))";

#[test]
fn a_slow_module_is_asked_less_often_and_that_is_said() {
    let (_folder, path) = module(picking(SLOW));
    let (code, report) = report(&path, &["--deadline", "1s"]);
    assert_eq!((code, &report["reasons"]), (Some(0), &json!([])));
    assert!(report["spread"]["clients"].as_u64() < Some(100_000));
    assert!(report["notes"][0].as_str().unwrap().contains("clients were spread instead of 100,000"), "{report}");
}

#[test]
fn a_module_that_answers_none_now_and_then_is_fit_with_a_note() {
    let rarely = "(if (i64.eqz (i64.and (local.get $ip_high) (i64.const 15))) (then (return (i32.const 32))))";
    let (_folder, path) = module(picking(rarely));
    let (code, report) = report(&path, &[]);
    assert_eq!((code, &report["fit"]), (Some(0), &json!(true)));
    assert!(report["notes"][0].as_str().unwrap().contains("pick answered none"), "{report}");
}

#[test]
fn instances_that_start_differently_are_noted() {
    // Whose turn is first is left to chance.
    let import =
        "(import \"goproxy:balance/host@1.0.0\" \"random-u64\" (func $random (result i64)))\n  (memory (export";
    let text = spoilt("(memory (export", import)
        .replace("(i32.store8 (i32.const 16) (i32.const 0))", "(i32.store8 (i32.const 16) (i32.const 0)) (global.set $next (i32.and (i32.wrap_i64 (call $random)) (i32.const 0x7fffffff)))")
        .replace("(then (global.set $next (i32.const 0))))\n    ;; Everything", "(then (global.set $next (if (result i32) (global.get $count) (then (i32.rem_u (global.get $next) (global.get $count))) (else (global.get $next))))))\n    ;; Everything");
    let (_folder, path) = module(text);
    // Two of them agree by chance now and then.
    crate::support::eventually("they differ", || {
        let (code, report) = report(&path, &[]);
        assert_eq!((code, &report["reasons"]), (Some(0), &json!([])));
        report["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains("answer differently"))
    });
}

#[test]
fn a_wrong_command_line_is_told_with_exit_code_2_and_the_place() {
    let (_folder, path) = module(generated());
    let path = text(&path);
    for (args, told) in [
        (&["check"][..], "<FILE>"),
        (&["check", path, "--config", "{\"a\": }"], "1:7: not valid JSON"),
        (&["check", path, "--config", "[1]"], "1:1: expected an object, {…}, found a list"),
        (&["check", path, "--deadline", "5"], "\"5\" has no unit"),
        (&["check", path, "--deadline", "1h"], "out of range"),
        (&["check", path, "--memory", "16"], "\"16\" has no unit; expected a whole number with a unit"),
        (&["check", path, "--max-bytes", "x"], "expected a whole number with a unit"),
        (&["new"], "<NAME>"),
        (&["new", "x", "--lang", "cobol"], "rust, wat"),
        (&["no-such-command"], "no-such-command"),
    ] {
        let (code, stdout, stderr) = policy(args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(told), "{args:?}: {stderr}");
    }
}

#[test]
fn a_new_project_is_whole_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let new = |name: &str, lang: &str| policy(&["new", name, "--lang", lang, "--dir", text(folder.path())]);
    let (code, stdout, _) = new("my-policy", "rust");
    assert_eq!(code, Some(0));
    assert!(stdout.contains("policy check target/wasm32-unknown-unknown/release/my_policy.wasm"), "{stdout}");
    let project = folder.path().join("my-policy");
    let read = |name: &str| fs::read_to_string(project.join(name)).unwrap();
    assert_eq!(read("wit/balance.wit"), include_str!("../../wit/balance.wit"));
    assert!(read("README.md").contains("\"policy\": \"wasm:my-policy\""));
    assert!(read("src/lib.rs").contains("wit_bindgen::generate!"));
    for name in ["Cargo.toml", "src/lib.rs", "README.md"] {
        assert!(!read(name).contains("{{"), "{name} is filled in");
    }
    // Cargo reads the manifest, and asks nobody for anything.
    let cargo = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(project.join("Cargo.toml"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&cargo.stdout).expect("cargo understands Cargo.toml");
    let package = &metadata["packages"][0];
    assert_eq!((&package["name"], &package["targets"][0]["crate_types"]), (&json!("my-policy"), &json!(["cdylib"])));

    fs::write(project.join("src/lib.rs"), "mine").unwrap();
    fs::write(folder.path().join("mine.wat"), "mine").unwrap();
    for (lang, file) in [("go", "policy.go"), ("javascript", "policy.js")] {
        assert_eq!(new(&format!("in-{lang}"), lang).0, Some(0));
        let text = fs::read_to_string(folder.path().join(format!("in-{lang}")).join(file)).unwrap();
        assert!(text.contains(&format!("in-{lang}")) && !text.contains("{{"), "{text}");
        assert!(new(&format!("in-{lang}"), lang).2.contains("is there already"));
    }
    for (name, lang) in [("my-policy", "rust"), ("mine", "wat")] {
        let (code, _, stderr) = new(name, lang);
        assert_eq!(code, Some(1));
        assert!(stderr.contains("is there already"), "{stderr}");
    }
    assert_eq!(read("src/lib.rs"), "mine");
    assert_eq!(fs::read_to_string(folder.path().join("mine.wat")).unwrap(), "mine");
    for (name, lang) in [("../x", "wat"), ("a b", "rust"), ("", "wat"), ("a.b", "wat"), ("1st", "rust"), ("fn", "rust")]
    {
        let (code, _, stderr) = new(name, lang);
        assert_eq!(code, Some(1), "{name}");
        assert!(stderr.contains("is not a name for a"), "{stderr}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "a refusal leaves nothing behind");
}

/// A folder with a `proxy.json` of three groups and the modules `x`, which is fit, and `y`, which is not.
fn configured() -> (tempfile::TempDir, [u16; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let ip = own_ip();
    let ports = [(); 3].map(|()| free_port(ip).port());
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("policies/x.wat"), generated()).unwrap();
    fs::write(folder.path().join("policies/y.wasm"), "hello").unwrap();
    let file = format!(
        "{{ \"policies_dir\": \"policies\", \"groups\": [\n  {{ \"listen\": \"{ip}:{}\", \"policy\": \"wasm:x\" }},\n  {{ \"listen\": \"{ip}:{}\", \"policy\": {{ \"wasm\": \"y\" }} }},\n  {{ \"listen\": \"{ip}:{}\", \"policy\": \"ha\" }}] }}",
        ports[0], ports[1], ports[2]
    );
    fs::write(folder.path().join("proxy.json"), file).unwrap();
    (folder, ports)
}

#[test]
fn every_policy_is_listed_with_what_became_of_it() {
    let (folder, ports) = configured();
    let (code, stdout, _) = policy(&["list", "-c", text(folder.path())]);
    assert_eq!(code, Some(0));
    let lines: Vec<Vec<&str>> = stdout.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 9, "seven are built in");
    assert_eq!((lines[0][0], lines[0][1], lines[0][4]), ("ha", "loaded", ports[2].to_string().as_str()));
    assert_eq!((lines[7][0], lines[7][1], lines[7][2], lines[7][3].len()), ("wasm:x", "loaded", "0.1.0", 12));
    assert_eq!((lines[8][0], lines[8][1], lines[8][2]), ("wasm:y", "refused", "-"));
    assert!(lines[8][5].contains("is not WebAssembly"), "{stdout}");

    let (code, stdout, _) = policy(&["list", "--config", text(folder.path()), "--json"]);
    assert_eq!((code, stdout.lines().count()), (Some(0), 1));
    let list: Value = serde_json::from_str(&stdout).unwrap();
    let (x, y) = (&list["policies"][7], &list["policies"][8]);
    assert_eq!(
        (&x["kind"], &x["file"], &x["groups"], &x["error"]),
        (&json!("wasm"), &json!("x.wat"), &json!([ports[0]]), &Value::Null)
    );
    assert_eq!(x["sha256"].as_str().unwrap().len(), 64);
    assert_eq!((&y["state"], &y["groups"]), (&json!("refused"), &json!([ports[1]])));
    assert!(list["policies"][0]["promise"].is_string());
}

#[test]
fn check_tells_a_module_that_cannot_be_used_where_a_group_names_it() {
    let (folder, _) = configured();
    for args in [&["check", "-c"][..], &["-t", "-c"]] {
        let output = run(&[args, &[text(folder.path())]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{stderr}");
        assert_eq!(stderr.lines().count(), 2, "{stderr}");
        assert!(stderr.contains("proxy.json:3:") && stderr.contains(": groups[1].policy: "), "{stderr}");
        assert!(stderr.contains("y.wasm: is not WebAssembly") && stderr.contains("has 1 mistake"), "{stderr}");
    }
    fs::write(folder.path().join("policies/y.wat"), generated()).unwrap();
    fs::remove_file(folder.path().join("policies/y.wasm")).unwrap();
    assert_eq!(run(&["check", "-c", text(folder.path())]).status.code(), Some(0));
}
