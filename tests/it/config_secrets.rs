//! Secrets that are kept in files of their own: the new one opens and the old one does not, soon after the file has changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use rustix::process::Signal;

use crate::support::{TestProxy, eventually, ports, replace};

fn status(proxy: &TestProxy, target: &str, token: &str) -> u16 {
    proxy.request("GET", target, &format!("Authorization: Bearer {token}\r\n"), b"").status
}

/// Waits until `new` opens and `old` does not.
#[track_caller]
fn taken_over(proxy: &TestProxy, target: &str, old: &str, new: &str) {
    eventually(&format!("{new} opens {target}"), || status(proxy, target, new) == 200);
    assert_eq!(status(proxy, target, old), 401, "{old} on {target}");
}

#[test]
fn a_secret_in_a_file_is_looked_up_again_when_the_file_changes() {
    let [admin, group] = ports();
    let home = Arc::new(tempfile::tempdir().unwrap());
    let path = home.path().join("proxy.json");
    let (token, register) = (home.path().join("token"), home.path().join("secrets/register"));
    // As Kubernetes mounts secrets: a link to a folder, which is swapped.
    for version in ["1", "2"] {
        fs::create_dir_all(home.path().join("secrets").join(version)).unwrap();
        fs::write(home.path().join("secrets").join(version).join("register"), format!("register-{version}\n")).unwrap();
    }
    let data = home.path().join("secrets/data");
    symlink("1", &data).unwrap();
    symlink("data/register", &register).unwrap();
    fs::write(&token, "first\n").unwrap();
    fs::write(
        &path,
        format!(
            r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}", "token": "file:token", "register_token": "file:secrets/register" }},
                 "groups": [ {{ "listen": "127.0.0.1:{group}", "servers": [ "127.0.0.1:1" ] }} ] }}"#
        ),
    )
    .unwrap();
    let mut proxy = TestProxy::with_file_at(home, path, admin);
    // It does not list them without the token.
    proxy.may_leave_sessions();
    let list = "/group-list.do";
    assert_eq!((status(&proxy, list, "first"), status(&proxy, list, "second")), (200, 401));

    fs::write(&token, "second\n").unwrap();
    taken_over(&proxy, list, "first", "second");
    eventually("the log says what changed", || proxy.log.count("admin.token") == 1);
    replace(&token, "third");
    taken_over(&proxy, list, "second", "third");

    let beat = format!("/worker-keepalive.do?group={group}&server=127.0.0.1:1");
    assert_eq!(status(&proxy, &beat, "register-1"), 200);
    symlink("2", data.with_extension("new")).unwrap();
    fs::rename(data.with_extension("new"), &data).unwrap();
    taken_over(&proxy, &beat, "register-1", "register-2");
    eventually("the log says what changed", || proxy.log.count("admin.register_token") == 1);

    // One that is gone or empty changes nothing, and is told once. Everything else can still be changed.
    let spoil: [(&str, &str, &dyn Fn()); 2] = [
        ("the secret is empty", "ha", &|| fs::write(&token, "").unwrap()),
        ("cannot read the secret", "maglev", &|| fs::remove_file(&token).unwrap()),
    ];
    for (told, (said, policy, spoil)) in spoil.into_iter().enumerate() {
        spoil();
        eventually("the log says so", || proxy.log.count(said) == 1);
        assert_eq!((status(&proxy, list, "third"), status(&proxy, list, "")), (200, 401));
        let change = format!("/group-policy.do?group={group}&policy={policy}");
        assert_eq!(status(&proxy, &change, "third"), 200, "{}", proxy.log.text());
        assert_eq!(status(&proxy, "/config-reload.do", "third"), 200);
        assert_eq!(proxy.log.count(said), 1, "{}", proxy.log.text());
        assert_eq!(proxy.log.count("the former one stays in force"), told + 1);
    }
    fs::write(&token, "fourth").unwrap();
    taken_over(&proxy, list, "third", "fourth");
    eventually("the log says so", || proxy.log.count("secrets can be read again") == 1);
    assert_eq!(status(&proxy, &beat, "register-2"), 200);
}

#[test]
fn a_reload_says_that_a_secret_is_another() {
    let [admin] = ports();
    let home = Arc::new(tempfile::tempdir().unwrap());
    let (path, token) = (home.path().join("proxy.json"), home.path().join("token"));
    fs::write(&token, "first").unwrap();
    fs::write(&path, format!(r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}", "token": "file:token" }} }}"#)).unwrap();
    let mut proxy = TestProxy::with_file_at(home, path, admin);
    // It does not list them without the token.
    proxy.may_leave_sessions();
    // In one step: an empty file would be told of, too.
    replace(&token, "second");
    proxy.signal(Signal::HUP);
    taken_over(&proxy, "/group-list.do", "first", "second");
    let reply = proxy.request("GET", "/config-reload.do", "Authorization: Bearer second\r\n", b"");
    assert_eq!(reply.status, 200, "{}", reply.json());
    eventually("the log says what changed", || proxy.log.count("admin.token") == 1);
}
