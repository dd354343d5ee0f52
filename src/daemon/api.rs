//! What the embedded trace backend answers over HTTP: its own API, and Jaeger's v1 query API on top, at the same paths.
//!
//! | path | answers |
//! |---|---|
//! | `/api/traces` | traces of a filter (`traces`); with Jaeger's parameters also in Jaeger's shape (`data`) |
//! | `/api/traces/{id}` | one trace, in both shapes |
//! | `/api/projects` | projects with their counts |
//! | `/api/services`, `/api/services/{service}/operations`, `/api/operations`, `/api/dependencies` | as Jaeger does |

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::model::{RecordedSpan, Text, TraceId, escaped};
use crate::report;
use crate::traces::convention::outcome_of_word;
use crate::traces::{FoundSpans, Reader, TraceFilter, TraceList, summary};

/// Traces of one answer, unless asked for fewer: as many as Jaeger gives.
const USUAL_LIMIT: usize = 100;
/// However many are asked for: each may be a megabyte in Jaeger's shape.
const MOST: usize = 1_500;
/// Bytes of the spans of one answer: some 15,000 ordinary ones. As a tree of JSON, in two shapes, they take up to ten
/// times as much, and two answers may be made at once.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Traces that are looked through for an operation or tags, which no block knows: a second of work.
const MOST_LOOKED_AT: usize = 10_000;
/// Traces from which dependencies are told.
const DEPENDENCIES_OF: usize = 1_000;

/// An answer: a status, and a document.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP's.
    pub status: u16,
    /// JSON.
    pub body: Value,
}

/// Query parameters, each with all its values.
type Parameters = BTreeMap<String, Vec<String>>;

/// Answers a GET of `path`; `None` for what is not of this API. Blocks while the file is read.
pub fn answer(reader: &Reader, path: &str, query: &str, now: SystemTime) -> Option<Reply> {
    let mut parameters = Parameters::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let values = parameters.entry(key.into_owned()).or_default();
        values.push(value.into_owned());
    }
    let segments: Vec<_> = path.trim_matches('/').split('/').collect();
    let segment = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
        decoded.into_owned()
    };
    let answered = match segments.as_slice() {
        ["api", "traces"] => traces(reader, &parameters, now),
        ["api", "traces", id] => trace(reader, &segment(id)),
        ["api", "projects"] => projects(reader),
        ["api", "services"] => services(reader),
        ["api", "services", service, "operations"] => operation_names(reader, &segment(service)),
        ["api", "operations"] => operations(reader, &parameters),
        ["api", "dependencies"] => dependencies(reader, &parameters, now),
        _ => return None,
    };
    Some(match answered {
        Ok(body) => Reply { status: 200, body },
        Err((status, why)) => Reply {
            status,
            body: report::jaeger::error(status, &why),
        },
    })
}

/// A document, or a status with a sentence.
type Answered = Result<Value, (u16, String)>;

fn unavailable(why: Text) -> (u16, String) {
    (503, why.to_string())
}

fn wrong(key: &str, value: &str, wanted: &str) -> (u16, String) {
    let value = escaped(value);
    (
        400,
        format!("parameter '{key}' is \"{value}\", and has to be {wanted}"),
    )
}

/// What both shapes of `/api/traces` are asked by.
struct Wanted {
    filter: TraceFilter,
    limit: usize,
    /// Jaeger's: all on one span.
    operation: Option<String>,
    tags: Vec<(String, String)>,
    /// As Jaeger compares them: with that span too, and not with the trace.
    durations: (Option<Duration>, Option<Duration>),
    ids: Vec<TraceId>,
    in_jaegers_shape: bool,
}

fn first<'p>(parameters: &'p Parameters, key: &str) -> Option<&'p str> {
    let value = parameters.get(key)?.first()?;
    (!value.is_empty()).then_some(value.as_str())
}

