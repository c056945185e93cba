//! What clients and servers say to each other through the proxy under test.
//!
//! Every request begins with a head of 16 bytes: the operation and a number. The reply of an exchange begins
//! with the same head, so that a reply that belongs to somebody else is noticed. Bulk is verified by counts.

use std::time::Duration;

/// Bytes of a head.
pub(crate) const HEAD: usize = 16;

/// Bytes that bulk hands to one system call, on both sides.
pub(crate) const CHUNK: usize = 256 * 1024;

/// Nothing happened for so long that the peer counts as hung.
pub(crate) const STALL: Duration = Duration::from_secs(10);

/// What a client asks a server to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// 100 B are answered with 1 KiB; the client closes.
    Reply = 1,
    /// 100 B are answered with 1 KiB; the server closes.
    ReplyAndClose,
    /// 1 KiB is answered with 1 KiB; the connection stays.
    Echo,
    /// The client sends as many bytes as the head says, then its end; the server answers with its count.
    Up,
    /// The server sends as many bytes as the head says, then its end.
    Down,
    /// As `Down`, and the connection stays.
    Fill,
}

impl Op {
    /// The length of a request.
    pub(crate) fn request_len(self) -> usize {
        match self {
            Op::Reply | Op::ReplyAndClose => 100,
            Op::Echo => 1024,
            Op::Up | Op::Down | Op::Fill => HEAD,
        }
    }

    /// The length of an exchange's reply.
    pub(crate) fn reply_len(self) -> usize {
        match self {
            Op::Reply | Op::ReplyAndClose | Op::Echo => 1024,
            Op::Up => HEAD,
            Op::Down | Op::Fill => 0,
        }
    }

    /// A head that asks for this operation.
    pub(crate) fn head(self, number: u64) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[0] = self as u8;
        head[8..].copy_from_slice(&number.to_le_bytes());
        head
    }

    /// The operation and the number in a head; `None` when it is not one of ours.
    pub(crate) fn parse(head: &[u8; HEAD]) -> Option<(Op, u64)> {
        let mut all = [Op::Reply, Op::ReplyAndClose, Op::Echo, Op::Up, Op::Down, Op::Fill].into_iter();
        let op = all.find(|op| *op as u8 == head[0])?;
        let mut number = [0; 8];
        number.copy_from_slice(&head[8..]);
        Some((op, u64::from_le_bytes(number)))
    }
}
