//! The outbox: every notice with what became of it.

use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use super::salvage::readable_as;
use super::schema::{nanos, time};
use crate::model::{
    Delivery, DeliveryOutcome, Notice, NoticeEvent, Pending, Severity, Text, TimelineEntry,
    TimelineKind, Verdict,
};

/// A notice and how its delivery went so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNotice {
    /// The notice.
    pub notice: Notice,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first attempt was made.
    pub first_attempt_at: Option<SystemTime>,
    /// When it arrived.
    pub delivered_at: Option<SystemTime>,
    /// When it was given up.
    pub given_up_at: Option<SystemTime>,
    /// Why the last attempt that failed did.
    pub last_error: Option<Text>,
}

/// The last notice of an incident to a channel: what the channel believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The incident.
    pub incident: String,
    /// The channel.
    pub channel: String,
    /// Its number; the next one is one more.
    pub sequence: u32,
    /// What it said.
    pub event: NoticeEvent,
    /// When it was decided on.
    pub created_at: SystemTime,
    /// The severity that was told.
    pub severity: Severity,
    /// The verdict that was told.
    pub verdict: Option<Verdict>,
    /// Whether that was provisional.
    pub provisional: Option<bool>,
}

/// Incident, channel, sequence.
pub(super) type NoticeKey = (String, String, u32);

impl StoredNotice {
    pub(super) fn new(notice: Notice) -> Self {
        Self {
            notice,
            attempts: 0,
            first_attempt_at: None,
            delivered_at: None,
            given_up_at: None,
            last_error: None,
        }
    }

    /// Nothing more will be done about it.
    pub fn is_done(&self) -> bool {
        self.delivered_at.is_some() || self.given_up_at.is_some()
    }

    pub(super) fn key(&self) -> NoticeKey {
        key(&self.notice)
    }

    /// Takes in an attempt.
    pub(super) fn take_in(&mut self, delivery: &Delivery) {
        self.attempts = self.attempts.max(delivery.attempts);
        self.first_attempt_at.get_or_insert(delivery.at);
        match &delivery.outcome {
            DeliveryOutcome::Delivered => self.delivered_at = Some(delivery.at),
            DeliveryOutcome::Failed(why) => self.last_error = Some(why.clone()),
            DeliveryOutcome::GivenUp(why) => {
                self.given_up_at = Some(delivery.at);
                self.last_error = Some(why.clone());
            }
        }
    }

    pub(super) fn pending(&self) -> Pending {
        Pending {
            notice: self.notice.clone(),
            attempts: self.attempts,
            first_attempt_at: self.first_attempt_at,
        }
    }

    pub(super) fn head(&self) -> Head {
        let Notice {
            channel,
            sequence,
            event,
            created_at,
            incident,
            ..
        } = &self.notice;
        Head {
            incident: incident.id.clone(),
            channel: channel.clone(),
            sequence: *sequence,
            event: *event,
            created_at: *created_at,
            severity: incident.severity,
            verdict: incident.verdict,
            provisional: incident.provisional,
        }
    }

    pub(super) fn write(&self, to: &Connection) -> rusqlite::Result<()> {
        let notice = &self.notice;
        let body = serde_json::to_string(notice)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        to.prepare_cached(
            "INSERT OR REPLACE INTO notice (incident, channel, sequence, event, created, due, body, attempts,
                                            first_attempt, delivered, given_up, last_error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            notice.incident.id,
            notice.channel,
            notice.sequence,
            notice.event.as_str(),
            nanos(notice.created_at),
            nanos(notice.due_at),
            body,
            self.attempts,
            self.first_attempt_at.map(nanos),
            self.delivered_at.map(nanos),
            self.given_up_at.map(nanos),
            self.last_error.as_ref().map(Text::as_str),
        ])
        .map(drop)
    }

    /// The line of a timeline that tells of its delivery. It is made from the notice, so that a hundred attempts are one
    /// line.
    pub(super) fn timeline(&self) -> Option<TimelineEntry> {
        let Notice {
            channel, sequence, ..
        } = &self.notice;
        let why = self.last_error.as_ref().map_or("", Text::as_str);
        let attempts = match self.attempts {
            1 => "1 attempt".to_owned(),
            attempts => format!("{attempts} attempts"),
        };
        let (at, what, end) = match (self.delivered_at, self.given_up_at, self.first_attempt_at) {
            (Some(at), _, _) => (at, TimelineKind::Delivered, String::new()),
            (_, Some(at), _) => (at, TimelineKind::GivenUp, format!(": {why}")),
            (_, _, Some(at)) => (at, TimelineKind::Failed, format!(" since: {why}")),
            _ => return None,
        };
        let text = format!("notice {sequence} to {channel}, {attempts}{end}");
        Some(TimelineEntry {
            incident: self.notice.incident.id.clone(),
            at,
            what,
            text: Text::new(text),
        })
    }
}

