//! Our own spans into the embedded trace backend of this process, without a network between.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;

use crate::model::Text;

/// Takes an `ExportTraceServiceRequest` in protobuf, or says why it could not.
pub type Sink = Arc<dyn Fn(&[u8]) -> Result<(), Text> + Send + Sync>;

/// The way into the embedded backend.
pub(super) struct Local {
    sink: Sink,
    resource: ResourceAttributesWithSchema,
}

impl Local {
    pub(super) fn new(sink: Sink, resource: &Resource) -> Self {
        Self {
            sink,
            resource: resource.into(),
        }
    }

    /// Hands a batch over.
    ///
    /// # Errors
    /// Why it is not there.
    pub(super) fn export(&self, batch: Vec<SpanData>) -> Result<(), Text> {
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        (self.sink)(&request.encode_to_vec())
    }
}
