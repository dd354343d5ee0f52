//! What a trace backend said of an incident: JSON of a version, so that it can be judged again.

use rusqlite::{Connection, params};

use super::schema::nanos;
use crate::model::Asked;

/// Askings of one incident that are kept, the newest: as many as it is asked at most (`recheck` has up to ten), and those of
/// a run before.
const MAX_OF_INCIDENT: i64 = 12;

/// Longest JSON that is kept, in bytes. One that is longer is lost: it would take part of the evidence to cut it.
const MAX_BODY: usize = 512 * 1024;

/// Version of the JSON; raised when it could be misread. New keys with a default do not raise it.
const BODY_VERSION: i64 = 1;

/// A row of `asking` on its way to the disk.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    incident: String,
    at: i64,
    body: String,
}

impl Asking {
    pub(super) fn of(asked: &Asked) -> Self {
        Self {
            incident: asked.incident.clone().unwrap_or_default(),
            at: nanos(asked.asked_at),
            body: serde_json::to_string(asked).unwrap_or_default(),
        }
    }

    pub(super) fn write(&self, to: &Connection) -> rusqlite::Result<()> {
        if self.body.is_empty() || self.body.len() > MAX_BODY {
            return Ok(());
        }
        to.prepare_cached(
            "INSERT OR REPLACE INTO asking (incident, at, version, body) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![self.incident, self.at, BODY_VERSION, self.body])?;
        to.prepare_cached(
            "DELETE FROM asking WHERE incident = ?1 AND at NOT IN
                 (SELECT at FROM asking WHERE incident = ?1 ORDER BY at DESC LIMIT ?2)",
        )?
        .execute(params![self.incident, MAX_OF_INCIDENT])
        .map(drop)
    }
}

/// Those of an incident, the newest first.
pub(super) fn of(from: &Connection, incident: &str) -> rusqlite::Result<Vec<Asked>> {
    let bodies: rusqlite::Result<Vec<String>> = from
        .prepare_cached(
            "SELECT body FROM asking WHERE incident = ?1 AND version = ?2 ORDER BY at DESC",
        )?
        .query_map(params![incident, BODY_VERSION], |row| row.get(0))?
        .collect();
    let read = |body: &String| serde_json::from_str(body).ok();
    Ok(bodies?.iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::model::{AskedBackend, BackendState, ClockSkew, Coverage, Evidence, Window};
    use crate::store::schema;

    fn asked(second: u64) -> Asked {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let window = Window { from: at, to: at };
        Asked {
            target: "weather".to_owned(),
            incident: Some("i".to_owned()),
            at,
            asked_at: at,
            backend: AskedBackend {
                name: "jaeger".to_owned(),
                kind: "jaeger".to_owned(),
                url: None,
            },
            queries: Vec::new(),
            links: Vec::new(),
            provisional: true,
            evidence: Evidence {
                backend: BackendState::Answered,
                coverage: Coverage::Full,
                failed: Vec::new(),
                passed: Vec::new(),
                service: None,
                service_shared_with: None,
                candidates: Default::default(),
                ever_instrumented: false,
                baseline: window,
                gap: window,
                silence_to: at,
                asked_at: at,
                later_on_its_way: false,
                usual_lag: Duration::ZERO,
                clock: ClockSkew::NONE,
                shares_our_network: false,
                elsewhere: Default::default(),
                others_heard: None,
                spans: Vec::new(),
                probe_traces: Default::default(),
                negotiation: Default::default(),
            },
        }
    }

    #[test]
    fn the_newest_are_kept_and_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let store = schema::open(&folder.path().join("s.db")).unwrap();
        for second in 0..20 {
            Asking::of(&asked(second)).write(&store).unwrap();
        }
        let read = of(&store, "i").unwrap();
        let newest: Vec<_> = (8..20).rev().map(asked).collect();
        assert_eq!(read, newest);
        assert_eq!(of(&store, "another").unwrap(), []);
        // What another version wrote is not guessed at.
        store
            .execute("UPDATE asking SET version = 2 WHERE at >= 1", [])
            .unwrap();
        assert_eq!(of(&store, "i").unwrap(), []);
    }
}
