//! Broken files and exactly what is said about them.

use super::*;

/// The mistakes of a file, one a line.
fn problems(text: &str) -> String {
    match read(text) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"),
    }
}

/// Each file, and what is said about it, in order.
#[rustfmt::skip]
const FILES: &[(&str, &[&str])] = &[
    ("", &[
        "1:1: the file is empty; expected an object, {…}",
    ]),
    ("  // nothing\n", &[
        "1:1: the file is empty; expected an object, {…}",
    ]),
    ("[]", &[
        "1:1: a list is no object; expected {…}",
    ]),
    ("null", &[
        "1:1: null is no object; expected {…}",
    ]),
    ("{", &[
        "1:1: this is no JSON: unterminated object",
    ]),
    ("{\"threads\": 1", &[
        "1:1: this is no JSON: unterminated object",
    ]),
    ("{\"threads\" 1}", &[
        "1:12: this is no JSON: expected colon after the string or word in object property",
    ]),
    ("{\n\t\"threads\": 1\n\t\"log\": {}\n}", &[
        "2:14: this is no JSON: expected comma",
    ]),
    ("{threads: 1}", &[
        "1:2: this is no JSON: expected string for object property",
    ]),
    ("{'threads': 1}", &[
        "1:2: this is no JSON: single-quoted strings are not allowed",
    ]),
    ("{\"threads\": 0x10}", &[
        "1:13: this is no JSON: hexadecimal numbers are not allowed",
    ]),
    ("{\"threads\": +1}", &[
        "1:13: this is no JSON: unary plus on numbers is not allowed",
    ]),
    ("{\"threads\": .5}", &[
        "1:13: this is no JSON: leading or trailing decimal points on numbers are not allowed",
    ]),
    ("{\"threads\": NaN}", &[
        "1:13: this is no JSON: unexpected token",
    ]),
    ("{} {}", &[
        "1:4: this is no JSON: text cannot contain more than one JSON value",
    ]),
    ("{\"a\": \"x\ny\"}", &[
        "1:9: a line break or control character within a string; expected \\n or such",
    ]),
    ("{\"a\": \"x", &[
        "1:7: this is no JSON: unterminated string literal",
    ]),
    ("{\"a\": \"\\x41\"}", &[
        "1:8: this is no JSON: invalid escape",
    ]),
    ("{ /* ", &[
        "1:3: this is no JSON: unterminated comment block",
    ]),
    ("{\"groups\": [1 2]}", &[
        "1:14: this is no JSON: expected comma",
    ]),
    ("{\"ä\": ]}", &[
        "1:7: this is no JSON: unexpected close bracket",
    ]),
    ("{\"threads\": 01}", &[
        "1:14: this is no JSON: expected comma",
    ]),
    ("{,}", &[
        "1:2: this is no JSON: unexpected token in object",
    ]),
    ("{\"admin\": []}", &[
        "1:11: admin: a list is no object; expected {…}",
    ]),
    ("{\"groups\": {}}", &[
        "1:12: groups: an object is no list; expected […]",
    ]),
    ("{\"groups\": [1]}", &[
        "1:13: groups[0]: 1 is no object; expected {…}",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": \"a:1\"}]}", &[
        "1:48: groups[0].servers: \"a:1\" is no list; expected […]",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [1, null, [], {}]}]}", &[
        "1:49: groups[0].servers[0]: 1 is no object; expected {…}",
        "1:52: groups[0].servers[1]: null is no object; expected {…}",
        "1:58: groups[0].servers[2]: a list is no object; expected {…}",
        "1:62: groups[0].servers[3]: addr is missing; expected host:port",
    ]),
    ("{\"admni\": {}, \"zzz\": 1}", &[
        "1:2: admni: unknown key \"admni\"; expected one of $schema, admin, log, policies_dir, drain_timeout, threads, pin_threads, policy_max_bytes, defaults, groups (did you mean admin?)",
        "1:15: zzz: unknown key \"zzz\"; expected one of $schema, admin, log, policies_dir, drain_timeout, threads, pin_threads, policy_max_bytes, defaults, groups",
    ]),
    ("{\"threads\": 1, \"threads\": 2}", &[
        "1:16: threads: the key threads is there twice; expected it once",
    ]),
    ("{\"groups\": [{\"lisen\": \"0.0.0.0:1\"}]}", &[
        "1:13: groups[0]: listen is missing; expected ip:port",
        "1:14: groups[0].lisen: unknown key \"lisen\"; expected one of listen, open, policy, servers, connect_timeout, connect_attempts, idle_timeout, half_close_timeout, heartbeat_timeout, max_sessions (did you mean listen?)",
    ]),
    ("{\"threads\": \"1\"}", &[
        "1:13: threads: \"1\" is no number; expected a whole number of 0 to 1024",
    ]),
    ("{\"threads\": 1.5}", &[
        "1:13: threads: 1.5 is no whole number; expected a whole number of 0 to 1024",
    ]),
    ("{\"threads\": -1}", &[
        "1:13: threads: -1 is out of range; expected a whole number of 0 to 1024",
    ]),
    ("{\"threads\": 99999999999999999999}", &[
        "1:13: threads: 99999999999999999999 is out of range; expected a whole number of 0 to 1024",
    ]),
    ("{\"threads\": 1025}", &[
        "1:13: threads: 1025 is out of range; expected a whole number of 0 to 1024",
    ]),
    ("{\"$schema\": 1, \"policies_dir\": \"\"}", &[
        "1:13: $schema: 1 is no text; expected a string",
        "1:32: policies_dir: the text is empty; expected a string",
    ]),
    ("{\"drain_timeout\": 30}", &[
        "1:19: drain_timeout: 30 has no unit; expected a time such as \"30s\" or \"30ms\"",
    ]),
    ("{\"drain_timeout\": \"30\"}", &[
        "1:19: drain_timeout: \"30\" has no unit; expected a time such as \"30s\" or \"30ms\"",
    ]),
    ("{\"drain_timeout\": \"soon\"}", &[
        "1:19: drain_timeout: \"soon\" is no time; expected a number with a unit (ms, s, m, h, d), such as \"2.5s\"",
    ]),
    ("{\"drain_timeout\": \"3mo\"}", &[
        "1:19: drain_timeout: \"3mo\" is no time; expected a number with a unit (ms, s, m, h, d), such as \"2.5s\"",
    ]),
    ("{\"drain_timeout\": \"400d\"}", &[
        "1:19: drain_timeout: \"400d\" is out of range; expected 0s, or 1ms to 365d",
    ]),
    ("{\"drain_timeout\": true}", &[
        "1:19: drain_timeout: true is no time; expected a number with a unit, such as \"2.5s\"",
    ]),
    ("{\"drain_timeout\": \"\"}", &[
        "1:19: drain_timeout: the text is empty; expected a number with a unit, such as \"2.5s\"",
    ]),
    ("{\"log\": {\"status_interval\": \"1ms\"}}", &[
        "1:29: log.status_interval: \"1ms\" is out of range; expected 0s, or 100ms to 365d",
    ]),
    ("{\"defaults\": {\"connect_timeout\": \"0s\"}}", &[
        "1:34: defaults.connect_timeout: \"0s\" is out of range; expected 1ms to 10m",
    ]),
    ("{\"policy_max_bytes\": 8}", &[
        "1:22: policy_max_bytes: 8 has no unit; expected a whole number with a unit (B, KiB, MiB, GiB), such as \"64KiB\"",
    ]),
    ("{\"policy_max_bytes\": \"8MB\"}", &[
        "1:22: policy_max_bytes: \"8MB\" is no size; expected a whole number with a unit (B, KiB, MiB, GiB), such as \"64KiB\"",
    ]),
    ("{\"policy_max_bytes\": \"1B\"}", &[
        "1:22: policy_max_bytes: \"1B\" is out of range; expected 1KiB to 1GiB",
    ]),
    ("{\"log\": {\"level\": \"wran\", \"format\": \"Json\"}}", &[
        "1:19: log.level: unknown level \"wran\"; expected error, warn, info, debug, trace (did you mean warn?)",
        "1:37: log.format: unknown format \"Json\"; expected text, json (did you mean json?)",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": \"round_robbin\"}]}", &[
        "1:47: groups[0].policy: unknown policy \"round_robbin\"; expected ha, round_robin, ip_hash, least_sessions, random, p2c, maglev, or wasm:NAME (did you mean round_robin?)",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": [\"ha\"]}]}", &[
        "1:47: groups[0].policy: a list is no policy; expected the name of one, such as \"round_robin\", or an object for a module",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": null}]}", &[
        "1:47: groups[0].policy: null is no policy; expected the name of one, such as \"round_robin\", or an object for a module",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": \"wasm:../x\"}]}", &[
        "1:47: groups[0].policy: \"wasm:../x\" is no policy; expected wasm:NAME, NAME being 1 to 64 letters, digits, _, - and . (not in front)",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": \"wasm:\"}]}", &[
        "1:47: groups[0].policy: \"wasm:\" is no policy; expected wasm:NAME, NAME being 1 to 64 letters, digits, _, - and . (not in front)",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {}}]}", &[
        "1:47: groups[0].policy: wasm is missing; expected 1 to 64 letters, digits, _, - and . (not in front)",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": \"../x\", \"fallbck\": \"ha\"}}]}", &[
        "1:56: groups[0].policy.wasm: \"../x\" is no name of a module; expected 1 to 64 letters, digits, _, - and . (not in front)",
        "1:64: groups[0].policy.fallbck: unknown key \"fallbck\"; expected one of wasm, config, fallback, deadline, memory, sha256 (did you mean fallback?)",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": \"m\", \"config\": 1, \"fallback\": \"ah\", \"deadline\": 5, \"memory\": \"1KiB\", \"sha256\": \"ab\"}}]}", &[
        "1:71: groups[0].policy.config: 1 is no object; expected {…}",
        "1:86: groups[0].policy.fallback: unknown fallback \"ah\"; expected ha, round_robin, ip_hash, least_sessions, random, p2c, maglev (did you mean ha?)",
        "1:104: groups[0].policy.deadline: 5 has no unit; expected a time such as \"5s\" or \"5ms\"",
        "1:117: groups[0].policy.memory: \"1KiB\" is out of range; expected 64KiB to 1GiB",
        "1:135: groups[0].policy.sha256: \"ab\" is no SHA-256; expected 64 hex digits",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": \"m\", \"config\": {\"a\": [{\"b\": 1, \"b\": 2}]}, \"fallback\": \"wasm:n\", \"deadline\": \"2s\", \"memory\": \"2GiB\", \"sha256\": 5}}]}", &[
        "1:87: groups[0].policy.config.a[0].b: the key b is there twice; expected it once",
        "1:110: groups[0].policy.fallback: unknown fallback \"wasm:n\"; expected ha, round_robin, ip_hash, least_sessions, random, p2c, maglev",
        "1:132: groups[0].policy.deadline: \"2s\" is out of range; expected 5ms to 1s",
        "1:148: groups[0].policy.memory: \"2GiB\" is out of range; expected 64KiB to 1GiB",
        "1:166: groups[0].policy.sha256: 5 is no SHA-256; expected 64 hex digits",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": \"m\", \"wasm\": \"n\", \"config\": null, \"deadline\": \"0s\", \"sha256\": \"gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg\"}}]}", &[
        "1:61: groups[0].policy.wasm: the key wasm is there twice; expected it once",
        "1:84: groups[0].policy.config: null is no object; expected {…}",
        "1:102: groups[0].policy.deadline: \"0s\" is out of range; expected 5ms to 1s",
        "1:118: groups[0].policy.sha256: \"gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg\" is no SHA-256; expected 64 hex digits",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"policy\": {\"wasm\": null, \"memory\": 16}}]}", &[
        "1:56: groups[0].policy.wasm: null is no name of a module; expected 1 to 64 letters, digits, _, - and . (not in front)",
        "1:72: groups[0].policy.memory: 16 has no unit; expected a whole number with a unit (B, KiB, MiB, GiB), such as \"64KiB\"",
    ]),
    ("{\"defaults\": {\"policy\": {\"wasn\": \"m\"}}}", &[
        "1:25: defaults.policy: wasm is missing; expected 1 to 64 letters, digits, _, - and . (not in front)",
        "1:26: defaults.policy.wasn: unknown key \"wasn\"; expected one of wasm, config, fallback, deadline, memory, sha256 (did you mean wasm?)",
    ]),
    ("{\"httpport\": 1, \"tcpport\": 2, \"lbpolicy\": {\"wasm\": \"m\"}}", &[
        "1:43: lbpolicy: an object is no policy; expected the name of one, such as \"round_robin\"",
    ]),
    ("{\"admin\": {\"listen\": \"localhost:8080\"}}", &[
        "1:22: admin.listen: \"localhost:8080\" is no address to listen on; expected ip:port, such as \"127.0.0.1:8080\", or unix:/PATH",
    ]),
    ("{\"admin\": {\"listen\": \"127.0.0.1:0\"}}", &[
        "1:22: admin.listen: \"127.0.0.1:0\" has port 0; expected a port of 1 to 65535",
    ]),
    ("{\"admin\": {\"listen\": \"unix:admin.sock\"}}", &[
        "1:22: admin.listen: \"unix:admin.sock\" is no usable socket; expected unix: and an absolute path",
    ]),
    ("{\"admin\": {\"listen\": 8080}}", &[
        "1:22: admin.listen: 8080 is no address to listen on; expected ip:port, such as \"127.0.0.1:8080\", or unix:/PATH",
    ]),
    ("{\"admin\": {\"listen\": \"0.0.0.0:8080\", \"pprof_listen\": \"10.0.0.1:8082\"}}", &[
        "1:22: admin.listen: \"0.0.0.0:8080\" can be reached from other machines; expected a loopback address or admin.token",
        "1:54: admin.pprof_listen: \"10.0.0.1:8082\" can be reached from other machines; expected a loopback address or admin.token",
    ]),
    ("{\"admin\": {\"pprof_listen\": \"127.0.0.1:8080\"}}", &[
        "1:28: admin.pprof_listen: port 8080 is taken by admin.listen; expected a port of its own",
    ]),
    ("{\"admin\": {\"register_allow\": [\"10.0.0.0/8\", \"10.0.0.0/33\", 5, \"::1\"]}}", &[
        "1:45: admin.register_allow[1]: \"10.0.0.0/33\" is no network; expected ip/bits or ip, such as \"10.0.0.0/8\"",
        "1:60: admin.register_allow[2]: 5 is no network; expected ip/bits or ip, such as \"10.0.0.0/8\"",
    ]),
    ("{\"groups\": [{\"listen\": \"8081\"}, {\"listen\": \":8081\"}]}", &[
        "1:24: groups[0].listen: \"8081\" is no address to listen on; expected ip:port, such as \"127.0.0.1:8081\"",
        "1:44: groups[1].listen: \":8081\" is no address to listen on; expected ip:port, such as \"127.0.0.1:8081\"",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:8081\"}, {\"listen\": \"10.0.0.1:8081\"}, {\"listen\": \"0.0.0.0:8080\"}]}", &[
        "1:52: groups[1].listen: port 8081 is taken by groups[0].listen; expected a port of its own",
        "1:81: groups[2].listen: port 8080 is taken by admin.listen; expected a port of its own",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:8081\", \"servers\": [\"localhost:8081\", \"127.0.0.1:8080\", \"0.0.0.0:1\", \"a:1\", \"A:1\", \"a\", \"a:0\", {\"addr\": \"a:1\"}]}]}", &[
        "1:52: groups[0].servers[0]: \"localhost:8081\" is the group itself; expected a server behind it",
        "1:70: groups[0].servers[1]: \"127.0.0.1:8080\" is the admin port; expected a server for clients",
        "1:88: groups[0].servers[2]: \"0.0.0.0:1\" is no single machine; expected the address of one server",
        "1:108: groups[0].servers[4]: \"a:1\" is servers[3] already; expected each server once",
        "1:115: groups[0].servers[5]: \"a\" is no server address; expected host:port, ip:port or [ipv6]:port",
        "1:120: groups[0].servers[6]: \"a:0\" has no usable port; expected 1 to 65535",
        "1:136: groups[0].servers[7].addr: \"a:1\" is servers[3] already; expected each server once",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [{\"addr\": \"a:1\", \"weight\": 0, \"state\": \"raedy\", \"backup\": 1, \"max_sessions\": 4294967296, \"origin\": \"me\", \"weigth\": 1}]}]}", &[
        "1:75: groups[0].servers[0].weight: 0 is out of range; expected a whole number of 1 to 256",
        "1:87: groups[0].servers[0].state: unknown state \"raedy\"; expected ready, drain, maint (did you mean ready?)",
        "1:106: groups[0].servers[0].backup: 1 is no switch; expected true or false",
        "1:125: groups[0].servers[0].max_sessions: 4294967296 is out of range; expected a whole number of 0 to 4294967295",
        "1:147: groups[0].servers[0].origin: unknown origin \"me\"; expected file, heartbeat",
        "1:153: groups[0].servers[0].weigth: unknown key \"weigth\"; expected one of addr, weight, backup, max_sessions, state, labels, origin (did you mean weight?)",
    ]),
    ("{\"groups\": [{\"listen\": \"0.0.0.0:1\", \"servers\": [{\"addr\": \"a:1\", \"labels\": {\"a\": 1, \"\": \"x\", \"b\": \"y\", \"b\": \"z\"}}, {\"addr\": \"b:1\", \"labels\": []}]}]}", &[
        "1:81: groups[0].servers[0].labels.a: 1 is no text; expected a string",
        "1:88: groups[0].servers[0].labels.: a label has no name; expected at least one character",
        "1:103: groups[0].servers[0].labels.b: the label is there twice; expected it once",
        "1:141: groups[0].servers[1].labels: a list is no object; expected {…}",
    ]),
    ("{\"defaults\": {\"listen\": \"0.0.0.0:1\", \"connect_attempts\": 0, \"max_sessions\": -1}}", &[
        "1:15: defaults.listen: unknown key \"listen\"; expected one of open, policy, connect_timeout, connect_attempts, idle_timeout, half_close_timeout, heartbeat_timeout, max_sessions",
        "1:58: defaults.connect_attempts: 0 is out of range; expected a whole number of 1 to 100",
        "1:77: defaults.max_sessions: -1 is out of range; expected a whole number of 0 to 4294967295",
    ]),
    ("{\"defaults\": {\"connect_attempts\": 101}}", &[
        "1:35: defaults.connect_attempts: 101 is out of range; expected a whole number of 1 to 100",
    ]),
    ("{\"admin\": {\"token\": \"env:NONE\", \"register_token\": \"file:none\"}}", &[
        "1:21: admin.token: the environment has no variable \"NONE\" of plain text",
        "1:51: admin.register_token: cannot read the secret from /etc/goproxy/none: No such file or directory (os error 2)",
    ]),
    ("{\"admin\": {\"token\": \"\"}}", &[
        "1:21: admin.token: the secret is empty; expected at least one character",
    ]),
    ("{\"admin\": {\"token\": 12345}}", &[
        "1:21: admin.token: this is no token; expected a string, env:NAME or file:PATH",
    ]),
    ("{\"admin\": {\"token\": \"two words\"}}", &[
        "1:21: admin.token: the secret has blanks or signs that an HTTP header cannot carry; expected letters, digits and punctuation of ASCII",
    ]),
    ("{\"admin\": {\"register_token\": \"x\"}}", &[
        "1:30: admin.register_token: a register_token without a token protects nothing; expected admin.token too",
    ]),
    ("{\"admin\": {\"token\": \"x\", \"register_token\": \"x\"}}", &[
        "1:44: admin.register_token: the register_token is the token, which allows everything; expected another one",
    ]),
    ("{\"httpport\": \"8080\", \"groups\": []}", &[
        "1:22: groups: the new key groups is mixed with keys of the old form; expected one form or the other",
    ]),
    ("{\"httpport\": \"8080\"}", &[
        "1:1: tcpport is missing; expected 1 to 65535",
    ]),
    ("{\"httpport\": \"http\", \"tcpport\": 0, \"tcport\": 1}", &[
        "1:14: httpport: \"http\" is no number; expected 1 to 65535",
        "1:33: tcpport: 0 is out of range; expected a whole number of 1 to 65535",
        "1:36: tcport: unknown key \"tcport\"; expected one of httpport, tcpport, pprofport, lbpolicy, rwtimeout, printinterval, heartbeatkeepalive, alivecheckinterval, handlebuffer (did you mean tcpport?)",
    ]),
    ("{\"httpport\": 1, \"tcpport\": 2, \"lbpolicy\": 4, \"rwtimeout\": 3, \"handlebuffer\": \"x\"}", &[
        "1:43: lbpolicy: unknown policy 4; expected 1 (ha), 2 (round_robin), 3 (ip_hash) or a name",
        "1:59: rwtimeout: 3 has no unit; expected a time such as \"3s\" or \"3ms\"",
        "1:78: handlebuffer: \"x\" is no number; expected 0 to 4294967295",
    ]),
    ("{\"httpport\": 1, \"tcpport\": 1, \"pprofport\": 1, \"lbpolicy\": \"rr\"}", &[
        "1:28: tcpport: port 1 is taken by httpport; expected a port of its own",
        "1:44: pprofport: port 1 is taken by httpport; expected a port of its own",
        "1:59: lbpolicy: unknown policy \"rr\"; expected ha, round_robin, ip_hash, least_sessions, random, p2c, maglev, or wasm:NAME",
    ]),
    ("{\r\n  \"threads\": \"x\",\r\n  // äöü\r\n  /* ä */ \"ö\": 1\r\n}", &[
        "2:14: threads: \"x\" is no number; expected a whole number of 0 to 1024",
        "4:11: ö: unknown key \"ö\"; expected one of $schema, admin, log, policies_dir, drain_timeout, threads, pin_threads, policy_max_bytes, defaults, groups",
    ]),
];

#[test]
fn every_mistake_is_told_at_its_place() {
    for (file, expected) in FILES {
        assert_eq!(problems(file), expected.join("\n"), "{file}");
    }
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
