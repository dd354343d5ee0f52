//! `[store]`, judged.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::StoreSettings;
use super::checked::Findings;
use super::complaint::Complaint;
use super::keys::{Keys, Typed};
use super::substitute::Sources;
use crate::model::Retention;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A verdict looks back on passed probes: less than a day would leave nothing before an incident of the night. More
/// than ten years is a typing error.
const KEEP: RangeInclusive<Duration> =
    Duration::from_secs(24 * 3600)..=Duration::from_secs(3_660 * 24 * 3600);

/// Smaller than this a store holds nothing but itself.
const LEAST_SIZE: u64 = 10_000_000;

/// Units of `max_size`, and how many bytes they are.
const UNITS: [(&str, u64); 4] = [
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// What was typed.
#[derive(Default)]
pub(super) struct RawStore {
    path: Option<Typed<String>>,
    keep: Option<Typed<Duration>>,
    keep_failures: Option<Typed<Duration>>,
    max_size: Option<Typed<String>>,
}

pub(super) fn read_store<'t>(table: &'t DeTable<'t>, complaints: &mut Vec<Complaint>) -> RawStore {
    let known = ["path", "keep", "keep_failures", "max_size"];
    let mut keys = Keys::of(table, "[store]", &known, complaints);
    RawStore {
        path: keys.text("path"),
        keep: keys.duration("keep"),
        keep_failures: keys.duration("keep_failures"),
        max_size: keys.text("max_size"),
    }
}

pub(super) fn check_store(
    raw: RawStore,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> StoreSettings {
    let path = raw.path.and_then(|path| out.substitute(&path, sources));
    let path = path.map_or_else(
        || PathBuf::from(super::DEFAULT_STORE),
        |path| path.value.into(),
    );
    let usual = Retention::default();
    let mut in_range = |typed: Option<&Typed<Duration>>, key, usual| {
        typed
            .and_then(|typed| out.duration_in(typed, key, KEEP))
            .unwrap_or(usual)
    };
    let passed = in_range(raw.keep.as_ref(), "keep", usual.passed);
    // Failures may go as soon as passed probes do, but not sooner.
    let failures = in_range(
        raw.keep_failures.as_ref(),
        "keep_failures",
        usual.failures.max(passed),
    );
    if failures < passed {
        let typed = raw.keep_failures.as_ref().or(raw.keep.as_ref());
        out.error(Complaint::at(
            typed.map(|typed| typed.span.clone()).unwrap_or_default(),
            "`keep_failures` is shorter than `keep`",
            format!(
                "has to be at least {} days",
                passed.as_secs() / DAY.as_secs()
            ),
        ));
    }
    StoreSettings {
        path: sources.folder.join(path),
        keep: Retention {
            passed,
            failures,
            max_size: raw.max_size.and_then(|typed| size(&typed, "2GB", out)),
        },
    }
}

/// The bytes of `max_size`, or a complaint.
pub(super) fn size(typed: &Typed<String>, example: &str, out: &mut Findings) -> Option<u64> {
    let split = typed.value.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = typed.value.split_at(split.unwrap_or(typed.value.len()));
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim());
    let bytes = number
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(number, (_, unit))| number.checked_mul(*unit))
        .filter(|bytes| *bytes >= LEAST_SIZE);
    if bytes.is_none() {
        out.error(
            Complaint::at(
                typed.span.clone(),
                "`max_size` is no size of a store",
                "has to be a whole number of MB, GB, MiB or GiB, at least 10MB",
            )
            .help(format!("max_size = \"{example}\"")),
        );
    }
    bytes
}
