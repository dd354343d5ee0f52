//! Traces by a filter, newest first, without reading more than that takes.
//!
//! A queue holds blocks, traces that may pass, and traces that have passed, each with the latest time at which it, or
//! anything in it, can have begun. Whatever is taken out as the newest is either the next of the answer, or is looked at
//! more closely and put back.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, SystemTime};

use hashbrown::{HashMap, HashSet};

use super::admission::nanos;
use super::block::Spans;
use super::convention::{self, Outcome, WithResource};
use super::head::Head;
use super::index::{Index, spans};
use super::query::{FoundSpans, TraceFilter, TraceList, TraceSummary};
use super::reader::{Reader, trace};
use super::recorder::Recorder;
use crate::model::{RecordedSpan, Text, TraceId};

/// A trace of before `until` is looked for in spans that began up to so long after it.
const LONG: Duration = Duration::from_secs(3600);

/// Services, projects and tools that a summary names.
const NAMED: usize = 32;

pub(super) fn list(
    index: &mut Index,
    filter: &TraceFilter,
    limit: usize,
) -> rusqlite::Result<TraceList> {
    let wanted = Wanted::of(filter);
    let mut queue: BinaryHeap<Entry> = index
        .heads()
        .filter(|(_, head)| wanted.may_be_in(head))
        .map(|(id, head)| Entry::new(head.last(), Item::Block(id)))
        .collect();
    let mut looked_at: HashSet<TraceId> = HashSet::new();
    let mut list = TraceList::default();
    while let Some(Entry { item, .. }) = queue.pop() {
        match item {
            Item::Block(id) => {
                let bytes = index.bytes(id)?;
                let candidates = wanted.candidates(&spans(&bytes, id)?).into_iter();
                queue.extend(
                    candidates.map(|(id, start)| Entry::new(start, Item::Candidate(TraceId(id)))),
                );
            }
            Item::Candidate(id) => {
                if !looked_at.insert(id) {
                    continue;
                }
                let found = trace(index, id, Reader::MOST_BYTES)?;
                match passing(filter, id, &found) {
                    Some(summary) => queue.push(Entry::new(
                        nanos(summary.started),
                        Item::Passed(summary.into()),
                    )),
                    // What is not read of it may pass.
                    None => list.truncated |= found.truncated,
                }
            }
            Item::Passed(_) if list.traces.len() == limit => {
                list.truncated = true;
                break;
            }
            Item::Passed(summary) => list.traces.push(*summary),
        }
    }
    Ok(list)
}

struct Entry {
    latest: u64,
    item: Item,
}

enum Item {
    Block(i64),
    Candidate(TraceId),
    Passed(Box<TraceSummary>),
}

impl Entry {
    fn new(latest: u64, item: Item) -> Self {
        Self { latest, item }
    }

