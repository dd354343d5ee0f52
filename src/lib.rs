//! mcpprobe stands outside and asks every MCP server, on a schedule, whether a session with it
//! would work right now.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod correlate;
pub mod model;
pub mod probe;
