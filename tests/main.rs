//! Tests on the real thing: the program itself against real servers, a real Jaeger, and a server that does
//! everything wrong. `tests/install` installs what they need; a missing server is a failure.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod support;

mod alerting;
mod architecture;
mod backends_saas;
mod bad_server;
mod channels;
mod command_line;
mod configuration;
mod conformance;
mod faults;
mod incidents;
mod live;
mod real_servers;
mod rehearsal_table;
mod sampling;
mod self_hosted;
mod service;
mod store;
mod telemetry;
mod terminal;
mod trace_queries;
mod traces;
mod verdict_table;
mod verdicts;
mod watch;
