//! TLS of the other proxies: what ends and begins there, and servers that a hello chooses.

use super::*;

/// All groups of what comes out, which is not checked: the files of certificates are not there.
#[track_caller]
fn groups(text: &str) -> Value {
    let bare: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let mut all: Value = serde_json::from_str(&bare).unwrap_or_else(|error| panic!("{error}\n{bare}"));
    all["groups"].take()
}

fn comments(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_start).filter(|line| line.starts_with("// line ")).collect()
}

#[test]
fn haproxy_says_how_tls_ends_and_begins() {
    let text = haproxy(
        "global\n crt-base /etc/haproxy/certs\n ca-base /etc/ssl\nlisten db\n \
         bind 10.0.0.1:5432 ssl crt a.pem crt /b.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3 ca-file c.pem verify optional strict-sni\n \
         timeout client 1m\n timeout server 1m\n default-server ssl verify required ca-file d.pem crt e.pem sni str(db.example)\n \
         server a 10.0.0.5:5432\n server b 10.0.0.6:5432\n",
    );
    let groups = groups(&text);
    assert_eq!(
        groups[0]["tls"],
        json!({
            "certificates": [{ "cert": "/etc/haproxy/certs/a.pem" }, { "cert": "/b.pem" }],
            "alpn": ["h2", "http/1.1"], "min_version": "1.3", "client_ca": "/etc/ssl/c.pem", "client_auth": "request", "default": null
        })
    );
    assert_eq!(
        groups[0]["server_tls"],
        json!({ "ca": "/etc/ssl/d.pem", "cert": "/etc/haproxy/certs/e.pem", "name": "db.example" })
    );
    assert_eq!(comments(&text), [""; 0]);
}

#[test]
fn nginx_says_how_tls_ends_and_begins() {
    let text = stream(
        "listen 10.0.0.1:443 ssl; ssl_certificate a.pem; ssl_certificate_key a.key; ssl_certificate b.pem; ssl_certificate_key b.key; \
         ssl_protocols TLSv1.3; ssl_handshake_timeout 9s; ssl_session_tickets off; ssl_verify_client on; ssl_client_certificate ca.pem; \
         proxy_ssl on; proxy_ssl_verify on; proxy_ssl_trusted_certificate s.pem; proxy_ssl_server_name on;",
        "",
    );
    let groups = groups(&text);
    assert_eq!(
        groups[0]["tls"],
        json!({
            "certificates": [{ "cert": "a.pem", "key": "a.key" }, { "cert": "b.pem", "key": "b.key" }],
            "min_version": "1.3", "handshake_timeout": "9s", "tickets": false, "client_auth": "require", "client_ca": "ca.pem"
        })
    );
    // nginx compares the name of the upstream, unless told another.
    assert_eq!(groups[0]["server_tls"], json!({ "ca": "s.pem", "name": "app" }));
    assert_eq!(comments(&text), [""; 0]);
    let named = stream("proxy_ssl on; proxy_ssl_verify on; proxy_ssl_name db.example;", "");
    assert_eq!(super::group(&named)["server_tls"], json!({ "name": "db.example" }));
}

#[test]
fn what_is_of_tls_and_has_no_equivalent_is_a_comment() {
    for (text, why) in [
        (listen("bind :443 ssl"), "it speaks TLS and has no crt"),
        (listen("bind :443 ssl crt x.pem ciphers HIGH"), "ciphers and curves cannot be chosen"),
        (listen("bind :443 ssl crt x.pem ssl-min-ver TLSv1.0"), "TLSv1.0 is not spoken"),
        (listen("bind :443 ssl crt-list x"), "gives each file by itself"),
        (stream("listen 443 ssl;", ""), "it speaks TLS and has no ssl_certificate"),
        (stream("listen 443 ssl; ssl_certificate a; ssl_ciphers HIGH;", ""), "ciphers and curves cannot be chosen"),
        (stream("listen 443 ssl; ssl_certificate a; ssl_protocols TLSv1.1 TLSv1.2;", ""), "TLSv1.1 is not spoken"),
        (
            stream("listen 443 ssl; ssl_certificate a; ssl_session_cache shared:x:1m;", ""),
            "nothing is kept for clients",
        ),
        (stream("listen 443 ssl; ssl_certificate $name;", ""), "which has one name"),
    ] {
        assert!(comments(&text).iter().any(|comment| comment.contains(why)), "{why}: {text}");
    }
}

/// The group with the routes and what they lead to, by name; the whole has to be in order.
#[track_caller]
fn routed(text: &str) -> (Value, std::collections::BTreeMap<String, Value>) {
    let first = super::group(text);
    let all = groups(text);
    let named = all.as_array().unwrap().iter().map(|group| (group["name"].as_str().unwrap().to_owned(), group.clone()));
    (first, named.collect())
}

