//! One trace as a waterfall: each span a line with a bar, below the span that it is a part of.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::colour::painted;
use super::columns::{columns, cut, fitted};
use super::json::SCHEMA;
use super::table::{Look, short};
use super::traces::{self, shown};
use super::{millis, rfc3339};
use crate::model::{Attribute, OWN_SCOPE, RecordedSpan, SpanId, SpanStatus, escaped};
use crate::traces::{Outcome, TraceSummary, convention};

/// Lines of one waterfall: more than anybody reads. All spans are in the JSON.
const MAX_LINES: usize = 2_000;

/// Indentation stops here: what is deeper is told by its number.
const MAX_DEPTH: usize = 24;

/// Columns where nobody says how many there are.
const USUAL_WIDTH: usize = 120;

/// A bar is not made narrower than this, nor wider.
const BAR: (usize, usize) = (16, 60);

/// Which spans are shown with all that is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// None.
    None,
    /// This one.
    Of(SpanId),
    /// Every one.
    All,
}

/// A span at its place in the tree.
struct Line<'s> {
    span: &'s RecordedSpan,
    depth: usize,
    /// What stands before the name: which of its ancestors have further children.
    branches: String,
    /// Its parent is named and not here.
    orphan: bool,
}

/// The waterfall.
pub fn waterfall(
    summary: &TraceSummary,
    spans: &[RecordedSpan],
    detail: Detail,
    look: Look,
) -> String {
    let lines = tree(spans);
    let mut text = heading(summary, look);
    let layout = Layout::of(summary, &lines, look);
    for line in lines.iter().take(MAX_LINES) {
        text.push_str(&layout.line(line));
        if detail == Detail::All || detail == Detail::Of(line.span.span_id) {
            text.push_str(&about(line.span));
        }
    }
    let more = lines.len().saturating_sub(MAX_LINES);
    if more > 0 {
        text.push_str(&format!("\n{more} more spans: see --format json\n"));
    }
    if summary.truncated {
        text.push_str("\nIt has more spans than are read of one trace: the others are not here.\n");
    }
    text
}

fn heading(summary: &TraceSummary, look: Look) -> String {
    let mut text = format!(
        "trace {}  {}  {}  {} spans  {}",
        summary.id,
        rfc3339(summary.started),
        short(summary.duration),
        traces::spans(summary),
        shown(summary.outcome, look.colour),
    );
    if let Some(session) = &summary.session {
        text.push_str(&format!("  session {session}"));
    }
    text.push_str("\n\n");
    text
}

/// A span of a trace: with the headers of B3 a call and its answer have one id in two services.
type Key<'s> = (SpanId, &'s str);

fn key(span: &RecordedSpan) -> Key<'_> {
    (span.span_id, span.service.as_str())
}

/// Every span once, below its parent, in the order in which they began. Those whose parent is not here, or which are
/// each other's ancestors, stand at the top.
fn tree(spans: &[RecordedSpan]) -> Vec<Line<'_>> {
    let mut known: HashMap<SpanId, Vec<Key<'_>>> = HashMap::new();
    for span in spans {
        known.entry(span.span_id).or_default().push(key(span));
    }
    // Of two of that id, the one in the same service: a call stands below the span that made it.
    let parent = |span: &RecordedSpan| {
        let of_id = known.get(&span.parent?)?;
        let mut others = of_id.iter().filter(|parent| **parent != key(span));
        let own = others
            .clone()
            .find(|(_, service)| *service == span.service.as_str());
        own.or_else(|| others.next()).copied()
    };
    let mut children: HashMap<Key<'_>, Vec<&RecordedSpan>> = HashMap::new();
    let mut tops = Vec::new();
    for span in spans {
        match parent(span) {
            Some(parent) => children.entry(parent).or_default().push(span),
            None => tops.push(span),
        }
    }
    let mut lines = Vec::with_capacity(spans.len());
    let mut seen = HashSet::new();
    let in_cycles = spans.iter();
    for top in tops.into_iter().chain(in_cycles) {
        // Depth is a sender's to choose: no recursion.
        let mut open = vec![(top, 0, String::new(), true)];
        while let Some((span, depth, before, is_last)) = open.pop() {
            if !seen.insert(key(span)) {
                continue;
            }
            let branches = match depth {
                0 => String::new(),
                _ => format!("{before}{}", if is_last { "└─ " } else { "├─ " }),
            };
            let below = match depth {
                0 => String::new(),
                _ if depth >= MAX_DEPTH => before,
                _ => format!("{before}{}", if is_last { "   " } else { "│  " }),
            };
            let own = children.get(&key(span)).map_or(&[][..], Vec::as_slice);
            for (index, child) in own.iter().enumerate().rev() {
                open.push((child, depth + 1, below.clone(), index + 1 == own.len()));
            }
            let orphan = span
                .parent
                .is_some_and(|parent| !known.contains_key(&parent));
            lines.push(Line {
                span,
                depth,
                branches,
                orphan,
            });
        }
    }
    lines
}

