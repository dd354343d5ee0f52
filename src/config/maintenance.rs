//! `[[maintenance]]`: windows in which no notice opens.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeTable;

use super::alerting::Names;
use super::checked::Findings;
use super::complaint::Complaint;
use super::keys::{Keys, Typed};
use super::route::{check_names, values};
use super::substitute::Sources;
use super::timing;
use crate::model::Maintenance;

/// Shorter than a minute passes between two probes; longer than a week is no maintenance but a server to be removed.
const DURATION: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(7 * 24 * 3600);

const KEYS: [&str; 6] = ["name", "cron", "duration", "timezone", "servers", "tags"];

/// The keys without which there is no window, and what they look like.
const REQUIRED: [(&str, &str); 3] = [
    ("name", "name = \"nightly update\""),
    ("cron", "cron = \"0 2 * * Sun\""),
    ("duration", "duration = \"30m\""),
];

/// A `[[maintenance]]` as it was typed.
pub(super) struct RawMaintenance {
    span: Range<usize>,
    missing: Vec<(&'static str, &'static str)>,
    name: Option<Typed<String>>,
    cron: Option<Typed<String>>,
    duration: Option<Typed<Duration>>,
    timezone: Option<Typed<String>>,
    servers: Vec<Typed<String>>,
    tags: Vec<Typed<String>>,
}

impl RawMaintenance {
    pub(super) fn read<'t>(
        table: &'t DeTable<'t>,
        span: Range<usize>,
        complaints: &mut Vec<Complaint>,
    ) -> Self {
        let mut keys = Keys::of(table, "[[maintenance]]", &KEYS, complaints);
        Self {
            span,
            missing: REQUIRED
                .into_iter()
                .filter(|(key, _)| !table.contains_key(*key))
                .collect(),
            name: keys.text("name"),
            cron: keys.text("cron"),
            duration: keys.duration("duration"),
            timezone: keys.text("timezone"),
            servers: keys.some_texts("servers"),
            tags: keys.some_texts("tags"),
        }
    }

    pub(super) fn check(
        self,
        names: &Names<'_>,
        sources: &Sources<'_>,
        out: &mut Findings,
    ) -> Option<Maintenance> {
        for (key, example) in self.missing {
            out.error(
                Complaint::at(
                    self.span.clone(),
                    format!("a [[maintenance]] without `{key}`"),
                    "add one",
                )
                .help(example),
            );
        }
        check_names(&self.servers, &names.servers, "server", out);
        check_names(&self.tags, &names.tags, "tag", out);
        let zone = timing::zone_for(self.timezone.as_ref(), self.cron.as_ref(), "cron", out);
        let cron = self
            .cron
            .as_ref()
            .and_then(|typed| timing::cron(typed, "cron", zone, sources, out));
        let duration = self
            .duration
            .as_ref()
            .and_then(|typed| out.duration_in(typed, "duration", DURATION));
        Some(Maintenance {
            name: self.name?.value,
            cron: cron?,
            duration: duration?,
            servers: values(self.servers),
            tags: values(self.tags),
        })
    }
}
