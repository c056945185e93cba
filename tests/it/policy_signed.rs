//! Where `policy_keys` asks for signatures, no module serves that none of the keys has signed.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use blake2b_simd::blake2b;
use ed25519_compact::{KeyPair, Seed};
use goproxy::policy::wasm::source::{PolicyKey, PolicyKeys, read_signature, signature_path};
use serde_json::{Value, json};

use crate::policy_kit::{Folder, group_of, is_refused, listed, nth, patient, served_by, takes_over, three};
use crate::support::{FakeServer, TestProxy, eventually, replace, run};

/// Signs as minisign does.
struct Signer {
    pair: KeyPair,
    number: [u8; 8],
}

impl Signer {
    fn new(seed: u8) -> Self {
        Self { pair: KeyPair::from_seed(Seed::new([seed; 32])), number: [seed; 8] }
    }

    /// The public key, as it stands in `policy_keys`.
    fn key(&self) -> String {
        BASE64_STANDARD.encode([b"Ed", &self.number[..], &self.pair.pk[..]].concat())
    }

    /// The number of the key.
    fn number(&self) -> String {
        format!("{:016X}", u64::from_le_bytes(self.number))
    }

    /// A signature of this content, with this signed comment.
    fn sign(&self, content: impl AsRef<[u8]>, comment: &str) -> String {
        self.signature(b"ED", blake2b(content.as_ref()).as_bytes(), comment)
    }

    /// One of a file of this name, as minisign makes by itself.
    fn sign_file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.sign(content, &format!("timestamp:1764547200\tfile:{name}\thashed"))
    }

    fn signature(&self, algorithm: &[u8], signed: &[u8], comment: &str) -> String {
        let signature = self.pair.sk.sign(signed, None);
        let all = self.pair.sk.sign([&signature[..], comment.as_bytes()].concat(), None);
        let first = BASE64_STANDARD.encode([algorithm, &self.number[..], &signature[..]].concat());
        let last = BASE64_STANDARD.encode(&all[..]);
        format!("untrusted comment: signature of a test\n{first}\ntrusted comment: {comment}\n{last}\n")
    }

    fn keys(&self) -> PolicyKeys {
        vec![PolicyKey::parse(&self.key(), &self.key()).unwrap()].into()
    }
}

/// What is said of a module and the signature beside it.
fn judged(path: &Path, keys: &PolicyKeys) -> Result<String, String> {
    let bytes = fs::read(path).unwrap();
    let signer = keys.check(path, &bytes, read_signature(path)).map_err(|error| error.to_string())?;
    Ok(signer.expect("signatures are asked for").number().to_string())
}

