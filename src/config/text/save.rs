//! The file itself: read whole, replaced whole.
//!
//! [`save`] writes beside the file and renames, so that whoever reads it, and whoever pulls the plug at
//! any moment, finds the old text or the new one and never a half. Whether the text is in order is the
//! caller's business.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::syntax::FILE_BYTES_MAX;

/// How the names of the temporary files start, behind a dot and the file's own name.
const TEMP_INFIX: &str = ".goproxy-tmp-";

/// The mode of a file that did not exist before: it may hold a token.
const MODE_NEW: u32 = 0o600;

/// Reads the whole file.
///
/// # Errors
///
/// Besides those of the system: more than [`FILE_BYTES_MAX`] bytes, or not UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("the file is too large; expected at most {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        let message = format!("line {line} has a byte that is not UTF-8, at offset {at}; expected UTF-8 text");
        io::Error::new(ErrorKind::InvalidData, message)
    })
}

/// Replaces the file by `text`.
///
/// A symlink stays and the file it leads to is replaced; mode and owner stay as far as the process may
/// give files away. Temporary files that a killed process left behind are removed. The text is on the
/// disk when this returns.
///
/// # Errors
///
/// Whatever the system says; the old file is then as it was.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    let real = match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
        real => real?,
    };
    let folder = real.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = real.file_name().ok_or(ErrorKind::IsADirectory)?.to_string_lossy().into_owned();
    let prefix = format!(".{name}{TEMP_INFIX}");
    for stale in stale(folder, &prefix) {
        // Somebody else may have been faster, and one that cannot be removed harms nobody.
        let _ = fs::remove_file(stale);
    }
    // Opened first, so that a folder that cannot be opened fails while nothing has happened yet.
    let folder_handle = File::open(folder)?;
    let mut temp = tempfile::Builder::new().prefix(&prefix).tempfile_in(folder)?;
    temp.write_all(text.as_bytes())?;
    take_over_owner_and_mode(temp.as_file(), &real)?;
    temp.as_file().sync_all()?;
    temp.persist(&real).map_err(|error| error.error)?;
    // The new text is in place, so an error here must not read as "nothing was changed"; some file
    // systems do not know how to sync a folder.
    let _ = folder_handle.sync_all();
    Ok(())
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
        let error = read(&path).unwrap_err();
        assert_eq!(error.to_string(), "line 2 has a byte that is not UTF-8, at offset 9; expected UTF-8 text");
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::FileTooLarge);
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
