mod gobetween;
mod tls;

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
    let (theirs, ours) = documented("## From HAProxy", "haproxy");
    let text = haproxy(theirs);
    assert_eq!(group(&text), ours, "{text}");
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
        ("timeout queue 10s", "goproxy has no queue"),
        ("timeout http-request 10s", "HTTP"),
        ("option tcplog", "the log goes to stderr"),
        ("option smtpchk", "no such check here"),
        ("option nolinger", "no equivalent"),
        ("log global", "the log goes to stderr"),
        ("bind /run/x.sock", "only an IP and a port"),
        ("bind :80 accept-proxy", "name the proxies in front"),
        ("tcp-request inspect-delay 5s", "what a client says is not looked at"),
        ("tcp-request content reject if { req.len 0 }", "what a client says is not looked at"),
        ("tcp-request connection accept if { src 10.0.0.1 }", "only reject"),
        ("acl sni req.ssl_sni -i a", "only conditions by the client's address"),
        ("acl late dst_port 5\n use_backend b if late", "servers are not chosen by what a client says"),
        ("use_backend b if { req.ssl_sni -m reg ^a }", "servers are chosen by the name and the protocols"),
        ("stick-table type ip size 1m store gpc0", "only conn_cur and conn_rate"),
        ("stick on src", "the module sticky"),
        ("email-alert from x", "no equivalent"),
        ("server b 10.0.0.6:1 slowstart 30s", "gets its share at once"),
        ("server b 10.0.0.6:1 check-ssl", "write server_tls into check"),
        ("option ssl-hello-chk", "write kind tls with server_tls into check"),
        ("server b 10.0.0.6:1 ssl verify none", "its servers differ"),
        ("default-server ssl verify required ca-file @system-ca", "HAProxy compares no name"),
        ("default-server ssl verify none ciphers HIGH", "ciphers and curves cannot be chosen"),
        ("default-server ssl verify none sni src", "a name, or the one that the client asks for"),
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
        (1, "// line 22, backend other (to line 23): no frontend always uses it"),
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

/// What a file of nginx becomes.
fn nginx(text: &str) -> String {
    converted(Proxy::Nginx, "nginx.conf", text).unwrap()
}

/// A `server` with an `upstream`, with one more line in either.
fn stream(in_server: &str, in_upstream: &str) -> String {
    nginx(&format!(
        "stream {{\n limit_conn_zone $binary_remote_addr zone=ip:1m;\n upstream app {{\n {in_upstream}\n server 10.0.0.5:1; }}\n \
         server {{\n {in_server}\n listen 10.0.0.1:5432; proxy_pass app; }} }}\n"
    ))
}

/// The two examples of the document below a heading.
fn documented(heading: &str, language: &str) -> (&'static str, Value) {
    let page = include_str!("../../../docs/migrate.md");
    let (_, section) = page.split_once(heading).unwrap();
    let block = |language: &str| {
        let (_, rest) = section.split_once(&format!("```{language}\n")).expect("the example");
        rest.split("```").next().unwrap_or_default()
    };
    let ours: Value = serde_json::from_str(block("jsonc")).unwrap();
    (block(language), ours["groups"][0].clone())
}

#[test]
fn the_example_of_nginx_becomes_what_the_document_says() {
    let (theirs, ours) = documented("## From nginx stream", "nginx");
    let text = nginx(theirs);
    assert_eq!(group(&text), ours, "{text}");
    assert_eq!(text.matches("// line ").count(), 0, "{text}");
}

