//! How a target did over a time.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};

use super::fact;
use super::histogram::{Histogram, rank};
use super::probe::{CONFIRMATION, read_layers};
use super::read::{Reader, cannot_read};
use super::retention::{HOURLY_SINCE, RAW_SINCE};
use super::rollup::{DAY, HOUR, Tally, target_number};
use super::schema::{from_word, nanos, time};
use crate::model::{Layer, Reason};

/// How a target did over a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// From when on: as asked for, or the start of the hour or day where only its sum is left.
    pub since: SystemTime,
    /// Until when, exclusive.
    pub until: SystemTime,
    /// Probes that found it up.
    pub up: u64,
    /// Probes that found it degraded.
    pub degraded: u64,
    /// Probes that failed.
    pub failed: u64,
    /// Probes that could not judge, or failed while the prober itself was cut off.
    pub unknown: u64,
    /// What was wrong how often, the most frequent first.
    pub reasons: Vec<ReasonCount>,
    /// How long each layer took where it passed.
    pub latency: [Option<Percentiles>; 4],
    /// A part is told from sums: percentiles are within 6 %.
    pub summed_up: bool,
}

/// How often something was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonCount {
    /// The layer that failed; none for what is no outage.
    pub layer: Option<Layer>,
    /// Why.
    pub reason: Reason,
    /// How often.
    pub count: u64,
}

/// The durations that so many of a hundred do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of them.
    pub p50: Duration,
    /// 95 of a hundred.
    pub p95: Duration,
    /// 99 of a hundred.
    pub p99: Duration,
}

impl History {
    /// Probes that say something.
    pub fn probes(&self) -> u64 {
        self.up + self.degraded + self.failed
    }

    /// The share of them that found it working, 0 to 1; none without any.
    pub fn availability(&self) -> Option<f64> {
        let probes = self.probes();
        (probes > 0).then(|| (self.up + self.degraded) as f64 / probes as f64)
    }
}

impl Reader {
    /// How the target called `name` did; probes that confirm another are not counted. Where single probes are gone,
    /// whole hours or days are.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub fn history(
        &self,
        name: &str,
        since: SystemTime,
        until: SystemTime,
    ) -> Result<History, String> {
        // One view of the file: a probe must not move from the list into the sums meanwhile.
        let view = self
            .connection
            .unchecked_transaction()
            .map_err(cannot_read)?;
        history(&view, name, nanos(since), nanos(until)).map_err(cannot_read)
    }
}

fn history(store: &Connection, name: &str, since: i64, until: i64) -> rusqlite::Result<History> {
    let mut tally = Tally::default();
    let mut exact: [Vec<Duration>; 4] = Default::default();
    let raw_since = fact::number(store, RAW_SINCE)?.unwrap_or(i64::MIN);
    let hourly_since = fact::number(store, HOURLY_SINCE)?.unwrap_or(i64::MIN);
    let mut begins = since;
    if let Some(target) = target_number(store, name)? {
        if since < hourly_since {
            begins = since - since.rem_euclid(DAY);
            let to = hourly_since.min(until);
            if let Some(sum) = Tally::read(store, "daily", target, begins, to)? {
                tally.merge(&sum);
            }
        }
        if since < raw_since {
            let from = (since - since.rem_euclid(HOUR)).max(hourly_since);
            begins = begins.min(from);
            let to = raw_since.min(until);
            if let Some(sum) = Tally::read(store, "hourly", target, from, to)? {
                tally.merge(&sum);
            }
        }
        let from = since.max(raw_since);
        let mut statement = store.prepare_cached(
            "SELECT state, layer, reason, layers, flags FROM probe WHERE target = ?1 AND started >= ?2 AND started < ?3",
        )?;
        let mut rows = statement.query(params![target, from, until])?;
        while let Some(row) = rows.next()? {
            let flags: u8 = row.get(4)?;
            if flags & CONFIRMATION != 0 {
                continue;
            }
            let layers = read_layers(row.get_ref(3)?.as_blob_or_null()?);
            tally.add(
                row.get_ref(0)?.as_str()?,
                row.get_ref(1)?.as_str_or_null()?,
                row.get_ref(2)?.as_str_or_null()?,
                &layers,
                flags,
            );
            for (all, layer) in exact.iter_mut().zip(layers) {
                all.extend(layer);
            }
        }
    }
    let summed_up = since < raw_since;
    let latency = if summed_up {
        tally.latency.each_ref().map(of_histogram)
    } else {
        exact.map(of_list)
    };
    Ok(History {
        since: time(begins),
        until: time(until),
        up: tally.up,
        degraded: tally.degraded,
        failed: tally.failed,
        unknown: tally.unknown,
        reasons: reasons(&tally),
        latency,
        summed_up,
    })
}

fn reasons(tally: &Tally) -> Vec<ReasonCount> {
    let read = |(key, count): (&String, &u64)| {
        let (layer, reason) = key.split_once(' ')?;
        Some(ReasonCount {
            layer: from_word(Some(layer.to_owned())),
            reason: from_word(Some(reason.to_owned()))?,
            count: *count,
        })
    };
    let mut reasons: Vec<_> = tally.reasons.iter().filter_map(read).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    reasons
}

fn of_histogram(histogram: &Histogram) -> Option<Percentiles> {
    Some(Percentiles {
        p50: histogram.percentile(50)?,
        p95: histogram.percentile(95)?,
        p99: histogram.percentile(99)?,
    })
}

fn of_list(mut list: Vec<Duration>) -> Option<Percentiles> {
    list.sort_unstable();
    let count = u64::try_from(list.len()).ok()?;
    let at = |hundredths| {
        let rank = usize::try_from(rank(count, hundredths)?).ok()?;
        list.get(rank).copied()
    };
    Some(Percentiles {
        p50: at(50)?,
        p95: at(95)?,
        p99: at(99)?,
    })
}
