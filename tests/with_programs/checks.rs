//! Checks of real servers: each passes, leaves no line in the server's log and ends in order.
//!
//! `checks.sh` has the server, the proxy and a network namespace. `GOPROXY_CHECKS` says how many checks there are of
//! each kind.

use super::run;

/// The example of a kind in the documents.
fn documented(kind: &str) -> &'static str {
    let begins = format!("\"check\": {{ \"kind\": \"{kind}\"");
    let mut lines = include_str!("../../docs/operate.md").lines().filter(|line| line.starts_with(&begins));
    lines.next().and_then(|line| line.strip_prefix("\"check\": ")).expect("an example of the kind")
}

/// Has a program checked so, many times.
#[track_caller]
fn leaves_no_trace(program: &str, check: &str) {
    let count = std::env::var("GOPROXY_CHECKS").unwrap_or_else(|_| "100".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/with_programs/checks.sh");
    let check = check.replacen('{', "{ \"interval\": \"1h\", ", 1);
    // Root needs no namespace of users, and PostgreSQL a user who is not root.
    let is_root = rustix::process::geteuid().is_root();
    let own: &[&str] = if is_root { &["--net", "--mount"] } else { &["--net", "--mount", "--map-root-user"] };
    let command = [script, env!("CARGO_BIN_EXE_goproxy"), program, &check, &count];
    let said = run("unshare", &[own, &command].concat());
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(last, format!("passed={count} lines=0 aborted=0 cut=0"), "{program}, {check}");
}

#[test]
fn checks_of_redis_leave_no_trace() {
    leaves_no_trace("redis", r#"{ "kind": "redis", "role": "master" }"#);
    leaves_no_trace("redis", documented("exchange"));
    leaves_no_trace("redis-password", r#"{ "kind": "redis" }"#);
    leaves_no_trace("redis-password", documented("redis"));
}

#[test]
fn checks_of_postgresql_leave_no_trace() {
    leaves_no_trace("postgresql", documented("postgresql"));
    leaves_no_trace("postgresql", r#"{ "kind": "postgresql", "user": "nobody_knows" }"#);
    leaves_no_trace("postgresql-trust", r#"{ "kind": "postgresql" }"#);
    leaves_no_trace("postgresql", r#"{ "kind": "tcp" }"#);
}

#[test]
fn checks_of_mariadb_leave_no_trace_and_lock_nobody_out() {
    leaves_no_trace("mariadb", documented("mysql"));
}

#[test]
fn checks_of_nginx_leave_no_trace() {
    leaves_no_trace("nginx", documented("http"));
    leaves_no_trace("nginx", r#"{ "kind": "http", "path": "/large", "method": "HEAD" }"#);
    for version in ["v1", "v2"] {
        let http = format!("{{ \"kind\": \"http\", \"path\": \"/health\", \"send_proxy\": \"{version}\" }}");
        leaves_no_trace("nginx-proxy", &http);
        leaves_no_trace("nginx-proxy", &format!("{{ \"kind\": \"tcp\", \"send_proxy\": \"{version}\" }}"));
    }
}
