//! Sessions of a log: when they came, how long they were, and whose they were.
//!
//! Three kinds of lines are read: `session closed` of our own log, as JSON or as text; HAProxy's of `option tcplog`, which our access log
//! can write as well; and nginx's of `stream`, which begin with `$remote_addr [$time_local]` or `[$time_iso8601]` and end with
//! `$session_time`. All of them are written when a session ends. Lines that do not fit are counted, and the first is shown.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::civil::DateTime;

use super::sessions::Session;
use crate::base::text::{count, one_line};
use crate::config::Scenario;

/// Longest part of a line that is shown.
const LINE_SHOWN: usize = 160;

/// Longest line that is read, in bytes: what goes on beyond it is no log.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A whole log is at most so many sessions: 40 bytes each.
const SESSIONS_MAX: usize = 50_000_000;

/// Who wrote a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// We, as JSON or as text.
    Goproxy,
    /// HAProxy, or our access log in its format.
    Haproxy,
    /// nginx, of `stream`.
    Nginx,
}

/// The sessions of a log, in the order in which they came.
#[derive(Debug, Default)]
pub struct Trace {
    pub(super) sessions: Vec<Session>,
    /// The address of each client.
    pub(super) clients: Vec<SocketAddr>,
    /// What is worth knowing about it.
    pub notes: Vec<String>,
    until: Duration,
    mean: Duration,
}

/// A log that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// No line of it is of a session.
    #[error(
        "no line tells of a session that is over; expected lines \"session closed\" of goproxy, of HAProxy's tcplog, or of nginx's \
         stream{}", .first.as_ref().map_or_else(String::new, |line| format!("; the first is: {line}"))
    )]
    NoSession {
        /// The first line.
        first: Option<String>,
    },
    /// It has a line that cannot be one of a log.
    #[error("line {0} is too long; expected a log with lines of at most {LINE_BYTES_MAX} bytes")]
    LongLine(u64),
    /// It has more sessions than can be held.
    #[error("has more than {SESSIONS_MAX} sessions; expected fewer: take a part of it")]
    TooLong,
}

/// What one line says.
#[derive(Debug, PartialEq)]
struct Line {
    /// When the session began, in milliseconds since 1970.
    at_ms: i64,
    millis: u64,
    client: IpAddr,
    has_server: bool,
}

/// What a line is.
enum Found {
    Session(Line),
    /// Of something else, which is no reason to complain.
    Other,
    /// Not to be understood.
    Unfit,
}

