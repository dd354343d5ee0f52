//! Sums of probes by the hour and by the day, which stay when the probes are gone.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::fact;
use super::histogram::Histogram;
use super::probe::{CONFIRMATION, NOT_COUNTED, read_layers};

/// The probe up to which everything is in the sums, by its number.
pub(super) const ROLLED_UP: &str = "store.rolled_up";

/// Probes that are summed up at a stretch: some milliseconds.
const PIECE: i64 = 2_000;

/// Sums in memory that are written although it is not time yet: 10 MB.
const MAX_SUMS: usize = 20_000;

pub(super) const HOUR: i64 = 3_600_000_000_000;
pub(super) const DAY: i64 = 24 * HOUR;

/// The probes of one target in one period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) up: u64,
    pub(super) degraded: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    /// By layer and reason, such as `http http_status`; no layer for what is no outage.
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) latency: [Histogram; 4],
}

impl Tally {
    /// Takes in a probe. What failed while the prober was cut off is unknown.
    pub(super) fn add(
        &mut self,
        state: &str,
        layer: Option<&str>,
        reason: Option<&str>,
        layers: &[Option<Duration>; 4],
        flags: u8,
    ) {
        let counted = flags & NOT_COUNTED == 0;
        match state {
            "up" => self.up += 1,
            "degraded" => self.degraded += 1,
            "down" | "auth_required" if counted => self.failed += 1,
            _ => self.unknown += 1,
        }
        if let (true, Some(reason)) = (counted, reason) {
            let key = format!("{} {reason}", layer.unwrap_or_default());
            *self.reasons.entry(key).or_default() += 1;
        }
        for (histogram, layer) in self.latency.iter_mut().zip(layers) {
            if let Some(duration) = layer {
                histogram.add(*duration);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.up += other.up;
        self.degraded += other.degraded;
        self.failed += other.failed;
        self.unknown += other.unknown;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
        for (ours, theirs) in self.latency.iter_mut().zip(&other.latency) {
            ours.merge(theirs);
        }
    }

    fn write(&self, to: &Connection, table: &str, target: i64, start: i64) -> rusqlite::Result<()> {
        let mut latency = Vec::new();
        for histogram in &self.latency {
            histogram.write(&mut latency);
        }
        let reasons = (!self.reasons.is_empty())
            .then(|| serde_json::to_string(&self.reasons).ok())
            .flatten();
        to.prepare_cached(&format!(
            "INSERT OR REPLACE INTO {table} (target, start, up, degraded, failed, unknown, reasons, latency)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        ))?
        .execute(params![
            target,
            start,
            self.up,
            self.degraded,
            self.failed,
            self.unknown,
            reasons,
            latency
        ])
        .map(drop)
    }

    /// What is written of a target from `from` on and before `to`, merged.
    pub(super) fn read(
        store: &Connection,
        table: &str,
        target: i64,
        from: i64,
        to: i64,
    ) -> rusqlite::Result<Option<Self>> {
        let mut statement = store.prepare_cached(&format!(
            "SELECT up, degraded, failed, unknown, reasons, latency FROM {table}
             WHERE target = ?1 AND start >= ?2 AND start < ?3"
        ))?;
        let mut rows = statement.query(params![target, from, to])?;
        let mut sum = None;
        while let Some(row) = rows.next()? {
            let reasons: Option<String> = row.get(4)?;
            let mut latency = row.get_ref(5)?.as_blob()?.iter().copied();
            let part = Self {
                up: row.get(0)?,
                degraded: row.get(1)?,
                failed: row.get(2)?,
                unknown: row.get(3)?,
                reasons: reasons
                    .and_then(|json| serde_json::from_str(&json).ok())
                    .unwrap_or_default(),
                latency: [(); 4].map(|()| Histogram::read(&mut latency)),
            };
            sum.get_or_insert_with(Self::default).merge(&part);
        }
        Ok(sum)
    }
}

/// Sums that are not written yet.
#[derive(Debug, Default)]
pub(super) struct RollUp {
    /// The probe up to which they go; not looked up yet.
    read_to: Option<i64>,
    /// By target and hour.
    sums: HashMap<(i64, i64), Tally>,
}

impl RollUp {
    /// Sums up a piece; whether that was all that there is.
    pub(super) fn read(&mut self, store: &Connection) -> rusqlite::Result<bool> {
        let read_to = match self.read_to {
            Some(read_to) => read_to,
            None => rolled_up(store)?,
        };
        let mut statement = store.prepare_cached(
            "SELECT id, target, started, state, layer, reason, layers, flags FROM probe
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = statement.query(params![read_to, PIECE])?;
        let mut last = read_to;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            count += 1;
            let flags: u8 = row.get(7)?;
            // A further probe after a failed one is no sample of its own: failures would weigh thrice.
            if flags & CONFIRMATION != 0 {
                continue;
            }
            let started: i64 = row.get(2)?;
            let key = (row.get(1)?, started - started.rem_euclid(HOUR));
            let layers = read_layers(row.get_ref(6)?.as_blob_or_null()?);
            self.sums.entry(key).or_default().add(
                row.get_ref(3)?.as_str()?,
                row.get_ref(4)?.as_str_or_null()?,
                row.get_ref(5)?.as_str_or_null()?,
                &layers,
                flags,
            );
        }
        self.read_to = Some(last);
        Ok(count < PIECE)
    }

    /// Whether the sums should be written before it is time.
    pub(super) fn is_large(&self) -> bool {
        self.sums.len() > MAX_SUMS
    }

    /// Adds the sums to those of the file, and says up to where they go, so that no probe is ever counted twice: the
    /// caller's transaction holds both. They are forgotten by [`Self::settle`].
    pub(super) fn write(&self, to: &Connection) -> rusqlite::Result<()> {
        let Some(read_to) = self.read_to else {
            return Ok(());
        };
        let mut days: HashMap<(i64, i64), Tally> = HashMap::new();
        for ((target, hour), sum) in &self.sums {
            add_to(to, "hourly", *target, *hour, sum)?;
            let day = hour - hour.rem_euclid(DAY);
            days.entry((*target, day)).or_default().merge(sum);
        }
        for ((target, day), sum) in &days {
            add_to(to, "daily", *target, *day, sum)?;
        }
        fact::write(to, ROLLED_UP, Some(&read_to.to_string()))
    }

    /// Up to where the sums go, once they are on the disk.
    pub(super) fn settle(&mut self) -> Option<i64> {
        self.sums.clear();
        self.read_to
    }
}

fn add_to(
    to: &Connection,
    table: &str,
    target: i64,
    start: i64,
    sum: &Tally,
) -> rusqlite::Result<()> {
    match Tally::read(to, table, target, start, start + 1)? {
        Some(mut before) => {
            before.merge(sum);
            before.write(to, table, target, start)
        }
        None => sum.write(to, table, target, start),
    }
}

/// The probe up to which everything is in the file's sums.
pub(super) fn rolled_up(store: &Connection) -> rusqlite::Result<i64> {
    fact::number(store, ROLLED_UP).map(Option::unwrap_or_default)
}

/// The number of a target.
pub(super) fn target_number(store: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    store
        .prepare_cached("SELECT id FROM target WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}
