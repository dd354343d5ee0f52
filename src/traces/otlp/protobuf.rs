//! Protobuf, read where it lies: no string is copied before it is in a block.
//!
//! Our own reader because of what `examples/bench` measures: prost alone takes 2.4 µs a span to decode one of twelve
//! attributes, everything from the socket to the file takes 3.0 µs with this one.

use std::borrow::Cow;

use super::Undecodable;
use super::nested::JsonText;
use crate::traces::admission::{Admission, Rejection};
use crate::traces::block::Origin;
use crate::traces::cursor::Cursor;
use crate::traces::limits;
use crate::traces::raw::{RawAttribute, RawEvent, RawLink, RawSpan, RawValue};

/// Lets in the spans of an `ExportTraceServiceRequest`.
pub(in crate::traces) fn read(
    bytes: &[u8],
    admission: &mut Admission<'_>,
) -> Result<(), Undecodable> {
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        if number == 1 {
            resource_spans(field.bytes()?, admission)?;
        }
    }
    Ok(())
}

fn resource_spans(bytes: &[u8], admission: &mut Admission<'_>) -> Result<(), Undecodable> {
    // A field may come anywhere, and the resource has to be known before its spans.
    let mut attributes = Vec::new();
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        if number == 1 {
            let mut resource = Cursor(field.bytes()?);
            while let Some((number, field)) = next(&mut resource)? {
                if number == 1 {
                    push_attribute(field, &mut attributes, &mut 0)?;
                }
            }
        }
    }
    let resource = admission.resource(&mut attributes);
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        if number == 2 {
            scope_spans(field.bytes()?, resource, admission)?;
        }
    }
    Ok(())
}

fn scope_spans(
    bytes: &[u8],
    resource: u32,
    admission: &mut Admission<'_>,
) -> Result<(), Undecodable> {
    let (mut name, mut version) = (Cow::default(), Cow::default());
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        if number == 1 {
            let mut scope = Cursor(field.bytes()?);
            while let Some((number, field)) = next(&mut scope)? {
                match number {
                    1 => name = field.text()?,
                    2 => version = field.text()?,
                    _ => {}
                }
            }
        }
    }
    let scope = admission.scope(&name, &version);
    let mut span = RawSpan::default();
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        if number == 2 {
            match read_span(field.bytes()?, &mut span)? {
                Ok(()) => admission.span(&mut span, Origin { resource, scope }),
                Err(rejection) => admission.reject(rejection),
            }
        }
    }
    Ok(())
}

fn read_span<'a>(
    bytes: &'a [u8],
    span: &mut RawSpan<'a>,
) -> Result<Result<(), Rejection>, Undecodable> {
    clear(span);
    let (mut trace_id, mut span_id, mut end) = (&[][..], &[][..], 0);
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        match number {
            1 => trace_id = field.bytes()?,
            2 => span_id = field.bytes()?,
            3 => span.tracestate = field.text()?,
            // One of a wrong length leads nowhere, and is none.
            4 => span.parent = field.bytes()?.try_into().ok(),
            5 => span.name = field.text()?,
            6 => span.kind = u8::try_from(field.varint()?).unwrap_or_default().min(7),
            7 => span.start = field.fixed()?,
            8 => end = field.fixed()?,
            9 => push_attribute(field, &mut span.attributes, &mut span.dropped)?,
            10 | 12 | 14 => {
                let count = u32::try_from(field.varint()?).unwrap_or(u32::MAX);
                span.dropped = span.dropped.saturating_add(count);
            }
            11 if span.events.len() < limits::LIST => {
                let event = read_event(field.bytes()?, &mut span.dropped)?;
                span.events.push(event);
            }
            13 if span.links.len() < limits::LIST => {
                span.links.extend(read_link(field.bytes()?)?);
            }
            11 | 13 => span.dropped = span.dropped.saturating_add(1),
            15 => read_status(field.bytes()?, span)?,
            _ => {}
        }
    }
    span.duration = end.saturating_sub(span.start);
    let Ok(trace_id) = trace_id.try_into() else {
        return Ok(Err(Rejection::TraceId));
    };
    let Ok(span_id) = span_id.try_into() else {
        return Ok(Err(Rejection::SpanId));
    };
    span.trace_id = trace_id;
    span.span_id = span_id;
    Ok(Ok(()))
}

/// Keeps the lists' memory.
fn clear(span: &mut RawSpan<'_>) {
    span.attributes.clear();
    span.events.clear();
    span.links.clear();
    span.parent = None;
    span.tracestate = Cow::default();
    span.name = Cow::default();
    span.message = Cow::default();
    (span.kind, span.status, span.start, span.dropped) = (0, 0, 0, 0);
}

fn read_event<'a>(bytes: &'a [u8], dropped: &mut u32) -> Result<RawEvent<'a>, Undecodable> {
    let mut event = RawEvent::default();
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        match number {
            1 => event.at = field.fixed()?,
            2 => event.name = field.text()?,
            3 => push_attribute(field, &mut event.attributes, dropped)?,
            _ => {}
        }
    }
    Ok(event)
}

/// A link to nowhere is none.
fn read_link(bytes: &[u8]) -> Result<Option<RawLink>, Undecodable> {
    let (mut trace_id, mut span_id) = (&[][..], &[][..]);
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        match number {
            1 => trace_id = field.bytes()?,
            2 => span_id = field.bytes()?,
            _ => {}
        }
    }
    let ids = trace_id.try_into().ok().zip(span_id.try_into().ok());
    Ok(ids.filter(|ids| ids.0 != [0; 16]))
}

