//! After the fact: what the trace backend says of a failure, and whose fault that makes it.

mod clock;
mod gather;
mod jaeger;
mod judge;
mod search;
mod service;
mod span;

pub use gather::gather;
pub use jaeger::Jaeger;
pub use judge::judge;
pub use service::{Learnt, learn};
