//! The file itself: read whole, replaced whole.
//!
//! [`save`] writes a temporary file and renames it. So readers see the old text or the new one, never a part, and so
//! does the next start after a power failure. The caller has checked the text.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use crate::config::problem::Problem;
use crate::config::syntax::FILE_BYTES_MAX;
use crate::events::{self, ConfigEvent, Event};

/// How the names of the temporary files start, behind a dot and the file's own name.
const TEMP_INFIX: &str = ".goproxy-tmp-";

/// As long as the names of all attributes, and one value, can be (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`), in bytes.
const ATTRIBUTES_LEN_MAX: usize = 64 << 10;

/// Most copies of files of the old form beside the file.
const COPIES_MAX: u32 = 100;

/// Most links that lead from one to another, as for the system.
const LINKS_MAX: usize = 40;

/// The mode of a file that did not exist before: it may hold a token.
const MODE_NEW: u32 = 0o600;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system says so.
    #[error(transparent)]
    System(#[from] io::Error),
    /// It is not UTF-8 or too long: a mistake with its place.
    #[error("{0}")]
    NotText(Problem),
}

/// Reads the whole file.
///
/// # Errors
///
/// Those of the system; more than [`FILE_BYTES_MAX`] bytes; not UTF-8.
pub fn read(path: &Path) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("the file is too large; expected at most {FILE_BYTES_MAX} bytes");
        return Err(ReadError::NotText(Problem::at("", 0, message)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let good = std::str::from_utf8(&error.as_bytes()[..at]).expect("this part is valid");
        let byte = error.as_bytes()[at];
        let hint = match error.as_bytes() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => " (this looks like UTF-16: save it as UTF-8)",
            [0x1f, 0x8b, ..] => " (this looks like a gzip file)",
            _ => "",
        };
        let message = format!("the byte 0x{byte:02x} is not UTF-8; expected UTF-8 text{hint}");
        ReadError::NotText(Problem::at(good, at, message))
    })
}

/// Replaces the file by `text`.
///
/// A symlink stays and the file it leads to is replaced; mode, owner, access lists and extended attributes stay as far as
/// the process may set them and the file system knows them, and what is lost is told. Other hard links keep the old
/// text, which is told, too. Temporary files that a killed process left behind are removed. The text is on the
/// disk when this returns.
///
/// # Errors
///
/// The error of the system; the old file is then unchanged.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    let real = real(path)?;
    save_like(&real, &real, text)
}

/// Where symlinks lead from `path`, also when no file is there yet.
fn real(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // A circle is an error of its own; links may change meanwhile.
    for _ in 0..LINKS_MAX {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_link(&path) {
                Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
                Err(_) => return Ok(path),
            },
            real => return real,
        }
    }
    Err(io::Error::other("too many links"))
}

/// Replaces the file at `real` by `text`, with mode, owner and attributes of the file at `model`.
fn save_like(model: &Path, real: &Path, text: &str) -> io::Result<()> {
    let folder = real.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = real.file_name().ok_or(ErrorKind::IsADirectory)?.to_string_lossy().into_owned();
    let prefix = format!(".{name}{TEMP_INFIX}");
    for stale in stale(folder, &prefix) {
        // Another process may have removed it first, and one that stays does no harm.
        let _ = fs::remove_file(stale);
    }
    // Opened first, so that a folder that cannot be opened fails while nothing has happened yet.
    let folder_handle = File::open(folder)?;
    let mut temp = tempfile::Builder::new().prefix(&prefix).tempfile_in(folder)?;
    temp.write_all(text.as_bytes())?;
    take_over_owner_and_mode(temp.as_file(), model)?;
    let lost = take_over_attributes(temp.as_file(), model);
    temp.as_file().sync_all()?;
    let links = fs::metadata(real).map_or(1, |old| old.nlink());
    temp.persist(real).map_err(|error| at_mount_point(error.error))?;
    tell_losses(real, &lost, links);
    // The new text is in place, so an error here must not read as "nothing was changed"; some file
    // systems do not know how to sync a folder.
    let _ = folder_handle.sync_all();
    Ok(())
}

/// Writes `text`, which the file at `path` has had so far, beside it, as `NAME.old` or, where that is taken by another text,
/// `NAME.old.2` and so on. Gives the path.
///
/// # Errors
///
/// The error of the system.
pub fn keep_old(path: &Path, text: &str) -> io::Result<PathBuf> {
    for number in 1..=COPIES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { ".old".to_owned() } else { format!(".old.{number}") });
        let kept = PathBuf::from(name);
        match read(&kept) {
            Ok(there) if there == text => return Ok(kept),
            Err(ReadError::System(error)) if error.kind() == ErrorKind::NotFound => {
                save_like(path, &kept, text)?;
                return Ok(kept);
            }
            _ => {}
        }
    }
    Err(io::Error::other(format!("there are {COPIES_MAX} copies already")))
}

