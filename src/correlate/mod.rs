//! After the fact: what the trace backend says of a failure, and whose fault that makes it.

mod asking;
mod attributes;
mod axiom;
mod backend;
mod budget;
mod clock;
mod datadog;
mod gather;
mod heard;
mod honeycomb;
mod http;
mod jaeger;
mod judge;
mod newrelic;
mod quote;
mod search;
mod service;
mod span;
mod unaskable;

pub use asking::Asking;
pub use backend::Backend;
pub use budget::{Claim, Ticket};
pub use gather::gather;
pub use judge::judge;
pub use service::{Learnt, learn};