fn read_status<'a>(bytes: &'a [u8], span: &mut RawSpan<'a>) -> Result<(), Undecodable> {
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        match number {
            2 => span.message = field.text()?,
            3 => span.status = u8::try_from(field.varint()?).unwrap_or_default().min(3),
            _ => {}
        }
    }
    Ok(())
}

/// What is above the limit is counted and not even read.
fn push_attribute<'a>(
    field: Field<'a>,
    attributes: &mut Vec<RawAttribute<'a>>,
    dropped: &mut u32,
) -> Result<(), Undecodable> {
    if attributes.len() >= limits::LIST {
        *dropped = dropped.saturating_add(1);
        return Ok(());
    }
    let (key, value) = key_value(field.bytes()?)?;
    let value = value.map_or(Ok(RawValue::Empty), any_value)?;
    attributes.push(RawAttribute { key, value });
    Ok(())
}

fn key_value(bytes: &[u8]) -> Result<(Cow<'_, str>, Option<&[u8]>), Undecodable> {
    let (mut key, mut value) = (Cow::default(), None);
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        match number {
            1 => key = field.text()?,
            2 => value = Some(field.bytes()?),
            _ => {}
        }
    }
    Ok((key, value))
}

fn any_value(bytes: &[u8]) -> Result<RawValue<'_>, Undecodable> {
    let mut value = RawValue::Empty;
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        match number {
            1 => value = RawValue::Text(field.text()?),
            2 => value = RawValue::Bool(field.varint()? != 0),
            3 => value = RawValue::Int(field.varint()?.cast_signed()),
            4 => value = RawValue::Double(f64::from_bits(field.fixed()?)),
            5 | 6 => {
                let mut out = JsonText::default();
                put_any_value(bytes, 1, &mut out)?;
                value = RawValue::Json(Cow::Owned(out.into_text()));
            }
            7 => value = RawValue::Bytes(Cow::Borrowed(field.bytes()?)),
            _ => {}
        }
    }
    Ok(value)
}

fn put_any_value(bytes: &[u8], depth: usize, out: &mut JsonText) -> Result<(), Undecodable> {
    let mut last = None;
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        if matches!(number, 1..=7) {
            last = Some((number, field));
        }
    }
    match last {
        Some((1, field)) => out.put_string(&field.text()?),
        Some((2, field)) => out.put(if field.varint()? == 0 {
            "false"
        } else {
            "true"
        }),
        Some((3, field)) => out.put(&field.varint()?.cast_signed().to_string()),
        Some((4, field)) => out.put_double(f64::from_bits(field.fixed()?)),
        Some((5, field)) if depth <= limits::DEPTH => put_array(field.bytes()?, depth, out)?,
        Some((6, field)) if depth <= limits::DEPTH => put_map(field.bytes()?, depth, out)?,
        // Bytes in an array are nothing that anybody sends.
        _ => out.put_null(),
    }
    Ok(())
}

fn put_array(bytes: &[u8], depth: usize, out: &mut JsonText) -> Result<(), Undecodable> {
    let mut between = "[";
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        if number == 1 && !out.is_full() {
            out.put(between);
            put_any_value(field.bytes()?, depth + 1, out)?;
            between = ",";
        }
    }
    out.put(if between == "[" { "[]" } else { "]" });
    Ok(())
}

fn put_map(bytes: &[u8], depth: usize, out: &mut JsonText) -> Result<(), Undecodable> {
    let mut between = "{";
    let mut cursor = Cursor(bytes);
    while let Some((number, field)) = next(&mut cursor)? {
        if number == 1 && !out.is_full() {
            let (key, value) = key_value(field.bytes()?)?;
            out.put(between);
            out.put_string(&key);
            out.put(":");
            match value {
                Some(value) => put_any_value(value, depth + 1, out)?,
                None => out.put_null(),
            }
            between = ",";
        }
    }
    out.put(if between == "{" { "{}" } else { "}" });
    Ok(())
}

/// A field as it stands on the wire.
#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Field<'a> {
    fn bytes(self) -> Result<&'a [u8], Undecodable> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(wrong_type()),
        }
    }

    /// What is not UTF-8 is replaced: some language's bytes are no reason to lose a span.
    fn text(self) -> Result<Cow<'a, str>, Undecodable> {
        self.bytes().map(String::from_utf8_lossy)
    }

    fn varint(self) -> Result<u64, Undecodable> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(wrong_type()),
        }
    }

    fn fixed(self) -> Result<u64, Undecodable> {
        match self {
            Self::Fixed(value) => Ok(value),
            _ => Err(wrong_type()),
        }
    }
}

fn wrong_type() -> Undecodable {
    Undecodable("a field has another type than in the protocol".to_owned())
}

/// The next field and its number; nothing at the end.
fn next<'a>(cursor: &mut Cursor<'a>) -> Result<Option<(u64, Field<'a>)>, Undecodable> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let ended = || Undecodable("the message ends within a field".to_owned());
    let tag = cursor.varint().ok_or_else(ended)?;
    let field = match tag & 7 {
        0 => cursor.varint().map(Field::Varint),
        1 => cursor.u64().map(Field::Fixed),
        2 => cursor.bytes().map(Field::Bytes),
        5 => cursor.u32().map(|_| Field::Fixed32),
        other => return Err(Undecodable(format!("there is no wire type {other}"))),
    };
    Ok(Some((tag >> 3, field.ok_or_else(ended)?)))
}
