//! A target as it is remembered: what it was found to be, and what alerting thinks of it.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::probe::read_trace;
use super::salvage::readable_as;
use super::schema::{from_word, nanos, time};
use super::writer::Shown;
use crate::model::{
    Dialect, Layer, ProbeResult, Reason, State, Target, TargetStatus, Text, TraceId, Verdict,
};

/// What a target is known to be besides its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Where it was, without credentials.
    pub endpoint: String,
    /// What its last working session spoke.
    pub dialect: Option<Dialect>,
    /// Its service in traces, where learnt.
    pub service: Option<String>,
    /// A span of it was seen at some time.
    pub instrumented: bool,
    /// How late its spans usually are; zero where that was not measured.
    pub lag: Duration,
    /// What alerting remembers of it; nothing when it is unremarkable.
    pub memory: Option<String>,
}

/// A row of `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetRow {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) since: Option<SystemTime>,
    pub(super) failed_layer: Option<Layer>,
    pub(super) reason: Option<Reason>,
    pub(super) message: Option<Text>,
    pub(super) last_probe_at: Option<SystemTime>,
    pub(super) trace_id: Option<TraceId>,
    pub(super) incident: Option<String>,
    pub(super) suspect: bool,
    pub(super) remembered: Remembered,
}

impl TargetRow {
    pub(super) fn new(target: &Target) -> Self {
        Self {
            name: target.name.clone(),
            state: State::Unknown,
            since: None,
            failed_layer: None,
            reason: None,
            message: None,
            last_probe_at: None,
            trace_id: None,
            incident: None,
            suspect: false,
            remembered: Remembered {
                endpoint: target.endpoint.shown().to_owned(),
                ..Remembered::default()
            },
        }
    }

    /// Takes in a probe; whether anything is new besides that there was one. A target that has moved has forgotten what
    /// it spoke.
    pub(super) fn take_in(
        &mut self,
        target: &Target,
        result: &ProbeResult,
        shown: &Shown,
        memory: Option<&String>,
    ) -> bool {
        self.last_probe_at = Some(result.started_at);
        self.trace_id = Some(result.trace_id);
        let ours = &self.remembered;
        // Only a session that worked says what the server speaks.
        let dialect = result.state.works().then(|| result.dialect()).flatten();
        let failed_layer = result.failure.as_ref().map(|failure| failure.layer);
        let same = self.state == shown.state
            && self.since == Some(shown.since)
            && self.suspect == shown.suspect
            && self.incident == shown.incident
            && self.failed_layer == failed_layer
            && self.reason == result.reason()
            && self.message.as_ref() == result.message()
            && (dialect.is_none() || ours.dialect == dialect)
            && ours.memory.as_ref() == memory
            && ours.endpoint == target.endpoint.shown();
        if same {
            return false;
        }
        self.move_to(target);
        self.state = shown.state;
        self.since = Some(shown.since);
        self.suspect = shown.suspect;
        self.incident.clone_from(&shown.incident);
        self.failed_layer = failed_layer;
        self.reason = result.reason();
        self.message = result.message().cloned();
        self.remembered.dialect = dialect.or(self.remembered.dialect);
        self.remembered.memory = memory.cloned();
        true
    }

    pub(super) fn move_to(&mut self, target: &Target) {
        if self.remembered.endpoint != target.endpoint.shown() {
            target
                .endpoint
                .shown()
                .clone_into(&mut self.remembered.endpoint);
            self.remembered.dialect = None;
        }
    }

    /// Takes in what a file remembers of it that was opened late: only what no probe of this run has told.
    pub(super) fn learn(&mut self, old: Self) {
        if self.last_probe_at.is_none() {
            let endpoint = std::mem::take(&mut self.remembered.endpoint);
            *self = old;
            if self.remembered.endpoint != endpoint {
                self.remembered.dialect = None;
                self.remembered.endpoint = endpoint;
            }
            return;
        }
        let ours = &mut self.remembered;
        if ours.endpoint == old.remembered.endpoint {
            ours.dialect = ours.dialect.or(old.remembered.dialect);
        }
        ours.service = ours.service.take().or(old.remembered.service);
        ours.instrumented |= old.remembered.instrumented;
        if ours.lag.is_zero() {
            ours.lag = old.remembered.lag;
        }
    }

    /// What `status` says of it, but for the verdict.
    pub(super) fn status(&self) -> TargetStatus {
        TargetStatus {
            state: self.state,
            since: self.since,
            failed_layer: self.failed_layer,
            reason: self.reason,
            message: self.message.clone(),
            last_probe_at: self.last_probe_at,
            trace_id: self.trace_id,
            incident: self.incident.clone(),
            suspect: self.suspect,
            ..TargetStatus::unknown(&self.name)
        }
    }

    /// Writes only that there was a probe: of a thousand that is all that is new.
    pub(super) fn write_seen(&self, to: &Connection, number: i64) -> rusqlite::Result<()> {
        to.prepare_cached("UPDATE target SET last_probe = ?2, trace = ?3 WHERE id = ?1")?
            .execute(params![
                number,
                self.last_probe_at.map(nanos),
                self.trace_id.as_ref().map(|trace| trace.0.as_slice()),
            ])
            .map(drop)
    }

