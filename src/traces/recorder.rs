//! From a block's bytes to spans that can be kept and shown.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::block::{Owner, Record, Spans};
use super::convention::kind_of_number;
use super::raw::{RawAttribute, RawEvent, RawSpan, RawValue};
use crate::model::{
    Attribute, AttributeValue, RecordedSpan, SpanEvent, SpanId, SpanLink, SpanStatus, Text, TraceId,
};

/// Reads whole spans of a block; a resource is made once for all of its spans.
pub(super) struct Recorder<'s, 'b> {
    spans: &'s Spans<'b>,
    resources: Vec<Resource<'b>>,
    raw: RawSpan<'b>,
}

struct Resource<'b> {
    raw: Vec<RawAttribute<'b>>,
    owner: Owner,
    made: Option<(Arc<Vec<Attribute>>, Text)>,
}

impl<'s, 'b> Recorder<'s, 'b> {
    pub(super) fn of(spans: &'s Spans<'b>) -> Self {
        let resource = |raw: Vec<RawAttribute<'b>>| Resource {
            owner: Owner::of(&raw),
            raw,
            made: None,
        };
        Self {
            spans,
            resources: spans.resources().into_iter().map(resource).collect(),
            raw: RawSpan::default(),
        }
    }

    /// Whose a span is.
    pub(super) fn owner(&self, record: &Record<'_>) -> Option<&Owner> {
        let number = record.origin.resource as usize;
        self.resources.get(number).map(|resource| &resource.owner)
    }

    pub(super) fn is_of(&self, record: &Record<'_>, service: &str) -> bool {
        self.owner(record)
            .is_some_and(|owner| owner.service == service)
    }

    /// The span as it lies in the block.
    pub(super) fn raw(&mut self, record: &Record<'b>) -> Option<&RawSpan<'b>> {
        self.spans.span(record, &mut self.raw)?;
        Some(&self.raw)
    }

    /// The whole span; `None` when its bytes are none.
    pub(super) fn span(&mut self, record: &Record<'b>) -> Option<RecordedSpan> {
        self.spans.span(record, &mut self.raw)?;
        let resource = self.resources.get_mut(record.origin.resource as usize)?;
        let (attributes_of_resource, service) = resource
            .made
            .get_or_insert_with(|| {
                (
                    Arc::new(attributes(&resource.raw)),
                    Text::new(&resource.owner.service),
                )
            })
            .clone();
        let (scope, scope_version) = self.spans.scope(record.origin.scope)?;
        let raw = &self.raw;
        Some(RecordedSpan {
            trace_id: TraceId(raw.trace_id),
            span_id: SpanId(raw.span_id),
            parent: raw.parent.map(SpanId),
            tracestate: Text::new(&raw.tracestate),
            service,
            resource: attributes_of_resource,
            scope: Text::new(scope),
            scope_version: Text::new(scope_version),
            name: Text::new(&raw.name),
            kind: kind_of_number(raw.kind),
            start: time(raw.start),
            duration: Duration::from_nanos(raw.duration),
            status: match raw.status {
                1 => SpanStatus::Ok,
                2 => SpanStatus::Error(Text::new(&raw.message)),
                _ => SpanStatus::Unset,
            },
            attributes: attributes(&raw.attributes),
            events: raw.events.iter().map(event).collect(),
            links: raw
                .links
                .iter()
                .map(|(trace_id, span_id)| SpanLink {
                    trace_id: TraceId(*trace_id),
                    span_id: SpanId(*span_id),
                })
                .collect(),
            dropped: raw.dropped,
        })
    }
}

fn event(raw: &RawEvent<'_>) -> SpanEvent {
    SpanEvent {
        at: time(raw.at),
        name: Text::new(&raw.name),
        attributes: attributes(&raw.attributes),
    }
}

fn attributes(raw: &[RawAttribute<'_>]) -> Vec<Attribute> {
    let attribute = |RawAttribute { key, value }: &RawAttribute<'_>| Attribute {
        key: Text::new(key),
        value: match value {
            RawValue::Empty => AttributeValue::Empty,
            RawValue::Text(text) => AttributeValue::Text(text.clone().into_owned()),
            RawValue::Int(number) => AttributeValue::Int(*number),
            RawValue::Double(number) => AttributeValue::Double(*number),
            RawValue::Bool(bool) => AttributeValue::Bool(*bool),
            RawValue::Bytes(bytes) => AttributeValue::Bytes(bytes.clone().into_owned()),
            RawValue::Json(text) => AttributeValue::Json(text.clone().into_owned()),
        },
    };
    raw.iter().map(attribute).collect()
}

/// Of nanoseconds since the epoch.
pub(super) fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}
