//! A probe as it is kept: about a hundred bytes when it passed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Row, params};

use super::schema::{from_word, nanos, time};
use super::writer::Shown;
use crate::model::{
    Layer, Outcome, ProbeResult, Reason, State, StoredProbe, Text, TraceId, Window,
};

/// Bits of `flags`: a further probe after a failed one, which is no sample of its own.
pub(super) const CONFIRMATION: u8 = 1;
/// The first probe that found its target's state: kept as long as a failure.
pub(super) const CHANGE: u8 = 2;
/// A failure that is not the target's: the prober itself was cut off.
pub(super) const NOT_COUNTED: u8 = 4;

/// A row of `probe` on its way to the disk.
#[derive(Clone, Debug)]
pub(super) struct ProbeRow {
    /// Counts what came in; the row's number is made from it, so that the order stays, however late it is written.
    pub(super) order: i64,
    /// The target's place in the image.
    pub(super) target: usize,
    pub(super) flags: u8,
    state: State,
    started_at: SystemTime,
    duration: Duration,
    trace_id: TraceId,
    layers: [Option<Duration>; 4],
    /// Boxed: most probes pass, and many may have to wait.
    trouble: Option<Box<Trouble>>,
}

/// Why a probe did not simply pass.
#[derive(Clone, Debug)]
struct Trouble {
    layer: Option<Layer>,
    reason: Option<Reason>,
    message: Option<Text>,
    http_status: Option<u16>,
    jsonrpc_code: Option<i64>,
    operations: Option<String>,
}

impl ProbeRow {
    pub(super) fn new(
        order: i64,
        target: usize,
        result: &ProbeResult,
        shown: &Shown,
        confirmation: bool,
    ) -> Self {
        let mut flags = if confirmation { CONFIRMATION } else { 0 };
        if shown.since == result.started_at {
            flags |= CHANGE;
        }
        if result.state.failed() && shown.state == State::Unknown {
            flags |= NOT_COUNTED;
        }
        let failure = result.failure.as_ref();
        let trouble = (failure.is_some() || result.shortfall.is_some()).then(|| {
            Box::new(Trouble {
                layer: failure.map(|failure| failure.layer),
                reason: result.reason(),
                message: result.message().cloned(),
                http_status: failure.and_then(|failure| failure.http_status),
                jsonrpc_code: failure.and_then(|failure| failure.jsonrpc_code),
                operations: failure.and_then(|_| serde_json::to_string(&result.operations).ok()),
            })
        });
        let passed = |layer: &crate::model::LayerResult| {
            (layer.outcome == Outcome::Ok).then_some(layer.duration)
        };
        Self {
            order,
            target,
            flags,
            state: result.state,
            started_at: result.started_at,
            duration: result.duration,
            trace_id: result.trace_id,
            layers: result.layers.each_ref().map(passed),
            trouble,
        }
    }

    /// Whether it is one of very many: it passed, as the one before.
    pub(super) fn is_routine(&self) -> bool {
        self.state.works() && self.flags & CHANGE == 0
    }

    pub(super) fn write(&self, to: &Connection, number: i64, target: i64) -> rusqlite::Result<()> {
        let duration = i64::try_from(self.duration.as_nanos()).unwrap_or(i64::MAX);
        let layers = Durations::new(&self.layers);
        let Some(trouble) = self.trouble.as_deref() else {
            return to
                .prepare_cached(
                    "INSERT OR REPLACE INTO probe (id, target, started, duration, state, trace, layers, flags)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    number,
                    target,
                    nanos(self.started_at),
                    duration,
                    self.state.as_str(),
                    self.trace_id.0.as_slice(),
                    layers.as_slice(),
                    self.flags,
                ])
                .map(drop);
        };
        to.prepare_cached(
            "INSERT OR REPLACE INTO probe (id, target, started, duration, state, trace, layers, flags,
                                           layer, reason, message, http_status, jsonrpc_code, operations)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            number,
            target,
            nanos(self.started_at),
            duration,
            self.state.as_str(),
            self.trace_id.0.as_slice(),
            layers.as_slice(),
            self.flags,
            trouble.layer.map(Layer::as_str),
            trouble.reason.map(Reason::as_str),
            trouble.message.as_ref().map(Text::as_str),
            trouble.http_status,
            trouble.jsonrpc_code,
            trouble.operations.as_deref(),
        ])
        .map(drop)
    }
}

