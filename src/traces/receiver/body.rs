//! A request's body: received, and decompressed, within limits.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::Body;

use super::limits;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    TooLarge,
    /// Too much is being received from everybody together.
    Busy,
    TooSlow,
    /// The sender went away, or broke the protocol.
    BrokenOff,
    NotGzip,
}

/// Counts a body's bytes as being in memory for as long as it lives: until they are dealt with, and not only received.
#[derive(Debug)]
pub(super) struct InFlight {
    all: Arc<AtomicUsize>,
    own: usize,
}

impl InFlight {
    fn add(&mut self, bytes: usize) -> Result<(), Unusable> {
        self.own += bytes;
        let before = self.all.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > limits::IN_FLIGHT {
            return Err(Unusable::Busy);
        }
        Ok(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// All of it, as it comes, up to `limit` bytes; and what counts it.
pub(super) async fn receive<B>(
    body: B,
    limit: usize,
    in_flight: &Arc<AtomicUsize>,
) -> Result<(Bytes, InFlight), Unusable>
where
    B: Body<Data = Bytes> + Unpin,
{
    let said = body.size_hint().lower();
    if said > limit as u64 {
        return Err(Unusable::TooLarge);
    }
    let counted = InFlight {
        all: Arc::clone(in_flight),
        own: 0,
    };
    tokio::time::timeout(limits::BODY_TIME, gather(body, limit, counted))
        .await
        .unwrap_or(Err(Unusable::TooSlow))
}

async fn gather<B>(
    mut body: B,
    limit: usize,
    mut counted: InFlight,
) -> Result<(Bytes, InFlight), Unusable>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unusable::BrokenOff)?.into_data() else {
            continue;
        };
        counted.add(data.len())?;
        if counted.own > limit {
            return Err(Unusable::TooLarge);
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        // What is said of the length is only believed as far as bytes have come.
        all.extend_from_slice(&std::mem::take(&mut first));
        all.extend_from_slice(&data);
    }
    let whole = if all.is_empty() { first } else { all.freeze() };
    Ok((whole, counted))
}

/// Decompressed. A bomb goes off at the limit.
pub(super) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, Unusable> {
    let mut decoded = Vec::with_capacity((4 * bytes.len()).min(limits::DECODED));
    let limit = limits::DECODED as u64 + 1;
    MultiGzDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut decoded)
        .map_err(|_| Unusable::NotGzip)?;
    if decoded.len() > limits::DECODED {
        return Err(Unusable::TooLarge);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream::{self, StreamExt};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// Pieces of `size` bytes, one a second.
    fn slowly(size: usize) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces = stream::unfold((), move |()| async move {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            Some((Ok(Frame::data(Bytes::from(vec![0; size]))), ()))
        });
        StreamBody::new(pieces.boxed())
    }

    async fn refused(pieces: usize, in_flight: &Arc<AtomicUsize>) -> Unusable {
        let received = receive(slowly(pieces), limits::BODY, in_flight).await;
        received.unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up_and_counts_no_more() {
        let in_flight = Arc::default();
        assert_eq!(refused(1, &in_flight).await, Unusable::TooSlow);
        assert_eq!(in_flight.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_end_meets_the_limit() {
        let in_flight = Arc::default();
        let large = refused(limits::BODY / 4, &in_flight).await;
        assert_eq!(large, Unusable::TooLarge);
        assert_eq!(in_flight.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_are_told_to_come_again() {
        let in_flight = Arc::new(AtomicUsize::new(limits::IN_FLIGHT - 1));
        assert_eq!(refused(2, &in_flight).await, Unusable::Busy);
    }

    #[tokio::test]
    async fn a_body_counts_until_it_is_dealt_with() {
        let in_flight = Arc::default();
        let body = http_body_util::Full::new(Bytes::from_static(b"body"));
        let received = receive(body, limits::BODY, &in_flight).await.unwrap();
        assert_eq!(in_flight.load(Ordering::Relaxed), 4);
        drop(received);
        assert_eq!(in_flight.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_bomb_goes_off_at_the_limit() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..=limits::DECODED / zeros.len() {
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 100_000);
        assert_eq!(gunzip(&bomb), Err(Unusable::TooLarge));
        assert_eq!(gunzip(b"no gzip"), Err(Unusable::NotGzip));
    }
}
