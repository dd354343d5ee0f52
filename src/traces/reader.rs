//! Asking the store, from the process that writes to it or from another one.
//!
//! All of it blocks, and most answers take milliseconds; a list by a filter that hardly anything passes reads every block
//! in its time. Not for an async task.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hashbrown::{HashMap, HashSet};

use super::admission::nanos;
use super::convention::kind_of_number;
use super::file::{self, unreadable};
use super::head::{Group, fingerprint};
use super::index::{Index, spans};
use super::list::list;
use super::pending::Intake;
use super::query::{
    Completeness, FoundSpans, LostSpans, Project, Service, Stats, TraceFilter, TraceList,
};
use super::recorder::{Recorder, time};
use crate::model::{RecordedKind, RecordedSpan, Text, TraceId, Window};

/// Spans of one trace that are read: a loop of agents can make a million, and nobody looks at them all.
const TRACE_SPANS: usize = 50_000;

/// Blocks that are looked through for the names of a service's operations.
const OPERATION_BLOCKS: usize = 64;

/// Operations that are named.
const OPERATIONS: usize = 1_000;

/// The store cannot say: the sentence says why. Nothing that is asked ends in a panic.
pub type Unavailable = Text;

/// What can be asked. Clones share one connection, and what it knows.
#[derive(Clone)]
pub struct Reader {
    path: PathBuf,
    /// Whom to tell of damage, where the writer is in this process.
    intake: Option<Intake>,
    open: Arc<Mutex<Option<Open>>>,
}

struct Open {
    identity: Option<(u64, u64)>,
    index: Index,
}

impl Reader {
    /// Of a file, whoever writes to it. One that nobody has made yet is empty until then.
    pub fn open(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            intake: None,
            open: Arc::default(),
        }
    }

    pub(super) fn beside(path: &Path, intake: Intake) -> Self {
        Self {
            intake: Some(intake),
            ..Self::open(path)
        }
    }

    /// Bytes of the spans of one answer, whatever these are like: room for 50,000 of some 2,600 bytes each, which is
    /// nearly twice an ordinary one with what is said of its process. Of the largest there are, it is 1,000.
    pub const MOST_BYTES: usize = 128 * 1024 * 1024;

    /// The spans of a trace; none when it is not there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn trace(&self, id: TraceId) -> Result<FoundSpans, Unavailable> {
        self.trace_within(id, Self::MOST_BYTES)
    }

    /// The same, as many as fit into so many bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn trace_within(&self, id: TraceId, bytes: usize) -> Result<FoundSpans, Unavailable> {
        self.with(FoundSpans::default(), |index| trace(index, id, bytes))
    }

    /// The spans of a service that began in `window`, at most `limit` of them: the latest.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn service_window(
        &self,
        service: &str,
        window: Window,
        limit: usize,
    ) -> Result<FoundSpans, Unavailable> {
        self.with(FoundSpans::default(), |index| {
            service_window(index, service, window, limit)
        })
    }

    /// Traces that pass, newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, filter: &TraceFilter, limit: usize) -> Result<TraceList, Unavailable> {
        self.with(TraceList::default(), |index| list(index, filter, limit))
    }

    /// The services, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn services(&self) -> Result<Vec<Service>, Unavailable> {
        self.with(Vec::new(), |index| {
            let groups = grouped(index, |group| &group.service);
            Ok(groups
                .into_iter()
                .map(|(name, group)| service(name, &group))
                .collect())
        })
    }

    /// The names of a service's spans and their kinds, each once, as far as its newest blocks have them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn operations(&self, service: &str) -> Result<Vec<(Text, RecordedKind)>, Unavailable> {
        self.with(Vec::new(), |index| operations(index, service))
    }

    /// The projects, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn projects(&self) -> Result<Vec<Project>, Unavailable> {
        self.with(Vec::new(), |index| {
            let groups = grouped(index, |group| &group.project);
            Ok(groups
                .into_iter()
                .map(|(name, group)| project(name, &group))
                .collect())
        })
    }

    /// How much there is.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stats(&self) -> Result<Stats, Unavailable> {
        self.with(Stats::default(), |index| {
            let number = |name| {
                let read = |row: &rusqlite::Row<'_>| row.get::<_, u64>(0);
                index.connection().pragma_query_value(None, name, read)
            };
            let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
            Ok(Stats {
                spans: index.heads().map(|(_, head)| head.spans()).sum(),
                blocks: index.heads().count() as u64,
                bytes: pages * number("page_size")?,
            })
        })
    }

    /// What is known of whether everything is there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn completeness(&self) -> Result<Completeness, Unavailable> {
        let now = SystemTime::now();
        let nothing = Completeness {
            kept_since: now,
            runs: Vec::new(),
            losses: Vec::new(),
        };
        let is_kept = self.intake.is_some() || file::is_kept(&self.path);
        self.with(nothing, |index| completeness(index, is_kept.then_some(now)))
    }

    /// Opens the file when that is necessary, and asks.
    fn with<T>(
        &self,
        nothing: T,
        ask: impl FnOnce(&mut Index) -> rusqlite::Result<T>,
    ) -> Result<T, Unavailable> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = file::identity(&self.path);
        if open.as_ref().is_some_and(|open| open.identity != identity) {
            *open = None;
        }
        let answer = (|| {
            if open.is_none() {
                let Some(connection) = file::open_to_read(&self.path)? else {
                    return Ok(nothing);
                };
                let index = Index::new(connection);
                *open = Some(Open { identity, index });
            }
            let Some(Open { index, .. }) = open.as_mut() else {
                return Ok(nothing);
            };
            index.at_once(ask)
        })();
        answer.map_err(|error| {
            // A fresh look is best, whatever it was.
            *open = None;
            if let (true, Some(intake)) = (file::is_damage(&error), &self.intake) {
                intake.tell_damage();
            }
            Text::new(format!(
                "cannot read the traces in {}: {error}",
                self.path.display()
            ))
        })
    }
}

