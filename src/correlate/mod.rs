//! After the fact: what the trace backend says of a failure, and whose fault that makes it.

mod backend;
mod budget;
mod clock;
mod embedded;
mod gather;
mod http;
mod jaeger;
mod judge;
mod search;
mod service;
mod span;

pub use backend::{Asking, Backend};
pub use gather::gather;
pub use judge::judge;
pub use service::{Learnt, learn};
