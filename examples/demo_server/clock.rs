//! A server whose clock is off: its spans tell of another time.

use std::time::{Duration, SystemTime};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// How far the clock is off.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    Ahead(Duration),
    Behind(Duration),
}

impl Clock {
    fn shows(self, time: SystemTime) -> SystemTime {
        match self {
            Self::Ahead(by) => time + by,
            Self::Behind(by) => time - by,
        }
    }
}

/// Exports spans as a machine with that clock would have made them.
#[derive(Debug)]
pub(crate) struct ByClock<E> {
    pub(crate) exporter: E,
    pub(crate) clock: Clock,
}

impl<E: SpanExporter> SpanExporter for ByClock<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        for span in &mut batch {
            span.start_time = self.clock.shows(span.start_time);
            span.end_time = self.clock.shows(span.end_time);
        }
        self.exporter.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
