//! `goproxy policy new`: a policy to start from, which works as it is written.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::langs::{Lang, Template, crate_file_stem};
use crate::base::text::echo;
use crate::policy::spec::is_module_name;

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

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Not the name of a module.
    #[error("\"{0}\" is not a name for a policy; expected 1 to 64 letters, digits, _ and -")]
    Name(String),
    /// The name of a module, but of no crate.
    #[error(
        "\"{0}\" is not a name for a crate; expected letters, digits, _ and -, a letter in front, and not a keyword of Rust"
    )]
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
    match lang.template() {
        Template::File(text, ending) => {
            let path = folder.join(format!("{name}.{ending}"));
            write_new(&path, &fill(text, name)).map_err(|error| CreateError::of(&path, error))?;
            Ok(path)
        }
        Template::Folder(_) if lang == Lang::Rust && !is_crate_name(name) => {
            Err(CreateError::CrateName(name.to_owned()))
        }
        Template::Folder(files) => {
            let path = folder.join(name);
            fs::create_dir(&path).map_err(|error| CreateError::of(&path, error))?;
            project(&path, files, name).map_err(|error| {
                // All of it is ours: the folder was not there before.
                let _ = fs::remove_dir_all(&path);
                CreateError::Write(path.clone(), error)
            })?;
            Ok(path)
        }
    }
}

fn project(folder: &Path, files: &[(&str, &str)], name: &str) -> io::Result<()> {
    for (path, text) in files {
        let path = folder.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        write_new(&path, &fill(text, name))?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes()).inspect_err(|_| drop(fs::remove_file(path)))
}

fn fill(template: &str, name: &str) -> String {
    let length = name.len().to_string();
    template.replace("{{name_length}}", &length).replace("{{file}}", &crate_file_stem(name)).replace("{{name}}", name)
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
