//! OTLP/JSON: protobuf's JSON with ids in hex. Unknown fields are passed over, numbers may be strings, `null` is nothing.
//!
//! Lists that hold spans are read element by element, and other lists only as far as they are kept: a request of
//! `{},{},...` would take a hundred times its size else.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use serde::de::{DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue as RawJson;

use super::Undecodable;
use super::nested::JsonText;
use crate::traces::admission::{Admission, Rejection};
use crate::traces::block::Origin;
use crate::traces::limits;
use crate::traces::raw::{RawAttribute, RawEvent, RawLink, RawSpan, RawValue};

/// Lets in the spans of an `ExportTraceServiceRequest`.
pub(in crate::traces) fn read(
    bytes: &[u8],
    admission: &mut Admission<'_>,
) -> Result<(), Undecodable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Undecodable("it is not UTF-8".to_owned()))?;
    let request: Request<'_> = serde_json::from_str(text)?;
    each(request.resource_spans, &mut |part: ResourceSpans<'_>| {
        let resource = part.resource.unwrap_or_default().attributes;
        let resource = admission.resource(&mut attributes(resource, &mut 0)?);
        each(part.scope_spans, &mut |part: ScopeSpans<'_>| {
            let scope = part.scope.unwrap_or_default();
            let scope = admission.scope(&scope.name.text()?, &scope.version.text()?);
            each(part.spans, &mut |span: Span<'_>| {
                match raw(span)? {
                    Ok(mut span) => admission.span(&mut span, Origin { resource, scope }),
                    Err(rejection) => admission.reject(rejection),
                }
                Ok(())
            })
        })
    })
}

impl From<serde_json::Error> for Undecodable {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

fn wrong(what: &str) -> Undecodable {
    Undecodable(format!("a field is no {what}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow)]
    resource_spans: Option<&'a RawJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    #[serde(borrow)]
    resource: Option<Resource<'a>>,
    #[serde(borrow)]
    scope_spans: Option<&'a RawJson>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow)]
    attributes: Capped<KeyValue<'a>>,
}

#[derive(Deserialize)]
struct ScopeSpans<'a> {
    #[serde(borrow)]
    scope: Option<Scope<'a>>,
    #[serde(borrow)]
    spans: Option<&'a RawJson>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Scope<'a> {
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    version: Scalar<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Span<'a> {
    #[serde(borrow)]
    trace_id: Scalar<'a>,
    #[serde(borrow)]
    span_id: Scalar<'a>,
    #[serde(borrow)]
    trace_state: Scalar<'a>,
    #[serde(borrow)]
    parent_span_id: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    kind: Scalar<'a>,
    #[serde(borrow)]
    start_time_unix_nano: Scalar<'a>,
    #[serde(borrow)]
    end_time_unix_nano: Scalar<'a>,
    #[serde(borrow)]
    attributes: Capped<KeyValue<'a>>,
    #[serde(borrow)]
    events: Capped<Event<'a>>,
    #[serde(borrow)]
    links: Capped<Link<'a>>,
    #[serde(borrow)]
    status: Option<Status<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event<'a> {
    #[serde(borrow)]
    time_unix_nano: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    attributes: Capped<KeyValue<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Link<'a> {
    #[serde(borrow)]
    trace_id: Scalar<'a>,
    #[serde(borrow)]
    span_id: Scalar<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status<'a> {
    #[serde(borrow)]
    message: Scalar<'a>,
    #[serde(borrow)]
    code: Scalar<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValue<'a> {
    #[serde(borrow)]
    key: Scalar<'a>,
    #[serde(borrow)]
    value: Option<AnyValue<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AnyValue<'a> {
    #[serde(borrow)]
    string_value: Scalar<'a>,
    bool_value: Option<bool>,
    #[serde(borrow)]
    int_value: Scalar<'a>,
    #[serde(borrow)]
    double_value: Scalar<'a>,
    #[serde(borrow)]
    bytes_value: Scalar<'a>,
    #[serde(borrow)]
    array_value: Option<&'a RawJson>,
    #[serde(borrow)]
    kvlist_value: Option<&'a RawJson>,
}

#[derive(Deserialize)]
struct Values<'a> {
    #[serde(borrow)]
    values: Option<&'a RawJson>,
}

fn raw(span: Span<'_>) -> Result<Result<RawSpan<'_>, Rejection>, Undecodable> {
    let Some(trace_id) = hex(&span.trace_id)? else {
        return Ok(Err(Rejection::TraceId));
    };
    let Some(span_id) = hex(&span.span_id)? else {
        return Ok(Err(Rejection::SpanId));
    };
    let mut dropped = 0;
    let start = span.start_time_unix_nano.number()?;
    let status = span.status.unwrap_or_default();
    Ok(Ok(RawSpan {
        trace_id,
        span_id,
        parent: hex(&span.parent_span_id)?,
        tracestate: span.trace_state.text()?,
        name: span.name.text()?,
        kind: enumerated(&span.kind, &KINDS)?,
        start,
        duration: span.end_time_unix_nano.number()?.saturating_sub(start),
        status: enumerated(&status.code, &STATUSES)?,
        message: status.message.text()?,
        attributes: attributes(span.attributes, &mut dropped)?,
        events: events(span.events, &mut dropped)?,
        links: links(span.links, &mut dropped)?,
        dropped,
    }))
}

/// By number, as the protocol wants it, or by the name that protobuf's own writers give.
const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const STATUSES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

fn enumerated(value: &Scalar<'_>, names: &[&str]) -> Result<u8, Undecodable> {
    let by_name = match value {
        Scalar::Text(text) => names.iter().position(|name| name == text),
        _ => None,
    };
    let number = match by_name {
        Some(number) => number as u64,
        None => value.number()?,
    };
    // One that we do not know says nothing.
    Ok(u8::try_from(number)
        .ok()
        .filter(|number| usize::from(*number) < names.len())
        .unwrap_or(0))
}

/// `None` for one of another length, or with other digits.
fn hex<const N: usize>(value: &Scalar<'_>) -> Result<Option<[u8; N]>, Undecodable> {
    let text = value.text()?;
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return Ok(None);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().as_chunks().0) {
        let [high, low] = *pair;
        let (Some(high), Some(low)) = (digit(high), digit(low)) else {
            return Ok(None);
        };
        *byte = (high << 4 | low) as u8;
    }
    Ok(Some(bytes))
}

fn attributes<'a>(
    list: Capped<KeyValue<'a>>,
    dropped: &mut u32,
) -> Result<Vec<RawAttribute<'a>>, Undecodable> {
    *dropped = dropped.saturating_add(list.surplus);
    let read = |KeyValue { key, value }: KeyValue<'a>| {
        Ok(RawAttribute {
            key: key.text()?,
            value: any_value(value.unwrap_or_default())?,
        })
    };
    list.kept.into_iter().map(read).collect()
}

