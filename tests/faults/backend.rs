//! The backends that are asked, and the collectors on the way there.

use std::process::{Command, Stdio};

use super::fault::{Kind, Own};
use super::network::port;
use super::tempo::Tempo;
use super::zipkin::Zipkin;
use crate::support::{Jaeger, Program, cache, here};

const QUICK: &str = "200ms";

/// So long does a collector that lags hold what it gets.
const LAG: &str = "30s";

/// The same where our own spans do not tell of it: as long as an exporter may take without having been seen to.
const LATE: &str = "8s";

/// A trace backend with what stands before it.
pub(super) struct Backend {
    store: Store,
    collector: Option<Collector>,
}

enum Store {
    Jaeger(Jaeger),
    Zipkin(Zipkin),
    Tempo(Tempo),
}

impl Backend {
    pub(super) fn start(kind: Kind, own: Option<Own>) -> Self {
        let store = match kind {
            Kind::Jaeger => Store::Jaeger(Jaeger::start()),
            Kind::Zipkin => Store::Zipkin(Zipkin::start()),
            Kind::Tempo => Store::Tempo(Tempo::start()),
        };
        let hold = match own {
            // Jaeger takes OTLP itself.
            None | Some(Own::Straight) if kind == Kind::Jaeger => None,
            None | Some(Own::Straight | Own::Collector) => Some(QUICK),
            Some(Own::Lagging) => Some(LAG),
        };
        Self {
            collector: hold.map(|hold| Collector::start(&store, hold)),
            store,
        }
    }

    /// Where OTLP is taken over HTTP.
    pub(super) fn otlp(&self) -> u16 {
        match (&self.collector, &self.store) {
            (Some(collector), _) => collector.otlp,
            (None, Store::Jaeger(jaeger)) => jaeger.otlp,
            (None, _) => unreachable!("all but Jaeger have a collector"),
        }
    }

    /// A further way there, which takes its time.
    pub(super) fn late(&self) -> Collector {
        Collector::start(&self.store, LATE)
    }

    /// What `watch` is told of it; further keys of its `[traces]` may follow.
    pub(super) fn tables(&self) -> String {
        let (word, port) = match &self.store {
            Store::Jaeger(jaeger) => ("jaeger", jaeger.query),
            Store::Zipkin(zipkin) => ("zipkin", zipkin.port),
            Store::Tempo(tempo) => ("tempo", tempo.port),
        };
        format!(
            "[telemetry]\nendpoint = \"http://127.0.0.1:{}\"\n\
             [traces]\nbackend = \"{word}\"\nurl = \"http://127.0.0.1:{port}\"\n",
            self.otlp(),
        )
    }

    /// When it is asked: what a search of Tempo's sees is ten seconds old, and Zipkin is slow at first.
    pub(super) fn rechecks(&self) -> &'static str {
        match self.store {
            Store::Jaeger(_) => r#"["5s", "11s", "20s"]"#,
            Store::Zipkin(_) | Store::Tempo(_) => r#"["5s", "15s", "28s"]"#,
        }
    }

    pub(super) fn signal(&self, name: &str) {
        match &self.store {
            Store::Jaeger(jaeger) => jaeger.program.signal(name),
            Store::Zipkin(zipkin) => zipkin.program.signal(name),
            Store::Tempo(_) => unreachable!("the recorded Tempo has no process"),
        }
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
    fn start(to: &Store, hold: &str) -> Self {
        let (to, encoding) = match to {
            Store::Jaeger(jaeger) => (jaeger.otlp, "proto"),
            Store::Zipkin(zipkin) => (zipkin.otlp, "json"),
            Store::Tempo(tempo) => (tempo.port, "json"),
        };
        let otlp = port();
        let config = here("servers/collector.yaml");
        let mut command = Command::new(cache().join("jaeger/jaeger"));
        command
            .arg(format!("--config=file:{}", config.display()))
            .env("OTLP_HTTP_PORT", otlp.to_string())
            .env("BATCH_TIMEOUT", hold)
            .env("EXPORT_TO", format!("http://127.0.0.1:{to}/v1/traces"))
            .env("EXPORT_ENCODING", encoding)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            program: Program::start(&mut command, otlp),
            otlp,
        }
    }
}
