//! What every trace backend can be asked, whatever it is: one file for each beside this one.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use url::Url;

use super::http::Http;
use super::jaeger::Jaeger;
use crate::model::{
    AskedBackend, BackendKind, BackendSettings, Coverage, Query, ServiceName, SpanId, SpanKind,
    Text, TraceId, TracesSettings, Window,
};

/// A trace backend. Shared by all inquiries, so that its limits are kept over all of them.
pub struct Backend {
    name: String,
    kind: BackendKind,
    /// Where it is asked, as it may be shown.
    url: Option<String>,
    api: Box<dyn Api>,
}

/// The backend could not say, and why. Never that there is nothing.
pub(super) type Unavailable = Text;

/// What one kind of backend knows how to answer.
pub(super) trait Api: Send + Sync {
    /// All spans of these traces; empty for those that there are not. `around` is when they were.
    fn traces<'a>(
        &'a self,
        ids: &'a [TraceId],
        around: Window,
        asking: &'a Asking,
    ) -> BoxFuture<'a, Result<Answer, Unavailable>>;

    /// The spans of `service` that started in `window`, and as far as the backend tells them the rest of their traces.
    fn search<'a>(
        &'a self,
        service: &'a ServiceName,
        window: Window,
        asking: &'a Asking,
    ) -> BoxFuture<'a, Result<Answer, Unavailable>>;

    /// Whether it answers at all, for when there is nothing else to ask.
    fn answers<'a>(&'a self, asking: &'a Asking) -> BoxFuture<'a, Result<(), Unavailable>>;

    /// Whether it stands in the prober's own network: then that it has our spans says nothing of the network.
    fn shares_our_network(&self) -> bool {
        false
    }

    /// How many spans it was *sent* in `window` by others than us (`OWN_SCOPE`) and this service; `None` where it cannot
    /// say. Asked only of one that shares our network.
    fn heard_others<'a>(
        &'a self,
        _window: Window,
        _except: Option<&'a ServiceName>,
        _asking: &'a Asking,
    ) -> BoxFuture<'a, Result<Option<usize>, Unavailable>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Where a person sees the trace.
    fn link(&self, id: TraceId, at: SystemTime) -> Option<String>;
}

/// An answer that can be believed.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) spans: Vec<BackendSpan>,
    /// What was cut off, and where: there may be more.
    pub(super) cut: Option<Text>,
    /// How much of what there was the backend keeps, at the time that was asked about.
    pub(super) coverage: Coverage,
}

/// One inquiry: what it asked.
#[derive(Default)]
pub struct Asking {
    queries: Mutex<Vec<Query>>,
}

impl Asking {
    /// Remembers a query as it may be shown.
    pub(super) fn note(&self, query: String) {
        if let Ok(mut queries) = self.queries.lock() {
            let at = SystemTime::now();
            queries.push(Query { at, text: query });
        }
    }

    /// The queries so far, for the verdict's evidence.
    pub fn into_queries(self) -> Vec<Query> {
        self.queries.into_inner().unwrap_or_default()
    }
}

impl Backend {
    /// A client for a backend. Asks nobody yet.
    ///
    /// # Errors
    /// Why it cannot be asked, in a sentence.
    pub fn new(settings: &TracesSettings) -> Result<Self, String> {
        let kind = settings.backend.kind();
        let api: Box<dyn Api> = match &settings.backend {
            BackendSettings::Embedded(_) => {
                return Err("the embedded backend is opened by its file".to_owned());
            }
            BackendSettings::Remote(remote) => match remote.kind {
                BackendKind::Jaeger => Box::new(Jaeger::new(remote)?),
                kind => return Err(format!("{} cannot be asked yet", kind.as_str())),
            },
        };
        Ok(Self {
            name: settings.name.clone(),
            kind,
            url: match &settings.backend {
                BackendSettings::Embedded(_) => None,
                BackendSettings::Remote(remote) => remote.url.as_ref().map(shown),
            },
            api,
        })
    }

    /// Who it is, for whoever reads a verdict.
    pub fn told(&self) -> AskedBackend {
        AskedBackend {
            name: self.name.clone(),
            kind: self.kind.as_str().to_owned(),
            url: self.url.clone(),
        }
    }

    /// `name` of its `[[traces]]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn kind(&self) -> BackendKind {
        self.kind
    }

    /// Where a person sees a trace of that time.
    pub fn link(&self, id: TraceId, at: SystemTime) -> Option<String> {
        self.api.link(id, at)
    }

    pub(super) fn api(&self) -> &dyn Api {
        self.api.as_ref()
    }
}

/// A span as a backend has it, ours or another's. Attributes that the judge reads have the names of OpenTelemetry, and
/// as strings: `error` and `otel.status_code` are in `status`.
#[derive(Clone, Debug)]
pub(super) struct BackendSpan {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) service: String,
    pub(super) name: String,
    pub(super) kind: SpanKind,
    pub(super) start: SystemTime,
    pub(super) duration: Duration,
    pub(super) is_error: bool,
    /// The status' description.
    pub(super) message: Option<String>,
    /// The span's attributes, and `otel.scope.name`.
    pub(super) tags: HashMap<String, String>,
    pub(super) resource: HashMap<String, String>,
}

impl BackendSpan {
    pub(super) fn tag(&self, key: &str) -> Option<&str> {
        self.tags.get(key).map(String::as_str)
    }

    pub(super) fn resource_matches(&self, service: &ServiceName) -> bool {
        service
            .attributes
            .iter()
            .all(|(key, value)| self.resource.get(key) == Some(value))
    }
}

/// For the time of a query, in the units that backends want.
pub(super) fn micros(at: SystemTime) -> u128 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros()
}

/// A URL as it may be shown: its path may hold a credential as well as its user and query.
fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The page of a trace in the backend's own UI: `ui` where the user has set it, else where it is asked. The path of that
/// may hold a credential, and links are stored and sent: then there is none.
pub(super) fn ui(http: &Http, ui: Option<&str>, path: &str) -> Option<String> {
    let base = match ui {
        Some(ui) => ui.to_owned(),
        None => http.shown_base(),
    };
    let is_at_root = |base: &Url| matches!(base.path(), "" | "/");
    if ui.is_none() && !Url::parse(&base).is_ok_and(|base| is_at_root(&base)) {
        return None;
    }
    Some(format!("{}/{path}", base.trim_end_matches('/')))
}
