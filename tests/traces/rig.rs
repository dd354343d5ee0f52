//! A store and a receiver in a folder of their own, and requests made by the protocol's own crate.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use mcpprobe::model::{RecordedSpan, Secret, TraceId};
use mcpprobe::traces::{Answers, ForwardSettings, ListenSettings, Receiver, Store, StoreSettings};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use reqwest::{Client, RequestBuilder, Response};
use std::io::Write;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(crate) const PROTOBUF: &str = "application/x-protobuf";
pub(crate) const JSON: &str = "application/json";

/// What is to be different from a plain receiver.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) token: Option<Secret>,
    pub(crate) forward: Option<ForwardSettings>,
    pub(crate) path: Option<PathBuf>,
    pub(crate) max_size: Option<u64>,
    pub(crate) keep: Option<Duration>,
    pub(crate) answers: Option<Answers>,
}

/// Dropped in this order: who receives, who stores, where.
pub(crate) struct Rig {
    pub(crate) receiver: Receiver,
    pub(crate) store: Store,
    pub(crate) path: PathBuf,
    pub(crate) client: Client,
    warnings: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub(crate) fn start_with(options: Options) -> Self {
        mcpprobe::install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let path = options.path.unwrap_or(folder.path().join("traces.db"));
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&warnings);
        let warn: mcpprobe::traces::Warn =
            Arc::new(move |text| said.lock().unwrap().push(text.to_owned()));
        let settings = StoreSettings {
            path: path.clone(),
            keep: options.keep.unwrap_or(7 * DAY),
            max_size: options.max_size.unwrap_or(1 << 30),
            keep_content: false,
        };
        let store = Store::open(settings, Arc::clone(&warn)).unwrap();
        let any_port = Some(([127, 0, 0, 1], 0).into());
        let listen = ListenSettings {
            http: any_port,
            grpc: any_port,
            token: options.token,
            forward: options.forward,
            own_resource: Vec::new(),
            answers: options.answers,
        };
        let receiver = Receiver::start(listen, store.intake(), warn);
        assert!(receiver.troubles.is_empty(), "{:?}", receiver.troubles);
        Self {
            receiver,
            store,
            path,
            client: Client::new(),
            warnings,
            _folder: folder,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.receiver.http.unwrap())
    }

    pub(crate) fn request(&self, content_type: &str, body: Vec<u8>) -> RequestBuilder {
        let url = format!("{}/v1/traces", self.url());
        self.client
            .post(url)
            .header("content-type", content_type)
            .body(body)
    }

    pub(crate) async fn post(&self, content_type: &str, body: Vec<u8>) -> Response {
        self.request(content_type, body).send().await.unwrap()
    }

    /// Sends spans that are all good.
    pub(crate) async fn put(&self, service: &str, spans: Vec<Span>) {
        let answer = self
            .post(PROTOBUF, request(service, spans).encode_to_vec())
            .await;
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.unwrap().is_empty());
    }

    /// What is stored of a trace.
    pub(crate) fn trace(&self, id: u128) -> Vec<RecordedSpan> {
        self.store.flush();
        self.store
            .reader()
            .trace(TraceId(id.to_be_bytes()))
            .unwrap()
            .spans
    }

    /// Ends the receiver, and then everything else; answers what was stored by then, and what was warned of.
    pub(crate) fn end(self) -> (u64, Vec<String>) {
        drop(self.receiver);
        self.store.flush();
        let spans = self.store.reader().stats().unwrap().spans;
        let warnings = self.warnings.lock().unwrap().clone();
        (spans, warnings)
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap().clone()
    }

    pub(crate) fn warned(&self, what: &str) -> bool {
        self.warnings().iter().any(|warning| warning.contains(what))
    }
}

pub(crate) fn nanos(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

pub(crate) fn span(trace: u128, id: u64) -> Span {
    let start = nanos(SystemTime::now()) - 1_000_000_000;
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        name: format!("span {id}"),
        kind: 2,
        start_time_unix_nano: start + id,
        end_time_unix_nano: start + id + 1_000_000,
        ..Span::default()
    }
}

pub(crate) fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![attribute("service.name", text(service))],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

pub(crate) fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

pub(crate) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
