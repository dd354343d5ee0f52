//! After the fact: what the trace backend says of a failure, and whose fault that makes it.

mod asking;
mod attributes;
mod axiom;
mod backend;
mod bench;
mod budget;
mod clickhouse;
mod clock;
mod controls;
mod datadog;
mod document;
mod elastic;
mod embedded;
mod entry;
mod excerpt;
mod gather;
mod heard;
mod heimdall;
mod honeycomb;
mod http;
mod index;
mod jaeger;
mod jaeger_v3;
mod judge;
mod newrelic;
mod opensearch;
mod otlp;
mod phoenix;
mod quote;
#[cfg(test)]
mod sample;
mod search;
mod service;
mod signoz;
mod span;
mod tempo;
mod unaskable;
mod zipkin;

pub use asking::Asking;
pub use backend::Backend;
pub use budget::{Claim, Ticket};
pub use excerpt::excerpt;
pub use gather::gather;
pub use judge::judge;
pub use service::{Learnt, learn};