impl Trace {
    /// Reads a log. Without a format, that of the first line that is understood counts. With a group, only its sessions are
    /// taken, where lines name one. `speed` 2 lets the sessions come twice as fast.
    ///
    /// # Errors
    ///
    /// It cannot be read, or there is nothing of use in it.
    pub fn read(
        mut log: impl BufRead,
        mut format: Option<TraceFormat>,
        group: Option<&str>,
        speed: f64,
    ) -> Result<Self, TraceError> {
        let (mut lines, mut first, mut unfit, mut first_unfit, mut unserved) = (Vec::new(), None, 0, None, 0);
        let (mut line, mut number) = (Vec::new(), 0);
        while read_line(&mut log, &mut line)? > 0 {
            number += 1;
            if line.len() > LINE_BYTES_MAX {
                return Err(TraceError::LongLine(number));
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            first.get_or_insert_with(|| one_line(text, LINE_SHOWN));
            match parse_any(text, &mut format, group) {
                Found::Session(line) if line.has_server => lines.push(line),
                Found::Session(_) => unserved += 1,
                Found::Other => {}
                Found::Unfit => {
                    unfit += 1;
                    first_unfit.get_or_insert_with(|| one_line(text, LINE_SHOWN));
                }
            }
            if lines.len() > SESSIONS_MAX {
                return Err(TraceError::TooLong);
            }
        }
        if lines.is_empty() {
            return Err(TraceError::NoSession { first });
        }
        let mut trace = Self::of(lines, speed);
        if unserved > 0 {
            trace.notes.push(format!("left out: {} of the log that got no server", count(unserved, "session")));
        }
        if let Some(line) = first_unfit {
            trace.notes.push(format!("not understood: {} of the log; the first is: {line}", count(unfit, "line")));
        }
        Ok(trace)
    }

    fn of(mut lines: Vec<Line>, speed: f64) -> Self {
        lines.sort_by_key(|line| line.at_ms);
        let begin_ms = lines[0].at_ms;
        let end_ms = lines.iter().map(|line| line.at_ms + line.millis as i64).max().unwrap_or(begin_ms);
        // A session that was open at the end is not in the log, and long ones are open more often: what came in the last
        // moments is a biased sample.
        let mut lengths: Vec<u64> = lines.iter().map(|line| line.millis).collect();
        lengths.sort_unstable();
        let p99_ms = lengths[(lengths.len() * 99).div_ceil(100).saturating_sub(1)] as i64;
        let last_ms = if end_ms - begin_ms > 2 * p99_ms { end_ms - p99_ms } else { end_ms };
        let all = lines.len();
        lines.retain(|line| line.at_ms <= last_ms);
        let mut trace = Self::default();
        let (mut known, mut of_client) = (HashMap::new(), Vec::<usize>::new());
        for (number, line) in lines.iter().enumerate() {
            let client = *known.entry(line.client).or_insert_with(|| {
                trace.clients.push(SocketAddr::new(line.client, 40_000));
                of_client.push(0);
                trace.clients.len() as u32 - 1
            });
            of_client[client as usize] += 1;
            let at_ns = ((line.at_ms - begin_ms) as f64 * 1e6 / speed) as u64;
            let work_ns = (line.millis * 1_000_000).max(1);
            trace.sessions.push(Session { number: number as u64, at_ns, work_ns, client });
        }
        let work: f64 = trace.sessions.iter().map(|session| session.work_ns as f64).sum();
        trace.mean = Duration::from_nanos((work / trace.sessions.len() as f64) as u64).max(Duration::from_nanos(1));
        let last_ns = trace.sessions.last().map_or(0, |session| session.at_ns);
        trace.until = Duration::from_nanos(last_ns) + Duration::from_millis(1);
        if all > lines.len() {
            let late = count(all - lines.len(), "session");
            let before = Duration::from_millis(p99_ms as u64);
            trace.notes.push(format!(
                "left out: {late} of the last {} s, of which the log lacks the long ones",
                before.as_secs()
            ));
        }
        let largest = of_client.iter().max().copied().unwrap_or(0);
        if largest * 20 > lines.len() {
            let part = 100 * largest / lines.len();
            trace.notes.push(format!(
                "one client makes {part} % of all sessions: a policy that goes by the client puts them on one server"
            ));
        }
        trace
    }

    /// Makes the scenario one of these sessions; what else happens is left as it is.
    pub fn apply(&self, scenario: &mut Scenario) {
        scenario.until = self.until;
        scenario.arrivals.rate = self.sessions.len() as f64 / self.until.as_secs_f64();
        scenario.arrivals.kind = "trace";
        (scenario.durations.kind, scenario.durations.mean) = ("as logged,", self.mean);
        scenario.clients.count = self.clients.len() as u32;
        scenario.clients.skew = 0.0;
    }
}

/// Reads one line with its end into `line`, of which little more than [`LINE_BYTES_MAX`] bytes is read. Gives its length; 0 at the
/// end of the log.
fn read_line(log: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    line.clear();
    log.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line)
}

fn parse_any(text: &str, format: &mut Option<TraceFormat>, group: Option<&str>) -> Found {
    if let Some(format) = *format {
        return parse(text, format, group);
    }
    for candidate in [TraceFormat::Goproxy, TraceFormat::Haproxy, TraceFormat::Nginx] {
        let found = parse(text, candidate, group);
        if !matches!(found, Found::Unfit) {
            *format = Some(candidate);
            return found;
        }
    }
    Found::Unfit
}

fn parse(text: &str, format: TraceFormat, group: Option<&str>) -> Found {
    match format {
        TraceFormat::Goproxy if text.starts_with('{') => json(text, group),
        TraceFormat::Goproxy => ours(text, group),
        TraceFormat::Haproxy => haproxy(text).map_or(Found::Unfit, Found::Session),
        TraceFormat::Nginx => nginx(text).map_or(Found::Unfit, Found::Session),
    }
}

/// A line of our log as JSON.
fn json(text: &str, group: Option<&str>) -> Found {
    let Ok(line) = serde_json::from_str::<serde_json::Value>(text) else { return Found::Unfit };
    let field = |name: &str| match &line[name] {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    };
    if line["message"].as_str().is_none() {
        return Found::Unfit;
    }
    closed(line["message"] == "session closed", field("timestamp").as_deref(), field, group)
}

