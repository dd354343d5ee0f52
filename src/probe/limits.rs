//! A number on everything that a server can make us do.

use std::time::Duration;

/// Header block of an answer, bytes as in HTTP/1.1. Four times what common servers accept from
/// clients; a larger one is `head_too_large`.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// What is read of a head at most. It is more, for where hyper stops depends on the pieces in which a head comes: we
/// count ourselves.
pub(super) const MAX_HEAD_READ: usize = 2 * MAX_HEAD;

/// The same for HTTP/2, where a larger one cannot be told from what is not HTTP/2.
pub(super) const MAX_HEAD_READ_HTTP2: u32 = 256 * 1024;

/// What is read over HTTP/1 while a head is waited for: the largest head, interim answers before it, and what one read
/// takes of the body after it. More is `head_too_large`.
pub(super) const MAX_BEFORE_HEAD: usize = 4 * MAX_HEAD_READ;

/// Header lines of an answer; more are `head_too_large`.
pub(super) const MAX_HEADERS: usize = 256;

/// One answer, bytes: a JSON body, one SSE event, or one line of stdio. The largest
/// tool lists seen are some 300 kB; a larger answer is `body_too_large`.
pub(super) const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// All bytes of one SSE stream. Notifications before our answer are small; a stream that
/// is larger is `body_too_large`.
pub(super) const MAX_STREAM: usize = 2 * MAX_ANSWER;

/// Body of an error status, bytes: only a JSON-RPC error is looked for in it. More is left unread.
pub(super) const MAX_ERROR_BODY: usize = 64 * 1024;

/// Messages before our answer on one stream. A server that sends more without
/// answering is not answering: `body_too_large`.
pub(super) const MAX_MESSAGES: usize = 1_000;

/// Id of a request of the server's, bytes: it is sent back. One with a larger id is not answered.
pub(super) const MAX_SERVER_ID: usize = 1024;

/// Cookies of one probe: twice what load balancers and gateways in a row set. Later ones are not kept.
pub(super) const MAX_COOKIES: usize = 20;

/// Name and value of a cookie, bytes: what browsers keep. A larger one is not kept.
pub(super) const MAX_COOKIE: usize = 4 * 1024;

/// Values of cookies in one probe, all of which are starred out: some change with every answer, of which there may be
/// more than a hundred. Later ones are not kept.
pub(super) const MAX_COOKIE_VALUES: usize = 200;

/// Nesting of JSON: what `serde_json` and most parsers accept. Deeper is `too_deep`.
pub(super) const MAX_DEPTH: usize = 128;

/// Pages of `tools/list`. At the usual 50 to 100 tools a page this is more than any
/// agent can use; more is `too_many_pages`.
pub(super) const MAX_PAGES: usize = 100;

/// Tools of one server: far more than any agent can choose from, and than any server was seen to have. More are
/// `invalid_tools`.
pub(super) const MAX_TOOLS: usize = 100_000;

/// A cursor of `tools/list`, bytes: it is sent back with every request. A larger one is `invalid_tools`.
pub(super) const MAX_CURSOR: usize = 64 * 1024;

/// Redirects followed for one request, as in the specification's advice. One more is `redirect`.
pub(super) const MAX_REDIRECTS: usize = 3;

/// Bytes of stderr kept of a stdio server: its last lines say why it ended.
pub(super) const MAX_STDERR: usize = 4 * 1024;

/// Tools' notes and deviations kept on one result; later ones are not kept.
pub(super) const MAX_NOTES: usize = 16;

/// Head start of one address over the next when connecting: RFC 8305, section 5.
pub(super) const HAPPY_EYEBALLS_DELAY: Duration = Duration::from_millis(250);

/// Addresses tried of one name; round-robin names have a handful. Later ones are not tried.
pub(super) const MAX_ADDRESSES: usize = 8;

/// How long a stream may stay open after our answer before its connection is given up
/// for a new one: servers end it within a few milliseconds, or not at all.
pub(super) const STREAM_END_GRACE: Duration = Duration::from_millis(50);

/// For the body of an error status, which may hold a JSON-RPC error.
pub(super) const ERROR_BODY_GRACE: Duration = Duration::from_millis(500);

/// Times that we come back for the rest of a stream which the server ended early. Once or twice is usual;
/// one more is `stream_ended`.
pub(super) const MAX_RESUMPTIONS: usize = 5;

/// Before coming back, where the server does not say how long.
pub(super) const RESUME_AFTER: Duration = Duration::from_millis(100);

/// For `DELETE` of all sessions that were handed out, on every way out. It is short because a shutdown waits for it, and a
/// server that does not answer it in this time may keep its session.
pub(super) const DELETE_TIMEOUT: Duration = Duration::from_secs(1);

/// For a stdio server to end by itself once stdin is closed (Python's take up to a second), and between SIGTERM and
/// SIGKILL of its process group.
pub(super) const STDIO_END: (Duration, Duration) =
    (Duration::from_millis(1_500), Duration::from_millis(500));

/// The same for one that owes an answer: it will hardly notice that stdin is closed, though it may be slow only.
pub(super) const STDIO_END_OF_HUNG: (Duration, Duration) =
    (Duration::from_millis(250), Duration::from_millis(500));
