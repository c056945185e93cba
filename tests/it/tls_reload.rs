//! Certificates that are replaced while clients come, in every way that a renewal may do it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{FakeServer, Group, TestProxy, eventually, run, size, spawn};
use crate::tls_kit::{Authority, TlsClient, first_of};

const NAME: &str = "db.example.com";

/// A proxy with the certificate of these two files, and clients that come all the time.
struct Bench {
    authority: Arc<Authority>,
    proxy: TestProxy,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Option<std::thread::JoinHandle<()>>,
}

impl Bench {
    fn new(authority: Authority, cert: &Path, key: &Path) -> Self {
        let server = FakeServer::echo();
        let tls = json!({ "certificates": [{ "cert": cert, "key": key }] });
        let proxy = TestProxy::start(Group::new("ha", &[&server]).with("tls", tls));
        let (stop, served, authority) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::new(authority));
        let (addr, config) = (proxy.addr(), authority.client());
        let (is_over, count): (_, Arc<AtomicUsize>) = (Arc::clone(&stop), Arc::clone(&served));
        let clients = spawn(move || {
            let _server = server;
            while !is_over.load(Relaxed) {
                TlsClient::connect(addr, &config, NAME).echo(b"hello");
                count.fetch_add(1, Relaxed);
            }
        });
        Self { authority, proxy, stop, served, clients: Some(clients) }
    }

    /// The certificate that clients get now.
    fn shown(&self) -> Vec<u8> {
        TlsClient::connect(self.proxy.addr(), &self.authority.client(), NAME).shown().to_vec()
    }

    /// Waits until clients get this certificate.
    #[track_caller]
    fn wait_for(&self, cert: &str) {
        let wanted = first_of(cert.as_bytes());
        eventually("the new certificate is shown", || self.shown() == wanted);
    }

    /// Waits until the log has this message so many times.
    #[track_caller]
    fn wait_for_lines(&self, message: &str, count: usize) {
        eventually(message, || self.proxy.log.text().matches(message).count() == count);
    }

    /// No client was refused.
    fn finish(mut self) {
        self.stop.store(true, Relaxed);
        let clients = self.clients.take().expect("it is taken once");
        assert!(clients.join().is_ok(), "a client was refused");
        assert!(self.served.load(Relaxed) > 0);
        assert_eq!(self.proxy.ended("tls_failed"), 0);
    }
}

const KEPT: &str = "certificate cannot be used: the former one stays in force";
const IN_ORDER: &str = "certificates can be used again";

#[test]
fn a_new_pair_is_shown_however_it_is_written() {
    let authority = Authority::new();
    authority.issue("site", &[NAME]);
    let (cert_path, key_path) = (authority.path("site.pem"), authority.path("site.key"));
    let bench = Bench::new(authority, &cert_path, &key_path);
    let mut long = TlsClient::connect(bench.proxy.addr(), &bench.authority.client(), NAME);
    long.echo(b"before");

    // In place.
    let (cert, key) = bench.authority.sign(&[NAME]);
    fs::write(&cert_path, &cert).unwrap();
    fs::write(&key_path, &key).unwrap();
    bench.wait_for(&cert);

    // By renaming.
    let (cert, key) = bench.authority.sign(&[NAME]);
    let (new_cert, new_key) = (bench.authority.path("new.pem"), bench.authority.path("new.key"));
    fs::write(&new_cert, &cert).unwrap();
    fs::write(&new_key, &key).unwrap();
    fs::rename(&new_key, &key_path).unwrap();
    fs::rename(&new_cert, &cert_path).unwrap();
    bench.wait_for(&cert);

    // With a pause in between, the key first and then the certificate first: clients get the former pair meanwhile.
    let lines = || bench.proxy.log.text().matches(KEPT).count();
    for key_first in [true, false] {
        let (kept, before) = (lines(), bench.shown());
        let (cert, key) = bench.authority.sign(&[NAME]);
        let mut steps = [(&cert_path, &cert), (&key_path, &key)];
        if key_first {
            steps.reverse();
        }
        fs::write(steps[0].0, steps[0].1).unwrap();
        bench.wait_for_lines(KEPT, kept + 1);
        assert!(bench.shown() == before);
        fs::write(steps[1].0, steps[1].1).unwrap();
        bench.wait_for(&cert);
    }

    // Garbage, and then the same pair again.
    let (good, kept) = (fs::read(&cert_path).unwrap(), lines());
    for garbage in [&b"garbage"[..], b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(&cert_path, garbage).unwrap();
    }
    bench.wait_for_lines(KEPT, kept + 1);
    let again = bench.proxy.log.text().matches(IN_ORDER).count();
    fs::write(&cert_path, &good).unwrap();
    bench.wait_for_lines(IN_ORDER, again + 1);
    assert!(bench.shown() == first_of(&good));

    long.echo(b"the same session as before");
    drop(long);
    bench.finish();
}

