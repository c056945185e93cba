//! The stream that hyper reads and writes: bytes that were read too early first, and no patience with a stalled reader.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

/// A connected socket.
pub(in crate::admin) trait Stream:
    AsyncRead + AsyncWrite + AsFd + Unpin + Send + Sync + 'static
{
    /// Waits for bytes and leaves them there. False when the other side has ended.
    fn has_bytes(&self) -> impl Future<Output = io::Result<bool>> + Send;
}

impl Stream for TcpStream {
    async fn has_bytes(&self) -> io::Result<bool> {
        self.async_io(Interest::READABLE, || peek(self)).await
    }
}

impl Stream for UnixStream {
    async fn has_bytes(&self) -> io::Result<bool> {
        self.async_io(Interest::READABLE, || peek(self)).await
    }
}

fn peek(socket: &impl AsFd) -> io::Result<bool> {
    let mut byte = [0; 1];
    let (len, _) = rustix::net::recv(socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(len > 0)
}

/// Fails a write that makes no progress, so that a caller who reads nothing does not keep its place.
pub(super) struct Impatient<T> {
    io: T,
    /// Read before by somebody else, to be read again first.
    early: Bytes,
    write_time: Duration,
    /// Only while a write waits: an idle connection has no timer.
    stalled: Option<Pin<Box<Sleep>>>,
    /// True when everything that was written has been taken.
    is_flushed: Arc<AtomicBool>,
}

impl<T> Impatient<T> {
    pub(super) fn new(io: T, early: Bytes, write_time: Duration, is_flushed: Arc<AtomicBool>) -> Self {
        Self { io, early, write_time, stalled: None, is_flushed }
    }

    /// The socket, and what has not been read of `early`.
    pub(super) fn into_parts(self) -> (T, Bytes) {
        (self.io, self.early)
    }

    fn judge<R>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let write_time = self.write_time;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(write_time)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Impatient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let len = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..len]);
        self.early.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Impatient<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_flushed.store(false, Relaxed);
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_flushed.store(false, Relaxed);
        let written = Pin::new(&mut self.io).poll_write_vectored(context, buffers);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.is_flushed.store(matches!(flushed, Poll::Ready(Ok(()))), Relaxed);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.io).poll_shutdown(context);
        self.judge(context, ended)
    }
}
