//! One end of the socket pair: messages of any length, with descriptors.
//!
//! A message goes in packets (`SOCK_SEQPACKET`), each of which begins with a byte that says whether it is the last. So a
//! message of megabytes and one with thousands of descriptors, of which the system takes 253 at a time, need nothing else.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Bytes of a message in one packet: a few of them fit into the buffer of a socket.
const PIECE_BYTES: usize = 32 << 10;

/// Descriptors in one packet.
const PIECE_FDS: usize = 250;

/// The longest message: the state of a hundred thousand servers fits in.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The first byte of a packet.
const MORE: u8 = 0;
const LAST: u8 = 1;

/// An end of the pair, for a process that may wait.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

/// The same on the runtime, which knows no type for it: packets are what it has in common with datagrams.
#[derive(Debug)]
pub(super) struct AsyncLink(UnixDatagram);

/// A message as it has come so far.
#[derive(Debug, Default)]
struct Incoming {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// Both ends of a new pair.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

impl Link {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Says something without descriptors.
    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        packets(&bytes, &[]).try_for_each(|packet| send(self.0.as_fd(), &packet))
    }

    /// The next message and its descriptors. `None` when the other process has ended.
    pub(super) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut incoming = Incoming::default();
        loop {
            match receive(self.0.as_fd(), &mut incoming)? {
                Some(MORE) => {}
                Some(_) => return incoming.read().map(Some),
                None => return Ok(None),
            }
        }
    }

    /// To be called on the runtime.
    pub(super) fn into_async(self) -> io::Result<AsyncLink> {
        AsyncLink::new(self.0)
    }
}

impl AsyncLink {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        // Of this end alone.
        rustix::io::ioctl_fionbio(&socket, true)?;
        UnixDatagram::from_std(socket.into()).map(Self)
    }

    /// Says something, with descriptors. To be called to its end.
    pub(super) async fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        for packet in packets(&bytes, fds) {
            self.0.async_io(Interest::WRITABLE, || send(self.0.as_fd(), &packet)).await?;
        }
        Ok(())
    }

    /// The next message. `None` when the other process has ended. To be called to its end.
    pub(super) async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<M>> {
        let mut incoming = Incoming::default();
        loop {
            match self.0.async_io(Interest::READABLE, || receive(self.0.as_fd(), &mut incoming)).await? {
                Some(MORE) => {}
                Some(_) => return incoming.read().map(|(message, _fds)| Some(message)),
                None => return Ok(None),
            }
        }
    }
}

impl Incoming {
    fn read<M: DeserializeOwned>(self) -> io::Result<(M, Vec<OwnedFd>)> {
        let message = serde_json::from_slice(&self.bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("a message that is none: {error}")))?;
        Ok((message, self.fds))
    }
}

/// One packet that is to be sent.
struct Packet<'a> {
    kind: u8,
    bytes: &'a [u8],
    fds: &'a [BorrowedFd<'a>],
}

/// Takes a message apart.
fn packets<'a>(bytes: &'a [u8], fds: &'a [BorrowedFd<'a>]) -> impl Iterator<Item = Packet<'a>> {
    let count = bytes.len().div_ceil(PIECE_BYTES).max(fds.len().div_ceil(PIECE_FDS)).max(1);
    (0..count).map(move |at| Packet {
        kind: if at + 1 < count { MORE } else { LAST },
        bytes: piece(bytes, at, PIECE_BYTES),
        fds: piece(fds, at, PIECE_FDS),
    })
}

fn piece<T>(all: &[T], at: usize, length: usize) -> &[T] {
    &all[(at * length).min(all.len())..((at + 1) * length).min(all.len())]
}

fn send(socket: BorrowedFd<'_>, packet: &Packet<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIECE_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !packet.fds.is_empty() {
        let has_fitted = control.push(SendAncillaryMessage::ScmRights(packet.fds));
        debug_assert!(has_fitted, "there is room for as many as a packet has");
    }
    let kind = [packet.kind];
    // A packet goes whole or not at all.
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&kind), IoSlice::new(packet.bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The kind of the next packet, of which everything else is added to `incoming`. `None` at the end of file.
fn receive(socket: BorrowedFd<'_>, incoming: &mut Incoming) -> io::Result<Option<u8>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIECE_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; PIECE_BYTES + 1];
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            incoming.fds.extend(fds);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("no descriptor is left for the sockets that are handed over"));
    }
    let Some((kind, bytes)) = bytes[..got.bytes].split_first() else { return Ok(None) };
    incoming.bytes.extend_from_slice(bytes);
    if incoming.bytes.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("a message that is longer than any may be"));
    }
    Ok(Some(*kind))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn messages_of_megabytes_and_hundreds_of_sockets_arrive_whole_and_in_order() {
        let (one, other) = pair().unwrap();
        let long: Vec<u64> = (0..1_000_000).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, sent) = (listener.local_addr().unwrap(), long.clone());
        let receiving = std::thread::spawn(move || {
            let link = Link::new(other);
            let (long, none) = link.receive::<Vec<u64>>().unwrap().unwrap();
            let (short, fds) = link.receive::<String>().unwrap().unwrap();
            link.send(&"done").unwrap();
            assert!(link.receive::<String>().unwrap().is_none(), "the other end is closed");
            (long, none.len(), short, fds)
        });
        let link = AsyncLink::new(one).unwrap();
        link.send(&sent, &[]).await.unwrap();
        let fds = vec![listener.as_fd(); 600];
        link.send(&"sockets", &fds).await.unwrap();
        assert_eq!(link.receive::<String>().await.unwrap().unwrap(), "done");
        drop(link);
        let (received, none, short, fds) = receiving.join().unwrap();
        assert_eq!((received, none, short.as_str(), fds.len()), (long, 0, "sockets", 600));
        for socket in fds {
            assert_eq!(TcpListener::from(socket).local_addr().unwrap(), addr);
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (one, other) = pair().unwrap();
        Link::new(one).send(&"text").unwrap();
        let error = Link::new(other).receive::<u64>().unwrap_err();
        assert!(error.to_string().starts_with("a message that is none: "), "{error}");
    }
}
