use serde_json::{Value, json};

use super::*;

/// What a file of HAProxy becomes.
fn haproxy(text: &str) -> String {
    converted(Proxy::Haproxy, "haproxy.cfg", text).unwrap()
}

/// The first group of what comes out, as JSON without its comments; the whole has to be in order.
#[track_caller]
fn group(text: &str) -> Value {
    let parsed = config::parse(Path::new(OUTPUT), text);
    assert!(parsed.is_ok(), "{:?}\n{text}", parsed.err());
    let bare: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let mut all: Value = serde_json::from_str(&bare).unwrap_or_else(|error| panic!("{error}\n{bare}"));
    all["groups"][0].take()
}

/// A `listen` section with timeouts, one server and one more line.
fn listen(line: &str) -> String {
    haproxy(&format!(
        "listen db\n bind 10.0.0.1:5432\n timeout client 1m\n timeout server 1m\n {line}\n server a 10.0.0.5:5432 check\n"
    ))
}

#[test]
fn the_example_of_the_document_becomes_what_the_document_says() {
    let page = include_str!("../../../docs/migrate.md");
    let (_, section) = page.split_once("## From HAProxy").unwrap();
    let block = |language: &str| {
        let (_, rest) = section.split_once(&format!("```{language}\n")).expect("the example");
        rest.split("```").next().unwrap_or_default()
    };
    let expected: Value = serde_json::from_str(block("jsonc")).unwrap();
    let text = haproxy(block("haproxy"));
    assert_eq!(group(&text), expected["groups"][0], "{text}");
    assert_eq!(text.matches("// line ").count(), 0, "{text}");
}

/// Lines of a group, where what they say is, and what it is there.
fn lines_of_a_group() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("balance leastconn", "/policy", json!("least_sessions")),
        ("balance source", "/policy", json!("ip_hash")),
        ("balance source\n hash-type consistent", "/policy", json!("maglev")),
        ("balance random(2)", "/policy", json!("p2c")),
        ("timeout connect 1500", "/connect_timeout", json!("1500ms")),
        ("timeout tunnel 1h", "/idle_timeout", json!("1h")),
        ("timeout client-fin 30s", "/half_close_timeout", json!("30s")),
        ("retries 4", "/connect_attempts", json!(5)),
        ("maxconn 500", "/max_sessions", json!(500)),
        ("rate-limit sessions 100", "/session_rate", json!("100/s")),
        ("bind :80-81", "/listen", json!(["10.0.0.1:5432", "0.0.0.0:80", "0.0.0.0:81"])),
        ("bind :80 accept-proxy", "/accept_proxy/from", json!(["0.0.0.0/0", "::/0"])),
        (
            "tcp-request connection expect-proxy layer4 if { src 10.1.0.0/16 }",
            "/accept_proxy/from",
            json!(["10.1.0.0/16"]),
        ),
        ("acl bad src 10.9.0.0/16\n tcp-request connection reject if bad", "/deny", json!(["10.9.0.0/16"])),
        ("tcp-request connection reject if !{ src 10.0.0.0/8 }", "/allow", json!(["10.0.0.0/8"])),
        (
            "stick-table type ip size 1m store conn_cur\n tcp-request connection track-sc0 src\n tcp-request connection reject if { sc0_conn_cur gt 20 }",
            "/client/sessions",
            json!(20),
        ),
        (
            "stick-table type ip size 1m store conn_rate(10s)\n tcp-request connection reject if { src_conn_rate ge 50 }",
            "/client/rate",
            json!({ "per": "10s", "sessions": 50 }),
        ),
    ]
}

/// The same of checks and servers.
fn lines_of_servers() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("timeout check 1s", "/check/timeout", json!("1s")),
        ("default-server inter 5s fastinter 1s downinter 10s rise 3 fall 5", "/check/interval", json!("5s")),
        ("default-server inter 5s fastinter 1s downinter 10s rise 3 fall 5", "/check/down_interval", json!("10s")),
        ("option redis-check", "/check/kind", json!("redis")),
        ("option pgsql-check user probe", "/check", json!({ "kind": "postgresql", "user": "probe" })),
        ("option mysql-check user probe post-41", "/check", json!({ "kind": "mysql", "user": "probe" })),
        ("option tcp-check", "/check", json!({ "kind": "tcp" })),
        (
            "option tcp-check\n tcp-check connect\n tcp-check send PING\\r\\n\n tcp-check expect string +PONG\n tcp-check expect ! rstring ERR.*",
            "/check/steps",
            json!([
                { "send": "PING\r\n", "expect": { "contains": "+PONG" } },
                { "expect": { "regex": "ERR.*", "not": true } }
            ]),
        ),
        (
            "option httpchk GET /health\n http-check send hdr Host db.internal hdr X-A b\n http-check expect status 200",
            "/check",
            json!({ "kind": "http", "method": "GET", "path": "/health", "host": "db.internal", "headers": { "X-A": "b" }, "status": "200" }),
        ),
        ("default-server on-marked-down shutdown-sessions", "/on_down", json!({ "check": "close" })),
        ("default-server observe layer4 error-limit 7 on-error mark-down", "/eject/failures", json!(7)),
        ("source 127.0.0.1", "/server_tcp/source", json!("127.0.0.1")),
        ("default-server tcp-ut 20s", "/server_tcp/user_timeout", json!("20s")),
        ("disabled", "/open", json!(false)),
        ("server b 10.0.0.6:5432 weight 3 backup maxconn 9", "/servers/0/weight", json!(3)),
        ("server b 10.0.0.6 weight 3", "/servers/0/addr", json!("10.0.0.6:5432")),
        ("server b 10.0.0.6:1 disabled", "/servers/0/state", json!("maint")),
        ("server b 10.0.0.6:1 weight 0", "/servers/0/state", json!("drain")),
        ("server b 10.0.0.6:1", "/servers/0/check", json!(false)),
        ("server b 10.0.0.6:1 check port 99", "/servers/0/check", json!({ "port": 99 })),
        ("server b 10.0.0.6:1 send-proxy-v2", "/servers/0/send_proxy", json!("v2")),
        ("server-template b 1-3 db.internal:5432 check", "/servers/0", json!("db.internal:5432")),
    ]
}

