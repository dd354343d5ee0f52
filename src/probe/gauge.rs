//! Counts what is read before an answer's head is there.
//!
//! hyper reads interim answers (1xx) for as long as they come, without a pause: a server that sends nothing else would
//! keep this thread, and with it every other probe, from anything else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits;
use super::socket::Stream;

/// In the place of a number: everything may be read.
const OPEN: usize = usize::MAX;

/// How many bytes may still be read.
#[derive(Clone)]
pub(super) struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(limits::MAX_BEFORE_HEAD)))
    }

    /// A head is waited for.
    pub(super) fn limit(&self) {
        self.0.store(limits::MAX_BEFORE_HEAD, Ordering::Relaxed);
    }

    /// The head is there: what follows has limits of its own.
    pub(super) fn open(&self) {
        self.0.store(OPEN, Ordering::Relaxed);
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn count(&self, bytes: usize) {
        let left = self.0.load(Ordering::Relaxed);
        if left != OPEN {
            self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
    }
}

/// A stream that is read by a gauge.
pub(super) struct Gauged<S> {
    pub(super) stream: S,
    pub(super) gauge: Gauge,
}

impl<S: Stream> AsyncRead for Gauged<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gauge.is_exhausted() {
            return Poll::Ready(Err(io::Error::other("too much came before a head")));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.gauge.count(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Gauged<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
