//! Why a layer failed: stable codes, each explained in `probes/README.md` (see `explanation`, whose test demands it).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Layer, State, Text};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// A stable code for a way to fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it stands in JSON, spans and tables.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

reasons! {
    /// The name does not exist.
    DnsNotFound = "dns_not_found",
    /// The name servers did not answer within the deadline.
    DnsTimeout = "dns_timeout",
    /// The name servers answered that they failed, or could not be reached.
    DnsFailure = "dns_failure",
    /// Every address refused the TCP connection.
    ConnectionRefused = "connection_refused",
    /// The connection was reset.
    ConnectionReset = "connection_reset",
    /// No address answered the TCP connect in time.
    ConnectTimeout = "connect_timeout",
    /// The network or host cannot be reached.
    Unreachable = "unreachable",
    /// The proxy could not be reached, or did not let us through.
    Proxy = "proxy",
    /// TLS was not agreed, for another reason than the certificate.
    TlsHandshake = "tls_handshake",
    /// The certificate has expired, or is not valid yet.
    TlsExpired = "tls_expired",
    /// The certificate is signed by nobody whom we trust.
    TlsUntrusted = "tls_untrusted",
    /// The certificate is for another name.
    TlsNameMismatch = "tls_name_mismatch",
    /// The command of a stdio server could not be started.
    SpawnFailed = "spawn_failed",
    /// The process of a stdio server ended before it answered.
    ProcessExited = "process_exited",
    /// No HTTP answer began within the deadline.
    HttpTimeout = "http_timeout",
    /// The connection was closed before an HTTP answer.
    HttpClosed = "http_closed",
    /// What came back is not HTTP.
    HttpMalformed = "http_malformed",
    /// The header block of the answer is larger than the limit.
    HeadTooLarge = "head_too_large",
    /// An HTTP status that MCP cannot use.
    HttpStatus = "http_status",
    /// A redirect that is not followed.
    Redirect = "redirect",
    /// A content type that MCP cannot use.
    ContentType = "content_type",
    /// 401 with a challenge, or 403 whose challenge is `insufficient_scope`: a credential is wanted.
    AuthRequired = "auth_required",
    /// 403 without a challenge.
    Forbidden = "forbidden",
    /// 429.
    RateLimited = "rate_limited",
    /// The answer is larger than the limit.
    BodyTooLarge = "body_too_large",
    /// The answer is compressed although we did not ask for that.
    DecodeFailed = "decode_failed",
    /// The answer ended before it was complete.
    StreamEnded = "stream_ended",
    /// The answer is not JSON.
    InvalidJson = "invalid_json",
    /// The JSON is nested deeper than the limit.
    TooDeep = "too_deep",
    /// JSON, but not the JSON-RPC or MCP message that has to come here.
    InvalidMessage = "invalid_message",
    /// The answer is to another request.
    IdMismatch = "id_mismatch",
    /// A JSON-RPC error.
    JsonrpcError = "jsonrpc_error",
    /// No protocol version in common.
    UnsupportedProtocolVersion = "unsupported_protocol_version",
    /// The server forgot the session in the middle of it.
    SessionLost = "session_lost",
    /// The answer had begun, but was not complete within the deadline.
    Timeout = "timeout",
    /// A page of `tools/list` points back to one already read.
    PaginationLoop = "pagination_loop",
    /// More pages of `tools/list` than the limit.
    TooManyPages = "too_many_pages",
    /// The tools are not a list of named objects.
    InvalidTools = "invalid_tools",
    /// The server wants input from a user before it answers.
    InputRequired = "input_required",
    /// All layers passed, but something that was expected did not hold.
    Expectation = "expectation",
    /// mcpprobe itself ran out of something (files, memory, ports): nothing is said about the server.
    ProberResources = "prober_resources",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A failed probe, as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stage that did not finish.
    pub layer: Layer,
    /// The code.
    pub reason: Reason,
    /// One sentence for a person, safe to print.
    pub message: Text,
    /// The HTTP status, where one was read.
    pub http_status: Option<u16>,
    /// The JSON-RPC error's code, where there was one.
    pub jsonrpc_code: Option<i64>,
}

impl Failure {
    /// The state that this failure means.
    pub fn state(&self) -> State {
        match self.reason {
            Reason::AuthRequired => State::AuthRequired,
            Reason::ProberResources => State::Unknown,
            _ => State::Down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_in_json_is_the_code_in_tables() {
        assert!(!Reason::ALL.is_empty());
        for reason in Reason::ALL {
            assert_eq!(
                serde_json::to_string(reason).unwrap(),
                format!("{:?}", reason.as_str())
            );
        }
    }
}
