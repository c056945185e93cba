//! `goproxy policy simulate`: what it prints, what it refuses, and that it repeats.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::policy_kit::guests::{self, Parts};
use crate::support::run;

fn simulate(args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(&[&["policy", "simulate"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json(args: &[&str]) -> Value {
    let (code, stdout, stderr) = simulate(&[args, &["--json"]].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    serde_json::from_str(&stdout).expect("JSON")
}

fn sample(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

/// A minute instead of ten: what is tested here is no statistics.
const SHORT: [&str; 2] = ["--until", "1m"];

#[test]
fn policies_and_modules_are_shown_side_by_side() {
    let module = sample("policies/two_choices.wat");
    let args = ["round_robin", "p2c", &module, "--servers", "10", "--held", "1000", "--duration", "exp:3s"];
    let (code, stdout, stderr) = simulate(&[&args[..], &SHORT, &["--at", "30s=kill:s3"]].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(
        lines[0].starts_with(
            "10 servers, 1,000 sessions held on average (exponential 3 s), 10,000 clients, 1 min, seed 1: "
        ),
        "{stdout}"
    );
    let heads: Vec<&str> = lines[2].split("  ").map(str::trim).filter(|head| !head.is_empty()).collect();
    assert_eq!(
        heads,
        [
            "busiest/mean",
            "Jain",
            "CoV",
            "smallest share",
            "moved at 30 s (kill:s3)",
            "refused",
            "failed picks",
            "ns a pick"
        ]
    );
    let starts: Vec<&str> = lines[3..6].iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(starts, ["round_robin", "p2c", "wasm:two_choices"]);
    assert!(!stdout.contains(['█', '\x1b']), "{stdout}");
    let answer = json(&[&args[..], &SHORT, &["--at", "30s=kill:s3"]].concat());
    let policies = answer["policies"].as_array().unwrap();
    // The same clients came to each of them.
    assert!(policies.iter().all(|policy| policy["sessions"] == policies[0]["sessions"]), "{answer}");
    for policy in policies {
        assert_eq!((policy["failed_picks"].as_u64(), policy["faults"].as_u64()), (Some(1), Some(0)), "{policy}");
        assert_eq!(policy["at_end"].as_array().unwrap()[2], 0, "s3 is gone");
        let share: f64 = policy["share"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).sum();
        assert!((share - 1.0).abs() < 1e-9);
    }
    assert!(policies[2]["sha256"].as_str().unwrap().len() == 64 && policies[0]["sha256"].is_null());
}

#[test]
fn a_built_in_policy_and_the_same_as_a_module_pick_the_same_servers_and_a_run_repeats() {
    let module = sample("policies/round_robin.wat");
    let args = ["round_robin", &module, "--servers", "7", "--rate", "50"];
    let all = [&args[..], &SHORT].concat();
    let (mut first, mut second) = (json(&all), json(&all));
    for answer in [&mut first, &mut second] {
        answer["policies"].as_array_mut().unwrap().iter_mut().for_each(|policy| policy["cost"] = Value::Null);
    }
    assert!(first == second, "the same bytes but for the cost");
    let policies = &first["policies"];
    assert!(policies[0]["series"] == policies[1]["series"], "the same picks");
    assert_eq!(policies[0]["share"], policies[1]["share"]);
    let other = json(&[&all[..], &["--seed", "2"]].concat());
    assert!(other["policies"][0]["series"] != policies[0]["series"], "other sessions");
}

#[test]
fn conditions_decide_the_exit_code_and_seeds_say_how_sure_a_figure_is() {
    let args = [&["random", "least_sessions", "--held", "100"][..], &SHORT].concat();
    let (code, _, stderr) =
        simulate(&[&args[..], &["--fail-if", "busiest > 1.2", "--fail-if", "refused>0.1%"]].concat());
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(
        stderr.starts_with("random: busiest is 1.") && stderr.ends_with("; not allowed: busiest > 1.2\n"),
        "{stderr}"
    );
    let (code, _, stderr) = simulate(&[&args[..], &["--fail-if", "jain<0.5"]].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (_, stdout, _) = simulate(&[&args[..], &["--repeat", "3"]].concat());
    assert!(stdout.contains("3 seeds from 1") && stdout.contains(" ± "), "{stdout}");
    let answer = json(&[&args[..], &["--repeat", "3"]].concat());
    let estimate = &answer["policies"][0]["estimates"]["busiest"];
    assert!(estimate["mean"].as_f64() > Some(1.1) && estimate["half_width"].as_f64() > Some(0.0), "{answer}");
}

#[test]
fn a_scenario_says_it_all_and_its_mistakes_have_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("night.json");
    let text = r#"{
        // a pool of threads on each of two servers
        "until": "2m", "servers": [ { "serve": "queue", "places": 4 }, { "serve": "queue", "places": 4, "speed": 0.5 } ],
        "arrivals": { "rate": 9 }, "durations": { "mean": "500ms" },
        "events": [ { "at": "1m", "slow": { "s1": 0.25 } } ],
    }"#;
    fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    let (code, stdout, stderr) = simulate(&["least_sessions", "round_robin", "--scenario", file]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("9.0 sessions/s") && stdout.contains("wait p99"), "{stdout}");
    assert!(stdout.contains("note: round_robin overloaded s"), "{stdout}");
    // What a flag says counts more.
    assert_eq!(json(&["random", "--scenario", file, "--rate", "1", "--until", "90s"])["until_s"], 90.0);
    fs::write(&path, text.replace("places", "palces").replace("\"s1\"", "\"s3\"")).unwrap();
    let (code, stdout, stderr) = simulate(&["random", "--scenario", file]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    let told: Vec<&str> = stderr.lines().collect();
    assert!(told[0].starts_with(&format!("{file}:3:57: servers[0].palces: unknown key \"palces\"")), "{stderr}");
    assert!(
        told.iter().any(|line| line.contains(":5:21: events[0]: no server is called \"s3\"; expected s1 to s2")),
        "{stderr}"
    );
    let (code, schema, _) = {
        let output = run(&["schema", "--scenario"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), ())
    };
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!((code, &schema["properties"]["seed"]["default"]), (Some(0), &Value::from(1)));
}

#[test]
fn what_cannot_be_simulated_is_refused_with_the_reason() {
    for (args, reason) in [
        (&["round_robbin"][..], "unknown policy \"round_robbin\"; expected ha, "),
        (&[], "no policy; expected ha, "),
        (&["p2c", "--at", "5m=kill:s11"], "no server is called \"s11\"; expected s1 to s10"),
        (&["p2c", "--at", "11m=kill:s1"], "comes after the end"),
        (
            &["p2c", "--at", "5m=kil:s1"],
            "unknown event \"kil\"; expected kill, revive, drain, ready, add, weight, slow (did you mean kill?)",
        ),
        (&["p2c", "--at", "5m=weight:s1=0"], "out of range"),
        (
            &["p2c", "--duration", "gauss:5s"],
            "expected exp:TIME, fixed:TIME, lognormal:TIME:SIGMA or pareto:TIME:SHAPE",
        ),
        (&["p2c", "--warm-up", "10m"], "the warm-up is not shorter than the simulation"),
        (&["p2c", "--fail-if", "busyest>1"], "unknown metric \"busyest\""),
        (&["p2c", "--held", "1", "--rate", "1"], "cannot be used with"),
    ] {
        let (code, stdout, stderr) = simulate(args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(reason), "{args:?}: {stderr}");
    }
    let (code, _, stderr) = simulate(&["/nowhere/x.wasm"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("/nowhere/x.wasm: there is no such file"), "{stderr}");
}

#[test]
fn what_has_no_end_is_not_read_to_its_end() {
    for (args, said) in [
        (
            ["policy", "simulate", "ha", "--trace", "/dev/zero"],
            "line 1 is too long; expected a log with lines of at most",
        ),
        (["policy", "simulate", "ha", "--scenario", "/dev/zero"], "too large; expected at most 16.0 MiB"),
    ] {
        let output = run(&args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(said), "{stderr}");
    }
    let output = run(&["import", "haproxy", "/dev/zero"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot read /dev/zero: too large; expected at most 16.0 MiB"), "{stderr}");
}

#[test]
fn servers_weights_and_policy_can_be_those_of_a_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.json");
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::copy(sample("policies/two_choices.wat"), folder.path().join("policies/mine.wat")).unwrap();
    let text = r#"{ "policies_dir": "policies", "groups": [ { "listen": "127.0.0.1:8081", "policy": "wasm:mine",
        "servers": [ { "addr": "10.0.0.1:1", "weight": 3 }, "10.0.0.2:1", { "addr": "10.0.0.3:1", "backup": true } ] } ] }"#;
    fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    let answer = json(&["-c", file, "--group", "8081", "--until", "1m", "--held", "100"]);
    let policy = &answer["policies"][0];
    assert_eq!((&policy["policy"], &policy["share"][2]), (&Value::from("wasm:mine"), &Value::from(0.0)), "{policy}");
    assert!((policy["share"][0].as_f64().unwrap() - 0.75).abs() < 0.05, "{policy}");
    let (code, _, stderr) = simulate(&["p2c", "-c", file, "--group", "8082"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("has no group 8082 with servers"), "{stderr}");
}

/// docs/policies/lab.md tells of it.
#[test]
fn a_policy_that_goes_by_old_times_is_seen_to_starve_a_server() {
    let module = sample("docs/policies/least_time.wat");
    let args = ["--servers", "5", "--rate", "20", "--duration", "5ms"];
    let answer = json(&[&[&*module, "p2c"][..], &args].concat());
    let smallest = |policy: &Value| {
        let shares = policy["share"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap());
        shares.fold(1.0, f64::min)
    };
    assert!(smallest(&answer["policies"][0]) < 0.02, "{answer}");
    assert!(smallest(&answer["policies"][1]) > 0.15, "{answer}");
    let (code, _, stderr) = simulate(&[&[&*module][..], &args, &["--fail-if", "smallest_share<15%"]].concat());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("wasm:least_time: smallest_share is "), "{stderr}");
}

/// A night's log of HAProxy, in which each client comes every ten seconds for a second or five.
#[test]
fn the_sessions_of_a_log_are_taken_as_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("haproxy.log");
    let line = |number: u32| {
        let (begin, client) = (number / 10, number % 10);
        let (minute, second, millis) = (begin / 60, begin % 60, 1_000 + 4_000 * (client % 2));
        format!(
            "Nov 30 01:{minute:02}:{second:02} lb haproxy[7]: 10.0.0.{client}:4711 [30/Nov/2026:01:{minute:02}:{second:02}.000] \
             in back/s1 0/1/{millis} 212 -- 1/1/1/1/0 0/0\n"
        )
    };
    let log: String = (0..6_000).map(line).collect();
    fs::write(&path, format!("{log}something else\n")).unwrap();
    let file = path.to_str().unwrap();
    let args = ["least_sessions", "ip_hash", "--servers", "5", "--trace", file];
    let (code, stdout, stderr) = simulate(&args);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(
        stdout.starts_with("5 servers, 30.1 sessions held on average (as logged, 3 s), 10 clients, 599"),
        "{stdout}"
    );
    assert!(stdout.contains("note: not understood: 1 line of the log; the first is: something else"), "{stdout}");
    let answer = json(&args);
    let policies = answer["policies"].as_array().unwrap();
    assert_eq!(policies[0]["sessions"], policies[1]["sessions"]);
    // Ten clients on five servers: whoever hashes them never breaks a client's bond and cannot be even.
    assert_eq!(policies[1]["sticky_breaks"], 0);
    assert!(policies[1]["cov"].as_f64() > policies[0]["cov"].as_f64(), "{answer}");
    let fast = json(&[&args[..], &["--speed", "2"]].concat());
    assert!((answer["until_s"].as_f64().unwrap() / fast["until_s"].as_f64().unwrap() - 2.0).abs() < 0.01, "{fast}");
    let (code, _, stderr) = simulate(&["p2c", "--trace", file, "--format", "nginx"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("haproxy.log: no line tells of a session that is over; expected "), "{stderr}");
    assert_eq!(simulate(&["p2c", "--trace", file, "--rate", "5"]).0, Some(2));
}

#[test]
fn a_page_shows_each_policy_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let args = ["p2c", "random", "--at", "30s=kill:s3", "--html", path.to_str().unwrap()];
    let (code, stdout, stderr) = simulate(&[&args[..], &SHORT].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let page = fs::read_to_string(&path).unwrap();
    assert!(stdout.contains("busiest/mean") && page.contains("<th>busiest/mean</th>"), "{page}");
    // A picture over time and one of the shares for each; a line for each server.
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (4, 4));
    assert_eq!((page.matches("<polyline").count(), page.matches("<rect").count()), (20, 20));
    assert_eq!(page.matches(">kill:s3</text>").count(), 2);
    for foreign in ["<script", "http://", "https://", "url(", "@import", " src="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let nowhere = ["p2c", "--html", "/nowhere/report.html", "--until", "1s"];
    let (code, _, stderr) = simulate(&nowhere);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot write /nowhere/report.html"), "{stderr}");
}

/// What a module draws when it is configured decides all its answers.
#[test]
fn a_module_that_draws_before_its_first_pick_repeats_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draws.wat");
    let module = guests::policy(Parts {
        imports: r#"(import "goproxy:balance/host@1.0.0" "random-u64" (func $random (result i64)))"#,
        fields: "(global $drawn (mut i64) (i64.const 0))",
        configure: "(global.set $drawn (call $random)) (i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16)",
        pick: "(i32.store8 (i32.const 32) (global.get $some))
            (i32.store (i32.const 36)
              (i32.add (global.get $first) (i32.wrap_i64 (i64.and (global.get $drawn) (i64.const 1)))))
            (i32.const 32)",
        ..Parts::default()
    });
    fs::write(&path, module).unwrap();
    let share_of_first = |seed: u32| {
        let answer = json(&[path.to_str().unwrap(), "--servers", "2", "--until", "1s", "--seed", &seed.to_string()]);
        answer["policies"][0]["share"][0].as_f64().unwrap()
    };
    let shares = [(); 2].map(|()| (1..=8).map(share_of_first).collect::<Vec<_>>());
    assert_eq!(shares[0], shares[1]);
    assert!(shares[0].contains(&0.0) && shares[0].contains(&1.0), "the seed decides: {shares:?}");
}
