//! One message about an incident to one channel.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::incident::words;
use super::{Incident, Text};

/// What a notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeEvent {
    /// The first to this channel.
    Opened,
    /// It is still open.
    Reminder,
    /// A verdict came or changed, or it became graver.
    Updated,
    /// The last to this channel.
    Resolved,
}

words! { NoticeEvent:
    Opened = "opened",
    Reminder = "reminder",
    Updated = "updated",
    Resolved = "resolved",
}

/// A notice as it was decided on. It is kept whole, so that what is delivered does not depend on what has changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Name of the channel.
    pub channel: String,
    /// Counts the notices of this incident to this channel, from 1 without a gap.
    pub sequence: u32,
    /// What it says.
    pub event: NoticeEvent,
    /// When it was decided on; `sent_at` in a webhook, the same on every attempt.
    pub created_at: SystemTime,
    /// Not before: others of the same cause may join it until then (`group`).
    pub due_at: SystemTime,
    /// The incident as it was then.
    pub incident: Incident,
    /// The target's tags.
    pub tags: Vec<String>,
    /// Where it is, without credentials.
    pub endpoint: Option<Text>,
    /// Where to read on: a name and a URL each.
    pub links: Vec<Link>,
    /// The command that repeats the probe.
    pub command: Option<String>,
    /// The command that takes the incident.
    #[serde(default)]
    pub take: Option<String>,
}

impl Notice {
    /// The same on every attempt, and of no other notice: who gets it twice can tell.
    pub fn key(&self) -> String {
        format!("{}-{}-{}", self.incident.id, self.channel, self.sequence)
    }
}

/// A place to read on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What is there.
    pub name: String,
    /// Where.
    pub url: String,
}

/// A notice that waits to be delivered, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The notice.
    pub notice: Notice,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first attempt was made.
    pub first_attempt_at: Option<SystemTime>,
}

/// What became of an attempt to deliver a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Of which incident.
    pub incident: String,
    /// To which channel.
    pub channel: String,
    /// Which notice.
    pub sequence: u32,
    /// When.
    pub at: SystemTime,
    /// Attempts, with this one.
    pub attempts: u32,
    /// How it went.
    pub outcome: DeliveryOutcome,
}

/// How an attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It has arrived.
    Delivered,
    /// It will be tried again.
    Failed(Text),
    /// It will not be tried again (`give_up_after`); it goes to the channel's `fallback`, where there is one.
    GivenUp(Text),
}

/// What alerting decided: to be remembered in one transaction, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertChange {
    /// An incident opened, changed or ended: its whole new value.
    Incident(Box<Incident>),
    /// A line of a timeline.
    Timeline(super::TimelineEntry),
    /// A notice to be delivered once this is remembered.
    Notice(Box<Notice>),
}
