//! From a probe's result to its spans. Pure.
//!
//! The probe itself only draws ids and notes times; what a span looks like is decided here, off the
//! probe's path.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Event, SpanContext, SpanId as OtelSpanId, SpanKind, Status, TraceFlags, TraceId as OtelTraceId,
    TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::names;
use crate::model::{
    Endpoint, Layer, OWN_SCOPE, Operation, OperationKind, Outcome, ProbeResult, SpanId, Target,
};

/// Limits on attributes, from the environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttributeLimits {
    /// Attributes of one span.
    pub(super) count: usize,
    /// Characters of one string value.
    pub(super) value_length: usize,
}

/// All spans of one probe: `mcp.session`, under it `mcp.transport` with its phases, and one per operation.
pub(super) fn spans(
    target: &Target,
    result: &ProbeResult,
    limits: AttributeLimits,
) -> Vec<SpanData> {
    let builder = Builder {
        target,
        result,
        limits,
        scope: InstrumentationScope::builder(OWN_SCOPE)
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
        state: TraceState::from_str(&target.tracestate).unwrap_or_default(),
    };
    let mut spans = Vec::with_capacity(8);
    spans.push(builder.session());
    builder.transport(&mut spans);
    spans.extend(
        result
            .operations
            .iter()
            .map(|operation| builder.operation(operation)),
    );
    spans
}

struct Builder<'a> {
    target: &'a Target,
    result: &'a ProbeResult,
    limits: AttributeLimits,
    scope: InstrumentationScope,
    state: TraceState,
}

