//! Server-sent events out of bytes, wherever these were cut.

/// The longest event that is read: more than the full state of ten thousand servers.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its id, if it has one that is a number.
    pub id: Option<u64>,
    /// What it is.
    pub event: String,
    /// What it says.
    pub data: String,
}

/// An event is longer than any that is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Gathers bytes until they are an event.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// Before it there is no end of a line that was not read.
    searched: usize,
    /// What of `bytes` has been read.
    read: usize,
    next: Message,
    has_data: bool,
}

impl Messages {
    /// Adds bytes that have come.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.bytes.len() - self.read + self.next.data.len() + bytes.len() > MESSAGE_BYTES_MAX {
            return Err(TooLong);
        }
        self.bytes.drain(..self.read);
        self.searched -= self.read;
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The next event that is complete.
    pub(super) fn next(&mut self) -> Option<Message> {
        while let Some(len) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.bytes[self.read..self.searched + len]).into_owned();
            self.searched += len + 1;
            self.read = self.searched;
            if let Some(message) = self.line(line.strip_suffix('\r').unwrap_or(&line)) {
                return Some(message);
            }
        }
        self.searched = self.bytes.len();
        None
    }

    /// The event that this line ends.
    fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let message = std::mem::take(&mut self.next);
            return std::mem::take(&mut self.has_data).then_some(message);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.next.id = value.parse().ok(),
            "event" => value.clone_into(&mut self.next.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.next.data.push('\n');
                }
                self.next.data.push_str(value);
            }
            // A comment, or what nobody here knows.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ": keep-alive\n\nid: 7\nevent: server_offline\ndata: {\"cause\":\"ä\"}\n\n\
                        event:gap\r\ndata:1\r\ndata\r\n\r\nid: x\nretry: 5\nevent: nothing\n\ndata: last\n\n";

    fn expected() -> Vec<Message> {
        let message = |id, event: &str, data: &str| Message { id, event: event.to_owned(), data: data.to_owned() };
        vec![
            message(Some(7), "server_offline", "{\"cause\":\"ä\"}"),
            message(None, "gap", "1\n"),
            message(None, "", "last"),
        ]
    }

    #[test]
    fn events_are_the_same_wherever_the_bytes_were_cut() {
        for chunk_len in 1..=TEXT.len() {
            let (mut messages, mut found) = (Messages::default(), Vec::new());
            for chunk in TEXT.as_bytes().chunks(chunk_len) {
                messages.add(chunk).unwrap();
                found.extend(std::iter::from_fn(|| messages.next()));
            }
            assert_eq!(found, expected(), "{chunk_len}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut messages = Messages::default();
        let chunk = vec![b'x'; 1 << 20];
        let refused = (0..=64).find(|_| {
            let refused = messages.add(&chunk).is_err();
            assert_eq!(messages.next(), None);
            refused
        });
        assert_eq!(refused, Some(64));
    }
}
