//! Any two-way stream of bytes, where its kind is only known at run time.

use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection can be made on.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A stream behind a pointer: through a proxy it may be TLS in TLS.
pub(super) type Socket = Box<dyn Stream>;
