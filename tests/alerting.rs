//! Alerting on the whole program: what people are told when servers fail, and when mcpprobe, its disk, its file, its
//! channels or its network do.

mod crash;
mod hook;
mod isolation;
mod manager;
mod notices;
mod reload;
mod servers;
mod store_trouble;
