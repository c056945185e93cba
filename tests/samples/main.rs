//! The samples of `policies/` keep what `docs/policies/choose.md` promises of them.
//!
//! They are loaded as the proxy loads them. `GOPROXY_POLICIES` names another folder to take them from, so that what
//! was just built from their sources can be held to the same promises as what lies in the repository.

mod kit;

mod fill_first;
mod hashing;
mod least_latency;
mod sticky;
mod turns;
mod two_choices;
mod zone_first;

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use goproxy::base::text::hex;
use goproxy::policy::Outcome;
use goproxy::policy::wasm::trial::Trial;
use kit::{FILE_BYTES_MAX, add_sessions, client, folder, promise, promise_of, server, server_with, servers};

/// Every sample, and what it is configured with here.
const SAMPLES: [(&str, &str); 7] = [
    ("client_hash.wat", "{}"),
    ("fill_first.wasm", "{}"),
    ("least_latency.wasm", "{}"),
    ("round_robin.wat", "{}"),
    ("sticky.wasm", "{}"),
    ("two_choices.wat", "{}"),
    ("zone_first.wasm", r#"{"zone": "a"}"#),
];

/// The policy that was built with the interface at 1.0.0. Whoever changes it breaks what it stands for; see
/// `tests/fixtures/README.md`.
const FIXTURE_SHA256: &str = "7fec132ea9bcce75b3b2f1c04398d98c0c8ef000cefa47ef343e46c2160cc4e4";

#[test]
fn no_sample_is_without_tests() {
    let files = std::fs::read_dir(folder()).expect("the folder of the samples can be read");
    let mut files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.retain(|file| file.ends_with(".wasm") || file.ends_with(".wat"));
    files.sort();
    assert_eq!(files, SAMPLES.map(|(file, _)| file));
}

#[test]
fn a_sample_is_called_as_its_file() {
    for (file, config) in SAMPLES {
        promise(file, config, |group| {
            assert_eq!(group.description(), (file.split('.').next().unwrap(), "1.0.0"));
        });
    }
}

#[test]
fn a_pick_comes_to_an_end_with_any_number_of_servers() {
    for (file, config) in SAMPLES {
        promise(file, config, |group| {
            for size in [0, 1, 10, 10_000, 10, 1, 0] {
                group.show(servers(0..size));
                for number in 0..20 {
                    group.pick(client(number));
                }
            }
        });
    }
}

#[test]
fn only_the_one_server_that_is_left_of_ten_thousand_is_named() {
    for (file, config) in SAMPLES {
        promise(file, config, |group| {
            let all: Vec<_> =
                (0..10_000).map(|number| server_with(number, |settings| settings.max_sessions = 1)).collect();
            all.iter().filter(|server| server.id != all[7_777].id).for_each(|server| add_sessions(server, 1));
            group.show(all.clone());
            assert_eq!(group.pick(client(1)), Some(7_777));
            add_sessions(&all[7_777], 1);
            assert_eq!(group.pick(client(1)), None);
            all[3].live.release();
            assert_eq!(group.pick(client(1)), Some(3));
        });
    }
}

#[test]
fn a_client_meets_every_server_once_and_then_none() {
    for (file, config) in SAMPLES {
        promise(file, config, |group| {
            for size in [1, 10, 300] {
                group.show(servers(0..size));
                let mut tried = Vec::new();
                while let Some(number) = group.pick_again(client(1), &tried) {
                    tried.push(number);
                    group.report(number, Outcome::Failed);
                }
                tried.sort();
                assert_eq!(tried, Vec::from_iter(0..size));
            }
        });
    }
}

#[test]
fn a_server_that_is_full_or_suspect_is_passed_over_until_it_is_neither() {
    for (file, config) in SAMPLES {
        promise(file, config, |group| {
            let full = server_with(0, |settings| settings.max_sessions = 1);
            let suspect = server(1);
            group.show([&full, &suspect, &server(2), &server(3)].map(std::sync::Arc::clone));
            group.picks(10);
            add_sessions(&full, 1);
            group.fail(&suspect);
            assert!(group.picks(50).iter().all(|number| [2, 3].contains(number)), "{file}");
            full.live.release();
            group.wait(Duration::from_secs(2));
            // Whoever these two would suit best must find them again.
            let others = [2, 3];
            assert!(group.pick_again(client(1), &others).is_some_and(|number| number < 2), "{file}");
        });
    }
}

#[test]
fn what_became_of_a_pick_is_taken_in_by_every_sample() {
    for (file, config) in SAMPLES {
        promise(file, config, |group| {
            group.show(servers(0..10));
            for number in group.picks(100) {
                group.report(number, Outcome::Connected { micros: 500 });
                group.report(number, Outcome::Closed { millis: u64::MAX, bytes: u64::MAX });
                // Of a server that nobody knows, too: it may have left the group meanwhile.
                group.report(77, Outcome::Failed);
            }
            group.picks(100);
        });
    }
}

/// The command is what authors judge their own policies by.
#[test]
fn policy_check_calls_every_sample_fit() {
    for (file, config) in SAMPLES {
        let mut command = Command::cargo_bin("goproxy").unwrap();
        let output = command.args(["policy", "check", "--config", config]).arg(folder().join(file)).output().unwrap();
        let (text, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && text.ends_with(&format!("{file}: fit\n")), "{text}{complaints}");
        assert_eq!(complaints, "");
    }
}

#[test]
fn a_policy_that_was_built_for_1_0_0_still_works() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/policy_1_0_0.wasm");
    let trial = Trial::load(&path, FILE_BYTES_MAX).unwrap_or_else(|error| panic!("{error}"));
    let source = trial.file();
    assert_eq!(hex(&source.sha256), FIXTURE_SHA256, "this file is never built again");
    assert!(source.has_feedback);
    promise_of(&trial, "{}", |group| {
        assert_eq!(group.description(), ("least_latency", "1.0.0"));
        least_latency::prefers_who_connects_fastest(group);
    });
}
