//! What the commands and the daemon read back.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::schema::{self, from_word, nanos, time};
use crate::model::{Dialect, StoredProbe, TargetStatus, Text, TraceId, Verdict, Window};

/// Failed probes of one incident that are looked at: the first ones. A day at a minute.
const MAX_FAILED: i64 = 1_440;

/// Passed probes before a failure that are looked at; the judge needs three and some slack.
const MAX_PASSED: i64 = 20;

/// A store that is read.
pub struct Reader {
    connection: Connection,
}

/// What a target is known to be besides its status.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// What its last working session spoke.
    pub dialect: Option<Dialect>,
    /// Its service in traces, where learnt.
    pub service: Option<String>,
    /// A span of it was seen at some time.
    pub instrumented: bool,
}

/// An incident of the store.
#[derive(Clone, Debug)]
pub struct StoredIncident {
    /// Its id.
    pub id: String,
    /// Name of the target.
    pub target: String,
    /// Start of the first failed probe.
    pub opened_at: SystemTime,
}

/// The probes around a failure.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Failed probes in a row, oldest first.
    pub failed: Vec<StoredProbe>,
    /// Passed probes before them, newest first.
    pub passed: Vec<StoredProbe>,
    /// Start of the probe that passed again.
    pub recovered_at: Option<SystemTime>,
}

impl Reader {
    /// Opens a store; `None` when no `watch` has made one yet.
    ///
    /// # Errors
    /// A sentence when the file cannot be used.
    pub fn open_if_made(path: &Path) -> Result<Option<Self>, String> {
        let connection = schema::open_to_read(path)?;
        Ok(connection.map(|connection| Self { connection }))
    }

    /// Opens a store that has been made.
    ///
    /// # Errors
    /// A sentence when the file is missing or cannot be used.
    pub fn open(path: &Path) -> Result<Self, String> {
        Self::open_if_made(path)?.ok_or_else(|| format!("there is no store {}", path.display()))
    }

    /// The status of the target called `name`; unknown when the store has never heard of it.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn status(&self, name: &str) -> Result<TargetStatus, String> {
        let status = self
            .connection
            .prepare_cached(
                "SELECT t.state, t.since, t.failed_layer, t.reason, t.message, t.last_probe, t.trace,
                        t.incident, i.verdict, i.verdict_reason, i.provisional
                 FROM target t LEFT JOIN incident i ON i.id = t.incident WHERE t.name = ?1",
            )
            .and_then(|mut statement| statement.query_row([name], |row| read_status(name, row)).optional())
            .map_err(cannot_read)?;
        Ok(status.unwrap_or_else(|| TargetStatus::unknown(name)))
    }

    /// What else is known of the target called `name`.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn remembered(&self, name: &str) -> Result<Remembered, String> {
        let found = self
            .connection
            .query_row(
                "SELECT dialect, service, instrumented FROM target WHERE name = ?1",
                [name],
                |row| {
                    Ok(Remembered {
                        dialect: from_word(row.get(0)?),
                        service: row.get(1)?,
                        instrumented: row.get(2)?,
                    })
                },
            )
            .optional()
            .map_err(cannot_read)?;
        Ok(found.unwrap_or_default())
    }

    /// The incident `id`.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn incident(&self, id: &str) -> Result<Option<StoredIncident>, String> {
        self.connection
            .query_row(
                "SELECT i.id, t.name, i.opened FROM incident i JOIN target t ON t.id = i.target WHERE i.id = ?1",
                [id],
                read_incident,
            )
            .optional()
            .map_err(cannot_read)
    }

    /// The incident of the target `name` in which `at` lies.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn incident_at(
        &self,
        name: &str,
        at: SystemTime,
    ) -> Result<Option<StoredIncident>, String> {
        // A time that a person types is rounded: one second of grace on both sides.
        let (after, before) = (
            nanos(at + Duration::from_secs(1)),
            nanos(at - Duration::from_secs(1)),
        );
        self.connection
            .query_row(
                "SELECT i.id, t.name, i.opened FROM incident i JOIN target t ON t.id = i.target
                 WHERE t.name = ?1 AND i.opened <= ?2 AND (i.closed IS NULL OR i.closed >= ?3)
                 ORDER BY i.opened DESC LIMIT 1",
                params![name, after, before],
                read_incident,
            )
            .optional()
            .map_err(cannot_read)
    }

    /// The failed probes from `first_failure` on until one passed, and the passed ones before.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn history(&self, name: &str, first_failure: SystemTime) -> Result<History, String> {
        let from = nanos(first_failure);
        let mut failed = self.probes(
            "p.started >= ?2 ORDER BY p.started ASC LIMIT ?3",
            params![name, from, MAX_FAILED],
        )?;
        let recovered = failed.iter().position(|probe| probe.state.works());
        let recovered_at = recovered.and_then(|at| Some(failed.get(at)?.started_at));
        failed.truncate(recovered.unwrap_or(failed.len()));
        failed.retain(|probe| probe.state.failed());
        let mut passed = self.probes(
            "p.started < ?2 ORDER BY p.started DESC LIMIT ?3",
            params![name, from, MAX_PASSED],
        )?;
        passed.retain(|probe| probe.state.works());
        Ok(History {
            failed,
            passed,
            recovered_at,
        })
    }

    /// The traces of every probe of the target that started in the window.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn traces(&self, name: &str, window: Window) -> Result<BTreeSet<TraceId>, String> {
        let (from, to) = (nanos(window.from), nanos(window.to));
        let read = |row: &Row<'_>| Ok(read_trace(row.get(0)?));
        let traces: rusqlite::Result<Vec<_>> = self
            .connection
            .prepare_cached(
                "SELECT p.trace FROM probe p JOIN target t ON t.id = p.target
                 WHERE t.name = ?1 AND p.started >= ?2 AND p.started < ?3",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(params![name, from, to], read)?
                    .collect()
            });
        Ok(traces.map_err(cannot_read)?.into_iter().flatten().collect())
    }

    /// The newest passed probes that ended before `before`.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn passed_before(
        &self,
        name: &str,
        before: SystemTime,
        count: usize,
    ) -> Result<Vec<StoredProbe>, String> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.probes(
            "p.started < ?2 AND p.state IN ('up', 'degraded') ORDER BY p.started DESC LIMIT ?3",
            params![name, nanos(before), count],
        )
    }

    fn probes(
        &self,
        rest: &str,
        params: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<StoredProbe>, String> {
        let sql = format!(
            "SELECT p.trace, p.started, p.duration, p.state, p.layer, p.http_status, p.operations, p.reason
             FROM probe p JOIN target t ON t.id = p.target WHERE t.name = ?1 AND {rest}"
        );
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_map(params, read_probe)?.collect())
            .map_err(cannot_read)
    }
}

