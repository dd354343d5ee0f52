//! Two servers on two hosts at the other end of a cable, and one on this machine: when the cable is out, nobody's platform
//! is to blame, though the backend beside us has our spans and hears the one on this machine.

use std::collections::BTreeMap;

use serde_json::Value;

use super::backend::Backend;
use super::fault::{Kind, Program};
use super::front::Toxiproxy;
use super::network::{FAR, FARTHER, NEAR, Network, port};
use super::scene::is_instrumented;
use super::server::{Plan, Server};
use crate::support::{Watch, eventually};

/// The last verdict on the server at `FAR`, after `broken`.
pub(super) fn verdict(
    kind: Kind,
    network: &Network,
    broken: impl FnOnce(&Network, &Watch),
) -> Value {
    let backend = Backend::start(kind, None);
    let (toxiproxy, near) = (Toxiproxy::start(), port());
    toxiproxy.add("near", &format!("{NEAR}:{near}"), backend.otlp());
    // The one farther away leaves no spans: that it is reached must be told by our probes of it.
    let places = [
        ("far", Some(near), Some(network)),
        ("farther", None, Some(network)),
        ("local", Some(backend.otlp()), None),
    ];
    let servers = places.map(|(service, otlp, far)| {
        Server::start(&Plan {
            program: Program::Go,
            service,
            arguments: &[],
            environment: &BTreeMap::new(),
            otlp,
            database: None,
            far,
        })
    });
    let hosts = [FAR, FARTHER, "127.0.0.1"];
    let tables: String = (places.iter().zip(&servers).zip(hosts))
        .map(|(((name, ..), server), host)| {
            let port = server.port;
            format!("[[server]]\nname = \"{name}\"\nurl = \"http://{host}:{port}/mcp\"\n")
        })
        .collect();
    let watch = Watch::start(&format!(
        "[defaults]\nevery = \"2s\"\ntimeout = \"2s\"\n\
         [alerting]\nconfirm = 1\nconfirm_delay = \"300ms\"\n\
         {}window = \"40s\"\nrecheck = {}\n{tables}",
        backend.tables(),
        backend.rechecks()
    ));
    for (name, ..) in places {
        watch.until_state(name, "up");
    }
    eventually("spans of the far server", || {
        is_instrumented(&watch, "far").then_some(())
    });
    broken(network, &watch);
    watch.until_verdict("far")
}