pub(super) fn trace(index: &mut Index, id: TraceId, most: usize) -> rusqlite::Result<FoundSpans> {
    let mut found = FoundSpans::default();
    let mut seen = HashSet::new();
    'blocks: for block in index.with_trace(fingerprint(id.0))? {
        let bytes = index.bytes(block)?;
        let spans = spans(&bytes, block)?;
        let mut owned = Recorder::of(&spans);
        for record in spans.records().filter(|r| r.trace_id == id.0) {
            let span = owned.span(&record).ok_or_else(|| unreadable(block))?;
            if !seen.insert((span.span_id, span.service.clone())) {
                continue;
            }
            let bytes = found.bytes + span.size();
            if found.spans.len() == TRACE_SPANS || bytes > most {
                found.truncated = true;
                break 'blocks;
            }
            found.bytes = bytes;
            found.spans.push(span);
        }
    }
    found.spans.sort_by_key(|span| (span.start, span.span_id));
    Ok(found)
}

fn service_window(
    index: &mut Index,
    service: &str,
    window: Window,
    limit: usize,
) -> rusqlite::Result<FoundSpans> {
    let (from, to) = (nanos(window.from), nanos(window.to));
    let mut blocks: Vec<_> = index
        .heads()
        .filter(|(_, head)| {
            let has =
                |g: &Group| (head.others || g.service == service) && g.first < to && from <= g.last;
            head.groups.iter().any(has)
        })
        .map(|(id, head)| (head.last(), id))
        .collect();
    // The latest first, so that a limit is reached early.
    blocks.sort_unstable_by(|a, b| b.cmp(a));
    let mut latest = Latest::new(limit, Reader::MOST_BYTES);
    let mut seen = HashSet::new();
    for (last, block) in blocks {
        if latest.floor().is_some_and(|floor| last < floor.0) {
            latest.truncated = true;
            break;
        }
        let bytes = index.bytes(block)?;
        let spans = spans(&bytes, block)?;
        let mut owned = Recorder::of(&spans);
        for record in spans.records() {
            if record.start < from || record.start >= to || !owned.is_of(&record, service) {
                continue;
            }
            let key = (record.start, record.span_id, record.trace_id);
            if latest.floor().is_some_and(|floor| key < floor) {
                latest.truncated = true;
                continue;
            }
            if seen.insert((record.trace_id, record.span_id)) {
                let span = owned.span(&record).ok_or_else(|| unreadable(block))?;
                latest.add(key, span);
            }
        }
    }
    Ok(latest.found())
}