fn cannot_read(error: rusqlite::Error) -> String {
    format!("cannot read the store: {error}")
}

fn read_trace(bytes: Option<Vec<u8>>) -> Option<TraceId> {
    bytes?.try_into().ok().map(TraceId)
}

fn read_incident(row: &Row<'_>) -> rusqlite::Result<StoredIncident> {
    Ok(StoredIncident {
        id: row.get(0)?,
        target: row.get(1)?,
        opened_at: time(row.get(2)?),
    })
}

fn read_status(name: &str, row: &Row<'_>) -> rusqlite::Result<TargetStatus> {
    let verdict: Option<String> = row.get(8)?;
    Ok(TargetStatus {
        name: name.to_owned(),
        state: from_word(row.get(0)?).unwrap_or_default(),
        since: row.get::<_, Option<i64>>(1)?.map(time),
        failed_layer: from_word(row.get(2)?),
        reason: from_word(row.get(3)?),
        message: row.get::<_, Option<String>>(4)?.map(Text::new),
        last_probe_at: row.get::<_, Option<i64>>(5)?.map(time),
        trace_id: read_trace(row.get(6)?),
        incident: row.get(7)?,
        suspect: false,
        verdict: verdict.as_deref().and_then(Verdict::parse),
        verdict_reason: row.get::<_, Option<String>>(9)?.map(Text::new),
        provisional: row.get(10)?,
    })
}

fn read_probe(row: &Row<'_>) -> rusqlite::Result<StoredProbe> {
    let started_at = time(row.get(1)?);
    let duration: i64 = row.get(2)?;
    let operations: Option<String> = row.get(6)?;
    Ok(StoredProbe {
        trace_id: read_trace(row.get(0)?).unwrap_or(TraceId([0; 16])),
        started_at,
        ended_at: started_at + Duration::from_nanos(u64::try_from(duration).unwrap_or_default()),
        state: from_word(row.get(3)?).unwrap_or_default(),
        layer: from_word(row.get(4)?),
        http_status: row.get(5)?,
        reason: from_word(row.get(7)?),
        operations: operations
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default(),
    })
}
