//! Routes between programs that speak TLS: openssl and curl by name, PostgreSQL by its own way to ask for TLS.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::support::{Client, TestProxy, eventually, goproxy, ports};
use super::{Background, run};

/// A key and a certificate for a name, in one file.
fn certificate(home: &Path, name: &str) -> PathBuf {
    let (key, cert, both) = (home.join("key"), home.join("cert"), home.join(format!("{name}.pem")));
    let subject = format!("/CN={name}");
    let names = format!("subjectAltName=DNS:{name}");
    let args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let paths =
        ["-keyout", key.to_str().unwrap(), "-out", cert.to_str().unwrap(), "-subj", &subject, "-addext", &names];
    run("openssl", &[&args[..], &paths].concat());
    fs::write(&both, [fs::read(key).unwrap(), fs::read(cert).unwrap()].concat()).unwrap();
    both
}

/// A web server of openssl, which shows who asks.
fn web_server(certificate: &Path, port: u16) -> Background {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}"), "-cert"]).arg(certificate);
    let server = Background::start(&mut openssl);
    eventually("the server is up", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    server
}

#[test]
fn openssl_and_curl_reach_the_server_of_the_name_they_ask_for() {
    let [admin, group, one, two, other] = ports();
    let home = tempfile::tempdir().unwrap();
    let servers = [("one.test", one), ("two.test", two), ("other.test", other)];
    let certificates = servers.map(|(name, _)| certificate(home.path(), name));
    let _servers: Vec<Background> =
        servers.iter().zip(&certificates).map(|((_, port), certificate)| web_server(certificate, *port)).collect();
    let [first, second] = ports::<2>();
    let proxy = TestProxy::with_file(
        admin,
        &format!(
            r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [
                {{ "listen": "127.0.0.1:{group}", "servers": ["127.0.0.1:{other}"], "routes": [
                    {{ "sni": ["one.test"], "group": {first} }}, {{ "sni": ["*.test"], "alpn": ["two"], "group": {second} }} ] }},
                {{ "listen": "127.0.0.1:{first}", "open": false, "servers": ["127.0.0.1:{one}"] }},
                {{ "listen": "127.0.0.1:{second}", "open": false, "servers": ["127.0.0.1:{two}"] }} ] }}"#
        ),
    );
    let connect = format!("127.0.0.1:{group}");
    for version in ["-tls1_2", "-tls1_3"] {
        for (asked, alpn, subject) in [
            (&["-servername", "one.test"][..], "h2", "one.test"),
            (&["-servername", "x.test"], "h2,two", "two.test"),
            (&["-servername", "x.test"], "h2", "other.test"),
            (&["-noservername"], "two", "other.test"),
        ] {
            let args = [&["s_client", "-connect", &connect, version, "-alpn", alpn][..], asked].concat();
            let said = run("openssl", &args);
            assert!(said.contains(&format!("subject=CN = {subject}")), "{args:?}: {said}");
        }
    }
    for ((name, _), certificate) in servers.iter().zip(&certificates).filter(|((name, _), _)| *name != "two.test") {
        let (url, to) = (format!("https://{name}:{group}/"), format!("{name}:{group}:127.0.0.1"));
        let args = ["-sS", "-f", "--cacert", certificate.to_str().unwrap(), "--resolve", &to, &url];
        assert!(run("curl", &args).contains("s_server"), "{name}");
    }
    eventually("no session is left", || proxy.ok("/session-list.do")["total"] == 0);
    // Who checks certificates sees that nobody stands in between.
    proxy.log.wait_for("the name is told", |line| line.as_str().is_some_and(|line| line.contains("tls.sni=one.test")));
}

/// A PostgreSQL of its own, which is called by its name.
pub(super) struct Postgres {
    name: &'static str,
    home: PathBuf,
    port: u16,
    running: Option<Background>,
}

const BIN: &str = "/usr/lib/postgresql/15/bin";

impl Postgres {
    pub(super) fn new(home: &Path, name: &'static str, port: u16) -> Self {
        let certificate = certificate(home, name);
        let data = home.join(format!("{name}-data"));
        fs::create_dir(&data).unwrap();
        run("chown", &["postgres", data.to_str().unwrap()]);
        let as_user = |args: &[&str]| run("runuser", &[&["-u", "postgres", "--"], args].concat());
        as_user(&[&format!("{BIN}/initdb"), "-D", data.to_str().unwrap(), "-A", "trust", "-N"]);
        let server = data.join("server.pem");
        fs::copy(certificate, &server).unwrap();
        fs::set_permissions(&server, fs::Permissions::from_mode(0o600)).unwrap();
        run("chown", &["postgres", server.to_str().unwrap()]);
        let mut postgres = Self { name, home: data, port, running: None };
        postgres.start();
        postgres
    }