/// Start, span and trace.
type Key = (u64, [u8; 8], [u8; 16]);

/// The latest of all spans that are added, as many as an answer may have.
struct Latest {
    spans: BTreeMap<Key, RecordedSpan>,
    bytes: usize,
    limit: usize,
    most_bytes: usize,
    /// The latest that there was no room for: an earlier one would leave a gap.
    left_out: Option<Key>,
    truncated: bool,
}

impl Latest {
    fn new(limit: usize, most_bytes: usize) -> Self {
        Self {
            spans: BTreeMap::new(),
            bytes: 0,
            limit,
            most_bytes,
            left_out: None,
            truncated: false,
        }
    }

    /// What began before this one is not wanted any more.
    fn floor(&self) -> Option<Key> {
        let is_full = self.spans.len() >= self.limit;
        let first = self.spans.keys().next().filter(|_| is_full);
        first.copied().max(self.left_out)
    }

    fn add(&mut self, key: Key, span: RecordedSpan) {
        self.bytes += span.size();
        self.spans.insert(key, span);
        while self.spans.len() > self.limit || self.bytes > self.most_bytes {
            let Some((key, span)) = self.spans.pop_first() else {
                return;
            };
            self.bytes -= span.size();
            self.left_out = self.left_out.max(Some(key));
            self.truncated = true;
        }
    }

    fn found(self) -> FoundSpans {
        FoundSpans {
            spans: self.spans.into_values().collect(),
            bytes: self.bytes,
            truncated: self.truncated,
        }
    }
}

