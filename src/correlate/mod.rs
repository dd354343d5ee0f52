//! After the fact: what the trace backend says of a failure, and whose fault that makes it.

mod gather;
mod jaeger;
mod judge;
#[cfg(test)]
mod judge_table;

pub use gather::{Learnt, gather, learn};
pub use jaeger::Jaeger;
pub use judge::judge;