/// A line of our log as text.
fn ours(text: &str, group: Option<&str>) -> Found {
    let (stamp, rest) = text.split_once(' ').unwrap_or((text, ""));
    if stamp.parse::<jiff::Timestamp>().is_err() {
        return Found::Unfit;
    }
    let field = |name: &str| {
        let mut words = rest.split(' ');
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    closed(rest.contains(" session closed session.id="), Some(stamp), field, group)
}

fn closed(is_closed: bool, stamp: Option<&str>, field: impl Fn(&str) -> Option<String>, group: Option<&str>) -> Found {
    let is_other_group =
        group.is_some_and(|group| ![field("group"), field("group.name")].contains(&Some(group.to_owned())));
    if !is_closed || is_other_group {
        return Found::Other;
    }
    let line = || {
        let end_ms = stamp?.parse::<jiff::Timestamp>().ok()?.as_millisecond();
        let millis = field("elapsed_ms")?.parse::<u64>().ok()?;
        let client = field("client.addr")?.parse::<SocketAddr>().ok()?.ip();
        Some(Line { at_ms: end_ms - millis as i64, millis, client, has_server: field("server.addr").is_some() })
    };
    line().map_or(Found::Unfit, Found::Session)
}

/// `…10.0.0.1:33313 [06/Feb/2009:12:12:51.443] front back/server 0/0/5007 212 -- …`, with whatever stands in front.
fn haproxy(text: &str) -> Option<Line> {
    let (front, rest) = text.split_once(" [")?;
    let (date, rest) = rest.split_once("] ")?;
    let client = front.rsplit(' ').next()?.rsplit_once(':')?.0;
    let mut words = rest.split_whitespace().skip(1);
    let server = words.next()?.split_once('/')?.1;
    let times: Vec<&str> = words.next()?.split('/').collect();
    let &[_, _, total] = &times[..] else { return None };
    Some(Line {
        at_ms: local_ms(date)?,
        // A plus says that the line was written before the end.
        millis: total.trim_start_matches('+').parse().ok()?,
        client: client.trim_matches(['[', ']']).parse().ok()?,
        has_server: server != "<NOSRV>",
    })
}

/// `10.0.0.1 [30/Nov/2026:23:01:02 +0000] TCP 200 1024 512 5.007`: what stands between the time and the last number is free.
fn nginx(text: &str) -> Option<Line> {
    let (client, rest) = text.split_once(" [")?;
    let (date, rest) = rest.split_once(']')?;
    let seconds: f64 = rest.rsplit(' ').next()?.trim_matches('"').parse().ok().filter(|seconds| *seconds >= 0.0)?;
    let end_ms = match date.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp.as_millisecond(),
        Err(_) => local_ms(date.split(' ').next()?)?,
    };
    let millis = (seconds * 1e3).round() as u64;
    // nginx has no word for a session without a server but its status.
    let has_server = !rest.split_whitespace().any(|word| ["502", "503", "403"].contains(&word));
    Some(Line { at_ms: end_ms - millis as i64, millis, client: client.trim().parse().ok()?, has_server })
}

