//! The labelled matrix: real servers with real tracing, really broken, and which verdicts are right for each fault.
//!
//! `data/faults` has a file for each fault. All faults of a backend are played at the same time, in a network of their own:
//! one `watch` for those that share the backend, one for each that breaks the backend itself.

mod backend;
mod cable;
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
use scene::Complaint;

#[test]
#[ignore = "two minutes of 66 real servers, which want the machine for themselves: tests/run faults"]
fn every_verdict_on_every_fault_is_right_with_the_embedded_backend() {
    every_verdict_is_right(Kind::Embedded);
}

#[test]
#[ignore = "two minutes of 66 real servers, which want the machine for themselves: tests/run faults"]
fn every_verdict_on_every_fault_is_right_with_jaeger() {
    every_verdict_is_right(Kind::Jaeger);
}

#[test]
#[ignore = "two minutes of 66 real servers, which want the machine for themselves: tests/run faults"]
fn every_verdict_on_every_fault_is_right_with_zipkin() {
    every_verdict_is_right(Kind::Zipkin);
}

#[test]
#[ignore = "two minutes of 66 real servers, which want the machine for themselves: tests/run faults"]
fn every_verdict_on_every_fault_is_right_with_tempo() {
    every_verdict_is_right(Kind::Tempo);
}

#[test]
fn nobody_is_blamed_for_our_own_cable_by_the_embedded_backend() {
    nobody_is_blamed_for_our_own_cable(Kind::Embedded);
}

#[test]
fn nobody_is_blamed_for_our_own_cable_by_a_jaeger_beside_us() {
    nobody_is_blamed_for_our_own_cable(Kind::Jaeger);
}

fn nobody_is_blamed_for_our_own_cable(kind: Kind) {
    in_a_network_of_our_own(|network| {
        let told = cable::verdict(kind, network, |network, _| network.drop_all());
        assert_eq!(told["verdict"], "inconclusive", "{told}");
        assert!(
            told["reason"].as_str().unwrap().contains("cut off"),
            "{told}"
        );
    });
}

#[test]
fn a_cable_that_is_in_again_says_nothing_of_the_time_before() {
    in_a_network_of_our_own(|network| {
        let told = cable::verdict(Kind::Embedded, network, |network, watch| {
            network.drop_all();
            watch.until_state("far", "down");
            network.let_all_through();
        });
        assert_eq!(told["verdict"], "inconclusive", "{told}");
    });
}

#[test]
fn a_host_is_gone_where_another_is_reached() {
    in_a_network_of_our_own(|network| {
        let told = cable::verdict(Kind::Embedded, network, |network, _| network.drop_far());
        assert_eq!(told["verdict"], "infrastructure", "{told}");
    });
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
    let (shrugs, blames): (Vec<_>, Vec<_>) = play(kind, faults.iter().collect(), network)
        .into_iter()
        .partition(|complaint| complaint.is_shrug);
    // Who is blamed wrongly once is one too many. A verdict that should have been surer has a second chance, with fewer
    // others about.
    let again = match shrugs.len() {
        0 => Vec::new(),
        _ => {
            network.let_all_through();
            let faults = shrugs.iter().map(|complaint| complaint.fault);
            play(kind, faults.collect(), network)
        }
    };
    let wrong = blames.into_iter().chain(again);
    wrong.map(|complaint| complaint.text).collect()
}

/// Plays all at the same time.
fn play<'f>(kind: Kind, faults: Vec<&'f Fault>, network: &Network) -> Vec<Complaint<'f>> {
    let (own, shared): (Vec<_>, Vec<_>) = faults
        .into_iter()
        .partition(|fault| fault.backend.is_some());
    let own = own.into_iter().map(|fault| (fault.backend, vec![fault]));
    let shared = (!shared.is_empty()).then_some((None, shared));
    thread::scope(|scope| {
        let scenes: Vec<_> = own
            .chain(shared)
            .map(|(own, faults)| scope.spawn(move || scene::play(kind, own, &faults, network)))
            .collect();
        let played = scenes.into_iter().map(|scene| scene.join());
        played
            .flat_map(|scene| scene.expect("a scene is played to its end"))
            .collect()
    })
}