/// The promise is 1,000 renewals.
#[test]
fn many_renewals_in_every_order_refuse_nobody() {
    let authority = Authority::new();
    authority.issue("site", &[NAME]);
    let (cert, key) = (authority.path("site.pem"), authority.path("site.key"));
    let bench = Bench::new(authority, &cert, &key);
    let replace = |path: &Path, text: &str| {
        let beside = path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, path).unwrap();
    };
    let mut slowest = Duration::ZERO;
    for renewal in 0..size("GOPROXY_TEST_RENEWALS", 20) {
        let (new_cert, new_key) = bench.authority.sign(&[NAME]);
        match renewal % 5 {
            0 => {
                fs::write(&cert, &new_cert).unwrap();
                fs::write(&key, &new_key).unwrap();
            }
            1 => {
                fs::write(&key, &new_key).unwrap();
                fs::write(&cert, &new_cert).unwrap();
            }
            2 => {
                replace(&key, &new_key);
                replace(&cert, &new_cert);
            }
            3 => {
                // What is read in between belongs to nothing.
                fs::write(&key, "garbage").unwrap();
                replace(&cert, &new_cert);
                fs::write(&key, &new_key).unwrap();
            }
            _ => {
                fs::write(&cert, &new_cert[..new_cert.len() / 2]).unwrap();
                fs::write(&cert, &new_cert).unwrap();
                replace(&key, &new_key);
            }
        }
        let since = Instant::now();
        bench.wait_for(&new_cert);
        slowest = slowest.max(since.elapsed());
    }
    println!("the slowest renewal was in force after {slowest:?}, {} clients served", bench.served.load(Relaxed));
    let allowed = size("GOPROXY_TEST_RENEWAL_MS", 60_000) as u64;
    assert!(slowest < Duration::from_millis(allowed), "{slowest:?}");
    bench.finish();
}

#[test]
fn a_new_pair_is_shown_when_a_link_is_swapped_as_kubernetes_does() {
    let authority = Authority::new();
    let home = authority.path("secret");
    let write = |version: &str| {
        let folder = home.join(version);
        fs::create_dir_all(&folder).unwrap();
        let (cert, key) = authority.sign(&[NAME]);
        fs::write(folder.join("tls.crt"), &cert).unwrap();
        fs::write(folder.join("tls.key"), key).unwrap();
        cert
    };
    write("..1");
    let versions = [write("..2"), write("..3")];
    symlink("..1", home.join("..data")).unwrap();
    symlink("..data/tls.crt", home.join("tls.crt")).unwrap();
    symlink("..data/tls.key", home.join("tls.key")).unwrap();
    let bench = Bench::new(authority, &home.join("tls.crt"), &home.join("tls.key"));
    for (version, cert) in [("..2", &versions[0]), ("..3", &versions[1])] {
        symlink(version, home.join("..data_tmp")).unwrap();
        fs::rename(home.join("..data_tmp"), home.join("..data")).unwrap();
        bench.wait_for(cert);
    }
    assert!(!bench.proxy.log.text().contains(KEPT));
    bench.finish();
}

#[test]
fn the_end_of_a_certificate_is_measured_and_told() {
    let (authority, server) = (Authority::new(), FakeServer::echo());
    let certificates = [
        authority.issue_until("old", &["old.example.com"], (2020, 2, 3)),
        authority.issue_until("new", &["new.example.com"], (2096, 2, 3)),
    ];
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("tls", json!({ "certificates": certificates })));
    let end = |name: &str| {
        proxy.metric("goproxy_tls_certificate_not_after_seconds", &[&format!("name=\"{name}.example.com\"")])
    };
    assert_eq!((end("old"), end("new")), (1_580_688_000.0, 3_979_065_600.0));
    let line = proxy.log.wait_for("a certificate that has expired", |line| {
        line["message"] == "certificate has expired: clients are shown it all the same"
    });
    assert_eq!((&line["name"], &line["not_after"]), (&json!("old.example.com"), &json!("2020-02-03T00:00:00Z")));
    assert!(!proxy.log.text().contains("certificate expires"));
}

#[test]
fn a_check_warns_of_certificates_that_have_expired_and_of_keys_that_everybody_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let authority = Authority::new();
    authority.issue_until("old", &[NAME], (2020, 2, 3));
    let path = authority.path("proxy.json");
    let certificates = json!([{ "cert": "old.pem", "key": "old.key" }]);
    let ours = json!({ "ca": "ca.pem", "cert": "old.pem", "key": "old.key" });
    let to_clients = json!({ "listen": "127.0.0.1:1", "tls": { "certificates": certificates } });
    let check = json!({ "kind": "tls", "server_tls": ours });
    let to_servers = json!({ "listen": "127.0.0.1:2", "server_tls": ours, "check": check });
    fs::write(&path, json!({ "groups": [to_clients, to_servers] }).to_string()).unwrap();
    let check = |strict: bool, mode: u32| {
        fs::set_permissions(authority.path("old.key"), fs::Permissions::from_mode(mode)).unwrap();
        let path = path.to_str().unwrap();
        let strict: &[&str] = if strict { &["--strict"] } else { &[] };
        let output = run(&[&["check", "-c", path], strict].concat());
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let expired = "groups[0].tls.certificates[0]: the certificate has expired";
    let (is_fine, said) = check(false, 0o644);
    assert!(is_fine && said.contains(expired) && !said.contains("everybody"), "{said}");
    let (is_fine, said) = check(true, 0o644);
    assert!(!is_fine && said.contains(expired), "{said}");
    for name in ["[0].tls.certificates[0]", "[1].server_tls.cert", "[1].check.server_tls.cert"] {
        assert!(said.contains(&format!("groups{name}: everybody may read")), "{name}: {said}");
    }
    let (is_fine, said) = check(true, 0o640);
    assert!(!is_fine && said.contains(expired) && !said.contains("everybody"), "{said}");
}
