//! The embedded backend: its file is read, whoever writes to it.

use std::collections::HashMap;
use std::time::SystemTime;

use async_trait::async_trait;

use super::asking::Asking;
use super::backend::{Answer, Api, BackendSpan, Unavailable};
use crate::model::{
    Coverage, OWN_SCOPE, RecordedKind, RecordedSpan, ServiceName, SpanKind, SpanStatus, Text,
    TraceId, Window,
};
use crate::traces::Reader;

/// Spans of one search: a busy server's five minutes. Of large ones fewer fit into an answer ([`Reader::MOST_BYTES`]).
const SEARCH_LIMIT: usize = 50_000;

/// Spans of one other service that are counted: one is enough.
const HEARD_LIMIT: usize = 100;

/// The embedded backend.
pub(super) struct Embedded {
    reader: Reader,
}

impl Embedded {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader }
    }

    /// Reads in a thread of its own: the file may be slow, and probes must not wait for it.
    async fn read<T: Send + 'static>(
        &self,
        asking: &Asking,
        query: String,
        read: impl FnOnce(&Reader) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        asking.note(query);
        let reader = self.reader.clone();
        tokio::task::spawn_blocking(move || read(&reader))
            .await
            .map_err(|error| Text::new(format!("its file cannot be read: {error}")))?
    }
}

/// What was not there to be received, or was lost, is not silence of the server's.
fn coverage(reader: &Reader, window: Window) -> Result<Coverage, Unavailable> {
    let known = reader.completeness()?;
    // What came in last is told by the clock of a run that is still going on.
    let last = known.runs.last().map(|run| run.to);
    let to = last.map_or(window.to, |last| last.min(window.to));
    let known_of = Window {
        from: window.from,
        to: to.max(window.from),
    };
    if known.is_whole(known_of) {
        return Ok(Coverage::Full);
    }
    let why = if known.kept_since > window.from {
        "spans of that time were removed for their age or size, or nobody was there to take them"
    } else if let Some(lost) = known
        .losses
        .iter()
        .find(|lost| lost.first < window.to && window.from <= lost.last)
    {
        return Ok(Coverage::Sampled(Text::new(format!(
            "{} spans of that time came in and are not there: {}",
            lost.count, lost.reason
        ))));
    } else {
        "nobody was there to take spans for a part of that time"
    };
    Ok(Coverage::RetentionFiltered(Text::new(why)))
}

#[async_trait]
impl Api for Embedded {
    async fn traces(
        &self,
        ids: &[TraceId],
        _around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let ids = ids.to_vec();
        let shown: Vec<_> = ids.iter().map(TraceId::to_string).collect();
        let query = format!("traces {}", shown.join(", "));
        self.read(asking, query, move |reader| {
            let mut spans = Vec::new();
            let (mut left, mut is_cut) = (Reader::MOST_BYTES, false);
            for id in &ids {
                let found = reader.trace_within(*id, left)?;
                spans.extend(found.spans.iter().map(backend_span));
                left -= found.bytes;
                is_cut |= found.truncated;
            }
            let what = || Text::new(format!("{} spans of {} traces", spans.len(), ids.len()));
            Ok(Answer {
                cut: is_cut.then(what),
                spans,
                ..Answer::default()
            })
        })
        .await
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let name = service.name.clone();
        let query = format!(
            "spans of service {name} from {} to {}",
            humantime::format_rfc3339_millis(window.from),
            humantime::format_rfc3339_millis(window.to)
        );
        self.read(asking, query, move |reader| {
            let found = reader.service_window(&name, window, SEARCH_LIMIT)?;
            Ok(Answer {
                spans: found.spans.iter().map(backend_span).collect(),
                cut: found
                    .truncated
                    .then(|| Text::new(format!("{} spans of {name}", found.spans.len()))),
                coverage: coverage(reader, window)?,
            })
        })
        .await
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        self.read(asking, "completeness".to_owned(), |reader| {
            reader.completeness().map(drop)
        })
        .await
    }

    fn shares_our_network(&self) -> bool {
        true
    }

    async fn told_until(&self, asking: &Asking, now: SystemTime) -> SystemTime {
        let query = "until when somebody was there to take spans".to_owned();
        let runs = self.read(asking, query, |reader| Ok(reader.completeness()?.runs));
        // What cannot be read is told by the questions that follow.
        let runs = runs.await.unwrap_or_default();
        runs.last().map_or(now, |last| last.to.min(now))
    }

    async fn heard_others(
        &self,
        window: Window,
        except: Option<&ServiceName>,
        asking: &Asking,
    ) -> Result<Option<usize>, Unavailable> {
        let except = except.map(|service| service.name.clone());
        let query = format!(
            "spans of other services from {} to {}",
            humantime::format_rfc3339_millis(window.from),
            humantime::format_rfc3339_millis(window.to)
        );
        self.read(asking, query, move |reader| {
            let mut heard = 0;
            for service in reader.services()? {
                // Who was last heard before it was not heard in it: most need not be looked for.
                let is_other = except.as_deref() != Some(service.name.as_str());
                if !is_other || service.last_seen < window.from {
                    continue;
                }
                let found = reader.service_window(service.name.as_str(), window, HEARD_LIMIT)?;
                let others = |span: &&RecordedSpan| span.scope.as_str() != OWN_SCOPE;
                heard += found.spans.iter().filter(others).count();
            }
            Ok(Some(heard))
        })
        .await
    }

    /// There is a command for it, and no page.
    fn link(&self, _id: TraceId, _at: SystemTime) -> Option<String> {
        None
    }
}

fn backend_span(span: &RecordedSpan) -> BackendSpan {
    let texts = |attributes: &[crate::model::Attribute]| -> HashMap<String, String> {
        attributes
            .iter()
            .map(|attribute| (attribute.key.to_string(), attribute.value.plain()))
            .collect()
    };
    let mut tags = texts(&span.attributes);
    tags.insert("otel.scope.name".to_owned(), span.scope.to_string());
    // An exception is told by an event, and not everywhere by the status.
    for event in &span.events {
        for attribute in &event.attributes {
            if attribute.key.as_str().starts_with("exception.") {
                tags.entry(attribute.key.to_string())
                    .or_insert_with(|| attribute.value.plain());
            }
        }
    }
    let message = match &span.status {
        SpanStatus::Error(message) => Some(message.to_string()),
        SpanStatus::Unset | SpanStatus::Ok => None,
    };
    BackendSpan {
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent: span.parent,
        service: span.service.to_string(),
        name: span.name.to_string(),
        kind: match span.kind {
            RecordedKind::Server => SpanKind::Server,
            RecordedKind::Client => SpanKind::Client,
            RecordedKind::Internal | RecordedKind::Producer | RecordedKind::Consumer => {
                SpanKind::Other
            }
        },
        start: span.start,
        duration: span.duration,
        is_error: message.is_some(),
        message,
        tags,
        resource: texts(&span.resource),
    }
}
