//! What went wrong in a step, before it is known which layer that makes fail.

use std::io;

use crate::model::{Reason, Text};

/// A failed step: a value, like every failure of a server.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) message: Text,
    pub(super) http_status: Option<u16>,
    pub(super) jsonrpc_code: Option<i64>,
}

impl Fault {
    pub(super) fn new(reason: Reason, message: impl Into<Text>) -> Self {
        Self {
            reason,
            message: message.into(),
            http_status: None,
            jsonrpc_code: None,
        }
    }

    /// No complete answer was read; the opposite is a complete one that is bad.
    pub(super) fn is_incomplete(&self) -> bool {
        matches!(
            self.reason,
            Reason::StreamEnded
                | Reason::ConnectionReset
                | Reason::ConnectionRefused
                | Reason::HttpClosed
                | Reason::HttpTimeout
                | Reason::Timeout
                | Reason::ProcessExited
        )
    }

    /// The same with more to say.
    pub(super) fn and(self, more: &str) -> Self {
        Self {
            message: format!("{}{more}", self.message).into(),
            ..self
        }
    }

    pub(super) fn with_status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self
    }

    pub(super) fn with_code(mut self, code: i64) -> Self {
        self.jsonrpc_code = Some(code);
        self
    }
}

/// The reason for an error of a socket or process, or `None` when it has no reason of its own.
pub(super) fn reason_of_io(error: &io::Error) -> Option<Reason> {
    use io::ErrorKind as Kind;
    Some(match error.kind() {
        Kind::ConnectionRefused => Reason::ConnectionRefused,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => {
            Reason::ConnectionReset
        }
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Reason::Unreachable,
        Kind::TimedOut => Reason::ConnectTimeout,
        // No file, port or memory left here: nothing that the server did.
        Kind::AddrNotAvailable | Kind::AddrInUse | Kind::OutOfMemory | Kind::ResourceBusy => {
            Reason::ProberResources
        }
        _ => match error.raw_os_error() {
            Some(EMFILE | ENFILE | EAGAIN | ENOBUFS) => Reason::ProberResources,
            _ => return None,
        },
    })
}

// Linux' and macOS' numbers where they agree; `std` has no kinds for these.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const EAGAIN: i32 = if cfg!(target_os = "macos") { 35 } else { 11 };
const ENOBUFS: i32 = if cfg!(target_os = "macos") { 55 } else { 105 };
