//! Broken files and exactly what is said about them.

use super::*;

/// The mistakes of a file, one a line.
fn problems(text: &str) -> String {
    match read(text) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"),
    }
}

/// Files that are wrong; what is said about each is in the snapshot, which `INSTA_UPDATE=always` writes anew.
#[rustfmt::skip]
const FILES: &[&str] = &[
    "",
    "  // nothing\n",
    "[]",
    "null",
    "{",
    "{\"threads\": 1",
    "{\"threads\" 1}",
    "{\n\t\"threads\": 1\n\t\"log\": {}\n}",
    "{threads: 1}",
    "{'threads': 1}",
    "{\"threads\": 0x10}",
    "{\"threads\": +1}",
    "{\"threads\": .5}",
    "{\"threads\": NaN}",
    "{} {}",
    "{\"a\": \"x\ny\"}",
    "{\"a\": \"x",
    "{\"a\": \"\\x41\"}",
    "{ /* ",
    "{\"groups\": [1 2]}",
    "{\"ä\": ]}",
    "{\"threads\": 01}",
    "{,}",
    "{\"admin\": []}",
    "{\"groups\": {}}",
    "{\"groups\": [1]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": \"a:1\"}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [1, null, [], {}]}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [{\"addr\": \"10.0.0.1:1\", \"expand\": true}, \"db:1\", \"db:1@10.0.0.7\", \"db:1@x\", {\"addr\": \"a:1\", \"expand\": true, \"origin\": \"heartbeat\"}]}]}",
    "{\"admni\": {}, \"zzz\": 1}",
    "{\"threads\": 1, \"threads\": 2}",
    "{\"groups\": [{\"lisen\": \"0.0.0.0:1\"}]}",
    "{\"threads\": \"1\"}",
    "{\"threads\": 1.5}",
    "{\"threads\": -1}",
    "{\"threads\": 99999999999999999999}",
    "{\"threads\": 1025}",
    "{\"$schema\": 1, \"policies_dir\": \"\"}",
    "{\"drain_timeout\": 30}",
    "{\"drain_timeout\": \"30\"}",
    "{\"drain_timeout\": \"soon\"}",
    "{\"drain_timeout\": \"3mo\"}",
    "{\"drain_timeout\": \"400d\"}",
    "{\"drain_timeout\": true}",
    "{\"drain_timeout\": \"\"}",
    "{\"log\": {\"status_interval\": \"1ms\"}}",
    "{\"defaults\": {\"connect_timeout\": \"0s\"}}",
    "{\"policy_max_bytes\": 8}",
    "{\"policy_max_bytes\": \"8MB\"}",
    "{\"policy_max_bytes\": \"1B\"}",
    "{\"policy_keys\": [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\", \"RWQf\", \"file:none.pub\", 1]}",
    "{\"log\": {\"level\": \"wran\", \"format\": \"Json\"}}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": \"round_robbin\"}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": [\"ha\"]}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": null}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": \"wasm:../x\"}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": \"wasm:\"}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {}}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": \"../x\", \"fallbck\": \"ha\"}}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": \"m\", \"config\": 1, \"fallback\": \"ah\", \"deadline\": 5, \"memory\": \"1KiB\", \"sha256\": \"ab\"}}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": \"m\", \"config\": {\"a\": [{\"b\": 1, \"b\": 2}]}, \"fallback\": \"wasm:n\", \"deadline\": \"2s\", \"memory\": \"2GiB\", \"sha256\": 5}}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": \"m\", \"wasm\": \"n\", \"config\": null, \"deadline\": \"0s\", \"sha256\": \"gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg\"}}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": null, \"memory\": 16}}]}",
    "{\"defaults\": {\"policy\": {\"wasn\": \"m\"}}}",
    "{\"httpport\": 1, \"tcpport\": 2, \"lbpolicy\": {\"wasm\": \"m\"}}",
    "{\"admin\": {\"listen\": \"localhost:8080\"}}",
    "{\"admin\": {\"listen\": \"127.0.0.1:0\"}}",
    "{\"admin\": {\"listen\": \"unix:admin.sock\"}}",
    "{\"admin\": {\"listen\": 8080}}",
    "{\"admin\": {\"listen\": \"0.0.0.0:8080\", \"pprof_listen\": \"10.0.0.1:8082\"}}",
    "{\"admin\": {\"pprof_listen\": \"127.0.0.1:8080\"}}",
    "{\"admin\": {\"register_allow\": [\"10.0.0.0/8\", \"10.0.0.0/33\", 5, \"::1\"]}}",
    "{\"groups\": [{\"listen\": \"8081\"}, {\"listen\": \":8081\"}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:8081\"}, {\"listen\": \"10.0.0.1:8081\"}, {\"listen\": \"0.0.0.0:8080\"}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:8081\", \"servers\": [\"localhost:8081\", \"127.0.0.1:8080\", \"0.0.0.0:1\", \"a:1\", \"A:1\", \"a\", \"a:0\", {\"addr\": \"a:1\"}]}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [{\"addr\": \"a:1\", \"weight\": 0, \"state\": \"raedy\", \"backup\": 1, \"max_sessions\": 4294967296, \"origin\": \"me\", \"weigth\": 1}]}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [{\"addr\": \"a:1\", \"labels\": {\"a\": 1, \"\": \"x\", \"b\": \"y\", \"b\": \"z\"}}, {\"addr\": \"b:1\", \"labels\": []}]}]}",
    "{\"defaults\": {\"listen\": \"0.0.0.0:1\", \"connect_attempts\": 0, \"max_sessions\": -1}}",
    "{\"defaults\": {\"connect_attempts\": 101}}",
    "{\"admin\": {\"token\": \"env:NONE\", \"register_token\": \"file:none\"}}",
    "{\"admin\": {\"token\": \"\"}}",
    "{\"admin\": {\"token\": 12345}}",
    "{\"admin\": {\"token\": \"two words\"}}",
    "{\"admin\": {\"register_token\": \"x\"}}",
    "{\"admin\": {\"token\": \"x\", \"register_token\": \"x\"}}",
    "{\"access_log\": {\"format\": \"clf\", \"path\": \"\", \"connect_line\": 1}}",
    "{\"access_log\": {\"format\": \"haproxy\", \"connect_line\": true}, \"groups\": [{\"listen\": \"0.0.0.0:1\", \"access_log\": \"on\"}]}",
    "{\"access_log\": \"off\", \"defaults\": {\"access_log\": {\"prefix\": \"syslog\"}}}",
    "{\"admin\": {\"read_token\": \"x\"}}",
    "{\"admin\": {\"token\": \"x\", \"read_token\": \"x\"}}",
    "{\"admin\": {\"token\": \"x\", \"register_token\": \"y\", \"read_token\": \"y\"}}",
    "{\"admin\": {\"metrics_listen\": \"10.0.0.1:8083\"}}",
    "{\"admin\": {\"metrics_listen\": \"127.0.0.1:8080\", \"metrics_public\": 1}}",
    "{\"httpport\": \"8080\", \"groups\": []}",
    "{\"httpport\": \"8080\"}",
    "{\"httpport\": \"http\", \"tcpport\": 0, \"tcport\": 1}",
    "{\"httpport\": 1, \"tcpport\": 2, \"lbpolicy\": 4, \"rwtimeout\": 3, \"handlebuffer\": \"x\"}",
    "{\"httpport\": 1, \"tcpport\": 1, \"pprofport\": 1, \"lbpolicy\": \"rr\"}",
    "{\r\n  \"threads\": \"x\",\r\n  // äöü\r\n  /* ä */ \"ö\": 1\r\n}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"name\": \"Web\"}, {\"listen\": \"0.0.0.0:2\", \"name\": \"\"}, {\"listen\": \"0.0.0.0:3\", \"name\": \"a\"}, {\"listen\": \"0.0.0.0:4\", \"name\": \"a\"}, {\"listen\": \"0.0.0.0:5\", \"name\": \"6\"}, {\"listen\": \"0.0.0.0:6\"}, {\"listen\": \"0.0.0.0:7\", \"name\": \"7\"}]}",
    "{\"groups\": [{\"listen\": [\"127.0.0.1:1\", \"127.0.0.1:2\"]}, {\"listen\": []}, {\"listen\": [\"127.0.0.1:3\", 4]}, {\"name\": \"x\", \"listen\": [\"127.0.0.1:5\", \"127.0.0.1:5\", \"127.0.0.1:6\", \"0.0.0.0:6\"]}]}",
    "{\"groups\": [{\"listen\": \"127.0.0.1:1\", \"name\": \"a\"}, {\"listen\": \"127.0.0.2:1\"}, {\"listen\": \"127.0.0.3:1\", \"name\": \"c\"}, {\"listen\": \"[::]:1\", \"name\": \"d\"}]}",
    "{\"groups\": [{\"listen\": \"127.0.0.1:1\", \"servers\": [{\"addr\": \"a:1\", \"name\": \"x\"}, {\"addr\": \"b:1\", \"name\": \"x\"}, {\"addr\": \"c:1\", \"name\": \"ä\"}]}]}",
    "{\"groups\": [{\"listen\": \"127.0.0.1:1\", \"servers\": [\"127.0.0.1:1\"]}]}",
    "{\"groups\": [{\"listen\": \"127.0.0.1:1\", \"servers\": [\"127.0.0.1:2\"]}, {\"listen\": \"127.0.0.1:2\", \"servers\": [\"10.0.0.1:9\", {\"addr\": \"127.0.0.1:1\"}]}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [\"127.7.7.7:2\"]}, {\"listen\": \"[::]:2\", \"servers\": [\"[::1]:3\"]}, {\"listen\": \"[::1]:3\", \"servers\": [\"127.0.0.9:1\", \"127.0.0.1:4\"]}, {\"listen\": \"127.0.0.1:4\", \"servers\": [\"[::ffff:127.0.0.1]:5\"]}, {\"listen\": \"127.0.0.1:5\"}]}",
    "{\"groups\": [{\"listen\": \"[::]:1\", \"servers\": [\"127.0.0.2:2\"]}, {\"listen\": \"127.0.0.2:2\", \"servers\": [\"127.0.0.3:1\"]}]}",
    "{\"session_rate\": \"100\", \"max_sessions\": -1}",
    "{\"session_rate\": 100}",
    "{\"session_rate\": \"0/s\", \"defaults\": {\"session_rate\": \"9999999/s\"}}",
    "{\"session_rate\": \"fast\", \"defaults\": {\"session_rate\": \"5/d\", \"client\": {\"rate\": \"100\"}}}",
    "{\"session_rate\": {\"per\": \"1ms\", \"burst\": 0}}",
    "{\"session_rate\": [], \"defaults\": {\"client\": {\"session\": 1, \"ipv4\": 33, \"ipv6\": 8, \"sessions\": \"1\"}}}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"client\": 5, \"allow\": \"10.0.0.0/8\", \"deny\": [\"10.0.0.0/8\", \"10.0.0.1\", 5, \"10.0.0.1/33\"]}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"deny\": [\"::/129\", \"example.com\", \"file:none\", \"file:\"]}]}",
];

