//! What is old goes, a piece at a time: nothing that the daemon writes waits for it.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, params};

use super::fact;
use super::rollup::{DAY, HOUR, rolled_up};
use super::schema::nanos;
use crate::model::Retention;

/// Start of the first hour of which every probe is there.
pub(super) const RAW_SINCE: &str = "store.raw_since";
/// Start of the first day of which every hour's sum is there.
pub(super) const HOURLY_SINCE: &str = "store.hourly_since";
/// The probe up to which passed ones are gone, by its number.
const PRUNED: &str = "store.pruned";

/// Probes that are looked at in one transaction: some milliseconds.
const PIECE: i64 = 2_000;

/// Incidents that are forgotten in one transaction, with all that is told of them.
const INCIDENTS: i64 = 50;

/// Pages that are given back to the disk in one transaction: 1 MB.
const PAGES: i64 = 250;

/// What is taken care of, in turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Task {
    /// Passed probes.
    #[default]
    Passed,
    /// Failures.
    Failures,
    /// Incidents with their notices, timelines and conversations.
    Incidents,
    /// Sums by the hour, and silences.
    Sums,
    /// Pages that hold nothing any more.
    Pages,
}

impl Task {
    /// What comes after it; nothing after the last.
    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Passed => Some(Self::Failures),
            Self::Failures => Some(Self::Incidents),
            Self::Incidents => Some(Self::Sums),
            Self::Sums => Some(Self::Pages),
            Self::Pages => None,
        }
    }

    /// Does a piece; whether there is no more. The transaction is the caller's. Facts that it states are answered in
    /// `facts` too.
    pub(super) fn step(
        self,
        store: &Connection,
        keep: &Retention,
        now: SystemTime,
        facts: &mut Vec<(&'static str, i64)>,
    ) -> rusqlite::Result<bool> {
        let old = nanos(now - keep.failures.min(since_epoch(now)));
        match self {
            Self::Passed => passed(store, keep, now, facts),
            Self::Failures => failures(store, old),
            Self::Incidents => incidents(store, old),
            Self::Sums => sums(store, old, facts),
            Self::Pages => pages(store),
        }
    }
}

