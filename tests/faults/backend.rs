//! The backends that are asked, and the collectors on the way there.

use std::process::{Command, Stdio};

use super::fault::{Kind, Own};
use crate::support::{Jaeger, Program, cache, free_port, here};

/// So long does a lagging collector hold what it gets.
const LAG: &str = "30s";

/// A trace backend with what stands before it.
pub(super) struct Backend {
    jaeger: Jaeger,
    collector: Option<Collector>,
}

impl Backend {
    pub(super) fn start(kind: Kind, own: Option<Own>) -> Self {
        let jaeger = match kind {
            Kind::Jaeger => Jaeger::start(),
        };
        let collector = match own {
            None | Some(Own::Straight) => None,
            Some(Own::Collector) => Some(Collector::start(jaeger.otlp, "200ms")),
            Some(Own::Lagging) => Some(Collector::start(jaeger.otlp, LAG)),
        };
        Self { jaeger, collector }
    }

    /// Where OTLP is taken over HTTP.
    pub(super) fn otlp(&self) -> u16 {
        let collector = self.collector.as_ref();
        collector.map_or(self.jaeger.otlp, |collector| collector.otlp)
    }

    /// A further way there, which takes its time.
    pub(super) fn lagging(&self) -> Collector {
        Collector::start(self.jaeger.otlp, LAG)
    }

    /// What `watch` is told of it.
    pub(super) fn tables(&self) -> String {
        format!(
            "[telemetry]\nendpoint = \"http://127.0.0.1:{}\"\n\
             [traces]\nbackend = \"jaeger\"\nurl = \"http://127.0.0.1:{}\"\n",
            self.otlp(),
            self.jaeger.query
        )
    }

    pub(super) fn signal(&self, name: &str) {
        self.jaeger.program.signal(name);
    }

    pub(super) fn signal_collector(&self, name: &str) {
        let collector = self.collector.as_ref().expect("a collector");
        collector.program.signal(name);
    }
}

/// Jaeger's program as a collector.
pub(super) struct Collector {
    program: Program,
    pub(super) otlp: u16,
}

impl Collector {
    fn start(to: u16, timeout: &str) -> Self {
        let otlp = free_port();
        let config = here("servers/collector.yaml");
        let mut command = Command::new(cache().join("jaeger/jaeger"));
        command
            .arg(format!("--config=file:{}", config.display()))
            .env("OTLP_HTTP_PORT", otlp.to_string())
            .env("BATCH_TIMEOUT", timeout)
            .env("EXPORT_TO", format!("http://127.0.0.1:{to}/v1/traces"))
            .env("EXPORT_ENCODING", "proto")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            program: Program::start(&mut command, otlp),
            otlp,
        }
    }
}
