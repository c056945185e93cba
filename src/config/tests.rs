//! What the whole module promises about reading: good files, and broken ones with every mistake told.

use std::path::Path;

use std::time::Duration;

use super::key::Kind;
use super::read::parse_with;
use super::*;
use crate::server::ServerSettings;

mod broken;
mod checks;
mod edits;
mod one_key;
mod overlays;
mod routes;
mod shipped;

/// The file that is shipped.
const SHIPPED: &str = include_str!("../../config/proxy.json");

/// Where the files of these tests are said to be.
const PATH: &str = "/etc/goproxy/proxy.json";

/// The whole configuration, secrets included.
fn dumped(config: &Config) -> String {
    dump(config, Path::new(PATH), true)
}

/// Parses as if in `/etc/goproxy`, with one variable in the environment.
pub(super) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
    parse_with(Path::new(PATH), text, None, &env)
}

#[test]
fn an_empty_object_has_every_default() {
    let config = read("{}").unwrap();
    assert_eq!(config.admin.listen, AdminListen::Tcp("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(config.log.status_interval, Duration::from_secs(5));
    assert_eq!(config.policies_dir, Path::new("/etc/goproxy/policies"));
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
fn groups_and_servers_have_names_and_a_group_several_addresses() {
    let config = read(
        r#"{ "groups": [
             { "name": "web", "listen": ["127.0.0.1:8081", "[::1]:8082"], "servers": [ { "addr": "a:1", "name": "db-1" }, "b:1" ] },
             { "name": "shop", "listen": "127.0.0.1:8083" },
             { "name": "other", "listen": "127.0.0.2:8083" },
             { "listen": "[::1]:8084" } ] }"#,
    )
    .unwrap();
    let ids: Vec<String> = config.groups.iter().map(|group| group.settings.id().to_string()).collect();
    assert_eq!(ids, ["web", "shop", "other", "8084"]);
    assert_eq!(config.groups[0].settings.listen.to_string(), "127.0.0.1:8081, [::1]:8082");
    let names: Vec<_> =
        config.groups[0].servers.iter().map(|server| server.name.as_deref().map(String::as_str)).collect();
    assert_eq!(names, [Some("db-1"), None]);
    assert_eq!(read(&dumped(&config)).unwrap(), config);
}

#[test]
fn a_policy_is_read_in_both_forms() {
    let policy = |policy: &str| {
        let config = read(&format!("{{ \"groups\": [ {{ \"listen\": \"0.0.0.0:1\", \"policy\": {policy} }} ] }}"));
        config.unwrap().groups.remove(0).settings.policy
    };
    let plain = policy("\"wasm:mine-2.1\"");
    assert_eq!(plain.name(), "wasm:mine-2.1");
    // The table's defaults are those of a module of which only the name is known.
    assert_eq!(policy(r#"{ "wasm": "mine-2.1" }"#), plain);
    assert_eq!(policy(r#"{ "wasm": "mine-2.1", "config": { }, "deadline": "0.005s", "sha256": null }"#), plain);

    let full = policy(
        r#"{ "fallback": "maglev", "deadline": "1s", "memory": "64KiB", "compile_budget": "3s", "wasm": "m",
             "sha256": "00FfAb4298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b801",
             "config": { "z": 1.50, "a\u00e4\n": [-0, 12345678901234567890, true, null, "x\\\"/"], // no
                         "b" : { "c": 1E+400, } } }"#,
    );
    let module = full.as_module().unwrap();
    assert_eq!((full.name(), module.fallback), ("wasm:m", "maglev"));
    assert_eq!((module.deadline, module.memory), (Duration::from_secs(1), 64 << 10));
    assert_eq!(module.compile_budget, Duration::from_secs(3));
    assert_eq!(module.sha256.map(|sha256| (sha256[..4].to_owned(), sha256[31])), Some((vec![0, 0xff, 0xab, 0x42], 1)));
    assert_eq!(module.config, r#"{"z":1.50,"aä\n":[-0,12345678901234567890,true,null,"x\\\"/"],"b":{"c":1E+400}}"#);
    assert_eq!(policy(&kinds::policy().write(&full, &key::Style::default())), full);
}

#[test]
fn a_group_takes_the_policy_of_defaults_whole_or_not_at_all() {
    let config = read(
        r#"{ "defaults": { "policy": { "wasm": "m", "config": { "zone": "a" } } },
             "groups": [ { "listen": "0.0.0.0:1" }, { "listen": "0.0.0.0:2", "policy": { "wasm": "m" } } ] }"#,
    )
    .unwrap();
    let configs: Vec<&str> =
        config.groups.iter().map(|group| group.settings.policy.as_module().unwrap().config.as_str()).collect();
    assert_eq!(configs, [r#"{"zone":"a"}"#, "{}"]);
}

#[test]
fn a_dump_says_of_a_policy_what_its_name_does_not() {
    let text = r#"{ "groups": [ { "listen": "0.0.0.0:1", "policy": { "wasm": "m" } }, { "listen": "0.0.0.0:2", "policy":
        { "sha256": "SUM", "memory": "1024KiB", "deadline": "7.5ms", "config": { "a": [ 1 ] }, "wasm": "m", "fallback": "ha" } } ] }"#
        .replace("SUM", &"0A".repeat(32));
    let config = read(&text).unwrap();
    let dump = dumped(&config);
    assert!(dump.contains("\"policy\": \"wasm:m\",\n"), "{dump}");
    let object = r#""policy": { "wasm": "m", "config": {"a":[1]}, "fallback": "ha", "deadline": "7.500000ms", "memory": "1MiB", "sha256": "SUM" },"#;
    assert!(dump.contains(&object.replace("SUM", &"0a".repeat(32))), "{dump}");
    assert_eq!(read(&dump).unwrap(), config);
}

#[test]
fn secrets_are_looked_up_and_their_references_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("register"), "fr0m file".replace(' ', "-") + "\r\n").unwrap();
    let text = r#"{ "admin": { "listen": "0.0.0.0:1", "token": "env:TOKEN", "register_token": "file:register" } }"#;
    let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
    let config = parse_with(&folder.path().join("proxy.json"), text, None, &env).unwrap();
    assert_eq!(config.admin.token.as_ref().unwrap().expose(), "s3cret");
    assert_eq!(config.admin.register_token.as_ref().unwrap().expose(), "fr0m-file");
    let dump = dumped(&config);
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
    assert_eq!(group.settings.listen.to_string(), "0.0.0.0:8081");
    assert!(group.settings.open && group.servers.is_empty());
    assert_eq!(group.settings.policy.name(), "ha");
    assert_eq!(group.settings.idle_timeout, Duration::from_secs(3));
    assert_eq!(group.settings.heartbeat_timeout, Duration::from_secs(7));
    for (policy, name) in [("2", "round_robin"), ("\"3\"", "ip_hash"), ("\"maglev\"", "maglev")] {
        let config = read(&text.replace("\"lbpolicy\":1", &format!("\"lbpolicy\":{policy}"))).unwrap();
        assert_eq!(config.groups[0].settings.policy.name(), name);
    }
    assert_eq!(read(&dumped(&config)).unwrap(), Config { is_legacy: false, ..config });
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_fine() {
    let config = read("\u{feff}{\r\n  // ä\r\n  \"threads\": 2,\r\n}\r\n").unwrap();
    assert_eq!(config.threads, 2);
}
