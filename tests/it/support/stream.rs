//! An answer of the admin port that goes on, as a viewer reads it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::DEADLINE;

/// A viewer of `/events`.
#[derive(Debug)]
pub(crate) struct Watching {
    stream: BufReader<TcpStream>,
    /// What has come and is no whole event yet.
    bytes: Vec<u8>,
}

/// One server-sent event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) id: Option<u64>,
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl Watching {
    /// Asks for `target`, which has to be granted.
    #[track_caller]
    pub(crate) fn open(admin: SocketAddr, target: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(admin).expect("the admin port answers");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream
            .write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes())
            .expect("sent");
        let mut watching = Self { stream: BufReader::new(stream), bytes: Vec::new() };
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(watching.stream.read_line(&mut head).expect("an answer") > 0, "closed after {head:?}");
        }
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/event-stream\r\n"), "{head}");
        watching
    }

    /// The next event; `None` when the stream has ended in order.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(len) = self.bytes.windows(2).position(|end| end == b"\n\n") {
                let event: Vec<u8> = self.bytes.drain(..len + 2).collect();
                let event = std::str::from_utf8(&event[..len]).expect("UTF-8");
                match Told::read(event) {
                    Some(told) => return Some(told),
                    None => continue,
                }
            }
            let mut length = String::new();
            self.stream.read_line(&mut length).expect("a chunk in time");
            let length = usize::from_str_radix(length.trim(), 16).unwrap_or_else(|_| panic!("a length: {length:?}"));
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).expect("a whole chunk");
            if length == 0 {
                assert!(self.bytes.is_empty(), "a stream ends between two events");
                return None;
            }
            self.bytes.extend_from_slice(&chunk[..length]);
        }
    }

    /// The next event for which `is_meant` holds.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, is_meant: impl Fn(&Told) -> bool) -> Told {
        loop {
            let told = self.next().unwrap_or_else(|| panic!("the stream ended before {what}"));
            if is_meant(&told) {
                return told;
            }
        }
    }
}

impl Told {
    /// `None` for a comment.
    fn read(text: &str) -> Option<Self> {
        let mut told = Self::default();
        for line in text.lines().filter(|line| !line.starts_with(':')) {
            let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            match field {
                "id" => told.id = Some(value.parse().expect("a number")),
                "event" => told.event = value.to_owned(),
                "data" => told.data = serde_json::from_str(value).expect("JSON"),
                _ => panic!("{line:?}"),
            }
        }
        (!told.event.is_empty()).then_some(told)
    }

    /// Every event of a whole answer.
    pub(crate) fn all(text: &str) -> Vec<Self> {
        text.split("\n\n").filter(|event| !event.is_empty()).filter_map(Self::read).collect()
    }
}
