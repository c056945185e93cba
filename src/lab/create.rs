//! `goproxy policy new`: a policy to start from, which works as it is written.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::base::text::echo;
use crate::policy::spec::is_module_name;

const WAT: &str = include_str!("templates/policy.wat.in");
const C: &str = include_str!("templates/policy.c.in");
const ZIG: &str = include_str!("templates/policy.zig.in");
const ASSEMBLYSCRIPT: &str = include_str!("templates/policy.ts.in");
const CARGO: &str = include_str!("templates/Cargo.toml.in");
const LIB: &str = include_str!("templates/lib.rs.in");
const README: &str = include_str!("templates/README.md.in");
const WIT: &str = include_str!("../../wit/balance.wit");

/// Names that no crate can have: keywords, and crates that exist already.
const NO_CRATES: &[&str] = &[
    "_",
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "wit-bindgen",
    "wit_bindgen",
    "yield",
];

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
    /// One file of Zig.
    Zig,
    /// One file of AssemblyScript.
    AssemblyScript,
}

impl Lang {
    /// The template and the ending of a policy that is one file; `None` for a project.
    fn file(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Rust => None,
            Self::Wat => Some((WAT, "wat")),
            Self::C => Some((C, "c")),
            Self::Zig => Some((ZIG, "zig")),
            Self::AssemblyScript => Some((ASSEMBLYSCRIPT, "ts")),
        }
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Not the name of a module.
    #[error("\"{0}\" is no name of a policy; expected 1 to 64 letters, digits, _ and -")]
    Name(String),
    /// The name of a module, but of no crate.
    #[error("\"{0}\" is no name of a crate; expected letters, digits, _ and -, a letter in front, and no word of Rust")]
    CrateName(String),
    /// The path exists already.
    #[error("{}: is there already; expected a name that is not taken", .0.display())]
    Exists(PathBuf),
    /// The system refuses to write.
    #[error("{path}: cannot be written: {1}", path = .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// Writes a policy called `name` into `folder`; returns the path of the new file or of the project's folder.
///
/// # Errors
///
/// The name cannot be used, is taken, or the system refuses. Nothing is left behind.
pub fn create(folder: &Path, name: &str, lang: Lang) -> Result<PathBuf, CreateError> {
    if !is_module_name(name) || name.contains('.') {
        return Err(CreateError::Name(echo(name)));
    }
    match lang.file() {
        Some((template, ending)) => {
            let path = folder.join(format!("{name}.{ending}"));
            write_new(&path, &fill(template, name)).map_err(|error| CreateError::of(&path, error))?;
            Ok(path)
        }
        None if !is_crate_name(name) => Err(CreateError::CrateName(name.to_owned())),
        None => {
            let path = folder.join(name);
            fs::create_dir(&path).map_err(|error| CreateError::of(&path, error))?;
            project(&path, name).map_err(|error| {
                // All of it is ours: the folder was not there before.
                let _ = fs::remove_dir_all(&path);
                CreateError::Write(path.clone(), error)
            })?;
            Ok(path)
        }
    }
}

/// The commands to run next, one per line.
pub fn next_steps(made: &Path, name: &str, lang: Lang) -> String {
    let folder = made.parent().unwrap_or(Path::new("")).join(name);
    let (made, stem) = (made.display(), folder.display());
    match lang {
        Lang::Wat => format!("goproxy policy check {made}\n"),
        Lang::C => format!(
            "clang --target=wasm32 -std=c11 -O2 -mbulk-memory -nostdlib -Wl,--no-entry -o {stem}.wasm {made}\n\
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
            file_stem(name)
        ),
    }
}

fn project(folder: &Path, name: &str) -> io::Result<()> {
    fs::create_dir(folder.join("src"))?;
    fs::create_dir(folder.join("wit"))?;
    write_new(&folder.join("Cargo.toml"), &fill(CARGO, name))?;
    write_new(&folder.join("src/lib.rs"), &fill(LIB, name))?;
    write_new(&folder.join("wit/balance.wit"), WIT)?;
    write_new(&folder.join("README.md"), &fill(README, name))?;
    write_new(&folder.join(".gitignore"), "/target\n")
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes()).inspect_err(|_| drop(fs::remove_file(path)))
}

fn fill(template: &str, name: &str) -> String {
    let length = name.len().to_string();
    template.replace("{{name_length}}", &length).replace("{{file}}", &file_stem(name)).replace("{{name}}", name)
}

/// What cargo calls the library of this crate.
fn file_stem(name: &str) -> String {
    name.replace('-', "_")
}

fn is_crate_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !NO_CRATES.contains(&name)
}

impl CreateError {
    fn of(path: &Path, error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::AlreadyExists => Self::Exists(path.to_owned()),
            _ => Self::Write(path.to_owned(), error),
        }
    }
}
