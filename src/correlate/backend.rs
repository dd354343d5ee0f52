//! What every trace backend can be asked, whatever it is: one file for each beside this one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::future::join_all;
use url::Url;

use super::asking::Asking;
use super::axiom::Axiom;
use super::budget::Budget;
use super::clickhouse::ClickHouse;
use super::datadog::Datadog;
use super::elastic::Elastic;
use super::embedded::Embedded;
use super::heimdall::Heimdall;
use super::honeycomb::Honeycomb;
use super::http::Http;
use super::jaeger::Jaeger;
use super::jaeger_v3::JaegerV3;
use super::newrelic::NewRelic;
use super::opensearch::OpenSearch;
use super::phoenix::Phoenix;
use super::signoz::SigNoz;
use super::tempo::Tempo;
use super::unaskable::Unaskable;
use super::zipkin::Zipkin;
use crate::model::{
    AskedBackend, BackendKind, BackendSettings, Coverage, RemoteSettings, ServiceName, SpanId,
    SpanKind, Text, TraceId, TracesSettings, Window, is_local,
};
use crate::traces::Reader;

/// A trace backend. Shared by all inquiries, so that its limits are kept over all of them.
pub struct Backend {
    name: String,
    settings: BackendSettings,
    /// Where it is asked, as it may be shown.
    url: Option<String>,
    api: Box<dyn Api>,
    /// The vendor's limit, where it has one.
    budget: Option<Arc<Budget>>,
}

/// The backend could not say, and why. Never that there is nothing.
pub(super) type Unavailable = Text;

/// What one kind of backend knows how to answer.
#[async_trait]
pub(super) trait Api: Send + Sync {
    /// All spans of these traces; empty for those that there are not. `around` is when they were.
    async fn traces(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable>;

    /// The spans of `service` that started in `window`, and as far as the backend tells them the rest of their traces.
    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable>;

    /// Both at once, for a backend whose questions are counted. `None` where one has to be asked after the other.
    async fn both(
        &self,
        _question: Question<'_>,
        _asking: &Asking,
    ) -> Option<Result<Answer, Unavailable>> {
        None
    }

    /// The service as this backend knows it, where that is not as the target or its spans name it.
    fn service(&self, service: Option<&ServiceName>) -> Option<ServiceName> {
        service.cloned()
    }

    /// Which of these traces, known by their ids, a search sees by now; `None` where it sees all that asking by id sees.
    async fn searchable(
        &self,
        _ids: &[TraceId],
        _around: Window,
        _asking: &Asking,
    ) -> Result<Option<BTreeSet<TraceId>>, Unavailable> {
        Ok(None)
    }

    /// Whether it answers at all, for when there is nothing else to ask.
    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable>;

    /// Whether it stands in the prober's own network: then that it has our spans says nothing of the network.
    fn shares_our_network(&self) -> bool {
        false
    }

    /// Until when what it says can be the whole of what there was: some are told nothing while nobody runs them.
    async fn told_until(&self, _asking: &Asking, now: SystemTime) -> SystemTime {
        now
    }

    /// How many spans it was *sent* in `window` by others than us (`OWN_SCOPE`) and this service; `None` where it cannot
    /// say. Asked only of one that shares our network.
    async fn heard_others(
        &self,
        _window: Window,
        _except: Option<&ServiceName>,
        _asking: &Asking,
    ) -> Result<Option<usize>, Unavailable> {
        Ok(None)
    }

    /// Where a person sees the trace.
    fn link(&self, id: TraceId, at: SystemTime) -> Option<String>;
}

/// Everything that there is to ask about an incident whose service is known.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) ids: &'a [TraceId],
    pub(super) service: &'a ServiceName,
    /// When the traces and what is looked at of the service were.
    pub(super) whole: Window,
    /// The part in which silence would mean something: the coverage is that of this one.
    pub(super) since: Window,
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

impl Answer {
    /// Of what was asked trace by trace: the spans of all, or nothing that can be believed.
    pub(super) async fn of_each<T>(traces: impl Iterator<Item = T>) -> Result<Self, Unavailable>
    where
        T: Future<Output = Result<Vec<BackendSpan>, Unavailable>>,
    {
        let answers: Result<Vec<_>, _> = join_all(traces).await.into_iter().collect();
        Ok(Self {
            spans: answers?.into_iter().flatten().collect(),
            ..Self::default()
        })
    }

