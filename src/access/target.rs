//! One access log with its open file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::settings::{AccessPath, AccessSettings};
use crate::base::failure::worded;

/// Bytes gathered before they are written.
const WRITE_SIZE: usize = 64 * 1024;

/// How often somebody is told of lines that are lost.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// New files are for their owner and its group: they hold the addresses of clients.
const MODE: u32 = 0o640;

/// Lines that were lost since the start, of all access logs.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines of access logs that were lost since the start.
pub fn dropped_total() -> u64 {
    DROPPED.load(Relaxed)
}

/// One access log with its open file.
#[derive(Debug)]
pub struct AccessTarget {
    settings: AccessSettings,
    /// Lines that were lost and of which nobody has been told.
    lost: AtomicU64,
    /// Guards the file and what waits to be written. Taken by the log thread alone, but for tests.
    out: Mutex<Out>,
}

#[derive(Debug, Default)]
struct Out {
    /// `None` for stderr, which the log thread has.
    file: Option<File>,
    bytes: Vec<u8>,
    /// What is left of a line that has been written in part and cannot be taken back; it comes first.
    rest: Vec<u8>,
    error: Option<String>,
    told_at: Option<Instant>,
}

/// Lines that were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// So many since this was last told.
    pub lines: u64,
    /// What the system said; `None` where the log thread could not keep up.
    pub error: Option<String>,
}

impl AccessTarget {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    ///
    /// It cannot be opened for writing.
    pub fn open(settings: AccessSettings) -> io::Result<Self> {
        let file = match &settings.path {
            AccessPath::Stderr => None,
            AccessPath::File(path) => Some(open(path)?),
        };
        Ok(Self { settings, lost: AtomicU64::new(0), out: Mutex::new(Out { file, ..Out::default() }) })
    }

    /// What is configured of it.
    pub fn settings(&self) -> &AccessSettings {
        &self.settings
    }

    /// True when it has a file: then the log of the process does not say the same.
    pub fn has_file(&self) -> bool {
        self.settings.path != AccessPath::Stderr
    }

    /// The file's path, or `stderr`.
    pub fn path(&self) -> String {
        self.settings.path.to_string()
    }

