//! Incidents, with what is told of them: timeline, conversation, acknowledgement.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::probe::read_trace;
use super::salvage::readable_as;
use super::schema::{from_word, nanos, time};
use crate::model::{
    Acknowledgement, Incident, IncidentKind, Layer, Reason, Resolution, Severity, State, Text,
    TimelineEntry, TimelineKind, Verdict,
};

/// Which incidents are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    /// Of this target only.
    pub server: Option<String>,
    /// Only those that have not ended.
    pub open: bool,
    /// Only those that had not ended before.
    pub since: Option<SystemTime>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

/// Longest conversation that is kept, in bytes: a handshake's messages and a part of the tools; the rest is cut.
const MAX_CONVERSATION: usize = 64 * 1024;

const COLUMNS: &str =
    "i.id, i.server, i.kind, i.severity, i.state, i.failed_layer, i.reason, i.message, i.trace,
    i.first_failed, i.opened, i.resolved, i.resolution, i.flapping, a.at, a.by, i.suppressed, i.verdict,
    i.verdict_reason, i.provisional";
const TABLES: &str = "incident i LEFT JOIN acknowledgement a ON a.incident = i.id";

pub(super) fn write(to: &Connection, incident: &Incident) -> rusqlite::Result<()> {
    to.prepare_cached(
        "INSERT OR REPLACE INTO incident (id, server, kind, severity, state, failed_layer, reason, message, trace,
                                          first_failed, opened, resolved, resolution, flapping, suppressed, verdict,
                                          verdict_reason, provisional)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
    )?
    .execute(params![
        incident.id,
        incident.server,
        incident.kind.as_str(),
        incident.severity.as_str(),
        incident.state.as_str(),
        incident.failed_layer.map(Layer::as_str),
        incident.reason.map(Reason::as_str),
        incident.message.as_str(),
        incident.trace_id.as_ref().map(|trace| trace.0.as_slice()),
        nanos(incident.first_failed_at),
        nanos(incident.opened_at),
        incident.resolved_at.map(nanos),
        incident.resolution.map(Resolution::as_str),
        incident.flapping,
        incident.suppressed.as_ref().map(Text::as_str),
        incident.verdict.map(Verdict::as_str),
        incident.verdict_reason.as_ref().map(Text::as_str),
        incident.provisional,
    ])?;
    match &incident.acknowledged {
        Some(acknowledged) => acknowledge(to, &incident.id, acknowledged).map(drop),
        None => Ok(()),
    }
}

/// The first who takes it has it. In a table of its own: it is written by another process than the incident, and
/// neither may overwrite the other. Answers whether it was the first.
pub(super) fn acknowledge(
    to: &Connection,
    incident: &str,
    acknowledged: &Acknowledgement,
) -> rusqlite::Result<bool> {
    let rows = to
        .prepare_cached(
            "INSERT OR IGNORE INTO acknowledgement (incident, at, by) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![
            incident,
            nanos(acknowledged.at),
            acknowledged.by.as_str()
        ])?;
    Ok(rows > 0)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Incident> {
    let acknowledged = match (
        row.get::<_, Option<i64>>(14)?,
        row.get::<_, Option<String>>(15)?,
    ) {
        (Some(at), Some(by)) => Some(Acknowledgement {
            at: time(at),
            by: Text::new(by),
        }),
        _ => None,
    };
    let verdict: Option<String> = row.get(17)?;
    Ok(Incident {
        id: row.get(0)?,
        server: row.get(1)?,
        kind: from_word(row.get(2)?).unwrap_or(IncidentKind::Outage),
        severity: from_word(row.get(3)?).unwrap_or(Severity::Critical),
        state: from_word(row.get(4)?).unwrap_or(State::Unknown),
        failed_layer: from_word(row.get(5)?),
        reason: from_word(row.get(6)?),
        message: Text::new(row.get::<_, String>(7)?),
        trace_id: read_trace(row.get(8)?),
        first_failed_at: time(row.get(9)?),
        opened_at: time(row.get(10)?),
        resolved_at: row.get::<_, Option<i64>>(11)?.map(time),
        resolution: from_word(row.get(12)?),
        flapping: row.get(13)?,
        acknowledged,
        suppressed: row.get::<_, Option<String>>(16)?.map(Text::new),
        verdict: verdict.as_deref().and_then(Verdict::parse),
        verdict_reason: row.get::<_, Option<String>>(18)?.map(Text::new),
        provisional: row.get(19)?,
    })
}