    fn start(&mut self) {
        let settings = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.home.display()),
            format!("cluster_name={}", self.name),
            "ssl=on".to_owned(),
            "ssl_cert_file=server.pem".to_owned(),
            "ssl_key_file=server.pem".to_owned(),
        ];
        let mut postgres = Command::new("setpriv");
        postgres.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
        postgres.arg(format!("{BIN}/postgres")).arg("-D").arg(&self.home).current_dir(&self.home);
        postgres.args(settings.iter().flat_map(|setting| ["-c", setting]));
        self.running = Some(Background::start(&mut postgres));
        let port = self.port.to_string();
        eventually("it is up", || {
            Command::new("pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status()
                .is_ok_and(|it| it.success())
        });
    }

    /// Ends it at once, with all its clients.
    fn stop(&mut self) {
        let data = self.home.to_str().unwrap();
        run("runuser", &["-u", "postgres", "--", &format!("{BIN}/pg_ctl"), "-D", data, "-m", "immediate", "stop"]);
        self.running = None;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.running.is_some() && !std::thread::panicking() {
            self.stop();
        }
    }
}

#[test]
fn psql_reaches_the_server_of_the_name_it_asks_for() {
    let [admin, group, one, two] = ports();
    let [first, second] = ports::<2>();
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut servers = [("one.test", one), ("two.test", two)].map(|(name, port)| Postgres::new(home.path(), name, port));
    let proxy = TestProxy::with_file(
        admin,
        &format!(
            r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [
                {{ "listen": "127.0.0.1:{group}", "starttls": "postgresql", "route_default": "close", "route_plain": {second},
                   "routes": [ {{ "sni": ["one.test"], "group": {first} }}, {{ "sni": ["two.test"], "group": {second} }} ] }},
                {{ "listen": "127.0.0.1:{first}", "open": false, "servers": ["127.0.0.1:{one}"] }},
                {{ "listen": "127.0.0.1:{second}", "open": false, "servers": ["127.0.0.1:{two}"] }} ] }}"#
        ),
    );
    let connection = |name: &str, mode: &str| {
        format!(
            "host={name} hostaddr=127.0.0.1 port={group} user=postgres dbname=postgres gssencmode=prefer sslmode={mode}"
        )
    };
    let ask =
        |name: &str, mode: &str, query: &str| run("psql", &["-X", "-A", "-t", "-c", query, &connection(name, mode)]);
    let who = |name: &str, mode: &str| {
        let query =
            "select current_setting('cluster_name'), (select ssl from pg_stat_ssl where pid = pg_backend_pid())";
        ask(name, mode, query).trim().to_owned()
    };
    let check_all = || {
        for mode in ["require", "prefer"] {
            assert_eq!(
                (who("one.test", mode), who("two.test", mode)),
                ("one.test|t".to_owned(), "two.test|t".to_owned())
            );
        }
        assert_eq!(who("one.test", "disable"), "two.test|f");
        // Who checks certificates sees that of the server.
        for name in ["one.test", "two.test"] {
            let root = home.path().join(format!("{name}.pem"));
            let verifying = format!("verify-full sslrootcert={}", root.display());
            assert_eq!(who(name, &verifying), format!("{name}|t"));
        }
    };
    check_all();
    // Large answers and questions arrive whole.
    let md5 = |text: &str| ask("one.test", "require", &format!("select md5({text})")).trim().to_owned();
    let large = ask("one.test", "require", "select repeat('0123456789abcdef', 500000)");
    assert_eq!(large.trim().len(), 8_000_000);
    assert_eq!(md5(&format!("'{}'", "x".repeat(100_000))), md5("repeat('x', 100000)"));
    for server in &mut servers {
        server.stop();
        server.start();
    }
    check_all();
    let refused =
        Command::new("psql").args(["-X", "-c", "select 1", &connection("nobody.test", "require")]).output().unwrap();
    assert!(!refused.status.success());
    eventually("it is told", || proxy.log.count("end=no_route") == 1 && proxy.log.count("tls.sni=nobody.test") == 1);
    eventually("no session is left", || proxy.ok("/session-list.do")["total"] == 0);
}

/// Through a name the file shows no circle, and each round would take another two descriptors.
#[test]
fn a_route_that_leads_back_ends_its_client() {
    let [admin, group, round] = ports();
    let home = Arc::new(tempfile::tempdir().unwrap());
    fs::write(home.path().join("hosts"), "127.0.0.1 localhost around.test\n").unwrap();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [
            {{ "listen": "127.0.0.1:{group}", "route_plain": {round}, "routes": [] }},
            {{ "listen": "127.0.0.1:{round}", "open": false, "servers": ["around.test:{group}"] }} ] }}"#
    );
    let path = home.path().join("proxy.json");
    fs::write(&path, text).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind $0/hosts /etc/hosts && exec \"$@\""]);
    command.arg(home.path()).arg(goproxy().get_program());
    let proxy = TestProxy::with_command(command, home, path, admin);
    eventually("the name is known", || proxy.online(round).len() == 1);
    let mut client = Client::connect(([127, 0, 0, 1], group).into());
    client.send(b"plain");
    assert_eq!(client.receive_some(1), b"");
    eventually("it is told", || proxy.log.count("end=loop") == 1);
}