fn wanted(parameters: &Parameters, now: SystemTime) -> Result<Wanted, (u16, String)> {
    let text = |key: &str| first(parameters, key).map(str::to_owned);
    let duration = |key: &str| read(parameters, key, "a duration such as 1.5s", go_duration);
    let micros = |key: &str| read(parameters, key, "microseconds since 1970", micros);
    let time = |key: &str| read(parameters, key, A_TIME, |value| time(value, now));
    let limit = read(parameters, "limit", "a number above 0", |value| {
        value.parse::<usize>().ok().filter(|limit| *limit > 0)
    })?;
    let ids: Result<Vec<_>, _> = parameters
        .get("traceID")
        .into_iter()
        .flatten()
        .map(|id| trace_id(id).ok_or_else(|| wrong("traceID", id, "a trace's id")))
        .collect();
    let (ids, service) = (ids?, text("service"));
    let has_ours = OURS.iter().any(|key| parameters.contains_key(*key));
    let (since, until) = (time("since")?, time("until")?);
    let (least, most) = (duration("minDuration")?, duration("maxDuration")?);
    let looked_back = || now.checked_sub(go_duration(first(parameters, "lookback")?)?);
    Ok(Wanted {
        in_jaegers_shape: (service.is_some() || !ids.is_empty()) && !has_ours,
        filter: TraceFilter {
            service,
            outcome: read(
                parameters,
                "status",
                "ok, error or blocked",
                outcome_of_word,
            )?,
            since: since.or(micros("start")?).or_else(looked_back),
            until: until.or(micros("end")?),
            // A trace takes at least as long as any span of it.
            min_duration: duration("min_duration")?.max(least),
            session: text("session"),
            tool: text("tool"),
            project: text("project"),
        },
        limit: limit.unwrap_or(USUAL_LIMIT).min(MOST),
        operation: text("operation").filter(|operation| operation != "all"),
        tags: tags(parameters)?,
        durations: (least, most),
        ids,
    })
}

/// Parameters that Jaeger does not know: who uses one wants our shape.
const OURS: [&str; 7] = [
    "since",
    "until",
    "status",
    "min_duration",
    "session",
    "tool",
    "project",
];

const A_TIME: &str = "a time such as 2026-11-20T10:03:00Z, or how long ago, such as 1h";

/// The first value of `key`, where there is one.
fn read<T>(
    parameters: &Parameters,
    key: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, (u16, String)> {
    let read = |value| parse(value).ok_or_else(|| wrong(key, value, expected));
    first(parameters, key).map(read).transpose()
}

/// As Jaeger's UI sends it: microseconds since 1970.
fn micros(value: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_micros(value.parse().ok()?))
}

fn time(value: &str, now: SystemTime) -> Option<SystemTime> {
    let at = humantime::parse_rfc3339_weak(value).ok();
    at.or_else(|| now.checked_sub(humantime::parse_duration(value).ok()?))
}

/// `tags={"k":"v"}` and `tag=k:v`.
fn tags(parameters: &Parameters) -> Result<Vec<(String, String)>, (u16, String)> {
    let values = |key: &str| {
        parameters
            .get(key)
            .into_iter()
            .flatten()
            .filter(|value| !value.is_empty())
    };
    let mut tags = Vec::new();
    for value in values("tags") {
        let pairs: BTreeMap<String, String> = serde_json::from_str(value)
            .map_err(|_| wrong("tags", value, "a JSON object of strings"))?;
        tags.extend(pairs);
    }
    for value in values("tag") {
        let (key, value) = value
            .split_once(':')
            .ok_or_else(|| wrong("tag", value, "key:value"))?;
        tags.push((key.to_owned(), value.to_owned()));
    }
    Ok(tags)
}

fn trace_id(text: &str) -> Option<TraceId> {
    // Jaeger takes 64-bit ids, and ids without leading zeros.
    let is_id = !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| format!("{text:0>32}").to_lowercase().parse().ok())?
}

fn traces(reader: &Reader, parameters: &Parameters, now: SystemTime) -> Answered {
    let wanted = wanted(parameters, now)?;
    if !wanted.ids.is_empty() {
        return by_ids(reader, &wanted.ids);
    }
    let (list, told) = found(reader, &wanted)?;
    let mut document = report::traces::json(&list);
    join(&mut document, told.envelope());
    Ok(document)
}

