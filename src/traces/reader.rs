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
use super::block::Spans;
use super::convention::kind_of_number;
use super::file;
use super::head::{Group, fingerprint};
use super::index::Index;
use super::list::list;
use super::pending::Intake;
use super::query::{
    Completeness, LostSpans, Project, Service, ServiceSpans, Stats, TraceFilter, TraceList,
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

    /// All spans of a trace in the order in which they began; empty when there are none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn trace(&self, id: TraceId) -> Result<Vec<RecordedSpan>, Unavailable> {
        self.with(Vec::new(), |index| trace(index, id))
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
    ) -> Result<ServiceSpans, Unavailable> {
        self.with(ServiceSpans::default(), |index| {
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

pub(super) fn trace(index: &mut Index, id: TraceId) -> rusqlite::Result<Vec<RecordedSpan>> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for block in index.with_trace(fingerprint(id.0))? {
        let Some(bytes) = index.bytes(block)? else {
            continue;
        };
        let Some(spans) = Spans::read(&bytes) else {
            continue;
        };
        let mut owned = Recorder::of(&spans);
        for record in spans.records().filter(|r| r.trace_id == id.0) {
            if found.len() < TRACE_SPANS
                && let Some(span) = owned.span(&record)
                && seen.insert((span.span_id, span.service.clone()))
            {
                found.push(span);
            }
        }
    }
    found.sort_by_key(|span| (span.start, span.span_id));
    Ok(found)
}

fn service_window(
    index: &mut Index,
    service: &str,
    window: Window,
    limit: usize,
) -> rusqlite::Result<ServiceSpans> {
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
    let mut found: BTreeMap<(u64, [u8; 8], [u8; 16]), RecordedSpan> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut truncated = false;
    for (last, block) in blocks {
        if found.len() >= limit && found.keys().next().is_some_and(|first| last < first.0) {
            truncated = true;
            break;
        }
        let Some(bytes) = index.bytes(block)? else {
            continue;
        };
        let Some(spans) = Spans::read(&bytes) else {
            continue;
        };
        let mut owned = Recorder::of(&spans);
        for record in spans.records() {
            if record.start < from || record.start >= to || !owned.is_of(&record, service) {
                continue;
            }
            let key = (record.start, record.span_id, record.trace_id);
            if found.len() >= limit && found.keys().next().is_some_and(|first| key < *first) {
                truncated = true;
                continue;
            }
            if seen.insert((record.trace_id, record.span_id))
                && let Some(span) = owned.span(&record)
            {
                found.insert(key, span);
            }
            if found.len() > limit {
                found.pop_first();
                truncated = true;
            }
        }
    }
    Ok(ServiceSpans {
        spans: found.into_values().collect(),
        truncated,
    })
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
        let Some(bytes) = index.bytes(block)? else {
            continue;
        };
        let Some(spans) = Spans::read(&bytes) else {
            continue;
        };
        let recorder = Recorder::of(&spans);
        let own = spans.records().filter(|r| recorder.is_of(r, service));
        let names: HashSet<_> = own
            .map(|r| (spans.name(&r).unwrap_or_default(), r.kind()))
            .collect();
        for (name, kind) in names {
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