/// `06/Feb/2009:12:12:51.443`, of whatever time zone: only distances count.
fn local_ms(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = date.split(['/', ':', '.']);
    let day = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as i8 + 1;
    let [year, hour, minute, second] = [(); 4].map(|()| parts.next().and_then(|part| part.parse::<i16>().ok()));
    let millis = parts.next().map_or(Some(0), |part| part.parse::<i32>().ok())?;
    let [hour, minute, second] = [hour?, minute?, second?].map(|part| i8::try_from(part).unwrap_or(-1));
    let time = DateTime::new(year?, month, day, hour, minute, second, millis.checked_mul(1_000_000)?).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Trace, TraceError> {
        Trace::read(text.as_bytes(), None, None, 1.0)
    }

    /// What came when, in milliseconds: arrival, length, client.
    fn sessions(trace: &Trace) -> Vec<(u64, u64, String)> {
        let shown = |session: &Session| {
            let client = trace.clients[session.client as usize].ip().to_string();
            (session.at_ns / 1_000_000, session.work_ns / 1_000_000, client)
        };
        trace.sessions.iter().map(shown).collect()
    }

    #[test]
    fn each_kind_of_log_is_read_and_its_format_found_out() {
        let expected = [(0, 10, "10.0.0.1".to_owned()), (5, 1, "10.0.0.2".to_owned()), (6, 4, "10.0.0.1".to_owned())];
        let json = |end_ms: u32, elapsed: u32, client: &str| {
            format!(
                r#"{{"timestamp":"2026-11-22T13:42:11.{end_ms:03}Z","level":"INFO","message":"session closed","session.id":1,"group":8081,"client.addr":"{client}:5","server.addr":"a:1","elapsed_ms":{elapsed}}}"#
            )
        };
        let text = |end_ms: u32, elapsed: u32, client: &str| {
            format!(
                "2026-11-22T13:42:11.{end_ms:03}Z  INFO session closed session.id=1 group=8081 client.addr={client}:5 server.addr=a:1 elapsed_ms={elapsed}"
            )
        };
        let haproxy = |end_ms: u32, elapsed: u32, client: &str| {
            let begin = end_ms - elapsed;
            format!(
                "Nov 22 13:42:12 host haproxy[7]: {client}:5 [22/Nov/2026:13:42:11.{begin:03}] front back/s1 0/0/{elapsed} 212 -- 0/0/0/0/0 0/0"
            )
        };
        for line in [json, text, haproxy] {
            let log = [line(106, 1, "10.0.0.2"), line(110, 10, "10.0.0.1"), line(110, 4, "10.0.0.1")].join("\n");
            let trace = read(&format!("{log}\n\n")).unwrap();
            assert_eq!(sessions(&trace), expected, "{log}");
        }
        let nginx = "10.0.0.1 [30/Nov/2026:23:01:02 +0000] TCP 200 1024 512 2.500\n10.0.0.2 [2026-11-30T23:01:03+00:00] TCP 200 1 1 0.125\n";
        let trace = read(nginx).unwrap();
        assert_eq!(sessions(&trace), [(0, 2_500, "10.0.0.1".to_owned()), (3_375, 125, "10.0.0.2".to_owned())]);
    }

    #[test]
    fn other_lines_are_passed_over_and_what_does_not_fit_is_told() {
        let line = |message: &str, group: u16, server: &str| {
            format!(
                r#"{{"timestamp":"2026-11-22T13:42:11.404Z","message":"{message}","group":{group},"client.addr":"10.0.0.1:5"{server},"elapsed_ms":4}}"#
            )
        };
        let server = r#","server.addr":"a:1""#;
        let log = [
            line("client connected", 8081, ""),
            line("session closed", 8081, server),
            line("session closed", 8082, server),
            line("session closed", 8081, ""),
            "half a li".to_owned(),
        ];
        let trace = Trace::read(log.join("\n").as_bytes(), None, Some("8081"), 1.0).unwrap();
        assert_eq!(trace.sessions.len(), 1);
        let told = [
            "one client makes 100 % of all sessions: a policy that goes by the client puts them on one server",
            "left out: 1 session of the log that got no server",
            "not understood: 1 line of the log; the first is: half a li",
        ];
        assert_eq!(trace.notes, told);
        let error = read("\nhello\x1b[31m\n").unwrap_err().to_string();
        assert!(
            error.starts_with("no line tells of a session that is over; expected ")
                && error.contains("the first is: hello"),
            "{error}"
        );
        assert!(!error.contains('\x1b'), "{error}");
        let endless = std::io::BufReader::new(std::io::repeat(0));
        let error = Trace::read(endless, None, None, 1.0).unwrap_err().to_string();
        assert_eq!(error, "line 1 is too long; expected a log with lines of at most 1048576 bytes");
        assert!(read("").unwrap_err().to_string().ends_with("of nginx's stream"));
    }

    #[test]
    fn the_end_of_a_log_lacks_long_sessions_so_it_is_left_out() {
        // One each second for 1,000 s, which lasts 10 s.
        let line = |begin: u32| {
            let end = begin + 10;
            format!("10.0.0.{} [22/Nov/2026:13:{:02}:{:02} +0000] TCP 200 1 1 10.000", begin % 7, end / 60, end % 60)
        };
        let log: Vec<String> = (0..1_000).map(line).collect();
        let trace = read(&log.join("\n")).unwrap();
        assert_eq!((trace.sessions.len(), trace.clients.len()), (1_000, 7));
        assert_eq!((trace.until.as_millis(), trace.mean.as_secs()), (999_001, 10));
        let faster = Trace::read(log.join("\n").as_bytes(), None, None, 2.0).unwrap();
        assert_eq!((faster.until.as_millis(), faster.mean.as_secs()), (499_501, 10));
        // A late one that is short.
        let log = format!("{}\n10.0.0.1 [22/Nov/2026:13:16:55 +0000] TCP 200 1 1 0.010", log.join("\n"));
        let trace = read(&log).unwrap();
        assert!(trace.notes[0].starts_with("left out: 1 session of the last 10 s"), "{:?}", trace.notes);
    }
}