    /// Writes it; answers its number, which is looked for by its name unless it is known.
    pub(super) fn write(&self, to: &Connection, number: Option<i64>) -> rusqlite::Result<i64> {
        let number = match number {
            Some(number) => number,
            None => to
                .prepare_cached(
                    "INSERT INTO target (name, endpoint) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET endpoint = excluded.endpoint RETURNING id",
                )?
                .query_row(params![self.name, self.remembered.endpoint], |row| {
                    row.get(0)
                })?,
        };
        to.prepare_cached(
            "UPDATE target SET state = ?2, since = ?3, failed_layer = ?4, reason = ?5, message = ?6, last_probe = ?7,
                               trace = ?8, incident = ?9, suspect = ?10, endpoint = ?11, dialect = ?12, service = ?13,
                               instrumented = ?14, alert = ?15, lag = ?16
             WHERE id = ?1",
        )?
        .execute(params![
            number,
            self.state.as_str(),
            self.since.map(nanos),
            self.failed_layer.map(Layer::as_str),
            self.reason.map(Reason::as_str),
            self.message.as_ref().map(Text::as_str),
            self.last_probe_at.map(nanos),
            self.trace_id.as_ref().map(|trace| trace.0.as_slice()),
            self.incident,
            self.suspect,
            self.remembered.endpoint,
            self.remembered.dialect.map(Dialect::as_str),
            self.remembered.service,
            self.remembered.instrumented,
            self.remembered.memory,
            millis(self.remembered.lag),
        ])?;
        Ok(number)
    }

    /// The same, as far as they can be read.
    pub(super) fn readable(from: &Connection) -> Vec<(i64, Self)> {
        let columns = format!("{COLUMNS}, id");
        readable_as(from, "target", &columns, "id", "", &|row| {
            Ok((row.get(16)?, read(row)?))
        })
    }

    /// Every target, with its number.
    pub(super) fn all(from: &Connection) -> rusqlite::Result<Vec<(i64, Self)>> {
        from.prepare(&format!("SELECT {COLUMNS}, id FROM target ORDER BY id"))?
            .query_map([], |row| Ok((row.get(16)?, read(row)?)))?
            .collect()
    }
}

const COLUMNS: &str =
    "name, state, since, failed_layer, reason, message, last_probe, trace, incident, suspect,
    endpoint, dialect, service, instrumented, alert, lag";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<TargetRow> {
    Ok(TargetRow {
        name: row.get(0)?,
        state: from_word(row.get(1)?).unwrap_or_default(),
        since: row.get::<_, Option<i64>>(2)?.map(time),
        failed_layer: from_word(row.get(3)?),
        reason: from_word(row.get(4)?),
        message: row.get::<_, Option<String>>(5)?.map(Text::new),
        last_probe_at: row.get::<_, Option<i64>>(6)?.map(time),
        trace_id: read_trace(row.get(7)?),
        incident: row.get(8)?,
        suspect: row.get(9)?,
        remembered: Remembered {
            endpoint: row.get(10)?,
            dialect: from_word(row.get(11)?),
            service: row.get(12)?,
            instrumented: row.get(13)?,
            memory: row.get(14)?,
            lag: row
                .get::<_, Option<u32>>(15)?
                .map_or(Duration::ZERO, |lag| Duration::from_millis(lag.into())),
        },
    })
}

/// Nothing where it was not measured.
fn millis(lag: Duration) -> Option<u32> {
    u32::try_from(lag.as_millis()).ok().filter(|lag| *lag > 0)
}

/// The target of that name.
pub(super) fn named(from: &Connection, name: &str) -> rusqlite::Result<Option<TargetRow>> {
    from.prepare_cached(&format!("SELECT {COLUMNS} FROM target WHERE name = ?1"))?
        .query_row([name], read)
        .optional()
}

/// What `status` says of it: its incident is the open outage, else the open one of another kind.
pub(super) fn status(from: &Connection, name: &str) -> rusqlite::Result<Option<TargetStatus>> {
    let Some(target) = named(from, name)? else {
        return Ok(None);
    };
    let mut status = target.status();
    status.incident = None;
    let read = |row: &Row<'_>| {
        status.incident = row.get(0)?;
        let verdict: Option<String> = row.get(1)?;
        status.verdict = verdict.as_deref().and_then(Verdict::parse);
        status.verdict_reason = row.get::<_, Option<String>>(2)?.map(Text::new);
        status.provisional = row.get(3)?;
        Ok(())
    };
    from.prepare_cached(
        "SELECT id, verdict, verdict_reason, provisional FROM incident WHERE server = ?1 AND resolved IS NULL
         ORDER BY kind = 'outage' DESC, first_failed LIMIT 1",
    )?
    .query_row([name], read)
    .optional()?;
    Ok(Some(status))
}