    /// The traces in which `service` has a span that started in `window`: what a backend was asked in coarser units, or
    /// without a window at all.
    pub(super) fn within(mut self, service: &str, window: Window) -> Self {
        let traces: BTreeSet<_> = self
            .spans
            .iter()
            .filter(|span| span.service == service && window.holds(span.start))
            .map(|span| span.trace_id)
            .collect();
        self.spans.retain(|span| traces.contains(&span.trace_id));
        self
    }
}

impl Backend {
    /// A client for a backend. Asks nobody yet.
    ///
    /// # Errors
    /// Why it cannot be asked, in a sentence.
    pub fn new(settings: &TracesSettings) -> Result<Self, String> {
        Self::beside(settings, &[])
    }

    /// The same beside `others`, with whom it shares the limit of one account.
    ///
    /// # Errors
    /// Why it cannot be asked, in a sentence.
    pub fn beside(settings: &TracesSettings, others: &[&Self]) -> Result<Self, String> {
        let remote = match &settings.backend {
            BackendSettings::Embedded(embedded) => {
                return Ok(Self {
                    name: settings.name.clone(),
                    settings: settings.backend.clone(),
                    url: None,
                    api: Box::new(Embedded::new(Reader::open(&embedded.path))),
                    budget: None,
                });
            }
            BackendSettings::Remote(remote) => remote,
        };
        let budget = others
            .iter()
            .find_map(|other| other.budget.clone().filter(|_| other.is_account_of(remote)))
            .or_else(|| limit(remote.kind).map(|(most, per)| Arc::new(Budget::new(most, per))));
        let counted = || budget.clone();
        let api: Box<dyn Api> = match remote.kind {
            BackendKind::Embedded => {
                return Err("the embedded backend has settings of its own".to_owned());
            }
            BackendKind::Jaeger if remote.option("api") == Some("v3") => {
                Box::new(JaegerV3::new(remote)?)
            }
            BackendKind::Jaeger => Box::new(Jaeger::new(remote)?),
            BackendKind::Tempo => Box::new(Tempo::new(remote)?),
            BackendKind::Zipkin => Box::new(Zipkin::new(remote)?),
            BackendKind::Heimdall => Box::new(Heimdall::new(remote)?),
            BackendKind::Honeycomb => Box::new(Honeycomb::new(remote, counted())?),
            BackendKind::Datadog => Box::new(Datadog::new(remote, counted())?),
            BackendKind::NewRelic => Box::new(NewRelic::new(remote, counted())?),
            BackendKind::Axiom => Box::new(Axiom::new(remote, counted())?),
            BackendKind::SigNoz => Box::new(SigNoz::new(remote)?),
            BackendKind::ClickHouse => Box::new(ClickHouse::new(remote)?),
            BackendKind::Elastic => Box::new(Elastic::new(remote)?),
            BackendKind::OpenSearch => Box::new(OpenSearch::new(remote)?),
            BackendKind::Phoenix => Box::new(Phoenix::new(remote)?),
            BackendKind::Highflame | BackendKind::Lightstep => Box::new(Unaskable::new(remote)),
        };
        Ok(Self {
            name: settings.name.clone(),
            settings: settings.backend.clone(),
            url: remote.url.as_ref().map(shown),
            api,
            budget,
        })
    }

    /// Who it is, for whoever reads a verdict.
    pub fn told(&self) -> AskedBackend {
        AskedBackend {
            name: self.name.clone(),
            kind: self.kind().as_str().to_owned(),
            url: self.url.clone(),
        }
    }

    /// Whether it is what these settings make: then it can go on, with what it has of its limit.
    pub fn is_made_by(&self, settings: &TracesSettings) -> bool {
        self.name == settings.name && self.settings == settings.backend
    }

    /// Vendors count by the account, which is told by the credentials.
    fn is_account_of(&self, remote: &RemoteSettings) -> bool {
        matches!(&self.settings, BackendSettings::Remote(own)
            if own.kind == remote.kind && own.url == remote.url && own.headers == remote.headers)
    }