fn by_ids(reader: &Reader, ids: &[TraceId]) -> Answered {
    let mut told = Told::default();
    let mut asked = BTreeSet::new();
    for id in ids.iter().filter(|id| asked.insert(**id)).take(MOST) {
        if told.is_cut {
            break;
        }
        let found = read_trace(reader, *id)?;
        if !found.spans.is_empty() {
            told.add(*id, &found);
        }
    }
    let truncated = json!({ "truncated": told.is_cut });
    let mut document = told.envelope();
    join(&mut document, truncated);
    Ok(document)
}

/// As much of it as one answer holds.
fn read_trace(reader: &Reader, id: TraceId) -> Result<FoundSpans, (u16, String)> {
    reader.trace_within(id, MOST_BYTES).map_err(unavailable)
}

/// Traces in Jaeger's shape, as many as fit into one answer.
#[derive(Default)]
struct Told {
    data: Vec<Value>,
    bytes: usize,
    /// There was one more, and no room for it.
    is_cut: bool,
}

impl Told {
    fn add(&mut self, id: TraceId, found: &FoundSpans) {
        self.bytes += found.bytes;
        self.is_cut |= self.bytes > MOST_BYTES;
        if !self.is_cut {
            self.data.push(report::jaeger::trace(id, found));
            self.is_cut = found.truncated;
        }
    }

    fn envelope(self) -> Value {
        match self.is_cut {
            true => report::jaeger::cut_envelope(self.data),
            false => report::jaeger::envelope(self.data),
        }
    }
}

/// The traces that pass, and the same in Jaeger's shape where that is wanted.
fn found(reader: &Reader, wanted: &Wanted) -> Result<(TraceList, Told), (u16, String)> {
    let by_spans =
        wanted.operation.is_some() || !wanted.tags.is_empty() || wanted.durations != (None, None);
    let mut told = Told::default();
    if !by_spans {
        let mut list = reader
            .list(&wanted.filter, wanted.limit)
            .map_err(unavailable)?;
        for summary in list.traces.iter().filter(|_| wanted.in_jaegers_shape) {
            told.add(summary.id, &read_trace(reader, summary.id)?);
            if told.is_cut {
                list.truncated = true;
                break;
            }
        }
        return Ok((list, told));
    }
    let all = reader
        .list(&wanted.filter, MOST_LOOKED_AT)
        .map_err(unavailable)?;
    let mut list = TraceList {
        truncated: all.truncated,
        ..TraceList::default()
    };
    for summary in all.traces {
        let found = read_trace(reader, summary.id)?;
        if !found.spans.iter().any(|span| passes(span, wanted)) {
            // What is not read of it may pass.
            list.truncated |= found.truncated;
            continue;
        }
        let is_full = list.traces.len() == wanted.limit;
        if wanted.in_jaegers_shape && !is_full {
            told.add(summary.id, &found);
        }
        if is_full || told.is_cut {
            list.truncated = true;
            break;
        }
        list.traces.push(summary);
    }
    Ok((list, told))
}

/// Whether operation, durations and tags are all on this span, as Jaeger wants it.
fn passes(span: &RecordedSpan, wanted: &Wanted) -> bool {
    let of_service = wanted
        .filter
        .service
        .as_ref()
        .is_none_or(|service| span.service.as_str() == service);
    let operation = wanted
        .operation
        .as_ref()
        .is_none_or(|operation| span.name.as_str() == operation);
    let (least, most) = wanted.durations;
    let took = least.is_none_or(|least| least <= span.duration)
        && most.is_none_or(|most| span.duration <= most);
    let is_error = || matches!(span.status, crate::model::SpanStatus::Error(_));
    let tag = |(key, value): &(String, String)| match key.as_str() {
        "error" => is_error() == (value == "true"),
        "span.kind" => span.kind.as_str() == value,
        key => {
            let found = span.attribute(key).or_else(|| span.resource_attribute(key));
            found.is_some_and(|found| found.plain() == *value)
        }
    };
    of_service && operation && took && wanted.tags.iter().all(tag)
}

