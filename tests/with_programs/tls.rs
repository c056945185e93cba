//! TLS between us and programs that people use: OpenSSL, curl, psql, redis-cli and Redis, HAProxy and nginx.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::proxy_protocol::{NGINX_HEAD, haproxy, nginx};
use super::routes::Postgres;
use super::support::{FakeServer, TestProxy, eventually, pattern, ports, sha256, wait_for};
use super::tls_kit::Authority;
use super::{Background, run};

const NAME: &str = "site.example.com";

/// What a program says on stdout, however it ends; `input` is what it reads.
fn said(program: &str, args: &[&str], input: &[u8]) -> (bool, String) {
    let mut command = Command::new(program);
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed and does not start: {error}"));
    // One that is refused may be gone before it has read everything.
    let _ = child.stdin.take().expect("it is a pipe").write_all(input);
    let output = child.wait_with_output().expect("it is our child");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn path(authority: &Authority, name: &str) -> String {
    authority.path(name).display().to_string()
}

/// A proxy with one group that has these keys and these servers.
fn proxy(group: u16, servers: &[String], keys: Value) -> TestProxy {
    let [admin] = ports();
    let mut settings = json!({ "listen": format!("127.0.0.1:{group}"), "servers": servers });
    settings.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let file = json!({ "admin": { "listen": format!("127.0.0.1:{admin}") }, "groups": [settings] });
    TestProxy::with_file(admin, &file.to_string())
}

#[test]
fn openssl_gets_the_versions_and_names_that_are_configured_and_no_others() {
    let authority = Authority::new();
    let server = FakeServer::echo();
    let [group] = ports();
    let certificates = [authority.issue("site", &[NAME]), authority.issue("other", &["other.example.com"])];
    let tls = json!({ "certificates": certificates, "default": null, "alpn": ["h2"] });
    let _proxy = proxy(group, &[server.addr.to_string()], json!({ "tls": tls }));
    let (ca, to) = (path(&authority, "ca.pem"), format!("127.0.0.1:{group}"));
    let client = |more: &[&str]| {
        let args = ["s_client", "-connect", &to, "-CAfile", &ca, "-verify_return_error"];
        said("openssl", &[&args, more].concat(), b"Q\n")
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let (is_fine, text) = client(&[version, "-servername", NAME, "-verify_hostname", NAME]);
        assert!(is_fine && text.contains("Verify return code: 0 (ok)"), "{version}: {text}");
    }
    let (_, text) =
        client(&["-servername", "other.example.com", "-verify_hostname", "other.example.com", "-alpn", "h2"]);
    assert!(text.contains("ALPN protocol: h2"), "{text}");
    for refused in [
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0", "-servername", NAME][..],
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-servername", NAME],
        &["-tls1_2", "-cipher", "AES128-SHA", "-servername", NAME],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384", "-servername", NAME],
        &["-servername", "far.example.com"],
        &["-noservername"],
        &["-servername", NAME, "-alpn", "http/1.1"],
    ] {
        let (is_fine, text) = client(refused);
        assert!(!is_fine, "{refused:?}: {text}");
    }
    // Five more connections, each with the ticket of the one before.
    let (_, text) = client(&["-tls1_2", "-servername", NAME, "-reconnect"]);
    assert!(text.matches("Reused, TLSv1.2").count() >= 4, "{text}");
}

#[test]
fn openssl_may_not_shake_hands_again_within_a_session() {
    let authority = Authority::new();
    let server = FakeServer::echo();
    let [group] = ports();
    let tls = json!({ "certificates": [authority.issue("site", &[NAME])] });
    let proxy = proxy(group, &[server.addr.to_string()], json!({ "tls": tls }));
    let mut command = Command::new("openssl");
    command.args(["s_client", "-tls1_2", "-servername", NAME, "-connect", &format!("127.0.0.1:{group}")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut openssl = command.spawn().expect("openssl is needed");
    // Its input stays open: it ends because it is refused.
    let mut input = openssl.stdin.take().expect("it is a pipe");
    input.write_all(b"R\n").expect("it reads once it is connected");
    let output = openssl.wait_with_output().expect("it is our child");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    drop(input);
    eventually("no session is left", || proxy.ok("/session-list.do")["total"] == 0);
}

#[test]
fn curl_gets_a_large_page_through_nginx_and_haproxy_behind_and_in_front() {
    let authority = Authority::new();
    let [plain, behind_nginx, behind_haproxy, front_haproxy, front_nginx] = ports();
    let groups: [u16; 4] = ports();
    let home = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let page = pattern(1, 20 << 20);
    fs::write(home[0].path().join("page"), &page).unwrap();
    let site = authority.issue("site", &[NAME]);
    let both = [fs::read(authority.path("site.pem")).unwrap(), fs::read(authority.path("site.key")).unwrap()].concat();
    fs::write(authority.path("both.pem"), both).unwrap();
    let (root, cert, key) = (home[0].path().display(), path(&authority, "site.pem"), path(&authority, "site.key"));
    let (both, ca) = (path(&authority, "both.pem"), path(&authority, "ca.pem"));
    let in_nginx = format!(
        "user root;\n{NGINX_HEAD}http {{ access_log off; server {{ listen 127.0.0.1:{plain};\n\
         listen 127.0.0.1:{behind_nginx} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; root {root}; }} }}\n\
         stream {{ server {{ listen 127.0.0.1:{front_nginx}; proxy_pass 127.0.0.1:{}; proxy_ssl on;\n\
         proxy_ssl_server_name on; proxy_ssl_name {NAME}; proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca}; }} }}\n",
        groups[0]
    );
    let in_haproxy = format!(
        "defaults\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n mode tcp\n\
         listen behind\n bind 127.0.0.1:{behind_haproxy} ssl crt {both}\n server nginx 127.0.0.1:{plain}\n\
         listen front\n bind 127.0.0.1:{front_haproxy}\n\
         server goproxy 127.0.0.1:{} ssl verify required ca-file {ca} sni str({NAME})\n",
        groups[0]
    );
    let _running = (nginx(home[0].path(), &in_nginx), haproxy(home[1].path(), &in_haproxy));
    let (tls, server_tls) = (json!({ "certificates": [site] }), json!({ "ca": ca, "name": NAME }));
    let server = |port: u16| vec![format!("127.0.0.1:{port}")];
    let _proxies = [
        proxy(groups[0], &server(plain), json!({ "tls": tls })),
        proxy(groups[1], &server(behind_nginx), json!({ "server_tls": server_tls })),
        proxy(groups[2], &server(behind_haproxy), json!({ "server_tls": server_tls })),
        proxy(groups[3], &server(behind_nginx), json!({ "server_tls": server_tls, "tls": tls })),
    ];
    let fetched = home[1].path().join("fetched");
    let out = fetched.display().to_string();
    for (scheme, port) in [
        ("https", groups[0]),
        ("http", groups[1]),
        ("http", groups[2]),
        ("https", groups[3]),
        ("http", front_haproxy),
        ("http", front_nginx),
    ] {
        let (url, resolve) = (format!("{scheme}://{NAME}:{port}/page"), format!("{NAME}:{port}:127.0.0.1"));
        let args = ["-sSf", "--max-time", "60", "--resolve", &resolve, "--cacert", &ca, "-o", &out, &url];
        eventually(&url, || said("curl", &args, b"").0);
        assert!(sha256(&fs::read(&fetched).unwrap()) == sha256(&page), "{url}");
    }
}

#[test]
fn redis_cli_speaks_tls_to_us_and_we_to_redis() {
    let authority = Authority::new();
    let [redis, first, second] = ports();
    let site = authority.issue("site", &[NAME]);
    let (ca, cert, key) = (path(&authority, "ca.pem"), path(&authority, "site.pem"), path(&authority, "site.key"));
    let folder = authority.folder().display().to_string();
    let port = redis.to_string();
    let mut server = Command::new("redis-server");
    server.args(["--port", "0", "--tls-port", &port, "--bind", "127.0.0.1", "--save", "", "--dir", &folder]);
    server.args([
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
    ]);
    let _redis = Background::start(&mut server);
    let mine = json!({ "ca": ca, "name": NAME, "cert": cert, "key": key });
    let back = [format!("127.0.0.1:{redis}")];
    let _proxies = [
        proxy(first, &back, json!({ "server_tls": mine })),
        proxy(second, &back, json!({ "server_tls": mine, "tls": { "certificates": [site] } })),
    ];
    let value = "x".repeat(100_000);
    let plain = |words: &[&str]| {
        let port = first.to_string();
        said("redis-cli", &[&["-p", &port], words].concat(), b"").1.trim().to_owned()
    };
    wait_for("Redis answers through us", || (plain(&["PING"]) == "PONG").then_some(()));
    assert_eq!(plain(&["SET", "key", &value]), "OK");
    let port = second.to_string();
    let args = ["-p", &port, "--tls", "--sni", NAME, "--cacert", &ca, "GET", "key"];
    assert_eq!(run("redis-cli", &args).trim(), value);
}

#[test]
fn haproxy_behind_us_hears_which_name_the_client_asked_for() {
    let authority = Authority::new();
    let [behind, group] = ports();
    let home = tempfile::tempdir().unwrap();
    let in_haproxy = format!(
        "defaults\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n mode http\n\
         listen behind\n bind 127.0.0.1:{behind} accept-proxy\n http-request return status 200 \
         content-type text/plain lf-string \"%[fc_pp_authority] %[src]\"\n"
    );
    let _running = haproxy(home.path(), &in_haproxy);
    let tls = json!({ "certificates": [authority.issue("site", &[NAME])] });
    let _proxy = proxy(group, &[format!("127.0.0.1:{behind}")], json!({ "tls": tls, "send_proxy": "v2" }));
    let (url, resolve) = (format!("https://{NAME}:{group}/"), format!("{NAME}:{group}:127.0.0.1"));
    let ca = path(&authority, "ca.pem");
    let args = ["-sSf", "--max-time", "60", "--resolve", &resolve, "--cacert", &ca, &url];
    let page = wait_for("HAProxy answers", || Some(said("curl", &args, b"")).filter(|(is_fine, _)| *is_fine)).1;
    assert_eq!(page, format!("{NAME} 127.0.0.1"));
}

#[test]
fn psql_speaks_tls_to_us_and_we_plain_bytes_to_postgresql() {
    let (authority, ours) = (Authority::new(), Authority::new());
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let [port, group, known] = ports();
    let _postgres = Postgres::new(home.path(), "plain.test", port);
    let certificates = [authority.issue("site", &[NAME])];
    let keys = |more: Value| {
        let mut tls = json!({ "certificates": certificates });
        tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "starttls": "postgresql", "tls": tls })
    };
    let servers = [format!("127.0.0.1:{port}")];
    let asking = json!({ "client_auth": "require", "client_ca": ours.path("ca.pem") });
    let _proxies = [proxy(group, &servers, keys(json!({}))), proxy(known, &servers, keys(asking))];
    let ask = |host: &str, port: u16, more: &str, query: &str| {
        let to = format!("host={host} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres {more}");
        said("psql", &["-X", "-A", "-t", "-c", query, &to], b"")
    };
    let root = format!("sslrootcert={}", path(&authority, "ca.pem"));
    let query = "select 'is ' || ssl from pg_stat_ssl where pid = pg_backend_pid()";
    for mode in ["sslmode=require", "sslmode=prefer", &format!("sslmode=verify-full {root}")] {
        assert_eq!(ask(NAME, group, mode, query), (true, "is false\n".to_owned()), "{mode}");
    }
    let (_, large) = ask(NAME, group, "sslmode=require", "select repeat('0123456789abcdef', 500000)");
    assert_eq!(large.trim().len(), 8_000_000);
    for (host, more) in [("other.example.com", format!("sslmode=verify-full {root}")), (NAME, "sslmode=disable".into())]
    {
        let (is_fine, text) = ask(host, group, &more, query);
        assert!(!is_fine, "{host} {more}: {text}");
    }
    // With a certificate of its own, which psql reads only where nobody else may.
    ours.issue("alice", &["alice"]);
    fs::set_permissions(ours.path("alice.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let mine = format!("sslmode=require sslcert={} sslkey={}", path(&ours, "alice.pem"), path(&ours, "alice.key"));
    assert_eq!(ask(NAME, known, &mine, query), (true, "is false\n".to_owned()));
    assert!(!ask(NAME, known, "sslmode=require", query).0);
}
