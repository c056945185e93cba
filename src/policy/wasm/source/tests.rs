mod advice;

use proptest::prelude::*;

use std::path::Path;
use std::time::Duration;

use rustix::fs::Mode;

use super::*;
use crate::base::text::hex;
use crate::policy::wasm::guests::{self, Parts};

const CODE_BYTES_MAX: u64 = 8 << 20;
const FILE: &str = "policies/x.wat";

fn from_text(text: &str) -> Result<ModuleFile, SourceError> {
    source(FILE, text.as_bytes(), CODE_BYTES_MAX)
}

/// What is said about text as a binary file: no place in the text.
fn refusal(text: &str) -> String {
    let binary = wat::parse_str(text).unwrap();
    source("policies/x.wasm", &binary, CODE_BYTES_MAX).unwrap_err().to_string()
}

fn guest() -> String {
    guests::policy(Parts::default())
}

fn with_imports(imports: &str) -> String {
    guests::policy(Parts { imports, ..Parts::default() })
}

#[test]
fn a_module_as_text_and_as_binary_becomes_the_same_component() {
    let text = from_text(&guest()).unwrap();
    let binary = wat::parse_str(guest()).unwrap();
    let module = source("x.wasm", &binary, CODE_BYTES_MAX).unwrap();
    assert_eq!((text.format, module.format), (Format::Text, Format::Module));
    assert_eq!(text.component, module.component);
    assert_eq!(module.sha256, sha256(&binary));
    assert_eq!(module.file_bytes, binary.len());
    assert!(!module.has_feedback);
    assert!(module.imports.is_empty());
    assert!(module.exports.contains(&"goproxy:balance/policy@1.0.0#pick".to_owned()), "{:?}", module.exports);

    let component = source("x.wasm", &module.component, CODE_BYTES_MAX).unwrap();
    assert_eq!(component.format, Format::Component);
    assert_eq!(component.component, module.component);
    assert!(component.exports.contains(&"goproxy:balance/policy@1.0.0#pick".to_owned()), "{:?}", component.exports);
}

#[test]
fn host_functions_and_feedback_are_found_in_modules_and_in_components() {
    let host = r#"(import "goproxy:balance/host@1.0.0" "random-u64" (func (result i64)))"#;
    let text = guests::policy(Parts { imports: host, fields: guests::FEEDBACK, ..Parts::default() });
    let module = from_text(&text).unwrap();
    let component = source("x.wasm", &module.component, CODE_BYTES_MAX).unwrap();
    for source in [&module, &component] {
        assert!(source.has_feedback);
        assert!(source.imports.contains(&"goproxy:balance/host@1.0.0#random-u64".to_owned()), "{:?}", source.imports);
    }
}