/// A hash of the content, to see whether a file has changed.
pub fn hash(content: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(content)
}

/// What a killed process left behind.
fn stale(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let stale = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    stale.map(|entry| entry.path()).collect()
}

fn take_over_owner_and_mode(temp: &File, real: &Path) -> io::Result<()> {
    let old = match fs::metadata(real) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return temp.set_permissions(Permissions::from_mode(MODE_NEW));
        }
        old => old?,
    };
    let new = temp.metadata()?;
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        // Only root gives files away; anyone may pass a file to a group of their own.
        std::os::unix::fs::fchown(temp, Some(old.uid()), Some(old.gid()))
            .or_else(|_| std::os::unix::fs::fchown(temp, None, Some(old.gid())))
            .or_else(|error| if error.kind() == ErrorKind::PermissionDenied { Ok(()) } else { Err(error) })?;
    }
    temp.set_permissions(old.permissions())
}

/// Copies access lists and extended attributes; gives the names of those that could not be copied.
fn take_over_attributes(temp: &File, model: &Path) -> Vec<String> {
    let Ok(old) = File::open(model) else { return Vec::new() };
    let mut names = vec![0; ATTRIBUTES_LEN_MAX];
    // A file system that knows no attributes has none to lose.
    let Ok(len) = rustix::fs::flistxattr(&old, &mut names[..]) else { return Vec::new() };
    let mut value = vec![0; ATTRIBUTES_LEN_MAX];
    let mut lost = Vec::new();
    for name in names[..len].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let copied = rustix::fs::fgetxattr(&old, name, &mut value[..])
            .and_then(|len| rustix::fs::fsetxattr(temp, name, &value[..len], XattrFlags::empty()));
        if copied.is_err() && !is_there(temp, name, &old) {
            lost.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    lost
}

/// True for attributes that the system sets on every new file, such as those of security modules.
fn is_there(temp: &File, name: &[u8], old: &File) -> bool {
    let value = |file: &File| {
        let mut value = vec![0; ATTRIBUTES_LEN_MAX];
        rustix::fs::fgetxattr(file, name, &mut value[..]).ok().map(|len| value[..len].to_vec())
    };
    value(temp) == value(old)
}

/// Logs what a save could not keep.
fn tell_losses(path: &Path, lost: &[String], links: u64) {
    let path = || path.display().to_string().into();
    if !lost.is_empty() {
        let attributes = lost.join(", ").into();
        events::publish(Event::Config(ConfigEvent::AttributesLost { path: path(), attributes }));
    }
    if links > 1 {
        events::publish(Event::Config(ConfigEvent::LinksLeft { path: path(), others: links - 1 }));
    }
}

/// The error of a rename, with what to do where the file is mounted by itself.
fn at_mount_point(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::ResourceBusy => {
            io::Error::new(error.kind(), format!("{error}: the file is a mount point; mount its folder instead"))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_save_keeps_symlink_and_mode_and_leaves_nothing_else_behind() {
        let home = tempfile::tempdir().unwrap();
        let (data, etc) = (home.path().join("data"), home.path().join("etc"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&etc).unwrap();
        let (real, link) = (data.join("real.json"), etc.join("proxy.json"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("../data/real.json", &link).unwrap();
        // What a process that was killed in the middle leaves, and what only looks like it.
        fs::write(data.join(".real.json.goproxy-tmp-abc123"), "ha").unwrap();
        fs::write(data.join(".real.json.swp"), "editor").unwrap();
        for text in ["new", "newer"] {
            save(&link, text).unwrap();
            assert_eq!(read(&real).unwrap(), text);
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(names(&data), [".real.json.swp", "real.json"]);
        assert_eq!(names(&etc), ["proxy.json"]);
    }

    #[test]
    fn a_save_follows_links_to_where_no_file_is_yet() {
        let home = tempfile::tempdir().unwrap();
        let (data, link) = (home.path().join("data"), home.path().join("state.json"));
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink("data/link", &link).unwrap();
        std::os::unix::fs::symlink("real.json", data.join("link")).unwrap();
        save(&link, "new").unwrap();
        assert_eq!(read(&data.join("real.json")).unwrap(), "new");
        assert!([link, data.join("link")].iter().all(|link| fs::symlink_metadata(link).unwrap().is_symlink()));
    }

    #[test]
    fn a_save_keeps_access_lists_and_attributes() {
        let home = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = home.path().join("proxy.json");
        fs::write(&path, "old").unwrap();
        let file = File::open(&path).unwrap();
        // Version 2; owner rw-, user 12345 r--, group ---, mask r--, others ---: what setfacl would write.
        let entry =
            |tag: u16, perm: u16, id: u32| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat();
        let entries = [(1, 6, u32::MAX), (2, 4, 12345), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
        let acl = entries
            .iter()
            .fold(2_u32.to_le_bytes().to_vec(), |acl, (tag, perm, id)| [acl, entry(*tag, *perm, *id)].concat());
        let attributes: [(&str, &[u8]); 2] = [("user.origin", b"mine"), ("system.posix_acl_access", &acl)];
        for (name, value) in attributes {
            rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()).unwrap();
        }
        save(&path, "new").unwrap();
        let file = File::open(&path).unwrap();
        for (name, value) in attributes {
            let mut found = [0; 256];
            let len = rustix::fs::fgetxattr(&file, name, &mut found[..]).unwrap();
            assert_eq!(&found[..len], value, "{name}");
        }
        assert_eq!(read(&path).unwrap(), "new");
    }

    #[test]
    fn a_hard_link_keeps_the_old_text() {
        let home = tempfile::tempdir().unwrap();
        let (path, other) = (home.path().join("proxy.json"), home.path().join("other.json"));
        fs::write(&path, "old").unwrap();
        fs::hard_link(&path, &other).unwrap();
        save(&path, "new").unwrap();
        assert_eq!((read(&path).unwrap(), read(&other).unwrap()), ("new".to_owned(), "old".to_owned()));
    }

    #[test]
    fn a_copy_of_the_old_form_never_takes_the_place_of_another() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("proxy.json");
        fs::write(&path, "now").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let kept = |text: &str| keep_old(&path, text).unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            ["a", "a", "b", "a"].map(kept),
            ["proxy.json.old", "proxy.json.old", "proxy.json.old.2", "proxy.json.old"]
        );
        assert_eq!(fs::metadata(home.path().join("proxy.json.old")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(home.path()), ["proxy.json", "proxy.json.old", "proxy.json.old.2"]);
    }

    #[test]
    fn a_new_file_is_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("proxy.json");
        save(&path, "{}").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_save_that_fails_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        // A folder in the file's place cannot be replaced by a file, whoever asks.
        let path = home.path().join("proxy.json");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "kept").unwrap();
        assert!(save(&path, "new").is_err());
        assert_eq!(names(home.path()), ["proxy.json"]);
        assert_eq!(names(&path), ["inside"]);
        assert!(save(&home.path().join("gone").join("proxy.json"), "new").is_err());
    }

    #[test]
    fn what_is_no_text_or_has_no_end_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("proxy.json");
        fs::write(&path, b"{\n \"a\": \"\xff\"}").unwrap();
        let said = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read(&path).unwrap_err().to_string()
        };
        assert_eq!(said(b"{\n \"a\": \"\xff\"}"), "2:8: the byte 0xff is not UTF-8; expected UTF-8 text");
        assert_eq!(
            said("// ä\r\n// é, ü".as_bytes().split_last().unwrap().1),
            "2:7: the byte 0xc3 is not UTF-8; expected UTF-8 text"
        );
        assert!(
            said(b"\xff\xfe{\0}\0")
                .starts_with("1:1: the byte 0xff is not UTF-8; expected UTF-8 text (this looks like UTF-16")
        );
        assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().starts_with("1:1: the file is too large"));
        assert_ne!(hash(b"a"), hash(b"b"));
    }

    /// Names the file for the process that [`save_until_killed`] is; unset in an ordinary test run.
    const VICTIM: &str = "GOPROXY_TEST_SAVE_UNTIL_KILLED";

    fn texts() -> [String; 2] {
        ["a".repeat(300_000), "b".repeat(200_000)]
    }

    #[test]
    fn a_process_killed_while_saving_leaves_the_old_text_or_the_new() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("proxy.json");
        let texts = texts();
        for round in 0..10 {
            fs::write(&path, "start").unwrap();
            let mut child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "config::text::save::tests::save_until_killed"])
                .env(VICTIM, &path)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
            let mut seen = 0;
            // Whoever reads meanwhile sees whole texts only.
            while seen < 20 + round * 7 {
                let text = read(&path).unwrap();
                assert!(text == "start" || texts.contains(&text), "a file of {} bytes", text.len());
                seen += usize::from(text != "start");
                assert!(std::time::Instant::now() < deadline, "the child does not save");
            }
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(texts.contains(&read(&path).unwrap()));
        }
        save(&path, "end").unwrap();
        assert_eq!(names(home.path()), ["proxy.json"]);
    }

    /// The other half of the test above: saves until it is killed, or for a minute.
    #[test]
    fn save_until_killed() {
        let Some(path) = std::env::var_os(VICTIM) else { return };
        let started = std::time::Instant::now();
        while started.elapsed() < std::time::Duration::from_secs(60) {
            texts().iter().for_each(|text| save(Path::new(&path), text).unwrap());
        }
    }
}
