//! Notices, delivered: to a real mail server, a real Alertmanager, and receivers that check what vendors demand and
//! misbehave in every way.

mod alertmanager;
mod bench;
mod command;
mod exec;
mod mail;
mod notice;
mod outbox;
mod receiver;
mod vendors;
mod webhook;
