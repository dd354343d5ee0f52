//! Each probe as an OpenTelemetry trace, exported by OTLP.
//!
//! Nothing here can delay or fail a probe: a result is put on a bounded queue or dropped and counted, and
//! one task turns results into spans and exports them.

mod exporter;
mod names;
mod receiver;
mod settings;
mod spans;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::model::{ProbeResult, Target, Text, TraceId};

use exporter::Exporter;
pub use settings::ExportSettings;

/// Spans of one probe, roughly: the queue holds results and is bounded in spans.
const SPANS_PER_PROBE: usize = 8;

/// For a flush before exit or before the backend is asked. A collector that takes longer is down.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The way out for probes' spans. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    queue: Option<mpsc::Sender<Job>>,
    counts: Arc<Counts>,
}

enum Job {
    Probe(Arc<Target>, Arc<ProbeResult>),
    Flush(oneshot::Sender<()>),
}

#[derive(Default)]
struct Counts {
    dropped_probes: AtomicU64,
    dropped_spans: AtomicU64,
    /// Of the receiver, and of the backend of this process: one that works must not make the other's news new again.
    warned: [AtomicBool; 2],
}

/// The way into the embedded trace backend of this process; answers whether there was room.
pub type Local = Box<dyn Fn(Vec<SpanData>) -> bool + Send>;

/// Where warnings go.
pub type Warn = Arc<dyn Fn(&str) + Send + Sync>;

impl Telemetry {
    /// Starts the export, or nothing when there is neither an endpoint nor a way into a backend of ours, which gets
    /// every span, however few are sampled. Has to be called in a tokio runtime.
    pub fn start(settings: &ExportSettings, local: Option<Local>, warn: Warn) -> Self {
        for warning in &settings.warnings {
            warn(warning);
        }
        let counts = Arc::new(Counts::default());
        let exporter = settings.receiver.as_ref().and_then(|receiver| {
            Exporter::new(receiver, settings)
                .inspect_err(|error| warn(&format!("{error}: no span is exported")))
                .ok()
        });
        let is_wanted = exporter.is_some() || local.is_some();
        let queue = is_wanted.then(|| {
            let capacity = settings.queue.div_ceil(SPANS_PER_PROBE);
            let (sender, receiver) = mpsc::channel(capacity);
            let worker = Worker {
                exporter,
                local,
                settings: settings.clone(),
                counts: Arc::clone(&counts),
                warn,
                batch: Vec::with_capacity(settings.batch),
                for_local: Vec::new(),
            };
            tokio::spawn(worker.run(receiver));
            sender
        });
        Self { queue, counts }
    }

    /// Hands over a result; never waits.
    pub fn emit(&self, target: &Arc<Target>, result: &Arc<ProbeResult>) {
        if let Some(queue) = &self.queue {
            let job = Job::Probe(Arc::clone(target), Arc::clone(result));
            if queue.try_send(job).is_err() {
                self.counts.dropped_probes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until everything handed over so far has been exported or given up, at most a few seconds.
    pub async fn flush(&self) {
        let Some(queue) = &self.queue else {
            return;
        };
        let (done, wait) = oneshot::channel();
        let flushed = async {
            if queue.send(Job::Flush(done)).await.is_ok() {
                wait.await.ok();
            }
        };
        tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.ok();
    }

    /// Probes whose spans did not fit into the queue, and spans that the receiver did not take.
    pub fn dropped(&self) -> (u64, u64) {
        (
            self.counts.dropped_probes.load(Ordering::Relaxed),
            self.counts.dropped_spans.load(Ordering::Relaxed),
        )
    }
}

struct Worker {
    exporter: Option<Exporter>,
    local: Option<Local>,
    settings: ExportSettings,
    counts: Arc<Counts>,
    warn: Warn,
    batch: Vec<SpanData>,
    for_local: Vec<SpanData>,
}

impl Worker {
    /// Until every sender is gone.
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut due = Instant::now();
        loop {
            let job = if self.waiting() == 0 {
                jobs.recv().await
            } else {
                match tokio::time::timeout_at(due, jobs.recv()).await {
                    Ok(job) => job,
                    Err(_) => {
                        self.export().await;
                        continue;
                    }
                }
            };
            match job {
                Some(Job::Probe(target, result)) => {
                    if self.waiting() == 0 {
                        due = Instant::now() + self.settings.delay;
                    }
                    self.add(&target, &result);
                    if self.waiting() >= self.settings.batch {
                        self.export().await;
                    }
                }
                Some(Job::Flush(done)) => {
                    self.export().await;
                    done.send(()).ok();
                }
                None => {
                    self.export().await;
                    return;
                }
            }
        }
    }

    fn waiting(&self) -> usize {
        self.batch.len().max(self.for_local.len())
    }

    fn add(&mut self, target: &Target, result: &ProbeResult) {
        let is_exported =
            self.exporter.is_some() && is_sampled(result.trace_id, self.settings.sampled);
        if !is_exported && self.local.is_none() {
            return;
        }
        let spans = spans::spans(target, result, self.settings.limits);
        if self.local.is_some() {
            self.for_local.extend(spans.iter().cloned());
        }
        if is_exported {
            self.batch.extend(spans);
        }
    }

    async fn export(&mut self) {
        let local = std::mem::take(&mut self.for_local);
        if let Some(way) = &self.local
            && !local.is_empty()
        {
            let spans = local.len();
            let done = match way(local) {
                true => Ok(()),
                false => Err(Text::from("too many of them wait there")),
            };
            self.judge(
                done,
                spans,
                "the embedded trace backend",
                &self.counts.warned[1],
            );
        }
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(self.settings.batch));
        if let Some(exporter) = &mut self.exporter {
            let spans = batch.len();
            let (done, shown) = (exporter.export(batch).await, exporter.shown());
            self.judge(done, spans, &shown, &self.counts.warned[0]);
        }
    }

    fn judge(&self, done: Result<(), Text>, spans: usize, receiver: &str, warned: &AtomicBool) {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        if let Err(error) = done {
            self.counts
                .dropped_spans
                .fetch_add(spans, Ordering::Relaxed);
            // Once: an exporter that is down for a day is one piece of news.
            if !warned.swap(true, Ordering::Relaxed) {
                (self.warn)(&format!(
                    "spans cannot be exported to {receiver}, they are dropped until it takes them again: {error}"
                ));
            }
        } else {
            warned.store(false, Ordering::Relaxed);
        }
    }
}

/// As the SDK's `TraceIdRatioBased` decides: by the low 63 bits of the trace id.
fn is_sampled(id: TraceId, share: f64) -> bool {
    if share >= 1.0 {
        return true;
    }
    let [.., a, b, c, d, e, f, g, h] = id.0;
    let low = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
    // Rounding in the last bits of a share does not matter.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of 2^63 needs no more than 52 bits"
    )]
    let place = low as f64 / (1u64 << 63) as f64;
    place < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_sampled_traces_is_the_one_asked_for() {
        let sampled = (0..10_000)
            .filter(|_| is_sampled(TraceId::random(), 0.25))
            .count();
        assert!((2_200..2_800).contains(&sampled), "{sampled}");
        assert!(is_sampled(TraceId::random(), 1.0));
        assert!(!is_sampled(TraceId::random(), 0.0));
    }
}
