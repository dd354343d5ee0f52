//! After the fact: what the trace backend says of a failure, and whose fault that makes it.

mod backend;
mod budget;
mod clickhouse;
mod clock;
mod document;
mod elastic;
mod entry;
mod gather;
mod heimdall;
mod http;
mod index;
mod jaeger;
mod jaeger_v3;
mod judge;
mod opensearch;
mod otlp;
mod phoenix;
mod search;
mod service;
mod signoz;
mod span;
mod tempo;
mod zipkin;

pub use backend::{Asking, Backend};
pub use gather::gather;
pub use judge::judge;
pub use service::{Learnt, learn};
