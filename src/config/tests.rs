//! What the whole module promises about reading: good files, and broken ones with every mistake told.

use std::path::Path;

use super::parse::parse_with;
use super::*;

/// Parses as if in `/etc/goproxy`, with one variable in the environment.
pub(super) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
    parse_with(Path::new("/etc/goproxy/proxy.json"), text, &env).map(|parsed| parsed.config)
}

/// The mistakes of a file, one a line.
fn problems(text: &str) -> String {
    match read(text) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"),
    }
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
