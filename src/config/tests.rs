//! What the whole module promises about reading: good files, and broken ones with every mistake told.

use std::path::Path;

use super::parse::parse_with;
use super::*;

mod broken;
mod edits;
mod shipped;

/// The file that is shipped.
const SHIPPED: &str = include_str!("../../config/proxy.json");

/// Parses as if in `/etc/goproxy`, with one variable in the environment.
pub(super) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
    parse_with(Path::new("/etc/goproxy/proxy.json"), text, &env).map(|parsed| parsed.config)
}

#[test]
fn an_empty_object_has_every_default() {
    let config = read("{}").unwrap();
    assert_eq!(config.admin.listen, AdminListen::Tcp("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(config.log.status_interval, Duration::from_secs(5));
    assert_eq!(config.policies_dir, Path::new("/etc/goproxy/../policies"));
    assert_eq!(config.policy_max_bytes, 8 << 20);
    assert!(config.groups.is_empty() && !config.is_legacy);
}

#[test]
fn a_group_takes_defaults_where_it_says_nothing() {
    let config = read(
        r#"{ "defaults": { "open": false, "policy": "ha", "idle_timeout": "0s" },
             "groups": [ { "listen": "[::]:8081", "policy": "p2c" }, { "listen": "10.0.0.1:8082", "open": true } ] }"#,
    )
    .unwrap();
    let [first, second] = &config.groups[..] else { panic!("two groups") };
    assert_eq!((first.settings.open, first.settings.policy.name()), (false, "p2c"));
    assert_eq!((second.settings.open, second.settings.policy.name()), (true, "ha"));
    assert_eq!((first.settings.idle_timeout, second.settings.connect_attempts), (Duration::ZERO, 3));
}

#[test]
fn a_server_is_read_in_both_forms() {
    let config = read(
        r#"{ "groups": [ { "listen": "0.0.0.0:8081", "servers": [
             "DB1.internal:9000",
             { "addr": "[::1]:9000", "weight": 3, "backup": true, "max_sessions": 7, "state": "maint",
               "labels": { "zone": "a", "x": "" }, "origin": "heartbeat" }, ] } ] }"#,
    )
    .unwrap();
    let [plain, full] = &config.groups[0].servers[..] else { panic!("two servers") };
    assert_eq!(*plain, ServerSettings::new("db1.internal:9000".parse().unwrap(), crate::server::Origin::File));
    assert_eq!((full.weight, full.backup, full.max_sessions), (3, true, 7));
    assert_eq!((full.state, full.origin), (crate::server::State::Maint, crate::server::Origin::Heartbeat));
    assert_eq!(full.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["x=", "zone=a"]);
}

#[test]
fn secrets_are_looked_up_and_their_references_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("register"), "fr0m file".replace(' ', "-") + "\r\n").unwrap();
    let text = r#"{ "admin": { "listen": "0.0.0.0:1", "token": "env:TOKEN", "register_token": "file:register" } }"#;
    let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
    let config = parse_with(&folder.path().join("proxy.json"), text, &env).unwrap().config;
    assert_eq!(config.admin.token.as_ref().unwrap().expose(), "s3cret");
    assert_eq!(config.admin.register_token.as_ref().unwrap().expose(), "fr0m-file");
    let dump = dump(&config);
    assert!(dump.contains("\"env:TOKEN\"") && dump.contains("\"file:register\""), "{dump}");
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn the_old_form_means_what_it_meant() {
    let text = r#"{"httpport":"8080","tcpport":8081,"pprofport":"8082","lbpolicy":1,"rwtimeout":"3s",
        "printinterval":"5s","heartbeatkeepalive":"7s","alivecheckinterval":"2.5s","handlebuffer":1024}"#;
    let config = read(text).unwrap();
    assert!(config.is_legacy);
    assert_eq!(config.admin.listen, AdminListen::Tcp("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(config.admin.pprof_listen, Some("127.0.0.1:8082".parse().unwrap()));
    assert_eq!(config.log.status_interval, Duration::from_secs(5));
    let [group] = &config.groups[..] else { panic!("one group") };
    assert_eq!(group.settings.listen, "0.0.0.0:8081".parse().unwrap());
    assert!(group.settings.open && group.servers.is_empty());
    assert_eq!(group.settings.policy.name(), "ha");
    assert_eq!(group.settings.idle_timeout, Duration::from_secs(3));
    assert_eq!(group.settings.heartbeat_timeout, Duration::from_secs(7));
    for (policy, name) in [("2", "round_robin"), ("\"3\"", "ip_hash"), ("\"maglev\"", "maglev")] {
        let config = read(&text.replace("\"lbpolicy\":1", &format!("\"lbpolicy\":{policy}"))).unwrap();
        assert_eq!(config.groups[0].settings.policy.name(), name);
    }
    let dumped = read(&dump_for(&config, Path::new("/etc/goproxy/proxy.json"))).unwrap();
    assert_eq!(dumped, Config { is_legacy: false, ..config });
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_fine() {
    let config = read("\u{feff}{\r\n  // ä\r\n  \"threads\": 2,\r\n}\r\n").unwrap();
    assert_eq!(config.threads, 2);
}