fn trace(reader: &Reader, id: &str) -> Answered {
    let id = trace_id(id).ok_or_else(|| (400, format!("\"{}\" is no trace's id", escaped(id))))?;
    let found = read_trace(reader, id)?;
    let summary = summary(id, &found).ok_or_else(|| (404, "trace not found".to_owned()))?;
    let mut document = report::trace::json(&summary, &found.spans);
    let data = vec![report::jaeger::trace(id, &found)];
    let envelope = match found.truncated {
        true => report::jaeger::cut_envelope(data),
        false => report::jaeger::envelope(data),
    };
    join(&mut document, envelope);
    Ok(document)
}

fn projects(reader: &Reader) -> Answered {
    let projects = reader.projects().map_err(unavailable)?;
    Ok(report::traces::projects(&projects))
}

fn services(reader: &Reader) -> Answered {
    let services = reader.services().map_err(unavailable)?;
    let names: Vec<_> = services
        .into_iter()
        .map(|service| service.name)
        .filter(|name| !name.as_str().is_empty())
        .collect();
    Ok(report::jaeger::names(&names))
}

fn operation_names(reader: &Reader, service: &str) -> Answered {
    let operations = reader.operations(service).map_err(unavailable)?;
    let mut names: Vec<_> = operations.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    Ok(report::jaeger::names(&names))
}

fn operations(reader: &Reader, parameters: &Parameters) -> Answered {
    let service = first(parameters, "service")
        .ok_or_else(|| (400, "parameter 'service' is required".to_owned()))?;
    let mut operations = reader.operations(service).map_err(unavailable)?;
    if let Some(kind) = first(parameters, "spanKind") {
        operations.retain(|(_, of)| of.as_str() == kind);
    }
    let data = report::jaeger::operations(&operations);
    let mut document = report::jaeger::envelope(data);
    join(&mut document, json!({ "total": operations.len() }));
    Ok(document)
}

fn dependencies(reader: &Reader, parameters: &Parameters, now: SystemTime) -> Answered {
    let millis = |key: &str| -> Result<Option<Duration>, (u16, String)> {
        first(parameters, key)
            .map(|value| {
                let number = value.parse().map(Duration::from_millis);
                number.map_err(|_| wrong(key, value, "milliseconds"))
            })
            .transpose()
    };
    let until = millis("endTs")?
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .unwrap_or(now);
    let back = millis("lookback")?.unwrap_or(Duration::from_secs(24 * 3600));
    let filter = TraceFilter {
        since: until.checked_sub(back),
        until: Some(until),
        ..TraceFilter::default()
    };
    let list = reader.list(&filter, DEPENDENCIES_OF).map_err(unavailable)?;
    let mut calls = report::jaeger::Calls::default();
    for summary in list.traces.iter().filter(|trace| trace.services.len() > 1) {
        calls.add(&read_trace(reader, summary.id)?.spans);
    }
    Ok(report::jaeger::envelope(calls.told()))
}

/// Go's durations (`1.5s`, `100ms`, `1h2m`), which Jaeger's clients write, and humantime's.
fn go_duration(text: &str) -> Option<Duration> {
    if let Ok(duration) = humantime::parse_duration(text) {
        return Some(duration);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = number.parse::<f64>().ok()? * seconds;
        sum = sum.checked_add(Duration::try_from_secs_f64(part).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

/// Both documents in one.
fn join(document: &mut Value, other: Value) {
    if let (Some(document), Value::Object(other)) = (document.as_object_mut(), other) {
        document.extend(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [
            ("1.5s", 1_500),
            ("100ms", 100),
            ("1h2m3s", 3_723_000),
            ("2us", 0),
        ] {
            assert_eq!(
                go_duration(text).map(|d| d.as_millis()),
                Some(millis),
                "{text}"
            );
        }
        for text in ["", "s", "1x", "1.2.3s", "-1s", "1e999s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn ids_may_lack_their_leading_zeros() {
        assert_eq!(
            trace_id("ABC"),
            "00000000000000000000000000000abc".parse().ok()
        );
        for text in ["", "zzz", "0x12", &"1".repeat(33)] {
            assert_eq!(trace_id(text), None, "{text}");
        }
    }
}