fn events<'a>(
    list: Capped<Event<'a>>,
    dropped: &mut u32,
) -> Result<Vec<RawEvent<'a>>, Undecodable> {
    *dropped = dropped.saturating_add(list.surplus);
    let mut events = Vec::with_capacity(list.kept.len());
    for event in list.kept {
        events.push(RawEvent {
            at: event.time_unix_nano.number()?,
            name: event.name.text()?,
            attributes: attributes(event.attributes, dropped)?,
        });
    }
    Ok(events)
}

/// A link to nowhere is none.
fn links(list: Capped<Link<'_>>, dropped: &mut u32) -> Result<Vec<RawLink>, Undecodable> {
    *dropped = dropped.saturating_add(list.surplus);
    let mut links = Vec::with_capacity(list.kept.len());
    for link in list.kept {
        let ids = hex(&link.trace_id)?.zip(hex(&link.span_id)?);
        links.extend(ids.filter(|ids| ids.0 != [0; 16]));
    }
    Ok(links)
}

fn any_value(value: AnyValue<'_>) -> Result<RawValue<'_>, Undecodable> {
    Ok(
        if value.array_value.is_some() || value.kvlist_value.is_some() {
            let mut out = JsonText::default();
            put_any_value(value, 1, &mut out)?;
            RawValue::Json(Cow::Owned(out.into_text()))
        } else if !value.string_value.is_null() {
            RawValue::Text(value.string_value.text()?)
        } else if let Some(bool) = value.bool_value {
            RawValue::Bool(bool)
        } else if !value.int_value.is_null() {
            RawValue::Int(value.int_value.integer()?)
        } else if !value.double_value.is_null() {
            RawValue::Double(value.double_value.double()?)
        } else if !value.bytes_value.is_null() {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(value.bytes_value.text()?.as_bytes())
                .map_err(|_| wrong("base64"))?;
            RawValue::Bytes(Cow::Owned(bytes))
        } else {
            RawValue::Empty
        },
    )
}

fn put_any_value(value: AnyValue<'_>, depth: usize, out: &mut JsonText) -> Result<(), Undecodable> {
    let list = value.array_value.or(value.kvlist_value);
    if let Some(list) = list {
        if depth > limits::DEPTH {
            out.put_null();
            return Ok(());
        }
        let values = serde_json::from_str::<Values<'_>>(list.get())?.values;
        return if value.array_value.is_some() {
            put_array(values, depth, out)
        } else {
            put_map(values, depth, out)
        };
    }
    match any_value(value)? {
        RawValue::Text(text) => out.put_string(&text),
        RawValue::Int(number) => out.put(&number.to_string()),
        RawValue::Bool(bool) => out.put(if bool { "true" } else { "false" }),
        RawValue::Double(number) => out.put_double(number),
        _ => out.put_null(),
    }
    Ok(())
}

fn put_array(
    values: Option<&RawJson>,
    depth: usize,
    out: &mut JsonText,
) -> Result<(), Undecodable> {
    let mut between = "[";
    each(values, &mut |value: AnyValue<'_>| {
        if !out.is_full() {
            out.put(between);
            put_any_value(value, depth + 1, out)?;
            between = ",";
        }
        Ok(())
    })?;
    out.put(if between == "[" { "[]" } else { "]" });
    Ok(())
}