#[test]
fn each_line_of_nginx_has_its_key() {
    for (in_server, in_upstream, pointer, expected) in [
        ("", "", "/policy", json!("round_robin")),
        ("", "least_conn;", "/policy", json!("least_sessions")),
        ("", "hash $remote_addr;", "/policy", json!("ip_hash")),
        ("", "hash $binary_remote_addr consistent;", "/policy", json!("maglev")),
        ("", "random two least_conn;", "/policy", json!("p2c")),
        ("", "random;", "/policy", json!("random")),
        (
            "",
            "server db.internal:2 weight=3 max_conns=9 backup;",
            "/servers/0",
            json!({ "addr": "db.internal:2", "weight": 3, "max_sessions": 9, "backup": true }),
        ),
        ("", "server [::1]:2 down;", "/servers/0", json!({ "addr": "[::1]:2", "state": "maint" })),
        ("proxy_connect_timeout 1500ms;", "", "/connect_timeout", json!("1500ms")),
        ("proxy_timeout 1h;", "", "/idle_timeout", json!("1h")),
        ("proxy_next_upstream_tries 2;", "", "/connect_attempts", json!(2)),
        ("proxy_next_upstream off;", "", "/connect_attempts", json!(1)),
        ("proxy_protocol on; proxy_protocol_version 2;", "", "/send_proxy", json!("v2")),
        ("listen 80 proxy_protocol; set_real_ip_from 10.0.0.0/8;", "", "/accept_proxy/from", json!(["10.0.0.0/8"])),
        ("listen *:80; listen [::1]:81;", "", "/listen", json!(["0.0.0.0:80", "[::1]:81", "10.0.0.1:5432"])),
        ("limit_conn ip 5;", "", "/client/sessions", json!(5)),
        ("proxy_bind 127.0.0.1;", "", "/server_tcp/source", json!("127.0.0.1")),
        ("allow 10.0.0.0/8; deny all;", "", "/allow", json!(["10.0.0.0/8"])),
        ("deny 10.0.0.0/8; allow all;", "", "/deny", json!(["10.0.0.0/8"])),
    ] {
        let text = stream(in_server, in_upstream);
        assert_eq!(group(&text).pointer(pointer), Some(&expected), "{in_server} {in_upstream}: {text}");
    }
}

#[test]
fn what_nginx_has_alone_is_a_comment_with_its_line_and_the_reason() {
    for (in_server, in_upstream, why) in [
        ("", "least_time connect;", "least_latency"),
        ("", "hash $ssl_preread_server_name;", "only the client's address"),
        ("", "server unix:/run/x.sock;", "a server is host:port"),
        (
            "",
            "server 10.0.0.6:1 max_fails=2 fail_timeout=5s;",
            "passed over until the proxy itself has reached it again",
        ),
        ("", "server 10.0.0.6:1 slow_start=5s;", "gets its share at once"),
        ("", "keepalive 3;", "no equivalent"),
        ("proxy_ssl on;", "", "any server for the right one"),
        ("listen 53 udp;", "", "UDP is not there"),
        ("listen unix:/run/x.sock;", "", "only an IP and a port"),
        ("listen 80 proxy_protocol;", "", "name the proxies in front"),
        ("proxy_download_rate 1m;", "", "no equivalent"),
        ("access_log /var/log/x basic;", "", "the log goes to stderr"),
        ("proxy_half_close off;", "", "always passed on"),
        ("limit_conn other 5;", "", "only a zone of"),
        ("allow 10.0.0.0/8; deny 10.1.0.0/16; deny all;", "", "here deny wins"),
        ("include other.conf;", "", "other files are not read"),
    ] {
        let text = stream(in_server, in_upstream);
        group(&text);
        let comments: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("// line ")).collect();
        assert!(comments.iter().any(|comment| comment.contains(why)), "{in_server} {in_upstream}: {text}");
    }
}

#[test]
fn blocks_of_nginx_that_are_no_group_are_told() {
    let text = nginx(
        "user www;\nworker_processes 4;\nevents { worker_connections 10; }\nhttp {\n server { listen 80; }\n}\nstream {\n \
         proxy_timeout 5m;\n log_format basic x;\n map $a $b { default 1; }\n upstream nobody {\n  server 10.0.0.5:1;\n }\n \
         server { listen 81; proxy_pass 10.0.0.6:1; }\n server { listen 82; proxy_pass $b; }\n server { listen 83; proxy_pass 10.0.0.7:1; proxy_timeout 1m; }\n}\n",
    );
    let first = group(&text);
    assert_eq!(
        (&first["name"], &first["idle_timeout"], &first["servers"]),
        (&json!("port-81"), &json!("5m"), &json!(["10.0.0.6:1"]))
    );
    assert!(text.contains("\"threads\": 4,") && text.contains("\"idle_timeout\": \"1m\""), "{text}");
    for comment in [
        "// line 1, user www: the service manager does this",
        "// line 4, http (to line 5): this is of HTTP or mail",
        "// line 9, log_format basic x: the log goes to stderr",
        "// line 10, map $a $b: no equivalent",
        "// line 11, upstream nobody (to line 12): no server passes sessions to it",
        "// line 15, server: \"$b\" is not a server",
    ] {
        assert_eq!(text.matches(comment).count(), 1, "{comment}\n{text}");
    }
}
