//! A small HTTP/1.1 client for the admin port: blocking, one connection, a time limit on everything.
//!
//! The demonstration, the tests and the benchmark ask with it. It reads answers with a `content-length`, which is the
//! only kind that the admin port gives; a test may also send bytes that are no request at all.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// The longest answer that is read: more than `/metrics` of thousands of servers.
const BODY_BYTES_MAX: usize = 64 << 20;

/// One answer.
#[derive(Debug)]
pub struct Reply {
    /// The status code, such as 200.
    pub status: u16,
    /// The status line and the header lines, with the empty line after them.
    pub head: String,
    /// What comes after the head.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of the first header line of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// It is not JSON.
    pub fn to_json(&self) -> serde_json::Result<Value> {
        serde_json::from_slice(&self.body)
    }
}

/// A connection, kept alive between requests.
#[derive(Debug)]
pub struct Http {
    stream: BufReader<TcpStream>,
    /// The server, as it stands in `Host`.
    host: SocketAddr,
}

impl Http {
    /// Connects. Connecting, and each read and write afterwards, may take `time_max`.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or does not accept in time.
    pub fn connect(to: SocketAddr, time_max: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, time_max)?;
        stream.set_read_timeout(Some(time_max))?;
        stream.set_write_timeout(Some(time_max))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: to })
    }

    /// Asks for `target` and reads the answer, whatever its status is.
    ///
    /// # Errors
    ///
    /// The connection ended, or what came in time is not an answer.
    pub fn get(&mut self, target: &str) -> io::Result<Reply> {
        self.request("GET", target)
    }

    /// As [`Http::get`], with another method; the request has no body.
    ///
    /// # Errors
    ///
    /// The connection ended, or what came in time is not an answer.
    pub fn request(&mut self, method: &str, target: &str) -> io::Result<Reply> {
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{length}\r\n", self.host).as_bytes())?;
        self.reply(method == "HEAD")
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// The connection ended.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends no more, still receives.
    pub fn shutdown_write(&self) {
        // Whoever is at the other end may have closed already.
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    /// Reads one answer; `is_head` when it has no body, whatever its length says.
    ///
    /// # Errors
    ///
    /// The connection ended, or what came in time is not an answer.
    pub fn reply(&mut self, is_head: bool) -> io::Result<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        let mut reply = Reply { status, head, body: Vec::new() };
        let length = reply.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        if length > BODY_BYTES_MAX {
            return Err(ErrorKind::FileTooLarge.into());
        }
        if !is_head {
            reply.body.resize(length, 0);
            self.stream.read_exact(&mut reply.body)?;
        }
        Ok(reply)
    }

    /// Reads to the end of the connection; what came before a reset counts.
    ///
    /// # Errors
    ///
    /// The other side did not close in time.
    pub fn rest(mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        match self.stream.read_to_end(&mut all) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
            _ => Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Gives these answers to as many requests on one connection.
    fn answering(answers: &'static [&'static str]) -> Http {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let read_head = |stream: &mut BufReader<TcpStream>| {
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                }
            };
            for answer in answers {
                read_head(&mut stream);
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            // Closing with a request unread would be a reset.
            read_head(&mut stream);
        });
        Http::connect(addr, Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn answers_on_one_connection_are_told_apart_by_their_length() {
        let mut http = answering(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\":true}",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nx: y\r\n\r\nno",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ]);
        let first = http.get("/").unwrap();
        assert_eq!((first.status, first.to_json().unwrap()["ok"].clone()), (200, Value::Bool(true)));
        let second = http.get("/").unwrap();
        assert_eq!((second.status, second.header("X"), second.text().as_str()), (404, Some("y"), "no"));
        assert_eq!(http.get("/").unwrap().body, b"");
        assert_eq!(http.get("/").unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_no_panic() {
        for answer in ["hello\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            let mut http = answering(Box::leak(Box::new([answer])));
            assert!(http.get("/").is_err(), "{answer:?}");
        }
        let mut huge = answering(&["HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"]);
        assert_eq!(huge.get("/").unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}
