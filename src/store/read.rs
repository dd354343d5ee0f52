//! What the commands and the daemon read back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};

use super::incident::{self, IncidentFilter};
use super::notice::{self, Head, StoredNotice};
use super::probe::{self, RecordedProbes};
use super::schema::{self, nanos};
use super::target::{self, Remembered, TargetRow};
use super::{asking, fact, orders};
use crate::model::{
    Asked, Incident, Pending, Silence, StoredProbe, TargetStatus, TimelineEntry, TraceId, Window,
};

/// Failed probes of one incident that are looked at: the first ones. A day at a minute.
const MAX_FAILED: i64 = 1_440;

/// Passed probes before a failure that are looked at; the judge needs three and some slack.
const MAX_PASSED: i64 = 20;

/// A store that is read.
pub struct Reader {
    pub(super) connection: Connection,
}

/// The probes around a failure.
#[derive(Clone, Debug, Default)]
pub struct ProbesAround {
    /// Failed probes in a row, oldest first.
    pub failed: Vec<StoredProbe>,
    /// Passed probes before them, newest first.
    pub passed: Vec<StoredProbe>,
    /// Start of the probe that passed again.
    pub recovered_at: Option<SystemTime>,
}

/// Everything that is known of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentDetail {
    /// The incident.
    pub incident: Incident,
    /// What happened, in the order of time, with what became of its notices.
    pub timeline: Vec<TimelineEntry>,
    /// What was told to whom.
    pub notices: Vec<StoredNotice>,
    /// What was said in the first failed probe.
    pub conversation: Option<String>,
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
        let status = target::status(&self.connection, name).map_err(cannot_read)?;
        Ok(status.unwrap_or_else(|| TargetStatus::unknown(name)))
    }

    /// What else is known of the target called `name`.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn remembered(&self, name: &str) -> Result<Remembered, String> {
        let found = target::named(&self.connection, name).map_err(cannot_read)?;
        Ok(found.map(|target| target.remembered).unwrap_or_default())
    }

    /// The incident `id`.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn incident(&self, id: &str) -> Result<Option<Incident>, String> {
        incident::one(&self.connection, id).map_err(cannot_read)
    }

    /// The incident `id` with everything that is known of it.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn incident_detail(&self, id: &str) -> Result<Option<IncidentDetail>, String> {
        let Some(found) = self.incident(id)? else {
            return Ok(None);
        };
        let detail = || {
            let notices = notice::of(&self.connection, id)?;
            let mut timeline = incident::timeline(&self.connection, id)?;
            timeline.extend(notices.iter().filter_map(StoredNotice::timeline));
            // Stable: what was written in one moment stays in the order of writing, and before its notices.
            timeline.sort_by_key(|entry| entry.at);
            Ok(IncidentDetail {
                incident: found,
                timeline,
                notices,
                conversation: incident::conversation(&self.connection, id)?,
            })
        };
        detail().map(Some).map_err(cannot_read)
    }

    /// What the trace backend said of the incident, the newest first; what another version wrote otherwise is not there.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn askings(&self, incident: &str) -> Result<Vec<Asked>, String> {
        asking::of(&self.connection, incident).map_err(cannot_read)
    }

    /// Incidents, newest first.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<Incident>, String> {
        incident::listed(&self.connection, filter).map_err(cannot_read)
    }

    /// Incidents that have not ended, oldest first.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn open_incidents(&self) -> Result<Vec<Incident>, String> {
        incident::open(&self.connection).map_err(cannot_read)
    }

    /// The incident of the target `name` in which `at` lies.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn incident_at(&self, name: &str, at: SystemTime) -> Result<Option<Incident>, String> {
        // A time that a person types is rounded: one second of grace on both sides.
        let grace = Duration::from_secs(1);
        incident::around(&self.connection, name, at + grace, at - grace).map_err(cannot_read)
    }

    /// Notices that are still to be delivered, oldest first.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn pending(&self) -> Result<Vec<Pending>, String> {
        let undelivered = self.undelivered()?;
        Ok(undelivered.iter().map(StoredNotice::pending).collect())
    }

    /// The same with why the last attempt failed.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn undelivered(&self) -> Result<Vec<StoredNotice>, String> {
        notice::undelivered(&self.connection).map_err(cannot_read)
    }

    /// Notices that were given up since, oldest first.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn given_up(&self, since: SystemTime) -> Result<Vec<StoredNotice>, String> {
        notice::given_up(&self.connection, since).map_err(cannot_read)
    }

    /// The last notice of each of these incidents to each channel.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn heads(&self, incidents: &[&str]) -> Result<Vec<Head>, String> {
        let mut heads = Vec::new();
        for incident in incidents {
            let last = notice::last_of(&self.connection, incident).map_err(cannot_read)?;
            heads.extend(last.iter().map(StoredNotice::head));
        }
        Ok(heads)
    }

    /// Names of the targets that were probed since a time.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn names(&self, since: SystemTime) -> Result<Vec<String>, String> {
        self.connection
            .prepare_cached("SELECT name FROM target WHERE last_probe >= ?1 ORDER BY id")
            .and_then(|mut statement| {
                let names = statement.query_map([nanos(since)], |row| row.get(0))?;
                names.collect()
            })
            .map_err(cannot_read)
    }

    /// Silences, oldest first: all, or those that have not ended at a time.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn silences(&self, not_ended_at: Option<SystemTime>) -> Result<Vec<Silence>, String> {
        orders::silences(&self.connection, not_ended_at).map_err(cannot_read)
    }

    /// Facts about the daemon.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn facts(&self) -> Result<BTreeMap<String, String>, String> {
        fact::all(&self.connection).map_err(cannot_read)
    }

    /// The failed probes from `first_failure` on until one passed, and the passed ones before.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn probes_around(
        &self,
        name: &str,
        first_failure: SystemTime,
    ) -> Result<ProbesAround, String> {
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
        Ok(ProbesAround {
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
        probe::traces(&self.connection, name, window).map_err(cannot_read)
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

    /// The last probe of the target that started in the window.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn last_in(&self, name: &str, window: Window) -> Result<Option<StoredProbe>, String> {
        let mut last = self.probes(
            "p.started >= ?2 AND p.started < ?3 ORDER BY p.started DESC LIMIT 1",
            params![name, nanos(window.from), nanos(window.to)],
        )?;
        Ok(last.pop())
    }

    /// Every probe since a time, of all targets, in the order in which they ended; read a page at a time.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn recorded(&self, since: SystemTime) -> Result<RecordedProbes<'_>, String> {
        let mut names: Vec<_> = TargetRow::all(&self.connection)
            .map_err(cannot_read)?
            .into_iter()
            .map(|(number, target)| (number, Arc::from(target.name)))
            .collect();
        names.sort_by_key(|(number, _)| *number);
        Ok(RecordedProbes {
            store: &self.connection,
            since,
            after: 0,
            names,
            page: VecDeque::new(),
            ended: false,
        })
    }

    fn probes(
        &self,
        rest: &str,
        params: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<StoredProbe>, String> {
        probe::of(&self.connection, rest, params).map_err(cannot_read)
    }
}

pub(super) fn cannot_read(error: rusqlite::Error) -> String {
    format!("cannot read the store: {error}")
}
