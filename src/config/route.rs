//! `[[route]]`: which incidents go to which channels, and when.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeTable;

use super::alerting::{Names, severity_words};
use super::checked::Findings;
use super::complaint::Complaint;
use super::keys::{Keys, Typed, nearest};
use super::substitute::Sources;
use super::timing;
use crate::model::{Layer, Route, Severity, Verdict};

/// An escalation after more than a week has been forgotten by everybody.
const AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 24 * 3600);

/// Reminders: more often than each minute is a flood, and rarer than each month none.
const REPEAT: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(31 * 24 * 3600);

const KEYS: [&str; 10] = [
    "server", "tag", "severity", "layer", "verdict", "channels", "after", "repeat", "hours",
    "timezone",
];

/// What `hours` is meant to look like.
const HOURS_EXAMPLE: &str = "hours = \"* 8-17 * * Mon-Fri\" is every minute from 8:00 to 17:59";

/// A `[[route]]` as it was typed.
pub(super) struct RawRoute {
    span: Range<usize>,
    has_channels: bool,
    servers: Vec<Typed<String>>,
    tags: Vec<Typed<String>>,
    severities: Vec<Severity>,
    layers: Vec<Layer>,
    verdicts: Vec<Verdict>,
    channels: Vec<Typed<String>>,
    after: Option<Typed<Duration>>,
    repeat: Option<Typed<Duration>>,
    hours: Option<Typed<String>>,
    timezone: Option<Typed<String>>,
}

impl RawRoute {
    pub(super) fn read<'t>(
        table: &'t DeTable<'t>,
        span: Range<usize>,
        complaints: &mut Vec<Complaint>,
    ) -> Self {
        let mut keys = Keys::of(table, "[[route]]", &KEYS, complaints);
        let layers = Layer::ALL.map(|layer| (layer.as_str(), layer));
        let verdicts = Verdict::ALL.map(|verdict| (verdict.as_str(), verdict));
        Self {
            span,
            has_channels: table.contains_key("channels"),
            servers: keys.some_texts("server"),
            tags: keys.some_texts("tag"),
            severities: keys.some_words("severity", &severity_words()),
            layers: keys.some_words("layer", &layers),
            verdicts: keys.some_words("verdict", &verdicts),
            channels: keys.some_texts("channels"),
            after: keys.duration("after"),
            repeat: keys.duration("repeat"),
            hours: keys.text("hours"),
            timezone: keys.text("timezone"),
        }
    }

    pub(super) fn check(
        self,
        names: &Names<'_>,
        sources: &Sources<'_>,
        out: &mut Findings,
    ) -> Option<Route> {
        if !self.has_channels {
            out.error(
                Complaint::at(self.span, "a [[route]] without `channels`", "add some")
                    .help("channels = [\"oncall\"]"),
            );
        }
        for channel in &self.channels {
            check_channel(channel, &names.channels, out);
        }
        check_names(&self.servers, &names.servers, "server", out);
        check_names(&self.tags, &names.tags, "tag", out);
        let zone = timing::zone_for(self.timezone.as_ref(), self.hours.as_ref(), "hours", out);
        if let Some(hours) = &self.hours {
            check_minutes(hours, out);
        }
        let hours = self
            .hours
            .as_ref()
            .map(|hours| timing::cron(hours, "hours", zone, sources, out));
        Some(Route {
            servers: values(self.servers),
            tags: values(self.tags),
            severities: self.severities,
            layers: self.layers,
            verdicts: self.verdicts,
            channels: values(self.channels),
            after: self
                .after
                .as_ref()
                .and_then(|typed| out.duration_in(typed, "after", AFTER))
                .unwrap_or_default(),
            repeat: self
                .repeat
                .as_ref()
                .and_then(|typed| out.duration_in(typed, "repeat", REPEAT)),
            hours: match hours {
                // Its complaint stands; without hours the route would be open always.
                Some(None) => return None,
                hours => hours.flatten(),
            },
        })
    }
}

pub(super) fn values(list: Vec<Typed<String>>) -> Vec<String> {
    list.into_iter().map(|typed| typed.value).collect()
}

fn check_channel(typed: &Typed<String>, known: &[&str], out: &mut Findings) {
    if known.contains(&typed.value.as_str()) {
        return;
    }
    let label = match nearest(&typed.value, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => "there is no [[channel]]".to_owned(),
        None => "unknown channel".to_owned(),
    };
    let title = format!("there is no channel \"{}\"", typed.value.escape_debug());
    let complaint = Complaint::at(typed.span.clone(), title, label);
    out.error(if known.is_empty() {
        complaint
    } else {
        complaint.help(format!("there are: {}", known.join(", ")))
    });
}

/// Warns of names that nothing has: what was meant to be matched is not.
pub(super) fn check_names(typed: &[Typed<String>], known: &[&str], what: &str, out: &mut Findings) {
    for name in typed {
        if known.contains(&name.value.as_str()) {
            continue;
        }
        let label = match nearest(&name.value, known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!(
                "no [[server]] has this {}",
                if what == "tag" { what } else { "name" }
            ),
        };
        out.warning(Complaint::at(
            name.span.clone(),
            format!(
                "this matches nothing: there is no {what} \"{}\"",
                name.value.escape_debug()
            ),
            label,
        ));
    }
}

/// `0 8-17 * * *` is a usual way to write "each hour", and here it would be open for ten minutes a day.
fn check_minutes(hours: &Typed<String>, out: &mut Findings) {
    let fields: Vec<_> = hours.value.split_whitespace().collect();
    if let [minute, _, _, _, _] = fields[..]
        && !minute.is_empty()
        && minute.bytes().all(|b| b.is_ascii_digit() || b == b',')
    {
        out.warning(
            Complaint::at(
                hours.span.clone(),
                "`hours` matches single minutes only",
                "its first field is the minute",
            )
            .help(HOURS_EXAMPLE),
        );
    }
}