    /// `name` of its `[[traces]]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn kind(&self) -> BackendKind {
        self.settings.kind()
    }

    /// The service as this backend knows it: some fold its letters, some know projects only.
    pub fn service(&self, service: Option<&ServiceName>) -> Option<ServiceName> {
        self.api.service(service)
    }

    /// Where a person sees a trace of that time.
    pub fn link(&self, id: TraceId, at: SystemTime) -> Option<String> {
        self.api.link(id, at)
    }

    pub(super) fn api(&self) -> &dyn Api {
        self.api.as_ref()
    }

    /// Whether it stands on the prober's own machine: then that it has our spans says nothing of our network.
    pub fn is_beside_us(&self) -> bool {
        match &self.settings {
            BackendSettings::Embedded(_) => true,
            BackendSettings::Remote(remote) => remote.url.as_ref().is_some_and(is_local),
        }
    }

    /// Whether its vendor counts how often it is asked.
    pub fn is_counted(&self) -> bool {
        self.budget.is_some()
    }

    pub(super) fn budget(&self) -> Option<&Budget> {
        self.budget.as_deref()
    }
}

/// How many queries a vendor takes, in how long.
fn limit(kind: BackendKind) -> Option<(usize, Duration)> {
    match kind {
        BackendKind::Honeycomb => Some(super::honeycomb::LIMIT),
        BackendKind::Datadog => Some(super::datadog::LIMIT),
        BackendKind::NewRelic => Some(super::newrelic::LIMIT),
        BackendKind::Axiom => Some(super::axiom::LIMIT),
        _ => None,
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

/// A server's clock may be off by so much, and a span of a trace is told by it.
const CLOCKS_DIFFER: Duration = Duration::from_secs(120);

/// The window in which the spans of traces are found that were in `window` by our clock.
pub(super) fn widened(window: Window) -> Window {
    Window {
        from: window.from - CLOCKS_DIFFER,
        to: window.to + CLOCKS_DIFFER,
    }
}

/// For the time of a query, in the units that backends want.
pub(super) fn micros(at: SystemTime) -> u128 {
    since_epoch(at).as_micros()
}

/// The same in nanoseconds.
pub(super) fn nanos(at: SystemTime) -> u128 {
    since_epoch(at).as_nanos()
}

/// A window in milliseconds, rounded outwards.
pub(super) fn outer_millis(window: Window) -> (u128, u128) {
    let from = since_epoch(window.from).as_millis();
    (from, since_epoch(window.to).as_millis() + 1)
}

/// The same in seconds.
pub(super) fn outer_seconds(window: Window) -> (u64, u64) {
    let from = since_epoch(window.from).as_secs();
    (from, since_epoch(window.to).as_secs() + 1)
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A window that also holds traces whose clocks are off, for backends that find a trace by its id only in a window.
pub(super) fn with_margin(window: Window) -> Window {
    /// More than any clock of a server that works is off, and a partition or two of an index.
    const MARGIN: Duration = Duration::from_secs(600);
    Window {
        from: window.from.checked_sub(MARGIN).unwrap_or(UNIX_EPOCH),
        to: window.to + MARGIN,
    }
}

/// `SPAN_KIND_SERVER`, `Server` and `server` are the same.
pub(super) fn kind_of(word: &str) -> SpanKind {
    let word = word.to_ascii_lowercase();
    match word.strip_prefix("span_kind_").unwrap_or(&word) {
        "server" => SpanKind::Server,
        "client" => SpanKind::Client,
        _ => SpanKind::Other,
    }
}

/// An answer that is not what the backend is documented to say.
pub(super) fn unreadable(what: &str) -> Unavailable {
    Text::new(format!("an answer that cannot be read: {what}"))
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

/// The page of a trace at a vendor's, whose address the user has given: `{trace_id}` stands for it, or it is the last part.
pub(super) fn page(ui: Option<&str>, id: TraceId) -> Option<String> {
    let ui = ui?;
    Some(match ui.contains("{trace_id}") {
        true => ui.replace("{trace_id}", &id.to_string()),
        false => format!("{}/{id}", ui.trim_end_matches('/')),
    })
}