#[test]
fn backends_that_haproxy_chooses_by_a_hello_are_groups_with_routes() {
    let text = haproxy(
        "defaults\n mode tcp\n timeout client 1m\n timeout server 1m\nfrontend tls\n bind 10.0.0.1:9001\n \
         tcp-request inspect-delay 3s\n tcp-request content accept if { req_ssl_hello_type 1 }\n acl one req_ssl_sni -i A.example\n \
         acl one req_ssl_sni -i b.example\n acl inner src 10.0.0.0/8\n tcp-request connection reject unless inner\n use_backend first if one\n \
         use_backend second if { req.ssl_sni -m end .c.example } or { req.ssl_alpn acme-tls/1 }\n use_backend gone if { req.ssl_sni x }\n \
         use_backend first if { dst_port 5 }\n default_backend rest\n\
         backend first\n balance leastconn\n server a 10.0.0.5 check\nbackend second\n timeout server 2m\n server b 10.0.0.6:1\nbackend rest\n server c 10.0.0.7:1\n",
    );
    let (entry, all) = routed(&text);
    assert_eq!(
        entry["routes"],
        json!([
            { "sni": ["a.example", "b.example"], "group": "first" },
            { "sni": ["*.c.example"], "group": "second" },
            { "alpn": ["acme-tls/1"], "group": "second" }
        ])
    );
    assert_eq!(
        (&entry["route_default"], &entry["route_plain"], &entry["hello_timeout"], &entry["allow"], &entry["servers"]),
        (&json!("rest"), &json!("rest"), &json!("3s"), &json!(["10.0.0.0/8"]), &json!([]))
    );
    assert_eq!(all.keys().collect::<Vec<_>>(), ["first", "rest", "second", "tls"]);
    let first = &all["first"];
    // The frontend's port is taken, and an address without a port has the frontend's.
    assert_eq!((&first["listen"], &first["open"]), (&json!("127.0.0.1:9002"), &json!(false)));
    assert_eq!((&first["policy"], &first["servers"][0]["addr"]), (&json!("least_sessions"), &json!("10.0.0.5:9001")));
    assert_eq!((&first["check"]["kind"], first.get("allow")), (&json!("tcp"), None));
    assert_eq!((&first["idle_timeout"], &all["second"]["idle_timeout"]), (&json!("1m"), &json!("2m")));
    let said = comments(&text);
    for why in [
        "*.c.example takes one label here",
        "this file has no TCP backend of that name",
        "servers are not chosen by what a client says",
        "timeout client and server differ",
    ] {
        assert_eq!(said.iter().filter(|line| line.contains(why)).count(), 1, "{why}\n{text}");
    }
    assert_eq!(said.len(), 4, "{text}");
}

#[test]
fn what_haproxy_turns_away_without_a_hello_is_closed() {
    let frontend = |lines: &str| {
        haproxy(&format!(
            "defaults\n timeout client 1m\n timeout server 1m\nfrontend f\n bind :1\n tcp-request inspect-delay 5s\n {lines}\n \
             use_backend b if {{ req.ssl_sni a }}\nbackend b\n server a 10.0.0.5:1\nbackend c\n server a 10.0.0.6:1\n"
        ))
    };
    for (lines, default, plain) in [
        ("", "close", "close"),
        ("default_backend b", "b", "b"),
        ("tcp-request content reject if !{ req.ssl_hello_type 1 }\n default_backend c", "c", "close"),
        (
            "tcp-request content accept if { req.ssl_hello_type 1 }\n tcp-request content reject\n use_backend c",
            "c",
            "close",
        ),
    ] {
        let text = frontend(lines);
        let (entry, _) = routed(&text);
        assert_eq!((&entry["route_default"], &entry["route_plain"]), (&json!(default), &json!(plain)), "{text}");
    }
}

#[test]
fn upstreams_that_a_map_of_nginx_chooses_are_groups_with_routes() {
    let text = nginx(
        "stream {\n proxy_timeout 5m;\n map $ssl_preread_server_name $to {\n hostnames;\n a.example one;\n .b.example one;\n ~^x two;\n \
         \"\" two;\n c.example 10.0.0.8:443;\n default one;\n }\n upstream one { least_conn; server 10.0.0.5:1; }\n \
         upstream two { server 10.0.0.6:1; }\n server { listen 443; allow 10.0.0.0/8; deny all; ssl_preread on; proxy_protocol on; proxy_pass $to; }\n}\n",
    );
    let (entry, all) = routed(&text);
    assert_eq!(
        entry["routes"],
        json!([
            { "sni": ["a.example", "b.example", "*.b.example"], "group": "one" },
            { "sni": null, "group": "two" },
            { "sni": ["c.example"], "group": "10-0-0-8-443" }
        ])
    );
    assert_eq!(
        (&entry["name"], &entry["route_default"], &entry["route_plain"], &entry["servers"], &entry["allow"]),
        (&json!("port-443"), &json!("one"), &json!("two"), &json!([]), &json!(["10.0.0.0/8"]))
    );
    let one = &all["one"];
    assert_eq!(
        (&one["policy"], &one["idle_timeout"], &one["send_proxy"], one.get("allow"), &one["open"]),
        (&json!("least_sessions"), &json!("5m"), &json!("v1"), None, &json!(false))
    );
    assert_eq!(all["10-0-0-8-443"]["servers"], json!(["10.0.0.8:443"]));
    let said = comments(&text);
    assert_eq!(said.len(), 2, "{text}");
    assert!(
        said[0].contains("*.b.example takes one label here")
            && said[1].contains("line 7, ~^x two: a route takes a name")
    );
}

#[test]
fn a_port_for_tls_and_another_protocol_is_imported() {
    let text = nginx(
        "stream {\n map $ssl_preread_protocol $to { \"\" ssh; \"TLSv1.3\" new; default web; }\n upstream ssh { server 10.0.0.5:22; }\n \
         upstream web { server 10.0.0.6:443; }\n server { listen 443; ssl_preread on; proxy_pass $to; }\n}\n",
    );
    let (entry, _) = routed(&text);
    assert_eq!(
        (&entry["routes"], &entry["route_default"], &entry["route_plain"]),
        (&json!([]), &json!("web"), &json!("ssh"))
    );
    assert!(comments(&text)[0].contains("versions do not choose servers"), "{text}");
}
