//! Small files that are read whole: keys, certificates, lists of networks, the state file.
//!
//! Whatever a path leads to, opening it waits for nobody and reading it ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::text::size;

/// The content of the regular file at `path`. Links are followed.
///
/// # Errors
///
/// Those of the system; it is no regular file, or has more than `bytes_max` bytes.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let is_file = |about: std::fs::Metadata| match about.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("not a file")),
    };
    // Opening may do something to a device.
    is_file(std::fs::metadata(path)?)?;
    // It may be another one by now: without NONBLOCK, opening a pipe waits for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    is_file(file.metadata()?)?;
    bounded(file, bytes_max)
}

/// [`read`] for text.
///
/// # Errors
///
/// Those of [`read`]; it is not UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    text(read(path, bytes_max)?)
}

/// The text of a file that the user of a command names. It may be a pipe, for which the command waits.
///
/// # Errors
///
/// Those of the system; it has more than `bytes_max` bytes; it is not UTF-8.
pub fn read_argument(path: &Path, bytes_max: u64) -> io::Result<String> {
    text(bounded(File::open(path)?, bytes_max)?)
}

fn bounded(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(io::Error::other(format!("too large; expected at most {}", size(bytes_max)))),
        false => Ok(bytes),
    }
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, file, link) = (folder.path().join("pipe"), folder.path().join("file"), folder.path().join("link"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from(0o600), 0).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(read(path, 9).unwrap_err().to_string(), "not a file", "{}", path.display());
        }
        assert_eq!(read(&link, 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&file, b"12345\xff").unwrap();
        assert_eq!(read(&link, 6).unwrap(), b"12345\xff");
        assert_eq!(read(&link, 5).unwrap_err().to_string(), "too large; expected at most 5 B");
        assert_eq!(
            read_argument(Path::new("/dev/zero"), 5).unwrap_err().to_string(),
            "too large; expected at most 5 B"
        );
        assert_eq!(read_text(&link, 6).unwrap_err().to_string(), "not UTF-8 text");
    }
}
