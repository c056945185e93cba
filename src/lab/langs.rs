//! The languages of `goproxy policy new`: what is written for each, and which commands come next.

use std::path::Path;

const WAT: &str = include_str!("templates/policy.wat.in");
const C: &str = include_str!("templates/policy.c.in");
const CPP: &str = include_str!("templates/policy.cpp.in");
const ZIG: &str = include_str!("templates/policy.zig.in");
const ASSEMBLYSCRIPT: &str = include_str!("templates/policy.ts.in");
const WIT: &str = include_str!("../../wit/balance.wit");

const RUST: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("templates/Cargo.toml.in")),
    ("src/lib.rs", include_str!("templates/lib.rs.in")),
    ("wit/balance.wit", WIT),
    ("README.md", include_str!("templates/README.md.in")),
    (".gitignore", "/target\n"),
];

const GO: &[(&str, &str)] = &[
    ("go.mod", include_str!("templates/go/go.mod.in")),
    ("policy.go", include_str!("templates/go/policy.go.in")),
    ("wasi.wat", include_str!("templates/go/wasi.wat.in")),
    (".gitignore", "*.wasm\n/node_modules\n"),
];

const JAVASCRIPT: &[(&str, &str)] = &[
    ("policy.js", include_str!("templates/javascript/policy.js.in")),
    ("wit/balance.wit", WIT),
    (".gitignore", "*.wasm\n/node_modules\n"),
];

/// What Go's compiler makes use of. With all that `wasm-merge` knows, it writes what engines do not read yet.
const GO_FEATURES: &str =
    "--enable-bulk-memory --enable-sign-ext --enable-nontrapping-float-to-int --enable-mutable-globals";

/// What the policy is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// A project for Rust.
    #[default]
    Rust,
    /// One file of text that the proxy takes as it is.
    Wat,
    /// One file of C.
    C,
    /// One file of C++.
    Cpp,
    /// One file of Zig.
    Zig,
    /// One file of AssemblyScript.
    AssemblyScript,
    /// A module of Go.
    Go,
    /// A project in JavaScript.
    JavaScript,
}

/// What is written for a language.
pub(super) enum Template {
    /// One file: its text and its ending.
    File(&'static str, &'static str),
    /// A folder: the paths in it, and their texts.
    Folder(&'static [(&'static str, &'static str)]),
}

impl Lang {
    pub(super) fn template(self) -> Template {
        match self {
            Self::Rust => Template::Folder(RUST),
            Self::Wat => Template::File(WAT, "wat"),
            Self::C => Template::File(C, "c"),
            Self::Cpp => Template::File(CPP, "cpp"),
            Self::Zig => Template::File(ZIG, "zig"),
            Self::AssemblyScript => Template::File(ASSEMBLYSCRIPT, "ts"),
            Self::Go => Template::Folder(GO),
            Self::JavaScript => Template::Folder(JAVASCRIPT),
        }
    }
}

/// What an author types next, one command a line.
pub fn next_steps(made: &Path, name: &str, lang: Lang) -> String {
    let folder = made.parent().unwrap_or(Path::new("")).join(name);
    let (made, stem) = (made.display(), folder.display());
    match lang {
        Lang::Wat => format!("goproxy policy check {made}\n"),
        Lang::C => format!(
            "clang --target=wasm32 -std=c11 -O2 -mbulk-memory -nostdlib -Wl,--no-entry -o {stem}.wasm {made}\n\
             goproxy policy check {stem}.wasm\n"
        ),
        Lang::Cpp => format!(
            "clang++ --target=wasm32 -std=c++17 -fno-exceptions -fno-rtti -O2 -mbulk-memory -nostdlib -Wl,--no-entry \
             -o {stem}.wasm {made}\n\
             goproxy policy check {stem}.wasm\n"
        ),
        Lang::Zig => format!(
            "python3 -m ziglang build-exe -target wasm32-freestanding -O ReleaseSmall -fno-entry -rdynamic \
             -femit-bin={stem}.wasm {made}\n\
             goproxy policy check {stem}.wasm\n"
        ),
        Lang::AssemblyScript => format!(
            "npx asc {made} -O --use abort= --textFile {stem}.as.wat\n\
             sed -E -e 's!\\(export \"(describe|configure|pick)\"!(export \"goproxy:balance/policy@1.0.0#\\1\"!' \
             -e 's!\\(export \"setServers\"!(export \"goproxy:balance/policy@1.0.0#set-servers\"!' {stem}.as.wat > {stem}.wat\n\
             goproxy policy check {stem}.wat\n"
        ),
        Lang::Rust => format!(
            "rustup target add wasm32-unknown-unknown\n\
             cd {made} && cargo build --release --target wasm32-unknown-unknown\n\
             goproxy policy check target/wasm32-unknown-unknown/release/{}.wasm\n",
            crate_file_stem(name)
        ),
        Lang::Go => format!(
            "cd {made}\n\
             npm install binaryen\n\
             GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags=-s -o go.wasm .\n\
             npx wasm-as wasi.wat -o wasi.wasm\n\
             npx wasm-merge {GO_FEATURES} --rename-export-conflicts go.wasm go wasi.wasm wasi_snapshot_preview1 \
             -o {name}.wasm\n\
             goproxy policy check --compile-budget 2s --deadline 20ms {name}.wasm\n"
        ),
        Lang::JavaScript => format!(
            "cd {made}\n\
             npm install componentize-qjs\n\
             npx componentize-qjs --wit wit --js policy.js -n balance-policy --sync --stub-wasi --opt-size -o {name}.wasm\n\
             goproxy policy check --compile-budget 2s --deadline 50ms {name}.wasm\n"
        ),
    }
}

/// What cargo calls the library of this crate.
pub(super) fn crate_file_stem(name: &str) -> String {
    name.replace('-', "_")
}
