//! What a sender can make us spend.

use std::time::Duration;

/// Connections at once, of both ports. What comes above is closed at once: an exporter has one, and comes again.
pub(super) const CONNECTIONS: usize = 512;

/// Requests at once on one connection of HTTP/2.
pub(super) const STREAMS: u32 = 64;

/// Bytes of a request's head: the largest that anybody sends has some long tokens.
pub(super) const HEAD: u32 = 32 * 1024;

/// Bytes of a request's body as it comes: a collector's 8,192 spans are 4 to 10 MB.
pub(super) const BODY: usize = 16 * 1024 * 1024;

/// Bytes of it decompressed. Spans compress to a tenth, so that this is met by a bomb first.
pub(super) const DECODED: usize = 32 * 1024 * 1024;

/// Bytes of all bodies that are being received. Above, senders are told to come again.
pub(super) const IN_FLIGHT: usize = 64 * 1024 * 1024;

/// Until the first bytes of a connection.
pub(super) const FIRST_BYTE: Duration = Duration::from_secs(10);

/// For a request's head, and between two requests: SDKs export every 5 s, and close idle connections after 90 s.
pub(super) const IDLE: Duration = Duration::from_secs(100);

/// For a request's body: after that the exporter itself has given it up (its default is 10 s).
pub(super) const BODY_TIME: Duration = Duration::from_secs(20);

/// Seconds until a sender that was turned away may come again: the writer takes away what waits ten times a second.
pub(super) const RETRY_AFTER: u64 = 2;

/// Bytes of a question's body: Alertmanager's largest groups stay far below.
pub(super) const QUESTION: usize = 1024 * 1024;

/// Questions about what is stored that are answered at once, each in a thread of its own. They take milliseconds to
/// seconds, and a second one hides the first one's disk.
pub(super) const READS: usize = 2;

/// Alerts of others that are looked into at once. Each may wait minutes for a backend, and for its limits: that they have
/// turns of their own is why they stop nobody who reads.
pub(super) const ALARMS: usize = 2;

/// Questions that wait for their turn, of either kind; above, who asks is told to come again. A page of Grafana asks for
/// a handful of things at once.
pub(super) const WAITING: usize = 16;