#[test]
fn what_is_not_signed_as_it_should_be_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.wasm");
    fs::write(&path, "some module").unwrap();
    let (ours, other) = (Signer::new(1), Signer::new(2));
    let keys = ours.keys();
    let both: PolicyKeys = [&ours, &other].map(|signer| PolicyKey::parse(&signer.key(), "").unwrap()).to_vec().into();
    let judge = |signature: &str| {
        fs::write(signature_path(&path), signature).unwrap();
        judged(&path, &keys)
    };

    assert_eq!(
        judged(&path, &keys).unwrap_err(),
        "is not signed: expected mine.wasm.minisig made with the key of policy_keys (minisign -Sm mine.wasm)"
    );
    assert_eq!(
        judged(&path, &both).unwrap_err(),
        "is not signed: expected mine.wasm.minisig made with one of 2 policy_keys (minisign -Sm mine.wasm)"
    );
    let good = ours.sign_file("mine.wasm", "some module");
    assert_eq!(judge(&good), Ok(ours.number()));
    assert_eq!(judge(&good.replace('\n', "\r\n")), Ok(ours.number()), "as a Windows editor saves it");
    assert_eq!(judge(&ours.sign("some module", "policy:mine")), Ok(ours.number()));
    assert_eq!(judge(&good.replace("of a test", "of nobody knows whom")), Ok(ours.number()), "not a signed comment");

    let theirs = other.sign_file("mine.wasm", "some module");
    let unfit = "mine.wasm.minisig does not fit mine.wasm: one of the two was changed or is still being copied";
    assert_eq!(
        judge(&theirs).unwrap_err(),
        "mine.wasm.minisig was made with key 0202020202020202, which is not among policy_keys"
    );
    fs::write(signature_path(&path), &theirs).unwrap();
    assert_eq!(judged(&path, &both), Ok(other.number()));
    // Somebody else's signature under the number of our key.
    let posing = Signer { number: ours.number, ..Signer::new(3) };
    assert_eq!(judge(&posing.sign_file("mine.wasm", "some module")).unwrap_err(), unfit);
    assert_eq!(judge(&ours.sign_file("mine.wasm", "some modula")).unwrap_err(), unfit);
    assert_eq!(judge(&good.replace("file:mine", "file:nine")).unwrap_err(), unfit, "the comment is signed");
    assert_eq!(
        judge(&ours.sign_file("other.wasm", "some module")).unwrap_err(),
        "mine.wasm.minisig was made for \"other.wasm\"; this is mine.wasm"
    );
    assert_eq!(
        judge(&ours.sign("some module", "policy:your\x1b[31m")).unwrap_err(),
        "mine.wasm.minisig was made for \"your\u{fffd}[31m\"; this is mine.wasm"
    );
    assert_eq!(
        judge(&ours.sign("some module", "")).unwrap_err(),
        "mine.wasm.minisig was made for no module: its trusted comment has no \"file:mine.wasm\"; this is mine.wasm"
    );
    let legacy = ours.signature(b"Ed", b"some module", "file:mine.wasm");
    assert_eq!(
        judge(&legacy).unwrap_err(),
        "mine.wasm.minisig is a legacy signature; sign again with minisign 0.8 or later"
    );
    for half in ["", &good[..good.len() / 2], "not a signature"] {
        let text = judge(half).unwrap_err();
        assert_eq!(text, "mine.wasm.minisig is no signature of minisign's, or is still being copied", "{half:?}");
    }
    let text = judge(&"x".repeat(17 << 10)).unwrap_err();
    assert!(text.starts_with("mine.wasm.minisig has 17408 bytes; expected at most 16384"), "{text}");
    fs::remove_file(signature_path(&path)).unwrap();
    fs::create_dir(signature_path(&path)).unwrap();
    assert!(judged(&path, &keys).unwrap_err().starts_with("mine.wasm.minisig is a folder"));
}

/// Bits, bytes, cuts and what is put in between: whatever becomes of a signature, it is refused or means the same.
#[test]
fn no_mutation_of_a_signature_is_accepted_or_makes_the_reader_panic() {
    let signer = Signer::new(7);
    let (keys, path, content) = (signer.keys(), Path::new("mine.wasm"), b"some module");
    let good = signer.sign_file("mine.wasm", content);
    let signed: Vec<&str> = good.lines().skip(1).collect();
    let mut random = fastrand::Rng::with_seed(1);
    let mut accepted = 0;
    for _ in 0..10_000 {
        let mut mutated = good.clone().into_bytes();
        for _ in 0..=random.usize(..3) {
            let at = random.usize(..mutated.len().max(1)).min(mutated.len().saturating_sub(1));
            match random.u8(..5) {
                _ if mutated.is_empty() => {}
                0 => mutated[at] ^= 1 << random.u8(..8),
                1 => mutated[at] = random.u8(..),
                2 => mutated.truncate(at),
                3 => mutated.insert(at, random.u8(..)),
                _ => drop(mutated.remove(at)),
            }
        }
        if keys.check(path, content, Ok(mutated.clone())).is_ok() {
            accepted += 1;
            // Only what nobody signed may be another: the first comment, and what comes after the last line.
            let text = String::from_utf8(mutated).expect("a signature is text");
            let lines: Vec<&str> = text.lines().skip(1).take(3).collect();
            assert_eq!(lines, signed, "{text}");
        }
    }
    assert!((1..5_000).contains(&accepted), "{accepted} had another comment only");
}

struct Signed {
    folder: Folder,
    signer: Signer,
    // Before its servers.
    proxy: TestProxy,
    _servers: [FakeServer; 3],
}

impl Signed {
    /// A proxy that serves by the module `x`, which answers B, and asks for a signature.
    fn start() -> Self {
        let (folder, signer, servers) = (Folder::new(), Signer::new(1), three());
        folder.drop_in("x.wat", nth(1));
        folder.drop_in("x.wat.minisig", signer.sign_file("x.wat", nth(1)));
        let setup = folder.setup().with("policy_keys", json!([signer.key()]));
        let mut proxy = setup.group(group_of(patient(), &servers)).start();
        proxy.may_alarm("policy withdrawn");
        assert_eq!(
            (served_by(proxy.addr()), listed(&proxy, "wasm:x")["signed_by"].clone()),
            ('B', json!(signer.number()))
        );
        Self { folder, signer, proxy, _servers: servers }
    }