pub(super) fn key(notice: &Notice) -> NoticeKey {
    (
        notice.incident.id.clone(),
        notice.channel.clone(),
        notice.sequence,
    )
}

/// An attempt at a notice that is not in memory any more.
pub(super) fn write_delivery(to: &Connection, delivery: &Delivery) -> rusqlite::Result<()> {
    let at = nanos(delivery.at);
    let (delivered, given_up, error) = match &delivery.outcome {
        DeliveryOutcome::Delivered => (Some(at), None, None),
        DeliveryOutcome::Failed(why) => (None, None, Some(why.as_str())),
        DeliveryOutcome::GivenUp(why) => (None, Some(at), Some(why.as_str())),
    };
    to.prepare_cached(
        "UPDATE notice SET attempts = max(attempts, ?4), first_attempt = coalesce(first_attempt, ?5),
                           delivered = coalesce(?6, delivered), given_up = coalesce(?7, given_up),
                           last_error = coalesce(?8, last_error)
         WHERE incident = ?1 AND channel = ?2 AND sequence = ?3",
    )?
    .execute(params![
        delivery.incident,
        delivery.channel,
        delivery.sequence,
        delivery.attempts,
        at,
        delivered,
        given_up,
        error,
    ])
    .map(drop)
}

const COLUMNS: &str = "body, attempts, first_attempt, delivered, given_up, last_error";

/// `None` for a body that nobody can read: it could not be delivered either.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<StoredNotice>> {
    let body: String = row.get(0)?;
    let Ok(notice) = serde_json::from_str(&body) else {
        return Ok(None);
    };
    Ok(Some(StoredNotice {
        notice,
        attempts: row.get(1)?,
        first_attempt_at: row.get::<_, Option<i64>>(2)?.map(time),
        delivered_at: row.get::<_, Option<i64>>(3)?.map(time),
        given_up_at: row.get::<_, Option<i64>>(4)?.map(time),
        last_error: row.get::<_, Option<String>>(5)?.map(Text::new),
    }))
}

fn listed(
    from: &Connection,
    rest: &str,
    params: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<StoredNotice>> {
    let read: rusqlite::Result<Vec<_>> = from
        .prepare_cached(&format!("SELECT {COLUMNS} FROM notice {rest}"))?
        .query_map(params, read)?
        .collect();
    Ok(read?.into_iter().flatten().collect())
}

/// All of them, as far as they can be read.
pub(super) fn readable(from: &Connection) -> Vec<StoredNotice> {
    let read = readable_as(from, "notice", COLUMNS, "incident", "", &read);
    read.into_iter().flatten().collect()
}

/// Those that are still to be delivered, oldest first.
pub(super) fn undelivered(from: &Connection) -> rusqlite::Result<Vec<StoredNotice>> {
    listed(
        from,
        "WHERE delivered IS NULL AND given_up IS NULL ORDER BY created, incident, channel, sequence",
        &[],
    )
}

/// Those that were given up since, oldest first.
pub(super) fn given_up(
    from: &Connection,
    since: SystemTime,
) -> rusqlite::Result<Vec<StoredNotice>> {
    listed(
        from,
        "WHERE given_up >= ?1 ORDER BY given_up",
        params![nanos(since)],
    )
}

/// Those of an incident.
pub(super) fn of(from: &Connection, incident: &str) -> rusqlite::Result<Vec<StoredNotice>> {
    listed(
        from,
        "WHERE incident = ?1 ORDER BY created, channel, sequence",
        params![incident],
    )
}

/// The last of an incident to each channel.
pub(super) fn last_of(from: &Connection, incident: &str) -> rusqlite::Result<Vec<StoredNotice>> {
    listed(
        from,
        "n WHERE incident = ?1 AND sequence =
            (SELECT max(sequence) FROM notice WHERE incident = ?1 AND channel = n.channel)",
        params![incident],
    )
}