    /// Has `write` append one line to what waits, and writes when that is much.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = self.out();
        write(&mut out.bytes);
        if out.bytes.len() >= WRITE_SIZE {
            self.write_out(&mut out);
        }
    }

    /// Writes what waits.
    pub fn flush(&self) {
        self.write_out(&mut self.out());
    }

    /// Opens the file again, which may have been renamed. What waits goes to the old one.
    ///
    /// # Errors
    ///
    /// It cannot be opened, and the old one stays.
    pub fn reopen(&self) -> io::Result<()> {
        let AccessPath::File(path) = &self.settings.path else { return Ok(()) };
        let mut out = self.out();
        self.write_out(&mut out);
        out.file = Some(open(path)?);
        if !std::mem::take(&mut out.rest).is_empty() {
            self.lose(1);
        }
        Ok(())
    }

    /// Counts lines that are lost.
    pub fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Relaxed);
        DROPPED.fetch_add(lines, Relaxed);
    }

    /// True when lines were lost of which nobody has been told.
    pub fn has_lost(&self) -> bool {
        self.lost.load(Relaxed) > 0
    }

    /// The lines that were lost, once a minute at most.
    pub fn take_lost(&self, now: Instant) -> Option<Lost> {
        if !self.has_lost() {
            return None;
        }
        let mut out = self.out();
        if out.told_at.is_some_and(|told_at| now.duration_since(told_at) < TELL_EVERY) {
            return None;
        }
        out.told_at = Some(now);
        Some(Lost { lines: self.lost.swap(0, Relaxed), error: out.error.take() })
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        // A panic leaves whole lines, at worst the same ones twice.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whole lines; what cannot be written is lost, and a line of which a part was written is taken back.
    fn write_out(&self, out: &mut Out) {
        let Out { file: Some(file), bytes, rest, error, .. } = out else { return };
        if !rest.is_empty() {
            let (written, failed) = write(file, rest);
            rest.drain(..written);
            if let Some(failed) = failed {
                *error = Some(worded(&failed));
                self.lose(lines(bytes));
                return bytes.clear();
            }
        }
        let (written, failed) = write(file, bytes);
        if let Some(failed) = failed {
            *error = Some(worded(&failed));
            let torn = written - bytes[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let mut lost = &bytes[written - torn..];
            if torn > 0 && !take_back(file, torn) {
                let end = lost.iter().position(|byte| *byte == b'\n').map_or(lost.len(), |at| at + 1);
                rest.extend_from_slice(&lost[torn..end]);
                lost = &lost[end..];
            }
            self.lose(lines(lost));
        }
        bytes.clear();
        // After a burst.
        bytes.shrink_to(WRITE_SIZE);
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// To its end; a pipe that is full is not waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags.bits() as i32).open(path)
}

/// How much was written, and why not more.
fn write(file: &mut File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// Takes the last bytes off the end of a file that nobody else writes. False where that cannot be done.
fn take_back(file: &File, bytes: usize) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    let len = metadata.len().checked_sub(bytes as u64);
    metadata.is_file() && len.is_some_and(|len| file.set_len(len).is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::access::{AccessFormat, AccessPrefix};

    fn target(path: &Path) -> io::Result<AccessTarget> {
        AccessTarget::open(AccessSettings {
            format: AccessFormat::Json,
            path: AccessPath::File(path.to_owned()),
            connect_line: false,
            prefix: AccessPrefix::Syslog,
        })
    }

    fn add(target: &AccessTarget, line: &str) {
        target.add(|bytes| {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        });
    }

    #[test]
    fn lines_go_to_the_end_of_the_file_and_after_a_rename_to_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, renamed) = (folder.path().join("access"), folder.path().join("access.1"));
        fs::write(&path, "before\n").unwrap();
        let target = target(&path).unwrap();
        add(&target, "one");
        fs::rename(&path, &renamed).unwrap();
        add(&target, "two");
        target.reopen().unwrap();
        add(&target, "three");
        target.flush();
        assert_eq!(fs::read_to_string(&renamed).unwrap(), "before\none\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        // One that cannot be opened changes nothing.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(target.reopen().is_err());
        add(&target, "four");
        target.flush();
        assert_eq!(target.take_lost(Instant::now()), None);
    }

    #[test]
    fn what_a_device_does_not_take_is_lost_and_told_once_a_minute() {
        let target = target(Path::new("/dev/full")).unwrap();
        let start = Instant::now();
        for (line, at) in [("one\ntwo", 0), ("three", 1), ("four", 59)] {
            add(&target, line);
            target.flush();
            let lost = target.take_lost(start + Duration::from_secs(at));
            let lines = Lost { lines: 2, error: Some("No space left on device (os error 28)".to_owned()) };
            assert_eq!(lost, (at == 0).then_some(lines));
        }
        assert!(target.has_lost());
        assert_eq!(target.take_lost(start + TELL_EVERY).unwrap().lines, 2);
        assert!(!target.has_lost());
    }

    #[test]
    fn a_full_pipe_holds_nobody_and_no_line_of_it_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(target(&path).is_err(), "nobody reads it");
        let mut reader =
            OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&path).unwrap();
        let target = target(&path).unwrap();
        let line = "x".repeat(1_000);
        let mut read = Vec::new();
        for _ in 0..3 {
            for _ in 0..200 {
                add(&target, &line);
            }
            target.flush();
            let mut buffer = vec![0; 1 << 20];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                read.extend_from_slice(&buffer[..length]);
            }
        }
        target.flush();
        let lost = target.take_lost(Instant::now()).unwrap().lines as usize;
        let mut buffer = Vec::new();
        // It ends with "nothing more for now".
        let _ = reader.read_to_end(&mut buffer);
        read.extend_from_slice(&buffer);
        let text = String::from_utf8(read).unwrap();
        assert!(text.lines().all(|read| read == line), "a torn line");
        assert_eq!(text.lines().count() + lost, 600);
    }
}
