//! Files of gobetween.

use super::*;

fn gobetween(text: &str) -> String {
    converted(Proxy::Gobetween, "gobetween.toml", text).unwrap()
}

/// A server with one more line of its own, and lines in two of its tables.
fn server(own: &str, discovery: &str, more: &str) -> String {
    gobetween(&format!(
        "[servers.db]\nbind = \"10.0.0.1:5432\"\n{own}\n[servers.db.discovery]\nkind = \"static\"\nstatic_list = [\"10.0.0.5:1\"{discovery}]\n{more}\n"
    ))
}

#[test]
fn the_example_of_the_document_for_gobetween_becomes_what_the_document_says() {
    let (theirs, ours) = documented("## From gobetween", "toml");
    let text = gobetween(theirs);
    assert_eq!(group(&text), ours, "{text}");
    assert_eq!(text.matches("// line ").count(), 0, "{text}");
}

#[test]
fn each_line_of_gobetween_has_its_key() {
    let check = |lines: &str| format!("[servers.db.healthcheck]\n{lines}");
    for (own, discovery, more, pointer, expected) in [
        ("", "", "", "/policy", json!("round_robin")),
        ("", "", "", "/idle_timeout", json!("0s")),
        ("balance = \"leastconn\"", "", "", "/policy", json!("least_sessions")),
        ("balance = \"iphash\"", "", "", "/policy", json!("ip_hash")),
        ("balance = \"iphash1\"", "", "", "/policy", json!("maglev")),
        ("max_connections = 500", "", "", "/max_sessions", json!(500)),
        ("backend_connection_timeout = \"1s500ms\"", "", "", "/connect_timeout", json!("1500ms")),
        ("client_idle_timeout = \"1h30m\"", "", "", "/idle_timeout", json!("90m")),
        ("client_idle_timeout = \"1h30m\"\nbackend_idle_timeout = \"10m\"", "", "", "/idle_timeout", json!("90m")),
        (
            "",
            ", \"db.internal:2 weight=3 max_connections=9\"",
            "",
            "/servers/1",
            json!({ "addr": "db.internal:2", "weight": 3, "max_sessions": 9 }),
        ),
        ("", ", \"10.0.0.6:1 priority=2\"", "", "/servers/1", json!({ "addr": "10.0.0.6:1", "backup": true })),
        (
            "",
            "",
            "[servers.db.access]\ndefault = \"deny\"\nrules = [\"allow 10.0.0.0/8\"]",
            "/allow",
            json!(["10.0.0.0/8"]),
        ),
        ("", "", "[servers.db.access]\ndefault = \"allow\"\nrules = [\"deny 10.0.0.1\"]", "/deny", json!(["10.0.0.1"])),
        ("", "", "[servers.db.proxy_protocol]\nversion = \"2\"", "/send_proxy", json!("v2")),
        (
            "",
            "",
            &check("kind = \"ping\"\ninterval = \"2s\"\nping_timeout_duration = \"500ms\"\nfails = 2\npasses = 1"),
            "/check",
            json!({ "kind": "tcp", "interval": "2s", "timeout": "500ms", "fall": 2, "rise": 1 }),
        ),
        (
            "",
            "",
            &check(
                "kind = \"probe\"\nprobe_protocol = \"tcp\"\nprobe_send = \"PING\\n\"\nprobe_recv = \"PONG\"\ninitial_status = \"unhealthy\"",
            ),
            "/check",
            json!({ "kind": "exchange", "send": "PING\n", "expect": { "prefix": "PONG" }, "start": "down" }),
        ),
    ] {
        let text = server(own, discovery, more);
        assert_eq!(group(&text).pointer(pointer), Some(&expected), "{own} {discovery} {more}: {text}");
    }
    let inherited = gobetween(
        "[defaults]\nmax_connections = 7\n[servers.a]\nbind = \":80\"\nmax_connections = 8\n[servers.b]\nbind = \"localhost:81\"\n",
    );
    assert_eq!(group(&inherited)["max_sessions"], 8);
    assert!(
        inherited.contains("\"listen\": \"127.0.0.1:81\"") && inherited.contains("\"max_sessions\": 7"),
        "{inherited}"
    );
}

#[test]
fn what_gobetween_has_alone_is_a_comment_with_its_line_and_the_reason() {
    for (own, more, comment) in [
        ("balance = \"leastbandwidth\"", "", "// line 3, balance = \"leastbandwidth\": no policy counts bytes"),
        ("client_idle_timeout = \"soon\"", "", "\"soon\" is not a time; expected one such as 500ms or 2s"),
        (
            "client_idle_timeout = \"1m\"\nbackend_idle_timeout = \"2m\"",
            "",
            "idle_timeout is the longer of the two times",
        ),
        ("", "[servers.db.tls]\nacme_hosts = []", "// line 7, tls: not taken over"),
        (
            "",
            "[servers.db.healthcheck]\nkind = \"exec\"\nexec_command = \"/bin/x\"",
            "no program is run to check a server",
        ),
        (
            "",
            "[servers.db.access]\ndefault = \"deny\"\nrules = [\"deny 10.1.0.0/16\", \"allow 10.0.0.0/8\"]",
            "here deny wins",
        ),
        ("", "[metrics]\nenabled = true", "// line 7, metrics: /metrics of the admin port"),
        ("", "[logging]\noutput = \"stdout\"", "// line 8, output = \"stdout\": the log goes to stderr"),
        ("", "[api]\nbind = \":8888\"", "admin.listen and admin.token open it"),
        ("", "[servers.dns]\nbind = \":53\"\nprotocol = \"udp\"", "// line 7, dns: only protocol = \"tcp\" is there"),
        ("", "[servers.c]\nbind = \":82\"\n[servers.c.discovery]\nkind = \"consul\"", "worker-keepalive.do"),
    ] {
        let text = server(own, "", more);
        group(&text);
        let comments: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("// line ")).collect();
        assert!(comments.iter().any(|it| it.contains(comment)), "{own} {more}: {text}");
    }
    let admin = server("", "", "[api]\nenabled = true\nbind = \"127.0.0.1:8888\"\n[logging]\nlevel = \"warn\"");
    assert!(
        admin.contains(r#""admin": { "listen": "127.0.0.1:8888" }"#) && admin.contains(r#""log": { "level": "warn" }"#)
    );
    assert!(converted(Proxy::Gobetween, "x", "a = 1\nb = [").unwrap_err().starts_with("line 2: "));
}
