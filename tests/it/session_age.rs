//! Sessions end at an age, whatever they do.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crate::support::{Client, Ended, FakeServer, Group, TestProxy, echo, eventually, replace, size};

const AGE: Duration = Duration::from_secs(2);

/// A client and when it began to connect.
struct Aging {
    client: Client,
    since: Instant,
    is_busy: bool,
}

impl Aging {
    /// Has something to say, or reads what came; how old it was when it ended.
    fn go_on(&mut self) -> Option<Duration> {
        let mut buffer = [0; 64];
        loop {
            match self.client.stream.read(&mut buffer) {
                Ok(0) => return Some(self.since.elapsed()),
                Ok(_) if self.is_busy => _ = self.client.stream.write(&buffer[..1]),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset && self.is_busy => {
                    return Some(self.since.elapsed());
                }
                Err(error) => panic!("an idle session ends in order: {error}"),
            }
        }
    }
}

#[test]
fn idle_and_busy_sessions_end_between_nine_tenths_of_their_age_and_all_of_it() {
    let (idle, busy) = (size("GOPROXY_TEST_SESSIONS", 200), size("GOPROXY_TEST_SESSIONS", 200) / 10);
    let server = FakeServer::start(|client, _| echo(client));
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("max_session_age", "2s"));
    let mut aging: Vec<Aging> = Vec::new();
    for number in 0..idle + busy {
        let (since, is_busy) = (Instant::now(), number % 11 == 0);
        let mut client = proxy.connect();
        if is_busy {
            client.send(b"x");
        }
        client.stream.set_nonblocking(true).unwrap();
        aging.push(Aging { client, since, is_busy });
    }
    let mut ages = Vec::new();
    eventually("all have ended", || {
        aging.retain_mut(|one| {
            let age = one.go_on();
            ages.extend(age);
            age.is_none()
        });
        aging.is_empty()
    });
    ages.sort();
    let (first, last) = (ages[0], ages[ages.len() - 1]);
    eprintln!("{} sessions ended after {first:?} to {last:?}", ages.len());
    assert!(first >= AGE.mul_f64(0.9), "{first:?}");
    assert!(last < AGE + Duration::from_secs(size("GOPROXY_TEST_LATE_S", 4) as u64), "{last:?}");
    eventually("each is counted", || proxy.ended("max_age") as usize == idle + busy);
    let lines = proxy.log.with_message("session closed");
    let elapsed: BTreeSet<u64> = lines.iter().map(|line| line["elapsed_ms"].as_u64().unwrap()).collect();
    assert!(*elapsed.first().unwrap() >= 1_800, "{elapsed:?}");
    assert!(elapsed.last().unwrap() - elapsed.first().unwrap() > 100, "they do not end together: {elapsed:?}");
}

#[test]
fn an_age_that_is_set_later_holds_for_sessions_that_run() {
    let server = FakeServer::echo();
    let proxy = TestProxy::start(Group::new("ha", &[&server]).with("max_session_age", "30d"));
    let mut client = proxy.connect();
    client.echo(b"young");
    replace(proxy.path(), &proxy.file().replace("\"30d\"", "\"1s\""));
    proxy.ok("/config-reload.do");
    assert_eq!(client.receive_all(), (Vec::new(), Ended::InOrder));
    proxy.log.wait_for_end("max_age");
}
