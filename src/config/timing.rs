//! `every`, `cron` and `timezone`, judged: when a server is probed.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;

use super::checked::Findings;
use super::complaint::Complaint;
use super::cron;
use super::keys::{Typed, nearest};
use super::raw::RawServer;
use super::substitute::Sources;
use crate::model::{Cron, Timing};

pub(super) const DEFAULT_EVERY: Duration = Duration::from_secs(60);

/// Below a second a probe is load, not monitoring. Longer than a week is a typing error, and would outlive the windows
/// of everything else.
const EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

/// The same file means the same times on every machine, those of every other output.
const DEFAULT_ZONE: Tz = Tz::UTC;

/// What `[defaults]` say.
pub(super) fn of_defaults(raw: &RawServer, sources: &Sources<'_>, out: &mut Findings) -> Timing {
    let zone = raw.timezone.as_ref().and_then(|typed| zone(typed, out));
    own(raw, zone, sources, out).unwrap_or(Timing::Every(DEFAULT_EVERY))
}

/// What a server says, or else `[defaults]`, which mean `inherited` and have been complained about.
pub(super) fn of_server(
    raw: &RawServer,
    defaults: &RawServer,
    inherited: &Timing,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> Timing {
    let own_zone = raw.timezone.as_ref().map(|typed| zone(typed, out));
    let zone = own_zone.unwrap_or_else(|| parse_zone(&defaults.timezone.as_ref()?.value));
    if let Some(timing) = own(raw, zone, sources, out) {
        useless_zone(raw, &timing, out);
        return timing;
    }
    useless_zone(raw, inherited, out);
    match (&raw.timezone, &defaults.cron, inherited) {
        // Its own zone, the expression of `[defaults]`.
        (Some(_), Some(text), Timing::Cron(_)) => {
            cron::parse(&text.value, zone.unwrap_or(DEFAULT_ZONE))
                .map_or_else(|_| inherited.clone(), |cron| Timing::Cron(Arc::new(cron)))
        }
        _ => inherited.clone(),
    }
}

/// What this table says of itself.
fn own(
    raw: &RawServer,
    zone: Option<Tz>,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> Option<Timing> {
    if let (Some(_), Some(cron)) = (&raw.every, &raw.cron) {
        out.error(Complaint::at(
            cron.span.clone(),
            "a server has an `every` or a `cron`, not both",
            "remove one of them",
        ));
    }
    let every = raw
        .every
        .as_ref()
        .and_then(|typed| out.duration_in(typed, "every", EVERY));
    let Some(typed) = &raw.cron else {
        return every.map(Timing::Every);
    };
    cron(typed, "cron", zone, sources, out).map(Timing::Cron)
}

/// The times that an expression under `key` means.
pub(super) fn cron(
    typed: &Typed<String>,
    key: &str,
    zone: Option<Tz>,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> Option<Arc<Cron>> {
    let wrong = |why: String, help: &str| {
        let title = format!("`{key}` cannot be used");
        Complaint::at(typed.span.clone(), title, why).help(help)
    };
    match cron::parse(&typed.value, zone.unwrap_or(DEFAULT_ZONE)) {
        Ok(cron) if cron.next_after(sources.now).is_none() => {
            out.error(wrong(
                "it never starts again".to_owned(),
                "no such day is left: look at the month, the days and the year",
            ));
            None
        }
        Ok(cron) => Some(Arc::new(cron)),
        Err(why) => {
            out.error(wrong(why, cron::EXAMPLE));
            None
        }
    }
}

/// The zone of an expression under `key`; without the expression it has no effect.
pub(super) fn zone_for(
    zone: Option<&Typed<String>>,
    cron: Option<&Typed<String>>,
    key: &str,
    out: &mut Findings,
) -> Option<Tz> {
    let typed = zone?;
    if cron.is_none() {
        out.error(Complaint::at(
            typed.span.clone(),
            "this has no effect here",
            format!("only for `{key}`"),
        ));
    }
    self::zone(typed, out)
}

fn useless_zone(raw: &RawServer, timing: &Timing, out: &mut Findings) {
    if let (Some(zone), None, Timing::Every(_)) = (&raw.timezone, &raw.cron, timing) {
        out.error(Complaint::at(
            zone.span.clone(),
            "this has no effect here",
            "only for a `cron`",
        ));
    }
}

fn zone(typed: &Typed<String>, out: &mut Findings) -> Option<Tz> {
    let zone = parse_zone(&typed.value);
    if zone.is_none() {
        // Abbreviations are near to each other and mean something else.
        let places: Vec<_> = chrono_tz::TZ_VARIANTS
            .iter()
            .map(|zone| zone.name())
            .filter(|name| name.contains('/') || *name == "UTC")
            .collect();
        let label = match nearest(&typed.value, &places) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "unknown time zone".to_owned(),
        };
        out.error(
            Complaint::at(typed.span.clone(), "there is no such time zone", label)
                .help("a name of the IANA database, such as \"Europe/Berlin\", or \"UTC\""),
        );
    }
    zone
}

fn parse_zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}
