//! The layers of a session, and the timed phases inside them.

use serde::{Deserialize, Serialize};

/// A stage of a session, in the order of time. The failed layer is the stage that did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Until there is a connection: name found, TCP connected, TLS agreed; stdio: process started.
    Transport,
    /// Until the handshake request has an answer with a status and content type that MCP can use.
    Http,
    /// Until a valid result of `initialize` (or `server/discover`) was read and the version agreed.
    Initialize,
    /// Until every page of `tools/list` has been read and checked.
    ToolsList,
}

impl Layer {
    /// All layers in the order of time.
    pub const ALL: [Self; 4] = [
        Self::Transport,
        Self::Http,
        Self::Initialize,
        Self::ToolsList,
    ];

    /// The word used everywhere: `transport`, `http`, `initialize`, `tools_list`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Http => "http",
            Self::Initialize => "initialize",
            Self::ToolsList => "tools_list",
        }
    }
}

/// A timed part of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Name resolution.
    Dns,
    /// TCP connect, both address families raced.
    Connect,
    /// A proxy's `CONNECT`.
    Proxy,
    /// TLS handshake.
    Tls,
    /// Start of a stdio server's process.
    Spawn,
    /// From the request handed to the socket to the answer's head.
    FirstByte,
    /// From the answer's head to its last byte (or, on a stream, to our answer).
    Body,
}

impl Phase {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Spawn => "spawn",
            Self::FirstByte => "first_byte",
            Self::Body => "body",
        }
    }
}

/// What became of one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The stage finished.
    Ok,
    /// The stage did not finish; the probe ended here.
    Failed,
    /// Does not apply (HTTP on stdio), or the profile does not ask for it.
    Skipped,
    /// An earlier layer failed.
    #[default]
    NotReached,
}

impl Outcome {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::NotReached => "not_reached",
        }
    }
}
