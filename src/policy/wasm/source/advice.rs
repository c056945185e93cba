//! What to do about a module that imports what is not offered, told by what the tools of each language import.

use super::contract;
use super::error::{NO_EXCEPTIONS, WASM_GC};
use super::scan::Scan;

const ONLY_HOST: &str = "only goproxy:balance/host is offered to policies; see wit/balance.wit";

const GO: &str = "policies run without WASI, which Go needs: fill its imports with functions that do nothing (wasm-merge of \
                  binaryen; docs/policies/write.md has the commands), or use TinyGo with -target=wasm-unknown";

const EMSCRIPTEN: &str = "this is a module of emscripten's with its JavaScript left out: build with -sSTANDALONE_WASM \
                          --no-entry -O1 -sERROR_ON_UNDEFINED_SYMBOLS=1, or with clang --target=wasm32 -nostdlib";

/// What to do about these foreign imports of a component.
pub(super) fn component_advice(imports: &[&str]) -> &'static str {
    let any = |part: &str| imports.iter().any(|name| name.contains(part));
    if any("[async") || any("[task-") || any("[waitable") {
        "policies are called one after the other: build without async"
    } else if any("wasi:http") || any("wasi:sockets") {
        "policies run without WASI and reach no network. JavaScript: name what is not used in disableFeatures of \
         componentize-js, or use componentize-qjs --sync --stub-wasi. Python: componentize-py --stub-wasi"
    } else if any("wasi:") {
        "policies run without WASI. Rust: build for wasm32-unknown-unknown, not wasm32-wasip2. JavaScript: name what is not \
         used in disableFeatures, or componentize-qjs --sync --stub-wasi. Python: --stub-wasi. C with wit-bindgen: build \
         for wasm32-unknown-unknown with -nostdlib, and give what it calls (malloc, memcpy, …) yourself. For time and \
         randomness there are host.now-nanos and host.random-u64"
    } else {
        ONLY_HOST
    }
}

/// What to do about a foreign import of a core module.
pub(super) fn module_advice(module: &Scan<'_>, from: &str, name: &str) -> &'static str {
    // A linker that minifies leaves one or two letters.
    let is_minified = from.len() <= 2 && name.len() <= 2;
    let is_emscripten = is_minified || name.starts_with("emscripten_") || name.starts_with("invoke_");
    match (from, name) {
        _ if from.starts_with("wasi") && is_go(module) => GO,
        _ if from.starts_with("wasi") => {
            "policies run without WASI. Rust: build for wasm32-unknown-unknown, not wasm32-wasip1. C, C++ and Zig: \
             wasm32-freestanding without the C library. JavaScript: componentize-qjs --sync --stub-wasi. C with \
             wit-bindgen: give what it calls (malloc, memcpy, …) yourself"
        }
        ("gojs" | "go", _) => GO,
        ("env", "abort") => "AssemblyScript: build with --use abort=",
        (_, "memory") => "a policy brings its own memory and exports it as \"memory\"; build without --import-memory",
        (
            _,
            "__cpp_exception" | "__c_longjmp" | "__cxa_throw" | "__cxa_allocate_exception" | "_Unwind_RaiseException",
        ) => NO_EXCEPTIONS,
        _ if is_emscripten => EMSCRIPTEN,
        ("env", _) => {
            "a policy gets nothing from env. C and C++: a function is declared and not defined, or the compiler is \
             emscripten's; build with clang --target=wasm32 -nostdlib. AssemblyScript: --use abort="
        }
        ("wasm:js-string" | "wasm:text-encoder", _) => WASM_GC,
        _ if from.contains("wbindgen") || from.contains("_bg") || from == "wbg" => {
            "policies run without JavaScript. Rust: use wit-bindgen, not wasm-bindgen, and no crate that needs it"
        }
        _ if from.contains("[async") || name.contains("[async") => {
            "policies are called one after the other: build without async"
        }
        _ => ONLY_HOST,
    }
}

/// What to do about a module that does not export these functions, while it exports what was found.
pub(super) fn export_advice<S: AsRef<str>>(found: &[S]) -> &'static str {
    let plain = |name: &str| name.rsplit('#').next().unwrap_or(name).replace(['-', '_'], "").to_ascii_lowercase();
    let is_like_ours = |name: &str| contract::functions("policy").any(|function| plain(function) == plain(name));
    let mut names = found.iter().map(AsRef::as_ref);
    if names.clone().any(|name| is_like_ours(name) && !name.starts_with("goproxy:balance/")) {
        "a name has to be spelled exactly so, with all that stands in front of #; docs/policies/write.md shows how each \
         language does that"
    } else if names.any(|name| name == "_start") {
        "it is built as a program, and a policy is a library: crate-type cdylib in Rust, --no-entry with clang, -fno-entry \
         -rdynamic in Zig, -buildmode=c-shared in Go"
    } else {
        "expected what wit/balance.wit asks for"
    }
}

/// True for what Go's own compiler makes.
fn is_go(module: &Scan<'_>) -> bool {
    module.custom_sections.iter().any(|name| name.starts_with("go:") || *name == "go.buildid")
}