    fn served(&self) -> char {
        served_by(self.proxy.addr())
    }

    fn version(&self) -> Value {
        listed(&self.proxy, "wasm:x")
    }

    /// Saves the file with other keys, which are in effect then.
    fn set_keys(&self, keys: &Value) {
        let mut file: Value = serde_json::from_str(&self.proxy.file()).unwrap();
        file["policy_keys"] = keys.clone();
        replace(self.proxy.path(), &file.to_string());
        self.proxy.ok("/config-reload.do");
    }
}

#[test]
fn module_and_signature_may_come_in_either_order_and_slowly() {
    let signed = Signed::start();
    let Signed { folder, signer, proxy, .. } = &signed;
    // The signature first, as the manual advises. Alone it does not fit, and what is loaded stays.
    folder.drop_in("x.wat.minisig", signer.sign_file("x.wat", nth(2)));
    is_refused(proxy, "x.wat.minisig does not fit x.wat: one of the two was changed or is still being copied");
    assert_eq!((signed.served(), signed.version()["state"].clone()), ('B', json!("loaded")));
    folder.drop_in("x.wat", nth(2));
    takes_over(proxy, nth(2));
    assert_eq!(signed.served(), 'C');
    // The module first, and then half of its signature.
    folder.drop_in("x.wat", nth(0));
    is_refused(proxy, "x.wat.minisig does not fit x.wat");
    let whole = signer.sign_file("x.wat", nth(0));
    fs::write(folder.path("x.wat.minisig"), &whole[..whole.len() / 2]).unwrap();
    is_refused(proxy, "x.wat: x.wat.minisig is no signature of minisign's, or is still being copied");
    assert_eq!(signed.served(), 'C');
    fs::write(folder.path("x.wat.minisig"), &whole).unwrap();
    takes_over(proxy, nth(0));
    assert_eq!((signed.served(), signed.version()["signed_by"].clone()), ('A', json!(signer.number())));
    // Half of a module under the signature of the whole.
    let (next, next_signature) = (nth(1), signer.sign_file("x.wat", nth(1)));
    folder.drop_in("x.wat.minisig", next_signature);
    fs::write(folder.path("x.wat"), &next[..next.len() / 2]).unwrap();
    is_refused(proxy, "x.wat.minisig does not fit x.wat");
    assert_eq!(signed.served(), 'A');
    fs::write(folder.path("x.wat"), &next).unwrap();
    takes_over(proxy, next);
    // Without a signature what is loaded stays, and the list says what would happen at a start.
    fs::remove_file(folder.path("x.wat.minisig")).unwrap();
    let text = is_refused(proxy, "x.wat: is not signed: expected x.wat.minisig");
    assert!(text.ends_with("made with the key of policy_keys (minisign -Sm x.wat)"), "{text}");
    assert_eq!((signed.served(), signed.version()["state"].clone()), ('B', json!("loaded")));
    folder.drop_in("x.wat.minisig", signer.sign_file("x.wat", nth(1)));
    eventually("it is signed again", || signed.version()["error"].is_null());
}

#[test]
fn a_key_that_is_taken_out_takes_its_modules_with_it_and_a_new_one_brings_them_back() {
    let signed = Signed::start();
    let Signed { folder, signer, proxy, .. } = &signed;
    let other = Signer::new(2);
    signed.set_keys(&json!([other.key()]));
    // Whoever is told that the file is in effect may rely on it.
    let module = signed.version();
    assert_eq!((&module["state"], &module["signed_by"]), (&json!("refused"), &Value::Null), "{module}");
    assert_eq!(signed.served(), 'A', "the fallback serves");
    is_refused(proxy, "x.wat.minisig was made with key 0101010101010101, which is not among policy_keys");
    eventually("that is told", || proxy.log.text().contains("policy withdrawn: the fallback serves"));
    // Signed by the other, the same file may serve.
    folder.drop_in("x.wat.minisig", other.sign_file("x.wat", nth(1)));
    takes_over(proxy, nth(1));
    assert_eq!((signed.served(), signed.version()["signed_by"].clone()), ('B', json!(other.number())));
    // Both keys, and the file signed by the first again: nothing is loaded anew.
    signed.set_keys(&json!([other.key(), signer.key()]));
    folder.drop_in("x.wat.minisig", signer.sign_file("x.wat", nth(1)));
    eventually("the first has signed it", || signed.version()["signed_by"] == json!(signer.number()));
    signed.set_keys(&json!([signer.key()]));
    assert_eq!(signed.served(), 'B');
    // Without keys nothing is asked for.
    signed.set_keys(&json!([]));
    folder.drop_in("x.wat", nth(2));
    takes_over(proxy, nth(2));
    assert_eq!((signed.served(), signed.version()["signed_by"].clone()), ('C', Value::Null));
    // And with one again, what nobody signed serves no longer.
    signed.set_keys(&json!([signer.key()]));
    assert_eq!((signed.version()["state"].clone(), signed.served()), (json!("refused"), 'A'));
    is_refused(proxy, "x.wat.minisig does not fit x.wat");
}

