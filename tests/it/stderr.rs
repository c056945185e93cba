//! Where the log goes: whatever becomes of stderr, the proxy serves and stops.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{FakeServer, Group, Setup, TestProxy};

/// More sessions than the lines of which fit into a pipe.
const SESSIONS: usize = 400;

fn start(server: &FakeServer, stderr: &Path) -> TestProxy {
    Setup::default().group(Group::new("ha", &[server])).with_stderr(stderr).start()
}

/// Sessions come and go, and the proxy stops, although nobody may read what it says of them.
fn serves_and_stops(mut proxy: TestProxy) {
    for _ in 0..SESSIONS {
        proxy.connect().echo(b"hello");
    }
    proxy.stop();
}

#[test]
fn the_last_line_is_written() {
    let mut proxy = TestProxy::start(Group::new("ha", &[]));
    proxy.stop();
    proxy.log.wait_for("the last line", |line| line["message"] == "goproxy stopped");
}

#[test]
fn a_stderr_that_takes_nothing_holds_nobody() {
    let server = FakeServer::echo();
    serves_and_stops(start(&server, Path::new("/dev/full")));
}

#[test]
fn a_stderr_that_nobody_reads_or_that_is_closed_holds_nobody() {
    for is_closed in [false, true] {
        let server = FakeServer::echo();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stderr");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        // Open for both, so that nobody waits for the other end to be opened.
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        let proxy = start(&server, &path);
        let _kept = (!is_closed).then_some(reader);
        serves_and_stops(proxy);
        assert!(fs::exists(&path).unwrap());
    }
}