fn since_epoch(now: SystemTime) -> std::time::Duration {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// By number, which is nearly the order of time, so that whole pages become free; never one that is not summed up.
fn passed(
    store: &Connection,
    keep: &Retention,
    now: SystemTime,
    facts: &mut Vec<(&'static str, i64)>,
) -> rusqlite::Result<bool> {
    let after = fact::number(store, PRUNED)?.unwrap_or_default();
    let first: Option<i64> = store
        .prepare_cached("SELECT min(id) FROM probe WHERE id > ?1")?
        .query_row([after], |row| row.get(0))?;
    let Some(first) = first else {
        return Ok(true);
    };
    let before = match keep.max_size {
        Some(most) if used(store)? > most => nanos(now),
        _ => {
            let old = nanos(now - keep.passed.min(since_epoch(now)));
            old - old.rem_euclid(HOUR)
        }
    };
    let piece = rolled_up(store)?.min(first.saturating_add(PIECE - 1));
    // The first that is too young ends it; one that came in late behind it goes with it later.
    let young: Option<i64> = store
        .prepare_cached(
            "SELECT id FROM probe WHERE id > ?1 AND id <= ?2 AND started >= ?3 ORDER BY id LIMIT 1",
        )?
        .query_row(params![after, piece, before], |row| row.get(0))
        .optional()?;
    let to = young.map_or(piece, |young| young - 1);
    if to <= after {
        return Ok(true);
    }
    let newest: Option<i64> = store
        .prepare_cached("SELECT max(started) FROM probe WHERE id > ?1 AND id <= ?2")?
        .query_row([after, to], |row| row.get(0))?;
    store
        .prepare_cached(
            "DELETE FROM probe WHERE id > ?1 AND id <= ?2 AND state IN ('up', 'degraded') AND flags & 2 = 0",
        )?
        .execute([after, to])?;
    state(store, PRUNED, to, facts)?;
    if let Some(newest) = newest {
        let hour = newest - newest.rem_euclid(HOUR) + HOUR;
        let since = fact::number(store, RAW_SINCE)?.unwrap_or(i64::MIN);
        state(store, RAW_SINCE, since.max(hour), facts)?;
    }
    Ok(young.is_some())
}

fn failures(store: &Connection, before: i64) -> rusqlite::Result<bool> {
    let gone = store
        .prepare_cached(
            "DELETE FROM probe WHERE id IN (SELECT id FROM probe ORDER BY id LIMIT ?1) AND started < ?2 AND id <= ?3",
        )?
        .execute(params![PIECE, before, rolled_up(store)?])?;
    Ok(gone == 0)
}

fn incidents(store: &Connection, before: i64) -> rusqlite::Result<bool> {
    let old: rusqlite::Result<Vec<String>> = store
        .prepare_cached(
            "SELECT id FROM incident WHERE first_failed < ?1 AND resolved < ?1 ORDER BY first_failed LIMIT ?2",
        )?
        .query_map(params![before, INCIDENTS], |row| row.get(0))?
        .collect();
    let old = old?;
    for id in &old {
        for table in [
            "notice",
            "timeline",
            "conversation",
            "asking",
            "acknowledgement",
        ] {
            store
                .prepare_cached(&format!("DELETE FROM {table} WHERE incident = ?1"))?
                .execute([id])?;
        }
        store
            .prepare_cached("DELETE FROM incident WHERE id = ?1")?
            .execute([id])?;
    }
    Ok(old.is_empty())
}

fn sums(
    store: &Connection,
    before: i64,
    facts: &mut Vec<(&'static str, i64)>,
) -> rusqlite::Result<bool> {
    let day = before - before.rem_euclid(DAY);
    let targets: rusqlite::Result<Vec<i64>> = store
        .prepare_cached("SELECT id FROM target")?
        .query_map([], |row| row.get(0))?
        .collect();
    let mut gone = store
        .prepare_cached("DELETE FROM silence WHERE ends < ?1")?
        .execute([before])?;
    for target in targets? {
        gone += store
            .prepare_cached("DELETE FROM hourly WHERE target = ?1 AND start < ?2")?
            .execute([target, day])?;
    }
    if gone > 0 {
        let since = fact::number(store, HOURLY_SINCE)?.unwrap_or(i64::MIN);
        state(store, HOURLY_SINCE, since.max(day), facts)?;
    }
    Ok(true)
}

/// What becomes free is nearly always filled again at once; only where much was given up the file becomes smaller.
fn pages(store: &Connection) -> rusqlite::Result<bool> {
    let free: i64 = store.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let all: i64 = store.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let incremental: i64 = store.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if incremental != 2 || free < PAGES || free < all / 4 {
        return Ok(true);
    }
    // A page is given back with each row that is read.
    let mut statement = store.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(false)
}

/// Bytes that hold something.
fn used(store: &Connection) -> rusqlite::Result<u64> {
    let number = |name| store.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let bytes = (number("page_count")? - number("freelist_count")?) * number("page_size")?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}

fn state(
    store: &Connection,
    key: &'static str,
    value: i64,
    facts: &mut Vec<(&'static str, i64)>,
) -> rusqlite::Result<()> {
    facts.push((key, value));
    fact::write(store, key, Some(&value.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::State;
    use crate::store::probe::ProbeRow;
    use crate::store::rollup::RollUp;
    use crate::store::sample::{at, incident, result, target};
    use crate::store::target::TargetRow;
    use crate::store::writer::Shown;
    use crate::store::{History, Percentiles, Reader, schema};

    /// A probe every ten minutes, each so-many-th of which fails, with its confirmation.
    fn filled(path: &std::path::Path, days: u64, fails: u64) -> Connection {
        let store = schema::open(path).unwrap();
        let number = TargetRow::new(&target("a")).write(&store, None).unwrap();
        store.execute_batch("BEGIN").unwrap();
        let mut order = 0;
        for n in 0..days * 144 {
            let state = if n % fails == fails - 1 {
                State::Down
            } else {
                State::Up
            };
            let result = result(state, at(n * 600), Duration::from_micros(1_000 + n % 500));
            let shown = Shown {
                state,
                // The first after a failure is a change.
                since: if n % fails == 0 {
                    result.started_at
                } else {
                    at(0)
                },
                suspect: false,
                incident: None,
            };
            for confirmation in [false, true] {
                if confirmation && state == State::Up {
                    continue;
                }
                order += 1;
                let row = ProbeRow::new(order, 0, &result, &shown, confirmation);
                row.write(&store, order, number).unwrap();
            }
        }
        store.execute_batch("COMMIT").unwrap();
        store
    }

    fn roll_up(store: &Connection) {
        let mut sums = RollUp::default();
        while !sums.read(store).unwrap() {}
        sums.write(store).unwrap();
        sums.settle();
        // Nothing is counted twice.
        assert!(sums.read(store).unwrap());
        sums.write(store).unwrap();
    }

    fn prune(store: &Connection, keep: &Retention, now: SystemTime) {
        let mut task = Some(Task::default());
        while let Some(current) = task {
            while !current.step(store, keep, now, &mut Vec::new()).unwrap() {}
            task = current.next();
        }
    }

    fn count(store: &Connection, what: &str) -> i64 {
        store
            .query_row(&format!("SELECT count(*) FROM {what}"), [], |row| {
                row.get(0)
            })
            .unwrap()
    }

    fn near(a: Option<Percentiles>, b: Option<Percentiles>) -> bool {
        let near = |a: Duration, b: Duration| a.abs_diff(b) * 16 <= a;
        match (a, b) {
            (Some(a), Some(b)) => near(a.p50, b.p50) && near(a.p95, b.p95) && near(a.p99, b.p99),
            (a, b) => a == b,
        }
    }

    #[test]
    fn history_tells_the_same_when_the_probes_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let store = filled(&path, 20, 10);
        let end = at(20 * 86_400);
        let reader = Reader::open(&path).unwrap();
        let ask = || reader.history("a", at(0), end).unwrap();
        let exact = ask();
        assert_eq!(
            (exact.up, exact.failed, exact.summed_up),
            (2_592, 288, false)
        );
        assert_eq!(exact.availability(), Some(0.9));
        assert_eq!(exact.reasons[0].count, 288);
        let same = |told: History| {
            assert_eq!((told.up, told.failed, told.unknown), (2_592, 288, 0));
            assert_eq!(told.reasons, exact.reasons);
            assert!(told.summed_up);
            for (a, b) in exact.latency.iter().zip(&told.latency) {
                assert!(near(*a, *b), "{a:?} {b:?}");
            }
        };
        // Nothing goes that is not summed up.
        let days = |n: u64| Duration::from_secs(n * 86_400);
        let keep = |passed, failures| Retention {
            passed: days(passed),
            failures: days(failures),
            max_size: None,
        };
        prune(&store, &keep(7, 400), end);
        assert_eq!(ask(), exact);
        roll_up(&store);
        prune(&store, &keep(7, 400), end);
        // Seven days of passed probes, all failures with their confirmations, all changes.
        let kept = 7 * 144 * 9 / 10 + 2 * 288 + 13 * 144 / 10;
        let found = count(&store, "probe");
        assert!((found - kept).abs() < 10, "{found} {kept}");
        same(ask());
        // Later the failures go too, and the sums by the hour.
        prune(&store, &keep(5, 10), end);
        assert!(count(&store, "probe WHERE state = 'down'") <= 10 * 144 / 5);
        assert_eq!(count(&store, "hourly"), 10 * 24);
        same(ask());
        let one_day = reader.history("a", at(86_400), at(2 * 86_400)).unwrap();
        assert_eq!(one_day.probes(), 144);
        assert_eq!(
            reader.history("b", at(0), end).unwrap().availability(),
            None
        );
    }

    #[test]
    fn a_store_that_is_too_large_gives_up_passed_probes_and_pages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let store = filled(&path, 400, 1_000);
        roll_up(&store);
        let before = used(&store).unwrap();
        let keep = Retention {
            max_size: Some(before / 10 * 7),
            passed: Duration::from_secs(1 << 31),
            failures: Duration::from_secs(1 << 31),
        };
        prune(&store, &keep, at(400 * 86_400));
        assert!(used(&store).unwrap() <= before / 10 * 7);
        assert!(count(&store, "probe WHERE state = 'up'") > 1_000);
        let pages: u64 = store
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        assert!(pages * 4096 < before, "{pages}");
    }

    #[test]
    fn incidents_go_with_all_that_is_told_of_them_and_open_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = schema::open(&folder.path().join("s.db")).unwrap();
        for (id, ended) in [
            ("old", Some(at(9))),
            ("open", None),
            ("new", Some(at(86_400))),
        ] {
            let mut incident = incident(id);
            incident.resolved_at = ended;
            super::super::incident::write(&store, &incident).unwrap();
            super::super::incident::write_conversation(&store, id, "text").unwrap();
        }
        let keep = Retention {
            failures: Duration::from_secs(86_400),
            ..Retention::default()
        };
        prune(&store, &keep, at(86_500));
        assert_eq!(count(&store, "incident"), 2);
        assert_eq!(count(&store, "conversation"), 2);
    }
}
