//! The labelled matrix: real servers with real tracing, really broken, and which verdicts are right for each fault.
//!
//! `data/faults` has a file for each fault. All faults of a backend are played at the same time, in a network of their own:
//! one `watch` for those that share the backend, one for each that breaks the backend itself.

mod backend;
mod fault;
mod front;
mod network;
mod others;
mod otlp;
mod scene;
mod server;
mod tempo;
mod wire;
mod zipkin;

use std::thread;

use fault::{Fault, Kind};
use network::{Network, in_a_network_of_our_own};

#[test]
#[ignore = "two minutes of 60 real servers, which want the machine for themselves: tests/run faults"]
fn every_verdict_on_every_fault_is_right_with_the_embedded_backend() {
    every_verdict_is_right(Kind::Embedded);
}

#[test]
#[ignore = "two minutes of 60 real servers, which want the machine for themselves: tests/run faults"]
fn every_verdict_on_every_fault_is_right_with_jaeger() {
    every_verdict_is_right(Kind::Jaeger);
}

#[test]
#[ignore = "two minutes of 60 real servers, which want the machine for themselves: tests/run faults"]
fn every_verdict_on_every_fault_is_right_with_zipkin() {
    every_verdict_is_right(Kind::Zipkin);
}

#[test]
#[ignore = "two minutes of 60 real servers, which want the machine for themselves: tests/run faults"]
fn every_verdict_on_every_fault_is_right_with_tempo() {
    every_verdict_is_right(Kind::Tempo);
}

fn every_verdict_is_right(kind: Kind) {
    in_a_network_of_our_own(|network| {
        let complaints = complaints(kind, network);
        assert!(
            complaints.is_empty(),
            "{} wrong:\n\n{}",
            complaints.len(),
            complaints.join("\n\n")
        );
    });
}

fn complaints(kind: Kind, network: &Network) -> Vec<String> {
    let faults = Fault::all(kind);
    let (own, shared): (Vec<_>, Vec<_>) = faults.iter().partition(|fault| fault.backend.is_some());
    let own = own.into_iter().map(|fault| (fault.backend, vec![fault]));
    thread::scope(|scope| {
        let scenes: Vec<_> = own
            .chain([(None, shared)])
            .map(|(own, faults)| scope.spawn(move || scene::play(kind, own, &faults, network)))
            .collect();
        let played = scenes.into_iter().map(|scene| scene.join());
        played
            .flat_map(|scene| scene.expect("a scene is played to its end"))
            .collect()
    })
}
