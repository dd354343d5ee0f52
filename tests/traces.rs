//! The embedded trace backend, from the wire to its answers: both protocols by the SDK's own exporters, everything that
//! a sender can do wrong, and a disk that does not work.

mod disk;
mod exporters;
mod hostile;
mod protocol;
mod questions;
pub(crate) mod rig;