#[test]
fn every_1_x_is_spoken_and_no_other_version() {
    for version in ["1.0.0", "1.0.7", "1.1.0", "1.20.3"] {
        let source = from_text(&guests::policy(Parts { version, ..Parts::default() })).unwrap();
        assert!(source.exports.contains(&format!("goproxy:balance/policy@{version}#pick")), "{:?}", source.exports);
    }
    for version in ["2.0.0", "0.9.0", "1.0.0-rc.1", "1.0", "1.00.0", "1.0.0.0", "1.-1.0", "1.0.99999999999999999999"] {
        let text = guests::policy(Parts { version, ..Parts::default() });
        assert_eq!(refusal(&text), format!("speaks goproxy:balance@{version}; this proxy speaks 1.x"));
    }
    let host = with_imports(r#"(import "goproxy:balance/host@2.0.0" "now-nanos" (func (result i64)))"#);
    assert_eq!(refusal(&host), "speaks goproxy:balance@2.0.0; this proxy speaks 1.x");
    let component = r#"(component (import "goproxy:balance/host@2.0.0" (instance)))"#;
    assert_eq!(refusal(component), "speaks goproxy:balance@2.0.0; this proxy speaks 1.x");
}

#[test]
fn a_module_that_says_itself_what_it_is_made_for_is_believed() {
    let mut binary = wat::parse_str(guest()).unwrap();
    let section = contract::metadata(Some("1.0.0"), false).unwrap();
    binary.extend(&section);
    let source = source("x.wasm", &binary, CODE_BYTES_MAX).unwrap();
    assert_eq!(source.component, from_text(&guest()).unwrap().component);
}

/// A module that says of itself that it is made for our world, with the names of our package replaced.
pub(super) fn with_metadata(replace: impl Fn(&str) -> String) -> Vec<u8> {
    let mut binary = wat::parse_str(guest()).unwrap();
    let section = contract::metadata(Some("1.0.0"), false).unwrap();
    let shown: String = section.iter().map(|byte| char::from(*byte)).collect();
    binary.extend(replace(&shown).chars().map(|c| u8::try_from(c).unwrap()));
    binary
}

#[test]
fn packages_that_need_each_other_are_refused_before_anything_follows_them_round() {
    assert!(source("x.wasm", &with_metadata(str::to_owned), CODE_BYTES_MAX).is_ok());
    for (name, other) in
        [("balance/policy@1.0.0", "talance/policy@1.0.0"), ("balance/policy@1.0.0", "balance/policy@1.1.0")]
    {
        let error = source("x.wasm", &with_metadata(|text| text.replace(name, other)), CODE_BYTES_MAX).unwrap_err();
        assert!(error.to_string().starts_with(&format!("is made for goproxy:{other}; expected")), "{error}");
    }
    let world =
        with_metadata(|text| text.replace("goproxy:balance/balance-policy@", "another:balance/balance-policy@"));
    assert!(source("x.wasm", &world, CODE_BYTES_MAX).is_ok());
}

#[test]
fn types_nested_as_deeply_as_a_file_has_room_for_are_refused() {
    for (levels, says) in [
        (40, "nests components or types deeper than 32"),
        (10_000, "nests components or types deeper"),
        (2_000_000, "has more than 32768 bytes of types in a section"),
    ] {
        let mut types = vec![1]; // one type
        (0..levels).for_each(|_| types.extend([0x42, 1, 1])); // an instance type with one declaration: a type
        types.extend([0x42, 0]);
        let mut component = b"\0asm\x0d\0\x01\0\x07".to_vec();
        let len = types.len();
        component.extend([len as u8 | 0x80, (len >> 7) as u8 | 0x80, (len >> 14) as u8 | 0x80, (len >> 21) as u8]);
        component.extend(types);
        let error = source("x.wasm", &component, CODE_BYTES_MAX).unwrap_err();
        assert!(error.to_string().starts_with(says), "{levels}: {error}");
    }
}

#[test]
fn what_is_no_webassembly_is_told_by_its_beginning() {
    let expected = "expected a .wasm component or module, or .wat text";
    for (bytes, begin) in
        [(&b"hello"[..], "hell"), (b"\x1f\x8b\x08\x00", "\\x1f\\x8b\\x08\\x00"), (b"\x1b[2J", "\\x1b[2J")]
    {
        let error = source("x.wasm", bytes, CODE_BYTES_MAX).unwrap_err();
        assert_eq!(error.to_string(), format!("is not WebAssembly (begins with \"{begin}\"); {expected}"));
        assert!(!error.is_incomplete());
    }
    let native = source("x.cwasm", b"\x7fELF\x02\x01\x01\0\0\0", CODE_BYTES_MAX).unwrap_err();
    assert!(native.to_string().starts_with("is compiled code for one machine (.cwasm"), "{native}");
    let unknown = source("x.wasm", b"\0asm\x0a\0\x01\0", CODE_BYTES_MAX).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "is WebAssembly of an unknown kind (version \"\\n\\x00\\x01\\x00\"); expected a component or a core module"
    );
}

#[test]
fn half_a_file_is_worth_another_look() {
    let text = guest();
    let binary = wat::parse_str(&text).unwrap();
    let component = from_text(&text).unwrap().component;
    for whole in [&binary, &component] {
        for len in [0, 1, 4, 7, 9, 40, whole.len() / 2] {
            let error = source("x.wasm", &whole[..len], CODE_BYTES_MAX).unwrap_err();
            assert!(error.is_incomplete(), "{len} of {}: {error}", whole.len());
        }
    }
    let error = source("x.wasm", &binary[..100], CODE_BYTES_MAX).unwrap_err();
    assert_eq!(error.to_string(), "ends in the middle, at byte 100: still being copied?");
    let commented = format!(";; ä (\n(; (; \" ;) ;)\n{text}");
    for len in [0, 4, 6, 10, 25, 300, commented.len() - 10] {
        let error = source(FILE, &commented.as_bytes()[..len], CODE_BYTES_MAX).unwrap_err();
        assert!(error.is_incomplete(), "{len}: {error}");
    }
    assert!(source(FILE, commented.as_bytes(), CODE_BYTES_MAX).is_ok());
    assert!(source(FILE, format!("\u{feff} {text}").as_bytes(), CODE_BYTES_MAX).is_ok());
}