fn operations(index: &mut Index, service: &str) -> rusqlite::Result<Vec<(Text, RecordedKind)>> {
    let mut blocks: Vec<_> = index
        .heads()
        .filter(|(_, head)| head.may_have(service))
        .map(|(id, head)| (head.last(), id))
        .collect();
    blocks.sort_unstable_by(|a, b| b.cmp(a));
    let mut found: BTreeMap<(Text, &'static str), RecordedKind> = BTreeMap::new();
    for (_, block) in blocks.into_iter().take(OPERATION_BLOCKS) {
        let bytes = index.bytes(block)?;
        let spans = spans(&bytes, block)?;
        let recorder = Recorder::of(&spans);
        let own = spans.records().filter(|r| recorder.is_of(r, service));
        let named = own.map(|r| {
            let name = spans.name(&r).ok_or_else(|| unreadable(block))?;
            Ok((name, r.kind()))
        });
        for (name, kind) in named.collect::<rusqlite::Result<HashSet<_>>>()? {
            let kind = kind_of_number(kind);
            if found.len() < OPERATIONS {
                found.insert((Text::new(name), kind.as_str()), kind);
            }
        }
    }
    Ok(found
        .into_iter()
        .map(|((name, _), kind)| (name, kind))
        .collect())
}

/// Groups of all blocks, added up.
#[derive(Clone, Copy)]
struct Sum {
    first: u64,
    last: u64,
    spans: u64,
    failed: u64,
    traces: u64,
}

fn grouped(index: &Index, by: impl Fn(&Group) -> &str) -> BTreeMap<Text, Sum> {
    let mut sums: HashMap<&str, Sum> = HashMap::new();
    for group in index.heads().flat_map(|(_, head)| &head.groups) {
        let sum = sums.entry(by(group)).or_insert(Sum {
            first: u64::MAX,
            last: 0,
            spans: 0,
            failed: 0,
            traces: 0,
        });
        sum.first = sum.first.min(group.first);
        sum.last = sum.last.max(group.last);
        sum.spans += u64::from(group.spans);
        sum.failed += u64::from(group.failed);
        sum.traces += u64::from(group.traces);
    }
    sums.into_iter()
        .map(|(name, sum)| (Text::new(name), sum))
        .collect()
}

fn service(name: Text, sum: &Sum) -> Service {
    Service {
        name,
        first_seen: time(sum.first),
        last_seen: time(sum.last),
        spans: sum.spans,
        errors: sum.failed,
    }
}

fn project(name: Text, sum: &Sum) -> Project {
    Project {
        name,
        traces: sum.traces,
        spans: sum.spans,
        errors: sum.failed,
        first_seen: time(sum.first),
        last_seen: time(sum.last),
    }
}

/// `now` when somebody is writing: the latest run is not over then.
fn completeness(index: &Index, now: Option<SystemTime>) -> rusqlite::Result<Completeness> {
    let connection = index.connection();
    let kept_since = "SELECT value FROM fact WHERE key = 'kept_since'";
    let kept_since = connection.query_row(kept_since, [], |row| row.get(0))?;
    let mut runs = connection
        .prepare("SELECT started, seen FROM run ORDER BY id")?
        .query_map([], |row| {
            Ok(Window {
                from: time(row.get(0)?),
                to: time(row.get(1)?),
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if let (Some(run), Some(now)) = (runs.last_mut(), now) {
        run.to = run.to.max(now);
    }
    let losses = connection
        .prepare("SELECT first, last, spans, reason FROM loss ORDER BY id")?
        .query_map([], |row| {
            Ok(LostSpans {
                first: time(row.get(0)?),
                last: time(row.get(1)?),
                count: row.get(2)?,
                reason: Text::new(row.get::<_, String>(3)?),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Completeness {
        kept_since: time(kept_since),
        runs,
        losses,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{SpanId, SpanStatus};

    fn span(start: u64, name: &str) -> RecordedSpan {
        RecordedSpan {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([1; 8]),
            parent: None,
            tracestate: Text::default(),
            service: Text::default(),
            resource: Arc::default(),
            scope: Text::default(),
            scope_version: Text::default(),
            name: Text::new(name),
            kind: RecordedKind::Server,
            start: time(start),
            duration: Duration::ZERO,
            status: SpanStatus::Unset,
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            dropped: 0,
        }
    }

    fn latest(limit: usize, bytes: usize, starts: &[u64]) -> (Vec<u64>, bool) {
        let mut latest = Latest::new(limit, bytes);
        for start in starts {
            let key = (*start, [1; 8], [1; 16]);
            if latest.floor().is_none_or(|floor| floor < key) {
                let name = if *start == 5 {
                    "large".repeat(50)
                } else {
                    String::new()
                };
                latest.add(key, span(*start, &name));
            }
        }
        let found = latest.found();
        let sizes: usize = found.spans.iter().map(RecordedSpan::size).sum();
        assert_eq!(found.bytes, sizes);
        assert!(found.bytes <= bytes);
        (
            found
                .spans
                .iter()
                .map(|span| super::nanos(span.start))
                .collect(),
            found.truncated,
        )
    }

    #[test]
    fn the_latest_are_kept_without_a_gap_whatever_there_is_no_room_for() {
        let small = span(1, "").size();
        assert_eq!(latest(9, 3 * small, &[1, 3, 2]), (vec![1, 2, 3], false));
        assert_eq!(latest(2, 9 * small, &[1, 3, 2]), (vec![2, 3], true));
        assert_eq!(latest(9, 2 * small, &[3, 1, 2]), (vec![2, 3], true));
        // The large one has no room; an earlier one that had would stand for it.
        assert_eq!(latest(9, 2 * small, &[7, 5, 4]), (vec![7], true));
        assert_eq!(latest(9, small - 1, &[7]), (vec![], true));
    }
}