    /// Among equals what is to be looked at comes first: it may be as new as what has passed. Ids make the order one.
    fn order(&self) -> (u64, u8, [u8; 16]) {
        match &self.item {
            Item::Block(_) => (self.latest, 2, [0; 16]),
            Item::Candidate(id) => (self.latest, 1, id.0),
            Item::Passed(summary) => (self.latest, 0, summary.id.0),
        }
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Entry {}

/// The one condition by which candidates are looked for, the rarest; the rest is decided by the whole trace.
struct Wanted<'f> {
    since: u64,
    until: u64,
    sign: Sign<'f>,
}

enum Sign<'f> {
    Session(&'f str),
    Tool(&'f str),
    Outcome(Outcome),
    Project(&'f str),
    Service(&'f str),
    Any,
}

impl<'f> Wanted<'f> {
    fn of(filter: &'f TraceFilter) -> Self {
        let sign = match filter {
            TraceFilter {
                session: Some(session),
                ..
            } => Sign::Session(session),
            TraceFilter {
                tool: Some(tool), ..
            } => Sign::Tool(tool),
            TraceFilter {
                outcome: Some(outcome),
                ..
            } if *outcome != Outcome::Ok => Sign::Outcome(*outcome),
            TraceFilter {
                project: Some(project),
                ..
            } => Sign::Project(project),
            TraceFilter {
                service: Some(service),
                ..
            } => Sign::Service(service),
            _ => Sign::Any,
        };
        Self {
            since: filter.since.map_or(0, nanos),
            until: filter.until.map_or(u64::MAX, |until| nanos(until + LONG)),
            sign,
        }
    }

    fn may_be_in(&self, head: &Head) -> bool {
        let in_time = self.since <= head.last() && head.first() < self.until;
        in_time
            && match self.sign {
                Sign::Outcome(_) => head.groups.iter().any(|group| group.failed > 0),
                Sign::Project(project) => {
                    head.others || head.groups.iter().any(|group| group.project == project)
                }
                Sign::Service(service) => head.may_have(service),
                Sign::Session(_) | Sign::Tool(_) | Sign::Any => true,
            }
    }

    /// Traces, and the earliest start that a span of theirs has in this block. One with a span that cannot be read is
    /// among them: reading it whole tells so.
    fn candidates(&self, spans: &Spans<'_>) -> HashMap<[u8; 16], u64> {
        let mut recorder = Recorder::of(spans);
        let mut found: HashMap<[u8; 16], u64> = HashMap::new();
        for record in spans.records() {
            let owner = recorder.owner(&record);
            let fits = record.start >= self.since
                && match self.sign {
                    Sign::Any => true,
                    Sign::Outcome(outcome) => record.outcome == outcome,
                    Sign::Service(service) => owner.is_some_and(|owner| owner.service == service),
                    Sign::Project(project) => owner.is_some_and(|owner| owner.project == project),
                    Sign::Session(session) => recorder.raw(&record).is_none_or(|span| {
                        let span = WithResource {
                            span,
                            resource: &[],
                        };
                        convention::session(&span).is_some_and(|own| own == session)
                    }),
                    Sign::Tool(tool) => recorder.raw(&record).is_none_or(|span| {
                        let span = WithResource {
                            span,
                            resource: &[],
                        };
                        convention::tool(&span).is_some_and(|own| own == tool)
                    }),
                };
            if fits {
                let start = found.entry(record.trace_id).or_insert(record.start);
                *start = record.start.min(*start);
            }
        }
        found
    }
}

fn passing(filter: &TraceFilter, id: TraceId, found: &FoundSpans) -> Option<TraceSummary> {
    let summary = summary(id, found)?;
    let spans = &found.spans;
    let any = |wanted: &Option<String>, holds: &dyn Fn(&RecordedSpan, &str) -> bool| {
        wanted
            .as_deref()
            .is_none_or(|wanted| spans.iter().any(|span| holds(span, wanted)))
    };
    let passes = filter
        .outcome
        .is_none_or(|outcome| outcome == summary.outcome)
        && filter.since.is_none_or(|since| since <= summary.started)
        && filter.until.is_none_or(|until| summary.started < until)
        && filter
            .min_duration
            .is_none_or(|least| least <= summary.duration)
        && any(&filter.service, &|span, service| {
            span.service.as_str() == service
        })
        && any(&filter.session, &|span, session| {
            convention::session(span).is_some_and(|own| own == session)
        })
        && any(&filter.tool, &|span, tool| {
            convention::tool(span).is_some_and(|own| own == tool)
        })
        && any(&filter.project, &|span, project| {
            convention::project(span).is_some_and(|own| own == project)
        });
    passes.then_some(summary)
}

/// Of the spans of a trace; nothing without any.
pub fn summary(id: TraceId, found: &FoundSpans) -> Option<TraceSummary> {
    let spans = &found.spans;
    let first = spans.first()?;
    let known: HashSet<_> = spans.iter().map(|span| span.span_id).collect();
    let is_root = |span: &&RecordedSpan| span.parent.is_none();
    let is_orphan = |span: &&RecordedSpan| span.parent.is_none_or(|p| !known.contains(&p));
    let root = spans.iter().find(is_root);
    let root = root
        .or_else(|| spans.iter().find(is_orphan))
        .unwrap_or(first);
    let end = spans.iter().map(RecordedSpan::end).max();
    let outcomes: Vec<_> = spans.iter().map(convention::outcome).collect();
    let each_once = |names: &mut dyn Iterator<Item = Text>| {
        let mut named: Vec<Text> = Vec::new();
        for name in names.filter(|name| !name.as_str().is_empty()) {
            if named.len() < NAMED && !named.contains(&name) {
                named.push(name);
            }
        }
        named
    };
    Some(TraceSummary {
        id,
        started: first.start,
        duration: elapsed(first.start, end),
        spans: spans.len(),
        services: each_once(&mut spans.iter().map(|span| span.service.clone())),
        projects: each_once(
            &mut spans
                .iter()
                .filter_map(|s| convention::project(s).map(Text::new)),
        ),
        name: root.name.clone(),
        outcome: outcomes.iter().copied().max().unwrap_or_default(),
        session: spans.iter().find_map(convention::session).map(Text::new),
        tools: each_once(
            &mut spans
                .iter()
                .filter_map(|s| convention::tool(s).map(Text::new)),
        ),
        errors: outcomes
            .iter()
            .filter(|outcome| **outcome != Outcome::Ok)
            .count(),
        truncated: found.truncated,
    })
}

fn elapsed(from: SystemTime, to: Option<SystemTime>) -> Duration {
    to.and_then(|to| to.duration_since(from).ok())
        .unwrap_or_default()
}