#[test]
fn a_mistake_in_text_is_shown_with_its_place() {
    let error = from_text("(module\n  (func (i32.cost 1)))").unwrap_err();
    let text = error.to_string();
    assert!(!error.is_incomplete());
    assert!(text.contains("--> policies/x.wat:2:10"), "{text}");
    assert!(text.contains("    2 |   (func (i32.cost 1)))\n"), "{text}");
    assert!(text.contains('^'), "{text}");

    let long = format!("(module (func {} (i32.cost 1)))", "nop ".repeat(100_000));
    let text = from_text(&long).unwrap_err().to_string();
    assert!(text.contains("policies/x.wat:1:400017") && text.len() < 300, "{text}");

    let text = source(FILE, b"(module\n\xff\xff)", CODE_BYTES_MAX).unwrap_err().to_string();
    assert_eq!(text, "line 2: not UTF-8");
    let text = from_text("(module (func (i32.cost \"\x1b[2J\")))").unwrap_err().to_string();
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn a_host_function_that_is_not_offered_is_named() {
    let says = "imports goproxy:balance/host@1.1.0#cpu-load, which this proxy does not offer; a newer proxy is needed";
    let module = with_imports(r#"(import "goproxy:balance/host@1.1.0" "cpu-load" (func (result i32)))"#);
    let text = refusal(&module);
    assert!(text.starts_with(says) && text.contains("random-u64"), "{text}");
    let component =
        r#"(component (import "goproxy:balance/host@1.1.0" (instance (export "cpu-load" (func (result u32))))))"#;
    assert!(refusal(component).starts_with(says), "{}", refusal(component));
    let state = with_imports(r#"(import "goproxy:balance/state@1.1.0" "load" (func))"#);
    assert!(refusal(&state).starts_with("imports goproxy:balance/state@1.1.0#load, which"), "{}", refusal(&state));
}

#[test]
fn what_is_missing_is_named_beside_what_is_there() {
    let no_pick = guest().replace("policy@1.0.0#pick", "policy@1.0.0#pack");
    assert_eq!(
        refusal(&no_pick),
        "does not export goproxy:balance/policy@1.0.0#pick; found memory, cabi_realloc, goproxy:balance/policy@1.0.0#describe, \
         goproxy:balance/policy@1.0.0#configure, goproxy:balance/policy@1.0.0#set-servers, \
         goproxy:balance/policy@1.0.0#pack; expected what wit/balance.wit asks for"
    );
    let nothing = "does not export goproxy:balance/policy@1.0.0#describe, goproxy:balance/policy@1.0.0#configure, \
                   goproxy:balance/policy@1.0.0#set-servers, goproxy:balance/policy@1.0.0#pick; found nothing; \
                   expected what wit/balance.wit asks for";
    assert_eq!(refusal("(module)"), nothing);
    assert_eq!(refusal("(component)"), nothing);
    let other = r#"(component (component $c) (instance $i (instantiate $c)) (export "my:world/thing" (instance $i)))"#;
    assert!(refusal(other).contains("found my:world/thing"), "{}", refusal(other));
    let half = guests::policy(Parts { fields: guests::FEEDBACK, ..Parts::default() }).replace("#on-failed", "#on-fail");
    assert!(
        refusal(&half).starts_with("does not export goproxy:balance/feedback@1.0.0#on-failed; found"),
        "{}",
        refusal(&half)
    );
    let no_memory = guests::policy(Parts { memory: "(memory 1)", ..Parts::default() });
    assert!(refusal(&no_memory).starts_with("does not export a memory named memory; found"), "{}", refusal(&no_memory));
    let no_realloc = guest().replace(r#"(export "cabi_realloc")"#, "");
    let text = refusal(&no_realloc);
    assert!(text.starts_with("does not export a function named cabi_realloc"), "{text}");
}

#[test]
fn a_function_of_another_type_is_shown_beside_the_type_that_is_expected() {
    let narrow =
        guest().replace("(param $family i32) (param $ip_high i64)", "(param $family i32) (param $ip_high i32)");
    assert_eq!(
        refusal(&narrow),
        "goproxy:balance/policy@1.0.0#pick is (i32, i32, i64, i32, i32, i32) -> (i32); expected \
         (i32, i64, i64, i32, i32, i32) -> (i32): rebuild against wit/balance.wit"
    );
    let host = with_imports(r#"(import "goproxy:balance/host@1.0.0" "random-u64" (func (result i32)))"#);
    assert_eq!(
        refusal(&host),
        "goproxy:balance/host@1.0.0#random-u64 is () -> (i32); expected () -> (i64): rebuild against wit/balance.wit"
    );
    let global = guest().replace(r#"(func (export "goproxy:balance/policy@1.0.0#pick")"#, "(func").replace(
        "(global $first",
        r#"(global (export "goproxy:balance/policy@1.0.0#pick") i32 (i32.const 0)) (global $first"#,
    );
    assert!(refusal(&global).contains("#pick is not a function; expected"), "{}", refusal(&global));
    let realloc = guest().replace("(param $old i32) (param $old_size i32)", "(param $old i64) (param $old_size i32)");
    assert!(refusal(&realloc).contains("cabi_realloc"), "{}", refusal(&realloc));
}

#[test]
fn threads_are_refused() {
    let memory = r#"(memory (export "memory") 1 2 shared)"#;
    let says = "wants a shared memory: a policy runs on one thread; build without threads and atomics";
    assert_eq!(refusal(&guests::policy(Parts { memory, ..Parts::default() })), says);
    assert_eq!(refusal("(component (core module (memory 1 2 shared)))"), says);
    assert_eq!(refusal(r#"(module (import "env" "memory" (memory 1 2 shared)))"#), says);
}

#[test]
fn what_would_take_long_to_compile_is_refused() {
    let within = format!("(func {})", "nop ".repeat(131_070)).repeat(2);
    let policy = guests::policy(Parts { fields: &within, ..Parts::default() });
    assert!(from_text(&policy).is_ok());
    let too_long = |text: &str, millis| {
        let limits = Limits { compile_budget: Duration::from_millis(millis), ..CODE_BYTES_MAX.into() };
        let text = source(FILE, text.as_bytes(), limits).unwrap_err().to_string();
        assert!(text.starts_with("would take about "), "{text}");
        text
    };
    assert_eq!(
        too_long(&policy, 200),
        "would take about 0.3 s to compile, 0.1 s of it function 1; expected at most 0.2 s (compile_budget of this \
         policy); build for small size (-Os), or raise the budget"
    );
    // Each of them took the compiler two seconds or more, one of them minutes.
    let variables = "(local ".to_owned() + &"i32 ".repeat(2_000) + ")";
    for function in [
        "(func)".repeat(50_000),
        format!("(func {}{})", "loop ".repeat(2_000), "end ".repeat(2_000)),
        format!("(func {}{})", "loop ".repeat(128), "end ".repeat(128)).repeat(700),
        format!("(func {variables} {})", "loop end ".repeat(3_000)),
        format!("(func (param i32) {variables} {})", "local.get 0 if end ".repeat(10_000)),
        "(table 1 funcref)".to_owned() + &format!("(func {})", "i32.const 0 call_indirect ".repeat(13_000)).repeat(2),
    ] {
        too_long(&guests::policy(Parts { fields: &function, ..Parts::default() }), 1_000);
    }
    let loops = format!("(func {})", "loop ".repeat(20_000) + &"end ".repeat(20_000));
    let text = too_long(&guests::policy(Parts { fields: &loops, ..Parts::default() }), 60_000);
    assert!(text.ends_with("no budget allows that: an interpreter of this size cannot be used"), "{text}");

    let import = r#"(import "goproxy:balance/host@1.0.0" "now-nanos" (func (result i64)))"#;
    assert!(from_text(&with_imports(&import.repeat(256))).is_ok());
    let text = refusal(&with_imports(&import.repeat(257)));
    assert!(text.starts_with("has more than 256 imports"), "{text}");
    let deep = format!("{}{}", "(component ".repeat(40), ")".repeat(40));
    assert!(refusal(&deep).starts_with("nests components or types deeper than 32"), "{}", refusal(&deep));
}

/// Of a module that is too much in every way, the first thing to know is that it wants what there is not.
#[test]
fn what_a_module_imports_is_told_before_its_size_and_its_cost() {
    let code = format!("(func {})", "loop ".repeat(2_000) + &"end ".repeat(2_000));
    let fields = format!("{code} (data \"{}\")", "x".repeat(5_000));
    let refusal = |imports: &str| {
        let text = guests::policy(Parts { imports, fields: &fields, ..Parts::default() });
        source("x.wasm", &wat::parse_str(text).unwrap(), 4 << 10).unwrap_err().to_string()
    };
    let wasi = r#"(import "wasi_snapshot_preview1" "fd_write" (func))"#;
    assert!(refusal(wasi).starts_with("imports wasi_snapshot_preview1 (fd_write): "), "{}", refusal(wasi));
    assert!(refusal("").contains(" bytes; expected at most 4096 (policy_max_bytes"), "{}", refusal(""));
}

/// A file of 800 bytes may be compiled, however small files have to be.
#[test]
fn how_much_may_be_compiled_does_not_depend_on_how_large_files_may_be() {
    let code = format!("(func {})", "nop ".repeat(700));
    let binary = wat::parse_str(guests::policy(Parts { fields: &code, ..Parts::default() })).unwrap();
    let limit = binary.len() as u64;
    assert!(source("x.wasm", &binary, limit).is_ok());
    assert!(source("x.wasm", &binary, limit - 1).is_err());
}

#[test]
fn reading_refuses_what_is_no_file_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.wasm");
    assert_eq!(read(&path, 10).unwrap_err().to_string(), "there is no such file");
    let text = read(folder.path(), 10).unwrap_err().to_string();
    assert_eq!(text, "is a folder; expected a .wasm or .wat file");
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let text = read(&pipe, 10).unwrap_err().to_string();
    assert_eq!(text, "is a pipe, a socket or a device; expected a .wasm or .wat file");

    std::fs::write(&path, b"0123456789").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(read(&link, 10).unwrap(), b"0123456789");
    std::fs::File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    let text = read(&path, 9).unwrap_err().to_string();
    assert!(text.starts_with("has 67108865 bytes; expected at most 9 (policy_max_bytes"), "{text}");
    assert_eq!(
        read(Path::new("/dev/zero"), 9).unwrap_err().to_string(),
        "is a pipe, a socket or a device; expected a .wasm or .wat file"
    );
    assert_eq!(hex(&sha256(b"")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/// Any content: no panic, and a text that is bounded and cannot write into a terminal.
fn examine(bytes: &[u8]) {
    if let Err(error) = source("x.wasm", bytes, CODE_BYTES_MAX) {
        assert!(!matches!(error, SourceError::Panicked), "{}", bytes.escape_ascii());
        let text = error.to_string();
        assert!(text.chars().count() <= 2_048, "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn every_prefix_of_a_policy_gets_a_bounded_text() {
    let component = from_text(&guest()).unwrap().component;
    let binary = wat::parse_str(guest()).unwrap();
    for whole in [guest().as_bytes(), &binary, &component] {
        (0..whole.len()).for_each(|len| examine(&whole[..len]));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..4) {
        let head: &[u8] = [&b"\0asm\x01\0\0\0"[..], b"\0asm\x0d\0\x01\0", b"(module ", b""][kind as usize];
        examine(&[head, &bytes].concat());
    }

    #[test]
    fn flipped_bytes_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5), kind in 0..4) {
        let mut bytes = match kind {
            0 => guest().into_bytes(),
            1 => wat::parse_str(guest()).unwrap(),
            2 => from_text(&guest()).unwrap().component,
            _ => with_metadata(str::to_owned),
        };
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        examine(&bytes);
    }
}