/// The incident `id`.
pub(super) fn one(from: &Connection, id: &str) -> rusqlite::Result<Option<Incident>> {
    from.prepare_cached(&format!("SELECT {COLUMNS} FROM {TABLES} WHERE i.id = ?1"))?
        .query_row([id], read)
        .optional()
}

/// Those that have not ended, oldest first.
pub(super) fn open(from: &Connection) -> rusqlite::Result<Vec<Incident>> {
    from.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE i.resolved IS NULL ORDER BY i.first_failed, i.id"
    ))?
    .query_map([], read)?
    .collect()
}

/// The same, as far as they can be read, and without acknowledgements.
pub(super) fn readable_open(from: &Connection) -> Vec<Incident> {
    let columns = COLUMNS.replace("a.at, a.by", "NULL, NULL");
    let open = "WHERE i.resolved IS NULL";
    readable_as(from, "incident i", &columns, "i.id", open, &read)
}

/// Those that the filter lets through, newest first.
pub(super) fn listed(
    from: &Connection,
    filter: &IncidentFilter,
) -> rusqlite::Result<Vec<Incident>> {
    let limit = filter
        .limit
        .map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    from.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {TABLES}
         WHERE (?1 IS NULL OR i.server = ?1) AND (NOT ?2 OR i.resolved IS NULL)
           AND (?3 IS NULL OR i.resolved IS NULL OR i.resolved >= ?3)
         ORDER BY i.first_failed DESC, i.id LIMIT ?4"
    ))?
    .query_map(
        params![filter.server, filter.open, filter.since.map(nanos), limit],
        read,
    )?
    .collect()
}

/// The target's last incident that had begun `after` and not ended `before`; an outage rather than another kind.
pub(super) fn around(
    from: &Connection,
    name: &str,
    after: SystemTime,
    before: SystemTime,
) -> rusqlite::Result<Option<Incident>> {
    from.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {TABLES}
         WHERE i.server = ?1 AND i.first_failed <= ?2 AND (i.resolved IS NULL OR i.resolved >= ?3)
         ORDER BY i.kind = 'outage' DESC, i.first_failed DESC LIMIT 1"
    ))?
    .query_row(params![name, nanos(after), nanos(before)], read)
    .optional()
}

pub(super) fn write_timeline(to: &Connection, entry: &TimelineEntry) -> rusqlite::Result<()> {
    to.prepare_cached("INSERT INTO timeline (incident, at, what, text) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            entry.incident,
            nanos(entry.at),
            entry.what.as_str(),
            entry.text.as_str()
        ])
        .map(drop)
}

/// The lines of its timeline that were written, in the order of writing.
pub(super) fn timeline(from: &Connection, id: &str) -> rusqlite::Result<Vec<TimelineEntry>> {
    from.prepare_cached("SELECT at, what, text FROM timeline WHERE incident = ?1 ORDER BY id")?
        .query_map([id], |row| {
            Ok(TimelineEntry {
                incident: id.to_owned(),
                at: time(row.get(0)?),
                what: from_word(row.get(1)?).unwrap_or(TimelineKind::Changed),
                text: Text::new(row.get::<_, String>(2)?),
            })
        })?
        .collect()
}

/// Keeps what was said in the first failed probe.
pub(super) fn write_conversation(
    to: &Connection,
    incident: &str,
    text: &str,
) -> rusqlite::Result<()> {
    let end = text.floor_char_boundary(MAX_CONVERSATION);
    to.prepare_cached("INSERT OR REPLACE INTO conversation (incident, text) VALUES (?1, ?2)")?
        .execute(params![incident, text.get(..end)])
        .map(drop)
}

pub(super) fn conversation(from: &Connection, incident: &str) -> rusqlite::Result<Option<String>> {
    from.prepare_cached("SELECT text FROM conversation WHERE incident = ?1")?
        .query_row([incident], |row| row.get(0))
        .optional()
}