fn put_map(values: Option<&RawJson>, depth: usize, out: &mut JsonText) -> Result<(), Undecodable> {
    let mut between = "{";
    each(values, &mut |KeyValue { key, value }: KeyValue<'_>| {
        if !out.is_full() {
            out.put(between);
            out.put_string(&key.text()?);
            out.put(":");
            put_any_value(value.unwrap_or_default(), depth + 1, out)?;
            between = ",";
        }
        Ok(())
    })?;
    out.put(if between == "{" { "{}" } else { "}" });
    Ok(())
}

/// A number, a string, or nothing: protobuf's JSON writes large numbers as strings, and readers take both.
#[derive(Debug, Default)]
enum Scalar<'a> {
    #[default]
    Null,
    Signed(i64),
    Unsigned(u64),
    Double(f64),
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn text(&self) -> Result<Cow<'a, str>, Undecodable> {
        match self {
            Self::Null => Ok(Cow::default()),
            Self::Text(text) => Ok(text.clone()),
            _ => Err(wrong("string")),
        }
    }

    fn number(&self) -> Result<u64, Undecodable> {
        match self {
            Self::Null => Ok(0),
            Self::Unsigned(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| wrong("number")),
            Self::Signed(_) | Self::Double(_) => Err(wrong("whole number from 0")),
        }
    }

    fn integer(&self) -> Result<i64, Undecodable> {
        match self {
            Self::Signed(number) => Ok(*number),
            Self::Unsigned(number) => i64::try_from(*number).map_err(|_| wrong("64-bit integer")),
            Self::Text(text) => text.parse().map_err(|_| wrong("integer")),
            Self::Null | Self::Double(_) => Err(wrong("integer")),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a double that is written without a point"
    )]
    fn double(&self) -> Result<f64, Undecodable> {
        match self {
            Self::Double(number) => Ok(*number),
            Self::Signed(number) => Ok(*number as f64),
            Self::Unsigned(number) => Ok(*number as f64),
            Self::Text(text) => match text.as_ref() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                text => text.parse().map_err(|_| wrong("number")),
            },
            Self::Null => Err(wrong("number")),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a number")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }

            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Signed(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Unsigned(value))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Double(value))
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(value.to_owned())))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// A list of which only the first [`limits::LIST`] elements are read.
#[derive(Debug)]
struct Capped<T> {
    kept: Vec<T>,
    surplus: u32,
}

impl<T> Default for Capped<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            surplus: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Capped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Capped<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Capped::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut capped = Capped::default();
                while capped.kept.len() < limits::LIST {
                    match list.next_element()? {
                        Some(element) => capped.kept.push(element),
                        None => return Ok(capped),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    capped.surplus = capped.surplus.saturating_add(1);
                }
                Ok(capped)
            }
        }

        deserializer.deserialize_any(Read(PhantomData))
    }
}

/// Hands the elements of a list over one after the other.
fn each<'a, T: Deserialize<'a>>(
    list: Option<&'a RawJson>,
    take: &mut dyn FnMut(T) -> Result<(), Undecodable>,
) -> Result<(), Undecodable> {
    let Some(list) = list else {
        return Ok(());
    };
    let mut refused = None;
    let elements = Elements {
        take,
        refused: &mut refused,
        of: PhantomData,
    };
    let read = elements.deserialize(&mut serde_json::Deserializer::from_str(list.get()));
    match refused {
        Some(refused) => Err(refused),
        None => Ok(read?),
    }
}

struct Elements<'t, T> {
    take: &'t mut dyn FnMut(T) -> Result<(), Undecodable>,
    /// What `take` said: serde's own errors are only texts.
    refused: &'t mut Option<Undecodable>,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Elements<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            if let Err(refused) = (self.take)(element) {
                *self.refused = Some(refused);
                return Err(serde::de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}
