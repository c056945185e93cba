//! `docs/admin-api.md` is what a running proxy answers. `UPDATE=1` writes the document anew.

use std::fmt::Write as _;
use std::path::Path;

use goproxy::admin::{CODES, EndpointReference, reference};
use serde_json::{Value, json};

use crate::support::{Group, TestProxy, Told, Visitor, named_echo, ports};

/// What is asked of each endpoint, with the ports of the document.
const EXAMPLES: &[(&str, &str)] = &[
    ("/worker-keepalive.do", "group=8081&server=127.0.0.1:9002&weight=3&zone=east"),
    ("/worker-list.do", "group=8081"),
    ("/worker-remove.do", "group=8081&server=127.0.0.1:9002"),
    ("/worker-check.do", "group=8081&server=127.0.0.1:9001"),
    ("/worker-state.do", "group=8081&server=127.0.0.1:9001&state=drain"),
    ("/group-open.do", "group=8082&policy=least_sessions"),
    ("/group-close.do", "group=8082&sessions=close"),
    ("/group-list.do", ""),
    ("/group-policy.do", "group=8081&policy=ha"),
    ("/session-list.do", "group=127.0.0.1:8081"),
    ("/client-list.do", "group=8081"),
    ("/session-close.do", "id=1"),
    ("/upgrade.do", ""),
    ("/policy-list.do", ""),
    ("/policy-explain.do", "group=8081&client=10.0.0.7"),
    ("/record-start.do", "group=8081&time=10m&max=64MiB"),
    ("/record-stop.do", "group=8081"),
    ("/record-list.do", ""),
    ("/shadow-start.do", "group=8081&policy=p2c"),
    ("/shadow-stop.do", "group=8081"),
    ("/shadow-list.do", ""),
    ("/config-reload.do", ""),
    ("/state-list.do", ""),
    ("/state-clear.do", "group=8081&server=127.0.0.1:9001"),
    ("/live", ""),
    ("/ready", ""),
    ("/metrics", ""),
    ("/events", "group=8081&since=0&follow=no"),
    ("/", ""),
    ("/dashboard/app.js", ""),
    ("/dashboard/style.css", ""),
    ("/debug/pprof", ""),
    ("/debug/pprof/heap", ""),
    ("/debug/pprof/profile", "seconds=1"),
];

const INTRODUCTION: &str = "\
<!-- Written by `UPDATE=1 cargo test --test it admin_api`. What is in code blocks, a running proxy has answered. -->

# The admin port

GET and POST, with parameters in the query or in a form body (`application/x-www-form-urlencoded`); with
`\"allow_get_changes\": false` changes need POST. Every answer is one line of JSON with `ok` and `msg` (below with line breaks);
a refusal has a stable `code` and a true [status](#refusals). More fields may be added; names stay. `group` is a group's name, its
port if no other group has that, or an `ip:port` on which it listens; `server` is `host:port`, `ip:port` or `[ipv6]:port`.

A change is in the file, or in `state_file` where there is one, and in effect before the answer says ok. One that cannot be written into the file (read-only folder,
full disk, a mistake that somebody has left in it) is refused and changes nothing. Heartbeats of known servers write nothing
unless they say something new; then the last one counts at once, and the file follows, once a minute per server at most.

## Who may ask

The admin port listens on loopback, or on a unix socket of mode 0600 (`\"listen\": \"unix:/run/goproxy/admin.sock\"`,
`curl --unix-socket /run/goproxy/admin.sock http://localhost/group-list.do`). Any other address needs `admin.token`, which every
request but `/live`, `/ready` and the files of the dashboard then carries as `Authorization: Bearer …`; `admin.register_token` allows heartbeats, and to
take out a server that registered itself; `admin.read_token` allows everything that only looks. `/metrics`, `/live` and `/ready` may have an address of their own,
`admin.metrics_listen`, where no token is needed if it is on loopback or `\"metrics_public\": true`. Requests that a web page could have caused are refused. More in
[SECURITY.md](../SECURITY.md).

## Connections

An idle connection is kept open for at least 75 seconds (`Keep-Alive: timeout=75`). Up to 8,192 are open at a time, or a
fifteenth of the descriptors that the process may have, if that is less; an idle one costs about 6 KB. Beyond half of that,
answers say `Connection: close`, and the client connects anew for its next request: there may be more workers than connections.
When all places are taken, a new connection waits a moment until one is free. One that has sent no request for a second makes
room; one that is kept does so when no other has for a second. `/live` and `/ready` are answered even when all are busy. A
request's head may take 5 seconds from its first byte and have 16 KiB, its body 5 seconds and 64 KiB.

## Examples

The answers below come from a proxy with this file, one server and one client:

```json
{
  \"admin\": { \"listen\": \"127.0.0.1:8080\" },
  \"state_file\": \"state.json\",
  \"record_dir\": \"picks\",
  \"groups\": [
    { \"listen\": \"127.0.0.1:8081\", \"policy\": \"round_robin\", \"check\": { \"kind\": \"tcp\", \"interval\": \"1h\" },
      \"session_rate\": \"500/s\", \"client\": { \"sessions\": 50 }, \"servers\": [\"127.0.0.1:9001\"] }
  ]
}
```
";

/// The ports that the test has, and those of the document.
struct Ports(Vec<(u16, u16)>);

impl Ports {
    fn to_document(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (ours, shown)| text.replace(&ours.to_string(), &shown.to_string()))
    }

    fn to_test(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (ours, shown)| text.replace(&shown.to_string(), &ours.to_string()))
    }
}