#[test]
fn a_key_in_a_file_is_followed_and_a_module_that_is_not_signed_is_not_taken() {
    let (folder, servers) = (Folder::with("x.wat", nth(1)), three());
    let (first, second) = (Signer::new(1), Signer::new(2));
    let public = |signer: &Signer| format!("untrusted comment: minisign public key\n{}\n", signer.key());
    folder.drop_in("ops.pub", public(&first));
    let key = format!("file:{}", folder.path("ops.pub").display());
    let group = group_of(json!("round_robin"), &servers);
    let mut proxy = folder.setup().with("policy_keys", json!([key])).group(group).start();
    proxy.may_alarm("policy withdrawn");
    let use_it = format!("/group-policy.do?group={}&policy=wasm:x", proxy.addr().port());
    let refusal = proxy.refused(&use_it, 400, "policy_refused");
    assert!(refusal["msg"].as_str().unwrap().contains("x.wat: is not signed: expected x.wat.minisig"), "{refusal}");
    folder.drop_in("x.wat.minisig", first.sign_file("x.wat", nth(1)));
    proxy.ok(&use_it);
    assert_eq!(served_by(proxy.addr()), 'B');
    folder.drop_in("ops.pub", public(&second));
    eventually("the key in the file is another", || listed(&proxy, "wasm:x")["state"] == "refused");
    folder.drop_in("ops.pub", public(&first));
    eventually("the first key is back", || listed(&proxy, "wasm:x")["state"] == "loaded");
    assert_eq!(served_by(proxy.addr()), 'B');
    // A file that is no key changes nothing.
    folder.drop_in("ops.pub", "not a key");
    eventually("the reload is refused", || proxy.log.text().contains("not a minisign public key"));
    assert_eq!(served_by(proxy.addr()), 'B');
    folder.drop_in("ops.pub", public(&first));
}

#[test]
fn the_command_line_says_who_signed_a_module() {
    let fit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/round_robin.wat")).unwrap();
    let (folder, signer) = (Folder::with("x.wat", &fit), Signer::new(1));
    let module = folder.path("x.wat");
    let policy = |args: &[&str]| {
        let output = run(&[&["policy"], args].concat());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let check =
        |more: &[&str]| policy(&[&["check", module.to_str().unwrap(), "--policy-key", &signer.key()], more].concat());
    let (code, _, stderr) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("x.wat: is not signed: expected x.wat.minisig"), "{stderr}");
    folder.drop_in("x.wat.minisig", signer.sign_file("x.wat", &fit));
    let (code, stdout, stderr) = check(&[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("\nsigned by     0101010101010101\n"), "{stdout}");
    let report: Value = serde_json::from_str(&check(&["--json"]).1).unwrap();
    assert_eq!(report["signed_by"], "0101010101010101");
    let (code, _, stderr) = policy(&["check", module.to_str().unwrap(), "--policy-key", "RWx"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("not a minisign public key; expected 56 characters that begin with RW, or file:PATH"));

    let file = folder.path("proxy.json");
    let keys = json!({ "policies_dir": folder.path("").to_str(), "policy_keys": [signer.key()] });
    fs::write(&file, keys.to_string()).unwrap();
    let (_, list, _) = policy(&["list", "-c", file.to_str().unwrap()]);
    let line = list.lines().find(|line| line.starts_with("wasm:x\tloaded")).unwrap_or_else(|| panic!("{list}"));
    assert!(line.ends_with("\tsigned by 0101010101010101"), "{line}");
    let (_, listing, _) = policy(&["list", "--json", "-c", file.to_str().unwrap()]);
    let listing: Value = serde_json::from_str(&listing).unwrap();
    let policies = listing["policies"].as_array().unwrap();
    assert_eq!(policies.last().unwrap()["signed_by"], "0101010101010101");
}
