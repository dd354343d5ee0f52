//! After the fact: what the trace backend says of a failure, and whose fault that makes it.

mod backend;
mod bench;
mod budget;
mod clock;
mod controls;
mod excerpt;
mod gather;
mod http;
mod jaeger;
mod judge;
mod rehearse;
#[cfg(test)]
mod sample;
mod search;
mod service;
mod span;

pub use backend::{Asking, Backend};
pub use excerpt::excerpt;
pub use gather::gather;
pub use judge::judge;
pub use rehearse::rehearse;
pub use service::{Learnt, learn};