/// Replaces what is another at each run.
fn normalise(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Object(fields) => {
            let has_sessions = fields.get("sessions_total").is_some_and(|total| *total != json!(0));
            for (name, value) in fields {
                match name.as_str() {
                    "lease_ms" | "ttl_ms" => *value = json!(10_000),
                    "age_ms" => *value = json!(1_204),
                    "bytes" => *value = json!(412),
                    "elapsed_ms" => *value = json!(21),
                    "ns_per_pick" => *value = json!(0),
                    "file" if value.as_str().is_some_and(|file| file.ends_with(".picks")) => {
                        *value = json!("/etc/goproxy/picks/8081-20261130T134000Z.picks");
                    }
                    "msg" if value.as_str().is_some_and(|msg| msg.contains(".picks")) => {
                        let words = value.as_str().expect("it is text").split(' ').map(|word| match word {
                            path if path.contains(".picks") => {
                                let end = path.split_once(".picks").expect("it is in there").1;
                                format!("/etc/goproxy/picks/8081-20261130T134000Z.picks{end}")
                            }
                            word => word.to_owned(),
                        });
                        *value = json!(words.collect::<Vec<_>>().join(" "));
                    }
                    "since" => *value = json!("2026-11-29T13:40:00.337Z"),
                    "state_file" => *value = json!("/etc/goproxy/state.json"),
                    "ms" => *value = json!(0.4),
                    "next_ms" => *value = json!(3_598_796),
                    "passes" => *value = json!(1),
                    // The first check of the proxy's own may have come by now.
                    "last_check" => *value = Value::Null,
                    "pid" => *value = json!(4_711),
                    "idle_ms" => *value = json!(803),
                    "since_ms" => *value = json!(1_796_046_000_337_u64),
                    "down_ms" => *value = json!(0),
                    // What a session has moved is counted for its server once a second.
                    "bytes_up" if has_sessions => *value = json!(5),
                    "bytes_down" if has_sessions => *value = json!(21),
                    "connect_latency_us" if value.as_u64() != Some(0) => *value = json!(85),
                    "client" if value.as_str().is_some_and(|client| client.contains(':')) => {
                        *value = json!("127.0.0.1:51234")
                    }
                    _ => normalise(value),
                }
            }
        }
        _ => {}
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

/// What the document shows of an answer.
fn shown(path: &str, body: &[u8], ports: &Ports) -> String {
    let text = String::from_utf8(body.to_vec()).expect("text");
    if path == "/metrics" {
        let of_sessions =
            |line: &&str| line.contains("goproxy_sessions_active") || line.contains("goproxy_sessions_total");
        let lines: Vec<&str> = text.lines().filter(of_sessions).collect();
        return format!("{}\n…", ports.to_document(&lines.join("\n")));
    }
    if path == "/" {
        return table(&ports.to_document(&text));
    }
    if path == "/events" {
        let first: Vec<Told> = Told::all(&text).into_iter().take(2).collect();
        let mut out = String::new();
        for (number, mut told) in (1_796_046_000_000_001_u64..).zip(first) {
            told.data["at"] = json!("2026-11-30T13:40:00.337Z");
            write!(out, "id: {number}\nevent: {}\ndata: {}\n\n", told.event, told.data).unwrap();
        }
        return format!("{}…", ports.to_document(&out));
    }
    let mut json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
    normalise(&mut json);
    if path == "/policy-list.do" {
        json["policies"].as_array_mut().expect("a list").truncate(2);
    }
    ports.to_document(&pretty(&json))
}

/// The page as text. In the document a connect takes as long everywhere, as many sessions fit into any machine's
/// descriptors, and ports have a digit less.
fn table(text: &str) -> String {
    let line = |line: &str| {
        if let Some((before, after)) = line.split_once(" µs").or_else(|| line.split_once(" ms")) {
            return format!("{}     85 µs{after}", &before[..before.len() - 6]);
        }
        if let Some((before, _)) = line.split_once(" of at most ") {
            return format!("{before} of at most 9,000 sessions");
        }
        line.replace("SERVER ", "SERVER")
    };
    text.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

fn section(out: &mut String, endpoint: &EndpointReference, example: &str, answer: &str) {
    writeln!(out, "\n## {}\n\n{}\n", endpoint.path, endpoint.text).unwrap();
    let audience = match endpoint.audience {
        "everyone" => "no token".to_owned(),
        other => other.to_owned(),
    };
    writeln!(out, "{} · {audience}\n", endpoint.methods).unwrap();
    if !endpoint.params.is_empty() {
        out.push_str("| parameter | | value |\n|---|---|---|\n");
        for param in &endpoint.params {
            let need = if param.is_required { "required" } else { "optional" };
            writeln!(out, "| `{}` | {need} | {} ({}) |", param.name, param.text, param.expected).unwrap();
        }
        out.push('\n');
    }
    let question = if example.is_empty() { String::new() } else { format!("?{example}") };
    let wanted = match endpoint.path.as_str() {
        "/" => "-H \"Accept: text/plain\" ",
        _ if endpoint.methods == "POST" => "-X POST ",
        _ => "",
    };
    writeln!(out, "```console\n$ curl {wanted}\"http://127.0.0.1:8080{}{question}\"\n{answer}\n```", endpoint.path)
        .unwrap();
    if endpoint.path == "/policy-list.do" {
        out.push_str("\nThe first two of them.\n");
    }
}

/// What another proxy answers: that of the examples would begin anew.
fn upgraded() -> String {
    let mut proxy = TestProxy::start(Group::new("ha", &[]));
    let mut answer = proxy.upgrade();
    answer["msg"] = answer["msg"].to_string().replace(&answer["pid"].to_string(), "4711").trim_matches('"').into();
    normalise(&mut answer);
    pretty(&answer)
}

#[test]
fn the_document_of_the_admin_port_is_what_a_running_proxy_answers() {
    let [admin, group, new, worker] = ports();
    let echo = named_echo();
    let ports = Ports(vec![(admin, 8080), (group, 8081), (new, 8082), (worker, 9002), (echo.addr.port(), 9001)]);
    let text = format!(
        r#"{{
  "admin": {{ "listen": "127.0.0.1:{admin}" }},
  "state_file": "state.json",
  "record_dir": "picks",
  "groups": [
    {{ "listen": "127.0.0.1:{group}", "policy": "round_robin", "check": {{ "kind": "tcp", "interval": "1h" }},
       "session_rate": "500/s", "client": {{ "sessions": 50 }}, "servers": ["{}"] }}
  ]
}}
"#,
        echo.addr
    );
    let proxy = TestProxy::with_file(admin, &text);
    let mut client = Visitor::connect(group);
    client.round_trip(b"hello");

    let mut document = INTRODUCTION.to_owned();
    for endpoint in reference() {
        let path = endpoint.path.as_str();
        let (_, example) = EXAMPLES.iter().find(|(known, _)| *known == path).unwrap_or_else(|| {
            panic!("{path} has no example in tests/it/admin_api.rs");
        });
        let question = if example.is_empty() { String::new() } else { format!("?{}", ports.to_test(example)) };
        let question = match path {
            "/session-close.do" => format!("?id={}", proxy.ok("/session-list.do")["sessions"][0]["id"]),
            _ => question,
        };
        if path == "/upgrade.do" {
            section(&mut document, &endpoint, example, &upgraded());
            continue;
        }
        let wanted = if path == "/" { "Accept: text/plain\r\n" } else { "" };
        let reply = proxy.request("GET", &format!("{path}{question}"), wanted, b"");
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        let answer = match reply.header("content-type") {
            // For `go tool pprof`.
            Some("application/octet-stream") => "(a gzipped profile)".to_owned(),
            Some("text/javascript; charset=utf-8") => "(a script)".to_owned(),
            Some("text/css; charset=utf-8") => "(a style sheet)".to_owned(),
            _ => shown(path, &reply.body, &ports),
        };
        section(&mut document, &endpoint, example, &answer);
    }
    document.push_str("\n## Refusals\n\n| status | code | when |\n|---|---|---|\n");
    for (status, code, when) in CODES {
        writeln!(document, "| {status} | `{code}` | {when} |").unwrap();
    }
    let refused = proxy.get(&format!("/worker-list.do?group={group}&server=127.0.0.1:1"));
    writeln!(
        document,
        "\n```console\n$ curl \"http://127.0.0.1:8080/worker-list.do?group=8081&server=127.0.0.1:1\"\n{}\n```\n\n\
         What is no HTTP request gets a bare status, such as 400 or 431.",
        ports.to_document(&pretty(&refused.json()))
    )
    .unwrap();

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/admin-api.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, document).expect("the folder is ours");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (found, expected)) in written.lines().zip(document.lines()).enumerate() {
        assert_eq!(found, expected, "docs/admin-api.md:{}: UPDATE=1 writes it anew", number + 1);
    }
    assert_eq!(written.lines().count(), document.lines().count(), "UPDATE=1 writes docs/admin-api.md anew");
}