impl Builder<'_> {
    fn span(
        &self,
        id: SpanId,
        parent: Option<SpanId>,
        name: &'static str,
        start: Duration,
        end: Duration,
    ) -> SpanData {
        SpanData {
            span_context: SpanContext::new(
                OtelTraceId::from_bytes(self.result.trace_id.0),
                OtelSpanId::from_bytes(id.0),
                TraceFlags::SAMPLED,
                false,
                self.state.clone(),
            ),
            parent_span_id: parent.map_or(OtelSpanId::INVALID, |parent| {
                OtelSpanId::from_bytes(parent.0)
            }),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed(name),
            start_time: self.at(start),
            end_time: self.at(end),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn at(&self, offset: Duration) -> SystemTime {
        self.result.started_at + offset
    }

    /// Puts the attributes in, within the limits.
    fn attributes(&self, span: &mut SpanData, attributes: Vec<Option<KeyValue>>) {
        let mut kept: Vec<_> = attributes
            .into_iter()
            .flatten()
            .map(|a| self.cut(a))
            .collect();
        let surplus = kept.len().saturating_sub(self.limits.count);
        kept.truncate(self.limits.count);
        span.attributes = kept;
        span.dropped_attributes_count = u32::try_from(surplus).unwrap_or(u32::MAX);
    }

    fn cut(&self, mut attribute: KeyValue) -> KeyValue {
        let limit = self.limits.value_length;
        if let Value::String(text) = &attribute.value
            && text.as_str().len() > limit
            && text.as_str().chars().count() > limit
        {
            let short: String = text.as_str().chars().take(limit).collect();
            attribute.value = Value::from(short);
        }
        attribute
    }

    fn address(&self) -> [Option<KeyValue>; 3] {
        match &self.target.endpoint {
            Endpoint::Http(http) => [
                http.url
                    .host_str()
                    .map(|host| text(names::SERVER_ADDRESS, host)),
                http.url
                    .port_or_known_default()
                    .map(|port| KeyValue::new(names::SERVER_PORT, i64::from(port))),
                Some(KeyValue::new(names::NETWORK_TRANSPORT, "tcp")),
            ],
            Endpoint::Stdio(_) => [
                None,
                None,
                Some(KeyValue::new(names::NETWORK_TRANSPORT, "pipe")),
            ],
        }
    }

    fn session(&self) -> SpanData {
        let result = self.result;
        let last = result
            .operations
            .iter()
            .map(|operation| operation.end)
            .max();
        let mut span = self.span(
            result.root_span,
            None,
            "mcp.session",
            Duration::ZERO,
            // The canary comes after everything was decided.
            last.unwrap_or_default().max(result.duration),
        );
        let tags: Vec<StringValue> = self
            .target
            .tags
            .iter()
            .map(|tag| tag.clone().into())
            .collect();
        let [address, port, transport] = self.address();
        let failure = result.failure.as_ref();
        let layer = failure
            .map(|f| f.layer)
            .or(result.shortfall.as_ref().map(|s| s.layer));
        self.attributes(
            &mut span,
            vec![
                Some(text(names::TARGET, &self.target.name)),
                Some(KeyValue::new(names::STATE, result.state.as_str())),
                layer.map(|layer| KeyValue::new(names::LAYER, layer.as_str())),
                result
                    .reason()
                    .map(|reason| KeyValue::new(names::REASON, reason.as_str())),
                failure.map(|f| KeyValue::new(names::ERROR_TYPE, f.reason.as_str())),
                result
                    .era
                    .map(|era| KeyValue::new(names::ERA, era.as_str())),
                result
                    .protocol_version
                    .as_ref()
                    .map(|v| text(names::MCP_PROTOCOL_VERSION, v.as_str())),
                result
                    .session_id
                    .as_ref()
                    .map(|id| text(names::MCP_SESSION, id.as_str())),
                result
                    .session_id
                    .as_ref()
                    .map(|id| text(names::MCP_SESSION_ID, id.as_str())),
                result
                    .tools
                    .map(|tools| KeyValue::new(names::TOOLS, i64::from(tools))),
                Some(KeyValue::new(names::SYNTHETIC_TYPE, "test")),
                address,
                port,
                transport,
                (!tags.is_empty())
                    .then(|| KeyValue::new(names::TAGS, Value::Array(Array::String(tags)))),
            ],
        );
        if let Some(failure) = failure {
            span.status = Status::error(failure.message.to_string());
        }
        for note in &result.notes {
            span.events.events.push(Event::new(
                "note",
                self.at(result.duration),
                vec![self.cut(text(names::NOTE, note.as_str()))],
                0,
            ));
        }
        span
    }

    fn transport(&self, spans: &mut Vec<SpanData>) {
        let Some(layer) = self
            .result
            .layers
            .first()
            .filter(|l| l.outcome != Outcome::NotReached)
        else {
            return;
        };
        let id = SpanId::random();
        // A connection after the negotiation belongs to the layer: the span reaches from the first to the last.
        let last = layer.phases.iter().map(|p| p.start + p.duration).max();
        let end = last.unwrap_or_default().max(layer.start + layer.duration);
        let mut span = self.span(
            id,
            Some(self.result.root_span),
            "mcp.transport",
            layer.start,
            end,
        );
        let failure = self
            .result
            .failure
            .as_ref()
            .filter(|failure| failure.layer == Layer::Transport);
        let [address, port, transport] = self.address();
        self.attributes(
            &mut span,
            vec![
                Some(KeyValue::new(names::LAYER, Layer::Transport.as_str())),
                Some(KeyValue::new(names::OUTCOME, layer.outcome.as_str())),
                failure.map(|f| KeyValue::new(names::REASON, f.reason.as_str())),
                failure.map(|f| KeyValue::new(names::ERROR_TYPE, f.reason.as_str())),
                self.result.certificate_expires.map(|at| {
                    let at = humantime::format_rfc3339_seconds(at).to_string();
                    KeyValue::new(names::TLS_SERVER_NOT_AFTER, at)
                }),
                address,
                port,
                transport,
            ],
        );
        if let Some(failure) = failure {
            span.status = Status::error(failure.message.to_string());
        }
        spans.push(span);
        for phase in &layer.phases {
            let name = phase.phase.as_str();
            spans.push(self.span(
                SpanId::random(),
                Some(id),
                name,
                phase.start,
                phase.start + phase.duration,
            ));
        }
    }

    fn operation(&self, operation: &Operation) -> SpanData {
        let kind = operation.kind;
        let name = kind.span_name();
        let parent = Some(self.result.root_span);
        let mut span = self.span(
            operation.span_id,
            parent,
            name,
            operation.start,
            operation.end,
        );
        span.span_kind = SpanKind::Client;
        let failure = self
            .result
            .failure
            .as_ref()
            .filter(|failure| kind.covers(failure.layer));
        let status = operation.http_status.map(i64::from);
        let code = operation.jsonrpc_code;
        let session = self.result.session_id.as_ref();
        let [address, port, transport] = self.address();
        let canary = self.target.canary.as_ref();
        let tool = canary
            .filter(|_| kind == OperationKind::Canary)
            .map(|canary| canary.tool.as_str());
        self.attributes(
            &mut span,
            vec![
                tool.map(|tool| text(names::MCP_TOOL_NAME, tool)),
                tool.map(|tool| text(names::GEN_AI_TOOL_NAME, tool)),
                tool.map(|_| text(names::GEN_AI_OPERATION_NAME, "execute_tool")),
                Some(KeyValue::new(names::MCP_METHOD_NAME, operation.method)),
                Some(text(names::MCP_OPERATION, name.trim_start_matches("mcp."))),
                Some(KeyValue::new(
                    names::JSONRPC_REQUEST_ID,
                    operation.request_id.to_string(),
                )),
                self.result
                    .protocol_version
                    .as_ref()
                    .map(|v| text(names::MCP_PROTOCOL_VERSION, v.as_str())),
                session.map(|id| text(names::MCP_SESSION, id.as_str())),
                session.map(|id| text(names::MCP_SESSION_ID, id.as_str())),
                status.map(|status| KeyValue::new(names::HTTP_RESPONSE_STATUS_CODE, status)),
                status.map(|status| KeyValue::new(names::HTTP_STATUS_CODE, status)),
                code.map(|code| KeyValue::new(names::RPC_STATUS_CODE, code.to_string())),
                code.map(|code| KeyValue::new(names::MCP_ERROR_CODE, code)),
                operation
                    .error
                    .as_ref()
                    .map(|error| text(names::ERROR_TYPE, error.as_str())),
                failure.map(|f| KeyValue::new(names::LAYER, f.layer.as_str())),
                failure.map(|f| KeyValue::new(names::REASON, f.reason.as_str())),
                Some(KeyValue::new(names::SYNTHETIC_TYPE, "test")),
                address,
                port,
                transport,
                matches!(self.target.endpoint, Endpoint::Http(_))
                    .then(|| KeyValue::new(names::NETWORK_PROTOCOL_NAME, "http")),
            ],
        );
        if let Some(failure) = failure {
            span.status = Status::error(failure.message.to_string());
        }
        if matches!(kind, OperationKind::Initialize | OperationKind::Discover) {
            self.http_event(&mut span);
        }
        span
    }

    /// The `http` layer, on the first operation, with its time.
    fn http_event(&self, span: &mut SpanData) {
        let [_, http, ..] = &self.result.layers;
        if !matches!(http.outcome, Outcome::Ok | Outcome::Failed) {
            return;
        }
        span.events.events.push(Event::new(
            "http",
            self.at(http.start + http.duration),
            vec![
                KeyValue::new(names::LAYER, Layer::Http.as_str()),
                KeyValue::new(names::OUTCOME, http.outcome.as_str()),
            ],
            0,
        ));
    }
}

fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AdHoc;

    #[test]
    fn the_end_of_the_certificate_is_an_attribute_of_the_transport() {
        let url = "https://a.example/mcp".parse().unwrap();
        let target = AdHoc::Url(url).target(None, &|_| None).unwrap();
        let mut result = ProbeResult::passed();
        let limits = AttributeLimits {
            count: 128,
            value_length: usize::MAX,
        };
        let ends = |result: &ProbeResult| -> Vec<_> {
            let spans = spans(&target, result, limits);
            let attributes = spans.iter().flat_map(|span| {
                let name = span.name.clone();
                span.attributes.iter().map(move |a| (name.clone(), a))
            });
            attributes
                .filter(|(_, a)| a.key.as_str() == "tls.server.not_after")
                .map(|(name, a)| (name.into_owned(), a.value.to_string()))
                .collect()
        };
        assert!(ends(&result).is_empty());
        result.certificate_expires = Some(SystemTime::UNIX_EPOCH);
        let expected = (
            "mcp.transport".to_owned(),
            "1970-01-01T00:00:00Z".to_owned(),
        );
        assert_eq!(ends(&result), [expected]);
    }
}
