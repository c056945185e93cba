//! What became of PROXY headers that were expected.

/// What became of a PROXY header that a client had to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderResult {
    /// It told the client's address.
    Accepted,
    /// It knew no address: the socket's is taken.
    Unknown,
    /// The sender spoke for itself: a health check.
    Local,
    /// Something else came.
    Bad,
    /// It was not complete in time.
    Timeout,
    /// The client ended or was reset before it was complete.
    Closed,
}

impl HeaderResult {
    /// Every result, in the order in which they count.
    pub const ALL: [Self; 6] = [Self::Accepted, Self::Unknown, Self::Local, Self::Bad, Self::Timeout, Self::Closed];

    /// The word in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unknown => "unknown",
            Self::Local => "local",
            Self::Bad => "bad",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
        }
    }
}
