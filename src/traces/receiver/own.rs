//! Our own spans, which go in without the network.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::transform::common::tonic::{Attributes, ResourceAttributesWithSchema};
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use tokio::sync::mpsc;

use super::Shared;
use super::forward::Passed;
use super::request::take_in;
use crate::traces::pending::Encoding;

/// Batches that wait: a batch is a second's probes of 60 targets.
const QUEUE: usize = 64;

pub(super) type Batch = Vec<ResourceSpans>;

/// Where our own spans go in. Cheap to clone.
#[derive(Clone)]
pub struct OwnSpans {
    sender: mpsc::Sender<Batch>,
    resource: Arc<ResourceAttributesWithSchema>,
}

impl OwnSpans {
    /// Hands spans over, and never waits. Answers whether there was room for them.
    pub fn put(&self, spans: Vec<SpanData>) -> bool {
        let Ok(place) = self.sender.try_reserve() else {
            return false;
        };
        place.send(group_spans_by_resource_and_scope(spans, &self.resource));
        true
    }
}

pub(super) fn channel(resource: &[(String, String)]) -> (OwnSpans, mpsc::Receiver<Batch>) {
    let named = resource.iter().any(|(key, _)| key == "service.name");
    let service = (!named).then_some(("service.name", "mcpprobe"));
    let given = resource
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let attributes = service.into_iter().chain(given).map(attribute).collect();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let resource = Arc::new(ResourceAttributesWithSchema {
        attributes: Attributes(attributes),
        ..ResourceAttributesWithSchema::default()
    });
    (OwnSpans { sender, resource }, receiver)
}

fn attribute((key, value): (&str, &str)) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// As what others send, until nobody can send any more.
pub(super) async fn take_in_all(batches: &mut mpsc::Receiver<Batch>, shared: &Shared) {
    while let Some(batch) = batches.recv().await {
        take_in_one(batch, shared);
    }
    std::future::pending().await
}

/// What still waits when the end has come: the last probes, and how the sessions ended.
pub(super) fn take_in_rest(batches: &mut mpsc::Receiver<Batch>, shared: &Shared) {
    while let Ok(batch) = batches.try_recv() {
        take_in_one(batch, shared);
    }
}

fn take_in_one(resource_spans: Batch, shared: &Shared) {
    let request = ExportTraceServiceRequest { resource_spans };
    let passed = Passed {
        body: Bytes::from(request.encode_to_vec()),
        is_gzip: false,
        encoding: Encoding::Protobuf,
    };
    // What does not fit is counted by the store; there is nobody to tell to come again.
    take_in(passed, shared).ok();
}
