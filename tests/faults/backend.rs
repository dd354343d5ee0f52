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
    /// The port at which `watch` will take OTLP.
    Embedded(u16),
    Jaeger(Jaeger),
    Zipkin(Zipkin),
    Tempo(Tempo),
}

impl Backend {
    pub(super) fn start(kind: Kind, own: Option<Own>) -> Self {
        let store = match kind {
            Kind::Embedded => Store::Embedded(port()),
            Kind::Jaeger => Store::Jaeger(Jaeger::start_on([port(), port(), port()])),
            Kind::Zipkin => Store::Zipkin(Zipkin::start()),
            Kind::Tempo => Store::Tempo(Tempo::start()),
        };
        let hold = match own {
            None | Some(Own::Straight) if store.takes_otlp() => None,
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
        let collector = self.collector.as_ref();
        collector.map_or(self.store.otlp().0, |collector| collector.otlp)
    }

    /// A further way there, which takes its time.
    pub(super) fn late(&self) -> Collector {
        Collector::start(&self.store, LATE)
    }

    /// What `watch` is told of it; further keys of its `[traces]` may follow.
    pub(super) fn tables(&self) -> String {
        let (word, port) = match &self.store {
            // Our own spans need no way there.
            Store::Embedded(port) => {
                return format!(
                    "[traces]\nbackend = \"embedded\"\notlp_http = \"127.0.0.1:{port}\"\notlp_grpc = \"off\"\n"
                );
            }
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

    /// When it is asked: what a search of Tempo's sees is ten seconds old, and Zipkin takes in
    /// nothing while it searches.
    pub(super) fn rechecks(&self) -> &'static str {
        match self.store {
            Store::Embedded(_) | Store::Jaeger(_) => r#"["5s", "11s", "20s"]"#,
            Store::Tempo(_) => r#"["5s", "15s", "28s"]"#,
            Store::Zipkin(_) => r#"["6s", "18s", "32s"]"#,
        }
    }

    pub(super) fn signal(&self, name: &str) {
        match &self.store {
            Store::Jaeger(jaeger) => jaeger.program.signal(name),
            Store::Zipkin(zipkin) => zipkin.program.signal(name),
            Store::Embedded(_) | Store::Tempo(_) => unreachable!("it has no process of its own"),
        }
    }

    pub(super) fn signal_collector(&self, name: &str) {
        let collector = self.collector.as_ref().expect("a collector");
        collector.program.signal(name);
    }
}

impl Store {
    /// Whether exporters may send to it without a collector between.
    fn takes_otlp(&self) -> bool {
        matches!(self, Self::Embedded(_) | Self::Jaeger(_))
    }

    /// Where it takes OTLP over HTTP, and in which encoding.
    fn otlp(&self) -> (u16, &'static str) {
        match self {
            Self::Embedded(port) => (*port, "proto"),
            Self::Jaeger(jaeger) => (jaeger.otlp, "proto"),
            Self::Zipkin(zipkin) => (zipkin.otlp, "json"),
            Self::Tempo(tempo) => (tempo.port, "json"),
        }
    }
}

/// Jaeger's program as a collector.
pub(super) struct Collector {
    program: Program,
    pub(super) otlp: u16,
}

impl Collector {
    fn start(to: &Store, hold: &str) -> Self {
        let (to, encoding) = to.otlp();
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
