//! `[heartbeat]`: whom to tell that probes really finish.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeTable;

use super::checked::Findings;
use super::complaint::Complaint;
use super::endpoint::check_url;
use super::keys::{Keys, Typed};
use super::substitute::Sources;
use crate::model::{Heartbeat, Secret};

const DEFAULT_EVERY: Duration = Duration::from_secs(60);

/// Services that wait for pings refuse more than one in ten seconds, and silence for more than a day is found too late.
const EVERY: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);

/// `[heartbeat]` as it was typed.
pub(super) struct RawHeartbeat {
    span: Range<usize>,
    has_url: bool,
    url: Option<Typed<String>>,
    every: Option<Typed<Duration>>,
}

impl RawHeartbeat {
    pub(super) fn read<'t>(
        table: &'t DeTable<'t>,
        span: Range<usize>,
        complaints: &mut Vec<Complaint>,
    ) -> Self {
        let mut keys = Keys::of(table, "[heartbeat]", &["url", "every"], complaints);
        Self {
            span,
            has_url: table.contains_key("url"),
            url: keys.text("url"),
            every: keys.duration("every"),
        }
    }

    pub(super) fn check(self, sources: &Sources<'_>, out: &mut Findings) -> Option<Heartbeat> {
        if !self.has_url {
            out.error(
                Complaint::at(self.span, "[heartbeat] has no `url`", "add one")
                    .help("url = \"https://hc-ping.com/${CHECK_ID}\""),
            );
        }
        let every = match &self.every {
            None => Some(DEFAULT_EVERY),
            Some(typed) => out.duration_in(typed, "every", EVERY),
        };
        let typed = self.url?;
        let text = out.substitute(&typed, sources)?;
        let url = check_url(&text.value, &typed.span, "url", out)?;
        Some(Heartbeat {
            url: Secret::new(url),
            every: every?,
        })
    }
}