/// How wide what is.
struct Layout<'s> {
    from: SystemTime,
    length: Duration,
    services: Vec<&'s str>,
    service: usize,
    name: usize,
    bar: usize,
    look: Look,
}

impl<'s> Layout<'s> {
    fn of(summary: &TraceSummary, lines: &[Line<'s>], look: Look) -> Self {
        let mut services = Vec::new();
        for line in lines {
            let service = line.span.service.as_str();
            if !services.contains(&service) && services.len() < 64 {
                services.push(service);
            }
        }
        let shown = || lines.iter().take(MAX_LINES);
        let widest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or_default();
        let service = widest(&mut shown().map(|line| columns(line.span.service.as_str()))).min(24);
        let name = widest(
            &mut shown().map(|line| columns(&line.branches) + columns(line.span.name.as_str())),
        );
        let width = look.width.unwrap_or(USUAL_WIDTH);
        // Two gaps, and room for the time and a word of what went wrong.
        let rest = width.saturating_sub(service + 2 + 2 + 12);
        let name = name.min(rest.saturating_sub(BAR.0).max(20));
        Self {
            from: summary.started,
            length: summary.duration,
            services,
            service,
            name,
            bar: rest.saturating_sub(name).clamp(BAR.0, BAR.1),
            look,
        }
    }

    fn line(&self, line: &Line<'_>) -> String {
        let span = line.span;
        let outcome = convention::outcome(span);
        let name = format!("{}{}", line.branches, span.name);
        let name = fitted(&name, self.name);
        let service = fitted(span.service.as_str(), self.service);
        let bar = self.bar(span);
        let (service, bar) = match outcome {
            Outcome::Ok => (self.tinted(&service, span), self.tinted(&bar, span)),
            bad => {
                let state = traces::as_bad_as(bad);
                (
                    self.tinted(&service, span),
                    painted(&bar, state, self.look.colour),
                )
            }
        };
        let mut text = format!("{service}  {name}  {bar}  {}", short(span.duration));
        if let Some(why) = why(span, outcome) {
            let why = cut(&why, 200);
            text.push_str("  ");
            text.push_str(&painted(&why, traces::as_bad_as(outcome), self.look.colour));
        }
        if line.orphan {
            text.push_str("  (its parent is not here)");
        }
        if line.depth > MAX_DEPTH {
            text.push_str(&format!("  (depth {})", line.depth));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    /// To scale; the shortest span is a thin mark.
    fn bar(&self, span: &RecordedSpan) -> String {
        let whole = self.length.as_secs_f64();
        let share = |time: Duration| match whole > 0.0 {
            true => (time.as_secs_f64() / whole).min(1.0),
            false => 0.0,
        };
        let before = span.start.duration_since(self.from).unwrap_or_default();
        let room = u32::try_from(self.bar).map_or(0.0, f64::from);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the columns of a terminal"
        )]
        let column = |share: f64| (share * room) as usize;
        let from = column(share(before)).min(self.bar.saturating_sub(1));
        // From where it ends, so that what ends together ends in one column.
        let to = column(share(before.saturating_add(span.duration)));
        let length = to.saturating_sub(from).min(self.bar - from);
        let drawn = match length {
            0 => "▏".to_owned(),
            length => "█".repeat(length),
        };
        fitted(&format!("{}{drawn}", " ".repeat(from)), self.bar)
    }

    /// Each service has a colour of its own, as far as there are colours.
    fn tinted(&self, text: &str, span: &RecordedSpan) -> String {
        const TINTS: [u8; 6] = [36, 35, 34, 32, 33, 96];
        if !self.look.colour {
            return text.to_owned();
        }
        let place = self
            .services
            .iter()
            .position(|service| *service == span.service.as_str());
        let tint = TINTS
            .get(place.unwrap_or_default() % TINTS.len())
            .unwrap_or(&36);
        format!("\u{1b}[{tint}m{text}\u{1b}[39m")
    }
}

fn why(span: &RecordedSpan, outcome: Outcome) -> Option<String> {
    if outcome == Outcome::Ok {
        return None;
    }
    let mut words = vec![outcome.as_str().to_owned()];
    if let Some(kind) = span.attribute("error.type") {
        words.push(kind.to_string());
    }
    if let SpanStatus::Error(message) = &span.status
        && !message.as_str().is_empty()
    {
        words.push(message.to_string());
    }
    Some(words.join(": "))
}

/// Attributes, events and links of one span, below its line.
fn about(span: &RecordedSpan) -> String {
    let mut text = String::new();
    let mut line = |depth: usize, key: &str, value: &str| {
        let before = "    ".repeat(depth);
        text.push_str(&format!("{before}{}  {value}\n", escaped(key)));
    };
    line(1, "span", &span.span_id.to_string());
    line(1, "kind", span.kind.as_str());
    line(1, "started", &rfc3339(span.start));
    if !span.scope.as_str().is_empty() {
        line(
            1,
            "scope",
            &format!("{} {}", span.scope, span.scope_version),
        );
    }
    for attribute in &span.attributes {
        line(1, attribute.key.as_str(), &attribute.value.to_string());
    }
    for attribute in span.resource.iter() {
        line(
            1,
            &format!("resource {}", attribute.key),
            &attribute.value.to_string(),
        );
    }
    for event in &span.events {
        let after = event.at.duration_since(span.start).unwrap_or_default();
        line(
            1,
            "event",
            &format!("{} after {}", event.name, short(after)),
        );
        for attribute in &event.attributes {
            line(2, attribute.key.as_str(), &attribute.value.to_string());
        }
    }
    for link in &span.links {
        line(1, "link", &format!("{} {}", link.trace_id, link.span_id));
    }
    if span.dropped > 0 {
        line(
            1,
            "not kept",
            &format!("{} attributes, events and links", span.dropped),
        );
    }
    text.push('\n');
    text
}

/// The document of `trace --format json`, and of `/api/traces/{id}`.
pub fn json(summary: &TraceSummary, spans: &[RecordedSpan]) -> Value {
    let mut document = json!({ "schema": SCHEMA });
    if let (Some(document), Value::Object(keys)) =
        (document.as_object_mut(), traces::summary(summary))
    {
        document.extend(keys);
        let lines = tree(spans);
        let spans = lines.iter().map(|line| span_json(line, summary.started));
        document.insert("spans".to_owned(), spans.collect());
        document.insert("span_count".to_owned(), json!(summary.spans));
    }
    document
}

fn span_json(line: &Line<'_>, from: SystemTime) -> Value {
    let span = line.span;
    let message = match &span.status {
        SpanStatus::Error(message) if !message.as_str().is_empty() => Some(message),
        _ => None,
    };
    let events: Vec<_> = span
        .events
        .iter()
        .map(|event| {
            json!({
                "at": rfc3339(event.at),
                "name": event.name,
                "attributes": attributes(&event.attributes),
            })
        })
        .collect();
    let links: Vec<_> = span
        .links
        .iter()
        .map(|link| json!({ "trace_id": link.trace_id, "span_id": link.span_id }))
        .collect();
    json!({
        "span_id": span.span_id,
        "parent_id": span.parent,
        "depth": line.depth,
        "service": span.service,
        "name": span.name,
        "kind": span.kind,
        "start": rfc3339(span.start),
        "offset_ms": millis(span.start.duration_since(from).unwrap_or_default()),
        "duration_ms": millis(span.duration),
        "status": convention::outcome(span),
        "status_message": message,
        "probe": span.scope.as_str() == OWN_SCOPE,
        "scope": span.scope,
        "scope_version": span.scope_version,
        "tracestate": span.tracestate,
        "attributes": attributes(&span.attributes),
        "resource": attributes(&span.resource),
        "events": events,
        "links": links,
        "dropped": span.dropped,
    })
}

fn attributes(attributes: &[Attribute]) -> Value {
    let pairs: Map<_, _> = attributes
        .iter()
        .map(|attribute| (attribute.key.to_string(), json!(attribute.value)))
        .collect();
    Value::Object(pairs)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::model::{AttributeValue, RecordedKind, SpanEvent, Text, TraceId};
    use crate::traces::{FoundSpans, summary};

    const TRACE: TraceId = TraceId([7; 16]);

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + millis)
    }

    fn span(
        id: u8,
        parent: Option<u8>,
        service: &str,
        name: &str,
        from: u64,
        to: u64,
    ) -> RecordedSpan {
        RecordedSpan {
            trace_id: TRACE,
            span_id: SpanId([id; 8]),
            parent: parent.map(|parent| SpanId([parent; 8])),
            tracestate: Text::default(),
            service: Text::new(service),
            resource: Arc::default(),
            scope: Text::default(),
            scope_version: Text::default(),
            name: Text::new(name),
            kind: RecordedKind::Server,
            start: at(from),
            duration: Duration::from_millis(to - from),
            status: SpanStatus::Unset,
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            dropped: 0,
        }
    }

    fn drawn(spans: &[RecordedSpan], detail: Detail) -> String {
        let look = Look {
            colour: false,
            width: Some(80),
        };
        waterfall(&summarized(spans, false), spans, detail, look)
    }

    fn summarized(spans: &[RecordedSpan], truncated: bool) -> TraceSummary {
        let found = FoundSpans {
            spans: spans.to_vec(),
            truncated,
            ..FoundSpans::default()
        };
        summary(TRACE, &found).unwrap()
    }

    #[test]
    fn children_stand_below_their_parents_with_bars_to_scale() {
        let mut failed = span(4, Some(2), "weather", "tools/call forecast", 50, 100);
        failed.status = SpanStatus::Error(Text::new("no data"));
        let spans = [
            span(1, None, "mcpprobe", "mcp.session", 0, 100),
            span(2, Some(1), "mcpprobe", "mcp.tool_call", 25, 100),
            span(3, Some(1), "mcpprobe", "mcp.transport", 0, 25),
            failed,
            span(5, Some(99), "weather", "lost", 75, 75),
        ];
        let text = drawn(&spans, Detail::None);
        let expected = "\
trace 07070707070707070707070707070707  2023-11-14T22:13:20.000Z  100 ms  5 spans  error

mcpprobe  mcp.session                ███████████████████████████████  100 ms
mcpprobe  ├─ mcp.tool_call                  ████████████████████████  75 ms
weather   │  └─ tools/call forecast                 ████████████████  50 ms  error: no data
mcpprobe  └─ mcp.transport           ███████                          25 ms
weather   lost                                              ▏         0.0 ms  (its parent is not here)
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn two_services_may_share_an_id_and_each_has_its_line() {
        let spans = [
            span(1, None, "agent", "chat", 0, 100),
            span(2, Some(1), "agent", "call", 0, 100),
            span(2, Some(1), "weather", "tools/call", 0, 100),
            span(3, Some(2), "weather", "query", 0, 100),
            span(4, Some(2), "agent", "retry", 0, 100),
            span(5, Some(2), "database", "select", 0, 100),
        ];
        let lines: Vec<_> = tree(&spans)
            .iter()
            .map(|line| (line.depth, line.span.name.to_string()))
            .collect();
        let names = ["chat", "call", "retry", "select", "tools/call", "query"];
        let expected = [0, 1, 2, 2, 1, 2].into_iter().zip(names.map(str::to_owned));
        assert_eq!(lines, expected.collect::<Vec<_>>());
        let document = json(&summarized(&spans, false), &spans);
        assert_eq!(document["spans"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn a_trace_that_is_cut_says_so() {
        let spans = [span(1, None, "a", "one", 0, 1)];
        for (truncated, heading) in [(false, "  1 spans  "), (true, "  1+ spans  ")] {
            let summary = summarized(&spans, truncated);
            let look = Look {
                colour: false,
                width: Some(80),
            };
            let text = waterfall(&summary, &spans, Detail::None, look);
            assert!(text.contains(heading), "{text}");
            assert_eq!(text.contains("more spans than are read"), truncated);
            assert_eq!(json(&summary, &spans)["truncated"], truncated);
        }
    }

    #[test]
    fn cycles_and_depths_are_drawn_once_and_end() {
        let mut spans = vec![
            span(1, Some(2), "a", "one", 0, 1),
            span(2, Some(1), "a", "two", 0, 1),
            span(3, Some(3), "a", "own parent", 0, 1),
        ];
        assert_eq!(drawn(&spans, Detail::None).lines().count(), 2 + 3);
        spans.clear();
        for id in 0..200 {
            spans.push(span(id, id.checked_sub(1), "a", "deep", 0, 1));
        }
        let text = drawn(&spans, Detail::None);
        assert_eq!(text.lines().count(), 2 + 200);
        assert!(text.contains("(depth 199)"), "{text}");
    }

    #[test]
    fn details_cannot_act_on_a_terminal() {
        let mut told = span(1, None, "a\u{1b}[31m", "name\nline", 0, 10);
        told.attributes.push(Attribute {
            key: Text::new("mcp.tool\u{7}"),
            value: AttributeValue::Text("x\u{1b}]0;t\u{7}".to_owned()),
        });
        told.events.push(SpanEvent {
            at: at(5),
            name: Text::new("exception"),
            attributes: Vec::new(),
        });
        let text = drawn(&[told], Detail::Of(SpanId([1; 8])));
        assert!(text.contains("exception after 5.0 ms"), "{text}");
        let acts = |c: char| c != '\n' && c.is_control();
        assert!(!text.contains(acts), "{text:?}");
    }
}
