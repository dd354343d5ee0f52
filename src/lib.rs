//! mcpprobe stands outside and asks every MCP server, on a schedule, the only question that matters
//! to an agent: would a session with you work right now? It answers with the layer that failed, and
//! asks the trace backend whose fault it is.
//!
//! The way of the data, which is also the list of the modules:
//!
//! ```text
//! servers.toml ─ config ─▶ schedule ─▶ probe ─▶ ProbeResult ─▶ (bounded channel) ─▶ daemon
//!                                                         ┌──────────┬─────────────────┤
//!                                                         ▼          ▼                 ▼
//!                                                       store    telemetry       correlate ─▶ verdict
//!                                                         ▲       (OTLP spans)
//!                                                         └── report and the commands read from here
//! ```
//!
//! What MCP servers send of their own spans is received and kept by `traces`, which `correlate` and the commands ask.
//!
//! Notices go from the store by `alert` to the channels, and what becomes of them goes back there.
//!
//! What must stay true:
//!
//! - Decisions are pure functions that take the time as an argument; acting is done at the rim.
//! - A failed probe is a value; `Err` means that we are broken.
//! - A stage imports `model` and no other stage; `command` and `daemon` put stages together.
//! - Everything that a server or a user can make grow has a named limit.
//! - No task, timer or connection exists for a target that is not being probed.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may fail"))]

pub mod alert;
pub mod cli;
pub mod command;
pub mod config;
pub mod correlate;
pub mod daemon;
pub mod model;
pub mod probe;
pub mod process;
pub mod report;
pub mod schedule;
pub mod store;
pub mod telemetry;
pub mod traces;

/// Makes ring the provider of cryptography for every TLS client of this process; `reqwest` cannot be used
/// before. A second call changes nothing.
pub fn install_tls_provider() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
}