#[test]
fn each_line_of_a_group_has_its_key() {
    for (line, pointer, expected) in lines_of_a_group().into_iter().chain(lines_of_servers()) {
        let text = listen(line);
        assert_eq!(group(&text).pointer(pointer), Some(&expected), "{line}: {text}");
    }
    // A file of addresses that is not there is refused, which is another matter.
    let text = listen("tcp-request connection reject unless { src -f ok.txt }");
    assert!(text.contains("\"allow\": [\"file:ok.txt\"]"), "{text}");
}

#[test]
fn what_has_no_equivalent_is_a_comment_with_its_line_and_the_reason() {
    for (line, why) in [
        ("balance url_param x", "no such policy here"),
        ("timeout queue 10s", "there is no queue"),
        ("timeout http-request 10s", "HTTP"),
        ("option tcplog", "the log goes to stderr"),
        ("option smtpchk", "no such check here"),
        ("option nolinger", "no equivalent"),
        ("log global", "the log goes to stderr"),
        ("bind :443 ssl crt /etc/x.pem", "TLS is not ended here yet"),
        ("bind /run/x.sock", "only an IP and a port"),
        ("bind :80 accept-proxy", "name the proxies in front"),
        ("tcp-request inspect-delay 5s", "what a client says is not looked at"),
        ("tcp-request content reject if { req.len 0 }", "what a client says is not looked at"),
        ("tcp-request connection accept if { src 10.0.0.1 }", "only reject"),
        ("acl sni req.ssl_sni -i a", "only conditions by the client's address"),
        ("use_backend b if sni", "servers are not chosen by what a client says"),
        ("stick-table type ip size 1m store gpc0", "only conn_cur and conn_rate"),
        ("stick on src", "the module sticky"),
        ("email-alert from x", "no equivalent"),
        ("server b 10.0.0.6:1 slowstart 30s", "gets its share at once"),
        ("server b 10.0.0.6:1 ssl verify none", "TLS to servers is not there yet"),
        ("server b 10.0.0.6:1 resolvers dns", "names are looked up by the system"),
        ("server b 10.0.0.5:5432", "a server with this address is in the group already"),
        ("server b /run/db.sock", "a server is host:port"),
        ("server b 10.0.0.6:1 something-new", "no equivalent"),
        ("server-template b 1-3 db.internal:5432", "take turns"),
        ("timeout check 5s", "check.timeout is 2s"),
    ] {
        let text = listen(line);
        group(&text);
        let comment =
            text.lines().filter(|line| line.trim_start().starts_with("// line ")).collect::<Vec<_>>().join("\n");
        assert!(comment.contains(why), "{line}: {comment}\n{text}");
    }
}

#[test]
fn a_frontend_with_its_backend_is_a_group_and_what_nobody_takes_is_told() {
    let text = haproxy(
        "# a comment\nglobal\n maxconn 4000\n daemon\n nbthread 2\ndefaults\n mode tcp\n timeout client 5m\n timeout server 5m\n \
         option dontlognull\n retries 2\nfrontend Front.One\n bind *:80\n default_backend app\nfrontend front_two\n bind *:81\n \
         use_backend other if { src 10.0.0.1 }\n default_backend app\nbackend app\n balance leastconn\n server a 10.0.0.5:1\n\
         backend other\n server b 10.0.0.6:1\nfrontend web\n mode http\n bind *:8080\n default_backend web\nbackend web\n mode http\n \
         server w 10.0.0.7:80\npeers mine\n peer a 1.2.3.4:1\n",
    );
    let first = group(&text);
    assert_eq!(
        (&first["name"], &first["policy"], &first["connect_attempts"]),
        (&json!("front-one"), &json!("least_sessions"), &json!(3))
    );
    let parsed = config::parse(Path::new(OUTPUT), &text).unwrap();
    assert_eq!(parsed.groups.len(), 2);
    assert!(text.contains("  \"max_sessions\": 4000,\n") && text.contains("  \"threads\": 2,\n"), "{text}");
    for (count, comment) in [
        (1, "// line 4, daemon: the service manager does this"),
        (1, "// line 10, option dontlognull: the log goes to stderr"),
        (1, "// line 17, use_backend other if { src 10.0.0.1 }: servers are not chosen by"),
        (1, "// line 22, backend other (to line 23): no frontend takes it always"),
        (1, "// line 24, frontend web (to line 27): HTTP is not understood"),
        (1, "// line 28, backend web (to line 30): HTTP is not understood"),
        (1, "// line 31, peers mine (to line 32): no equivalent"),
    ] {
        assert_eq!(text.matches(comment).count(), count, "{comment}\n{text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    for (text, why) in [
        ("", "it has no section"),
        ("\n bind :80\n", "line 2: \"bind\": expected a section such as listen"),
        ("listen a\n bind \":80\n", "line 2: a quote is not closed"),
    ] {
        assert!(converted(Proxy::Haproxy, "x", text).unwrap_err().contains(why), "{text}");
    }
}