/// The layers' durations in a few bytes: four numbers, seven bits to a byte, of microseconds and one; zero for a layer
/// that did not pass.
struct Durations {
    bytes: [u8; 4 * 10],
    length: usize,
}

impl Durations {
    fn new(layers: &[Option<Duration>; 4]) -> Self {
        let mut this = Self {
            bytes: [0; 40],
            length: 0,
        };
        for layer in layers {
            let micros = layer.map_or(0, |d| {
                u64::try_from(d.as_micros()).unwrap_or(u64::MAX - 1) + 1
            });
            push_number(micros, |byte| {
                if let Some(slot) = this.bytes.get_mut(this.length) {
                    *slot = byte;
                    this.length += 1;
                }
            });
        }
        this
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Writes a number, its low seven bits first.
pub(super) fn push_number(mut number: u64, mut push: impl FnMut(u8)) {
    while number >= 0x80 {
        push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    push(number as u8);
}

/// Reads what [`push_number`] wrote; `None` at the end and where it is no such thing.
pub(super) fn take_number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The layers' durations, for those that passed.
pub(super) fn read_layers(bytes: Option<&[u8]>) -> [Option<Duration>; 4] {
    let mut bytes = bytes.unwrap_or_default().iter().copied();
    [(); 4].map(|()| {
        let micros = take_number(&mut bytes)?.checked_sub(1)?;
        Some(Duration::from_micros(micros))
    })
}

pub(super) fn read_trace(bytes: Option<Vec<u8>>) -> Option<TraceId> {
    bytes?.try_into().ok().map(TraceId)
}

/// The number of the newest probe; 0 without any.
pub(super) fn newest(from: &Connection) -> rusqlite::Result<i64> {
    from.query_row("SELECT coalesce(max(id), 0) FROM probe", [], |row| {
        row.get(0)
    })
}

/// Probes of one target: `rest` goes on after `WHERE t.name = ?1 AND`.
pub(super) fn of(
    from: &Connection,
    rest: &str,
    params: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<StoredProbe>> {
    let sql = format!(
        "SELECT p.trace, p.started, p.duration, p.state, p.layer, p.http_status, p.operations, p.reason
         FROM probe p JOIN target t ON t.id = p.target WHERE t.name = ?1 AND {rest}"
    );
    from.prepare_cached(&sql)?
        .query_map(params, read_stored)?
        .collect()
}

/// The traces of every probe of the target that started in the window.
pub(super) fn traces(
    from: &Connection,
    name: &str,
    window: Window,
) -> rusqlite::Result<BTreeSet<TraceId>> {
    let traces: rusqlite::Result<Vec<_>> = from
        .prepare_cached(
            "SELECT p.trace FROM probe p JOIN target t ON t.id = p.target
             WHERE t.name = ?1 AND p.started >= ?2 AND p.started < ?3",
        )?
        .query_map(params![name, nanos(window.from), nanos(window.to)], |row| {
            Ok(read_trace(row.get(0)?))
        })?
        .collect();
    Ok(traces?.into_iter().flatten().collect())
}

fn read_stored(row: &Row<'_>) -> rusqlite::Result<StoredProbe> {
    let started_at = time(row.get(1)?);
    let operations: Option<String> = row.get(6)?;
    Ok(StoredProbe {
        trace_id: read_trace(row.get(0)?).unwrap_or(TraceId([0; 16])),
        started_at,
        ended_at: started_at + read_duration(row.get(2)?),
        state: from_word(row.get(3)?).unwrap_or_default(),
        layer: from_word(row.get(4)?),
        http_status: row.get(5)?,
        reason: from_word(row.get(7)?),
        operations: operations
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default(),
    })
}

fn read_duration(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

/// A probe as it is played to a policy again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedProbe {
    /// Name of the target.
    pub target: Arc<str>,
    /// When it started.
    pub started_at: SystemTime,
    /// When its last layer was decided.
    pub ended_at: SystemTime,
    /// What it found.
    pub state: State,
    /// The layer that failed.
    pub layer: Option<Layer>,
    /// Why.
    pub reason: Option<Reason>,
    /// The same in a sentence.
    pub message: Option<Text>,
    /// How long each layer took, where it passed.
    pub layers: [Option<Duration>; 4],
    /// Its trace.
    pub trace_id: TraceId,
    /// It was a further probe after a failed one.
    pub confirmation: bool,
    /// It failed because the prober itself was cut off.
    pub isolated: bool,
}

/// Rows that are read at once: a page's read lock is held for a millisecond, so that the log can be emptied meanwhile.
const PAGE: i64 = 1_000;

/// Every probe since a time, in the order in which they ended, a page at a time.
pub struct RecordedProbes<'a> {
    pub(super) store: &'a Connection,
    pub(super) since: SystemTime,
    pub(super) after: i64,
    pub(super) names: Vec<(i64, Arc<str>)>,
    pub(super) page: VecDeque<RecordedProbe>,
    pub(super) ended: bool,
}

impl RecordedProbes<'_> {
    fn turn(&mut self) -> rusqlite::Result<()> {
        // The page is cut by number and only then by time: no page has to look for its first row.
        let mut statement = self.store.prepare_cached(
            "SELECT id, target, started, duration, state, layer, reason, message, trace, flags, layers FROM probe
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = statement.query(params![self.after, PAGE])?;
        self.ended = true;
        while let Some(row) = rows.next()? {
            self.ended = false;
            self.after = row.get(0)?;
            let started_at = time(row.get(2)?);
            let number: i64 = row.get(1)?;
            let name = self.names.binary_search_by_key(&number, |(id, _)| *id);
            let (true, Some((_, name))) = (
                started_at >= self.since,
                name.ok().and_then(|at| self.names.get(at)),
            ) else {
                continue;
            };
            let flags: u8 = row.get(9)?;
            self.page.push_back(RecordedProbe {
                target: Arc::clone(name),
                started_at,
                ended_at: started_at + read_duration(row.get(3)?),
                state: from_word(row.get(4)?).unwrap_or_default(),
                layer: from_word(row.get(5)?),
                reason: from_word(row.get(6)?),
                message: row.get::<_, Option<String>>(7)?.map(Text::new),
                layers: read_layers(row.get_ref(10)?.as_blob_or_null()?),
                trace_id: read_trace(row.get(8)?).unwrap_or(TraceId([0; 16])),
                confirmation: flags & CONFIRMATION != 0,
                isolated: flags & NOT_COUNTED != 0,
            });
        }
        Ok(())
    }
}

impl Iterator for RecordedProbes<'_> {
    type Item = Result<RecordedProbe, String>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && !self.ended {
            if let Err(error) = self.turn() {
                self.ended = true;
                return Some(Err(format!("cannot read the store: {error}")));
            }
        }
        self.page.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn durations_of_layers_come_back_to_the_microsecond(micros in proptest::collection::vec(proptest::option::of(0..u64::MAX / 2), 4)) {
            let layers = std::array::from_fn(|n| micros[n].map(Duration::from_micros));
            prop_assert_eq!(read_layers(Some(Durations::new(&layers).as_slice())), layers);
        }

        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            read_layers(Some(&bytes));
        }
    }

    #[test]
    fn a_usual_probe_needs_eight_bytes() {
        let layers = [1, 9, 12, 100].map(|ms| Some(Duration::from_millis(ms)));
        assert!(Durations::new(&layers).as_slice().len() <= 9);
        assert_eq!(read_layers(None), [None; 4]);
    }
}
