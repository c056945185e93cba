//! What authors are told to do.

use super::*;

#[test]
fn foreign_imports_are_listed_with_what_to_do_about_them() {
    let wasi: String =
        ["fd_write", "fd_read", "fd_close", "random_get", "proc_exit", "args_get", "clock_time_get", "x"]
            .iter()
            .map(|name| format!(r#"(import "wasi_snapshot_preview1" "{name}" (func))"#))
            .collect();
    assert_eq!(
        refusal(&with_imports(&wasi)),
        "imports wasi_snapshot_preview1 (fd_write, fd_read, fd_close, random_get, proc_exit, args_get and 2 more): \
         policies run without WASI. Rust: build for wasm32-unknown-unknown, not wasm32-wasip1. C, C++ and \
         Zig: wasm32-freestanding without the C library. JavaScript: componentize-qjs --sync --stub-wasi. C with \
         wit-bindgen: give what it calls (malloc, memcpy, …) yourself"
    );
    for (import, says) in [
        (
            r#"(import "env" "abort" (func (param i32 i32 i32 i32)))"#,
            "imports env (abort): AssemblyScript: build with --use abort=",
        ),
        (
            r#"(import "env" "emscripten_notify" (func))"#,
            "imports env (emscripten_notify): this is a module of emscripten's",
        ),
        (r#"(import "env" "memory" (memory $m 1))"#, "imports env (memory): a policy brings its own memory"),
        (r#"(import "__wbindgen_placeholder__" "f" (func))"#, "not wasm-bindgen"),
        (r#"(import "goproxy:other/host@1.0.0" "f" (func))"#, "only goproxy:balance/host is offered"),
        (
            r#"(import "aaa" "f" (func)) (import "bbb" "f" (func)) (import "ccc" "f" (func))"#,
            "imports aaa (f), bbb, ccc: ",
        ),
    ] {
        let memory = if import.contains("$m") { "" } else { Parts::default().memory };
        let text = refusal(&guests::policy(Parts { imports: import, memory, ..Parts::default() }));
        assert!(text.contains(says), "{text}");
    }
    let text = refusal(
        r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance)) (import "wasi:io/poll@0.2.0" (instance)))"#,
    );
    assert!(text.starts_with("imports wasi:clocks/monotonic-clock@0.2.0, wasi:io/poll@0.2.0: policies run"), "{text}");
    for tool in ["not wasm32-wasip2", "disableFeatures", "--stub-wasi", "host.now-nanos"] {
        assert!(text.contains(tool), "{text}");
    }
}

#[test]
fn advice_fits_the_tools_that_a_module_was_made_with() {
    let import = |module: &str, name: &str| refusal(&with_imports(&format!(r#"(import "{module}" "{name}" (func))"#)));
    for (module, name, says) in [
        ("wasi_snapshot_preview1", "fd_write", "wasm32-unknown-unknown, not wasm32-wasip1"),
        ("a", "b", "emscripten"),
        ("env", "emscripten_memcpy_js", "emscripten"),
        ("env", "__cxa_throw", "-fno-exceptions"),
        ("env", "invoke_vii", "emscripten"),
        ("env", "helper", "a function is declared and not defined"),
        ("wasm:js-string", "length", "wasm-gc"),
        ("env", "abort", "--use abort="),
        ("gojs", "runtime.wasmExit", "wasm-merge"),
    ] {
        assert!(import(module, name).contains(says), "{}", import(module, name));
    }
    let go = r#"(import "wasi_snapshot_preview1" "fd_write" (func)) (@custom "go:buildid" "x")"#;
    assert!(refusal(&with_imports(go)).contains("wasm-merge"), "{}", refusal(&with_imports(go)));
    let twice = r#"(import "env" "a" (func)) (import "wasi_x" "a" (func)) (import "env" "b" (func)) (import "wasi_x" "b" (func))"#;
    assert!(
        refusal(&with_imports(twice)).starts_with("imports env (a, b), wasi_x: "),
        "{}",
        refusal(&with_imports(twice))
    );
}

/// `clang --target=wasm64`, C++ with exceptions, Kotlin: what they make is known before anything else about it.
#[test]
fn what_a_module_is_made_for_that_a_policy_cannot_be_is_told_first() {
    let wasi = r#"(import "wasi_snapshot_preview1" "fd_write" (func))"#;
    for (fields, memory, says) in [
        (
            "",
            r#"(memory (export "memory") i64 1)"#,
            "has a memory with addresses of 64 bits; expected a module for wasm32",
        ),
        (
            "(tag (param i32))",
            Parts::default().memory,
            "throws exceptions: policies run without exceptions: build C++ with",
        ),
        (
            "(type $point (struct (field i32)))",
            Parts::default().memory,
            "has types that are garbage collected: policies run without a garbage collector of the engine's: what Kotlin",
        ),
        ("(type $list (array i32))", Parts::default().memory, "has types that are garbage collected"),
    ] {
        for imports in ["", wasi] {
            let text = refusal(&guests::policy(Parts { imports, fields, memory, ..Parts::default() }));
            assert!(text.starts_with(says), "{text}");
        }
    }
    let memory = refusal(r#"(module (import "env" "memory" (memory i64 1)))"#);
    assert!(memory.starts_with("has a memory with addresses of 64 bits"), "{memory}");
}

#[test]
fn a_component_of_more_modules_than_an_instance_may_have_is_told_so_first() {
    let of = |count: usize| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        refusal(&format!(r#"(component (import "wasi:io/poll@0.2.0" (instance)) (core module $m) {instances})"#))
    };
    assert!(of(16).starts_with("imports wasi:io/poll@0.2.0: "), "{}", of(16));
    assert!(of(17).starts_with("is put together from 17 modules; expected at most 16. Python"), "{}", of(17));
}

#[test]
fn exports_under_other_names_and_programs_are_told_what_to_do() {
    let plain = guest().replace("goproxy:balance/policy@1.0.0#", "");
    let spelled = "; a name has to be spelled exactly so, with all that stands in front of #; docs/policies/write.md";
    assert!(
        refusal(&plain).starts_with(
            "does not export goproxy:balance/policy@1.0.0#describe, goproxy:balance/policy@1.0.0#configure, \
             goproxy:balance/policy@1.0.0#set-servers, goproxy:balance/policy@1.0.0#pick; found memory, cabi_realloc, \
             describe, "
        ),
        "{}",
        refusal(&plain)
    );
    assert!(refusal(&plain).contains(spelled), "{}", refusal(&plain));
    for names in ["setServers", "set_servers", "policy#set-servers", "exports_set_servers"] {
        let text = guest().replace("goproxy:balance/policy@1.0.0#set-servers", names);
        assert_eq!(refusal(&text).contains(spelled), names != "exports_set_servers", "{}", refusal(&text));
    }
    let program = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
    assert!(refusal(program).contains("found memory, _start; it is built as a program"), "{}", refusal(program));
}