/// Chains of groups that look like circles and are none.
#[rustfmt::skip]
const CHAINS: &[&str] = &[
    "{\"groups\": [{\"listen\": \"127.0.0.1:1\", \"servers\": [\"127.0.0.1:2\"]}, {\"listen\": \"127.0.0.1:2\", \"servers\": [\"127.0.0.1:3\"]}, {\"listen\": \"127.0.0.1:3\", \"servers\": [\"10.0.0.1:1\"]}]}",
    "{\"groups\": [{\"listen\": \"127.0.0.1:1\", \"servers\": [\"127.0.0.2:2\"]}, {\"listen\": \"127.0.0.1:2\", \"servers\": [\"127.0.0.1:1\"]}]}",
    "{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [\"[::1]:2\"]}, {\"listen\": \"[::1]:2\", \"servers\": [\"[::1]:1\"]}]}",
];

#[test]
fn a_chain_of_groups_is_no_mistake() {
    for file in CHAINS {
        assert_eq!(problems(file), "no problem", "{file}");
    }
}

#[test]
fn every_mistake_is_told_at_its_place() {
    let said: Vec<String> = FILES.iter().map(|file| format!("{file:?}\n{}\n", problems(file))).collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_mistake_is_told_with_its_value_and_what_was_expected() {
    let group = |keys: &str| problems(&format!("{{\"groups\": [{{{keys}}}]}}"));
    assert_eq!(
        group(r#""listen": "127.0.0.1:1", "servers": [3]"#),
        "1:51: groups[0].servers[0]: expected host:port or an object with addr, found 3"
    );
    assert_eq!(
        group(r#""listen": []"#),
        "1:24: groups[0].listen: the list is empty; expected ip:port, or a list of 1 to 64 of them"
    );
    assert_eq!(
        group(r#""listen": ["127.0.0.1:1", "127.0.0.1:1"]"#),
        "1:40: groups[0].listen[1]: \"127.0.0.1:1\" is groups[0].listen[0] already; expected each address once"
    );
    assert_eq!(
        group(r#""listen": ["0.0.0.0:1", "127.0.0.1:1"]"#),
        "1:38: groups[0].listen[1]: \"127.0.0.1:1\" overlaps groups[0].listen[0], \"0.0.0.0:1\"; \
         expected addresses that do not overlap"
    );
    assert_eq!(
        group(r#""listen": "127.0.0.1:1", "accept_proxy": true"#),
        "1:55: groups[0].accept_proxy: expected an object, {…}, found true"
    );
    assert_eq!(
        group(r#""listen": "127.0.0.1:1", "accept_proxy": {}"#),
        "1:55: groups[0].accept_proxy: from is missing; expected a list of 1 or more networks"
    );
    assert_eq!(
        group(r#""listen": "127.0.0.1:1", "accept_proxy": {"from": [], "timeout": "50ms"}"#),
        "1:64: groups[0].accept_proxy.from: the list is empty; expected a list of 1 or more networks\n\
         1:79: groups[0].accept_proxy.timeout: \"50ms\" is out of range; expected 100ms to 1m"
    );
    assert_eq!(
        group(r#""listen": "127.0.0.1:1", "accept_proxy": {"from": ["10.0.0.0/8", "unix"]}"#),
        "1:79: groups[0].accept_proxy.from[1]: expected ip/bits or ip, such as \"10.0.0.0/8\", found \"unix\""
    );
    assert_eq!(
        group(r#""listen": "127.0.0.1:1", "servers": [{"addr": "a:1", "send_proxy": "v3"}]"#),
        "1:81: groups[0].servers[0].send_proxy: unknown send_proxy \"v3\"; expected none, v1, v2 (did you mean v1?)"
    );
    assert_eq!(
        group(r#""listen": "127.0.0.1:1", "policy": {"wasm": "missing.wasm"}"#),
        "1:58: groups[0].policy.wasm: \"missing.wasm\" is the name of a file; expected it without the ending, \"missing\""
    );
    assert_eq!(
        problems(r#"{"groups": [{"name": "a", "listen": "127.0.0.1:1"}, {"name": "a", "listen": "127.0.0.1:2"}]}"#),
        "1:62: groups[1].name: \"a\" is groups[0].name already; expected a name of its own"
    );
}

#[test]
fn a_problem_names_its_file_in_the_form_that_editors_know() {
    let problems = read("{\n  \"log\": { \"level\": \"wran\" }\n}").unwrap_err();
    assert_eq!(
        problems[0].in_file(Path::new("config/proxy.json")),
        "config/proxy.json:2:21: log.level: unknown level \"wran\"; expected error, warn, info, debug, trace \
         (did you mean warn?)"
    );
}

#[test]
fn a_secret_is_never_in_a_message() {
    for file in ["{\"admin\": {\"token\": \"hunter2 hunter2\"}}", "{\"admin\": {\"token\": [\"hunter2\"]}}"] {
        assert!(!problems(file).contains("hunter2"), "{file}");
    }
}

#[test]
fn nesting_and_size_have_bounds() {
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        let said = problems(&open.repeat(200_000));
        assert!(said.contains("nesting") || said.contains("unterminated"), "{said}");
    }
    assert_eq!(
        problems(&" ".repeat(FILE_BYTES_MAX + 1)),
        "1:1: the file has 16777217 bytes; expected at most 16777216"
    );
    let groups: Vec<String> =
        (0..4_097).map(|index| format!("{{\"listen\": \"10.0.0.1:{}\"}}", index + 10_000)).collect();
    assert_eq!(
        problems(&format!("{{\"groups\": [{}]}}", groups.join(","))),
        "1:12: groups: 4097 groups are too many; expected at most 4096"
    );
    let labels: Vec<String> = (0..33).map(|index| format!("\"l{index}\": \"x\"")).collect();
    let long = "x".repeat(129);
    let file = |labels: &str| {
        format!(
            "{{\"groups\": [{{\"listen\": \"0.0.0.0:1\", \"servers\": [{{\"addr\": \"a:1\", \"labels\": {{{labels}}}}}]}}]}}"
        )
    };
    assert!(problems(&file(&labels.join(","))).ends_with("33 labels are too many; expected at most 32"));
    assert!(problems(&file(&format!("\"a\": \"{long}\""))).contains("a label of 129 bytes is too long"));
}

#[test]
fn a_file_that_is_wrong_everywhere_is_reported_whole_and_quickly() {
    let servers = vec!["0"; 60_000].join(",");
    let problems =
        read(&format!("{{\"groups\": [{{\"listen\": \"0.0.0.0:1\", \"servers\": [{servers}]}}]}}")).unwrap_err();
    assert_eq!(problems.len(), 60_000);
    assert!(problems.is_sorted_by_key(|problem| (problem.line, problem.column)));
}

#[test]
fn the_config_of_a_module_has_bounds() {
    let said = |config: &str| {
        problems(&format!("{{\"defaults\": {{\"policy\": {{\"wasm\": \"m\", \"config\": {config}}}}}}}"))
    };
    let text = |len: usize| format!("{{ \"a\" : \"{}\" }}", "x".repeat(len - "{\"a\":\"\"}".len()));
    assert_eq!(said(&text(MODULE_CONFIG_LEN_MAX)), "no problem");
    let long = "1:49: defaults.policy.config: the config is too long; expected at most 64KiB";
    assert_eq!(said(&text(MODULE_CONFIG_LEN_MAX + 1)), long);
    assert_eq!(said(&format!("{{\"a\": [{}]}}", "[1,2], ".repeat(500_000))), long);
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert_eq!(said(&nested(64)), "no problem");
    assert!(said(&nested(65)).ends_with("[0]: this is nested too deep; expected at most 64 levels"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}|[\\[\\]{}\",:/*\\\\ \n\r0-9a-u.]{0,80}") {
        let _ = read(&text);
    }

    /// A good file with a piece taken out, doubled, or replaced by a sign that means something.
    #[test]
    fn no_mutation_of_a_good_file_makes_the_parser_panic(
        from in 0_usize..4_000,
        len in 0_usize..60,
        with in "[\\[\\]{}\",:/*0-9 \n]{0,3}",
        is_doubled: bool,
        good in proptest::sample::select(&[SHIPPED, super::edits::MODULES][..]),
    ) {
        let chars: Vec<char> = good.chars().collect();
        let from = from.min(chars.len());
        let to = (from + len).min(chars.len());
        let piece: String = chars[from..to].iter().collect();
        let head: String = chars[..from].iter().collect();
        let tail: String = chars[to..].iter().collect();
        let text = if is_doubled { format!("{head}{piece}{with}{piece}{tail}") } else { format!("{head}{with}{tail}") };
        if let Err(problems) = read(&text) {
            proptest::prop_assert!(!problems.is_empty());
            let lines: Vec<&str> = text.split('\n').collect();
            for problem in problems {
                proptest::prop_assert!(problem.column <= lines[problem.line - 1].chars().count() + 1);
            }
        }
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_refuses_its_keys_and_says_why() {
    for key in ["tls", "server_tls"] {
        let text = format!(r#"{{ "groups": [ {{ "listen": "127.0.0.1:1", "{key}": {{}} }} ] }}"#);
        let said = problems(&text);
        assert!(said.contains("built without TLS"), "{said}");
    }
}

/// A key of a group, or of the file where it starts with a dot, and a value in which `?` is a path.
#[cfg(feature = "tls")]
const PATHS: &[(&str, &str)] = &[
    ("tls", r#"{ "certificates": [{ "cert": "?" }] }"#),
    ("tls", r#"{ "certificates": [{ "cert": "site.pem", "key": "?" }] }"#),
    ("tls", r#"{ "certificates": [{ "cert": "site.pem" }], "client_auth": "require", "client_ca": "?" }"#),
    ("tls", r#"{ "certificates": [{ "cert": "a" }], "client_auth": "require", "client_ca": "a", "client_crl": "?" }"#),
    ("server_tls", r#"{ "cert": "?" }"#),
    ("server_tls", r#"{ "cert": "a", "key": "?" }"#),
    ("server_tls", r#"{ "ca": "?" }"#),
    ("allow", r#"["file:?"]"#),
    (".state_file", r#""?""#),
    (".record_dir", r#""?""#),
    (".policies_dir", r#""?""#),
    (".access_log", r#"{ "path": "?" }"#),
    (".policy_keys", r#"["file:?"]"#),
    (".admin", r#"{ "token": "file:?" }"#),
    (".admin", r#"{ "listen": "unix:/?" }"#),
];

/// Everything that is said of a file with this key, of which the value has `text` for a path.
#[cfg(feature = "tls")]
fn said_with(key: &str, value: &str, text: &str) -> String {
    let value = value.replace('?', text);
    let file = match key.strip_prefix('.') {
        Some(key) => format!(r#"{{ "{key}": {value} }}"#),
        None => format!(r#"{{ "groups": [{{ "listen": "127.0.0.1:1", "{key}": {value} }}] }}"#),
    };
    let inspected = inspect(Path::new(PATH), &file);
    let said: Vec<String> = inspected.problems.iter().map(ToString::to_string).chain(inspected.doubts).collect();
    said.join("\n")
}

#[cfg(feature = "tls")]
#[test]
fn the_content_of_a_file_in_the_place_of_its_path_is_refused_and_not_repeated() {
    let pem = r"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n-----END PRIVATE KEY-----\n";
    let one_line = pem.replace("\\n", " ");
    let bundle = format!("{}{one_line}", "# comment ".repeat(3));
    for (key, value) in PATHS {
        for text in [pem, &one_line, &bundle, r"MIGHAgEAMBMG\nMIGH"] {
            let said = said_with(key, value, text);
            assert!(said.contains("expected the path of a file, found the content of one"), "{key} {value}: {said}");
            assert!(!said.contains("MIGH") && !said.contains("PRIVATE"), "{key} {value}: {said}");
        }
        let said = said_with(key, value, &"d/".repeat(2_100));
        let is_long = said.contains("bytes is too long; expected at most 4096");
        assert!(is_long && !said.contains("d/d/"), "{key} {value}: {said}");
    }
    // Nor where no path is expected.
    for (key, value) in [
        ("tls", r#"{ "certificates": ["?"] }"#),
        ("tls", r#""?""#),
        ("policy", r#""?""#),
        ("deny", r#"["?"]"#),
        (".?", "1"),
        (".admin", r#"{ "token": "env:?" }"#),
        (".policy_keys", r#"["?"]"#),
    ] {
        for text in [pem, &one_line] {
            let said = said_with(&key.replace('?', text), value, text);
            assert!(!said.is_empty() && !said.contains("MIGH") && !said.contains("PRIVATE"), "{key} {value}: {said}");
        }
    }
}
