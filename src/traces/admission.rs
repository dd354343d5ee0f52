//! The door: which spans are let in, and what of them.
//!
//! Every format is read into the same buffers and comes through here, one span after the other, so that a limit is
//! written down once and a large request never lies decoded in memory.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;

use super::block::{Encoder, Origin, Owner};
use super::convention::{Outcome, WithResource, outcome, tells_outcome};
use super::limits;
use super::privacy::{self, Rule};
use super::raw::{RawAttribute, RawSpan, RawValue};

/// How far in the future a span may begin: a clock that is wrong by its time zone, and no more. One of the year 2500 would
/// be the newest for ever.
const FUTURE: Duration = Duration::from_secs(24 * 3600);

/// Keys whose rule is remembered. There are some hundred; who makes up more has them judged anew.
const KNOWN_KEYS: usize = 4_096;

/// Why a span is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    TraceId,
    SpanId,
    TooOld,
    InFuture,
    TooMany,
}

impl Rejection {
    const ALL: [Self; 5] = [
        Self::TraceId,
        Self::SpanId,
        Self::TooOld,
        Self::InFuture,
        Self::TooMany,
    ];

    fn says(self) -> &'static str {
        match self {
            Self::TraceId => "trace id is not 16 bytes, or all zero",
            Self::SpanId => "span id is not 8 bytes, or all zero",
            Self::TooOld => "ended longer ago than spans are kept",
            Self::InFuture => "begins more than a day in the future",
            Self::TooMany => "more than 65536 spans in one request",
        }
    }
}

/// What became of a request's spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) accepted: u64,
    rejected: [u64; Rejection::ALL.len()],
}

impl Tally {
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// As the partial success of OTLP words it, for the one who reads the exporter's log.
    pub(super) fn message(&self) -> String {
        let mut message = String::new();
        for (rejection, count) in Rejection::ALL.iter().zip(self.rejected) {
            if count > 0 {
                let between = if message.is_empty() { "" } else { "; " };
                let says = rejection.says();
                write!(message, "{between}{count} rejected: {says}").ok();
            }
        }
        message
    }
}

/// What is remembered of keys from request to request, and how to judge new ones.
pub(super) struct Rules {
    keep_content: bool,
    known: HashMap<Box<str>, (Rule, bool)>,
}

impl Rules {
    pub(super) fn new(keep_content: bool) -> Self {
        Self {
            keep_content,
            known: HashMap::new(),
        }
    }

    /// The rule, and whether the key tells how the span went.
    fn of(&mut self, key: &str) -> (Rule, bool) {
        if let Some(known) = self.known.get(key) {
            return *known;
        }
        let judged = (privacy::rule(key, self.keep_content), tells_outcome(key));
        if self.known.len() < KNOWN_KEYS && key.len() <= limits::NAME {
            self.known.insert(key.into(), judged);
        }
        judged
    }
}

/// Lets one request in.
pub(super) struct Admission<'e> {
    encoder: &'e mut Encoder,
    rules: &'e mut Rules,
    earliest: u64,
    latest: u64,
    tally: Tally,
}

impl<'e> Admission<'e> {
    pub(super) fn new(
        encoder: &'e mut Encoder,
        rules: &'e mut Rules,
        now: SystemTime,
        keep: Duration,
    ) -> Self {
        Self {
            encoder,
            rules,
            earliest: now.checked_sub(keep).map_or(0, nanos),
            latest: nanos(now + FUTURE),
            tally: Tally::default(),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// The number of a resource of which spans follow.
    pub(super) fn resource(&mut self, attributes: &mut Vec<RawAttribute<'_>>) -> u32 {
        let mut room = limits::SPAN;
        self.sift(attributes, &mut room);
        let owner = Owner::of(attributes);
        self.encoder.resource(attributes, owner)
    }

    /// The number of a scope of which spans follow.
    pub(super) fn scope(&mut self, name: &str, version: &str) -> u32 {
        let (name, _) = limits::cut(name, limits::NAME);
        let (version, _) = limits::cut(version, limits::NAME);
        self.encoder.scope(name, version)
    }

    pub(super) fn reject(&mut self, rejection: Rejection) {
        let place = self.tally.rejected.get_mut(rejection as usize);
        place.into_iter().for_each(|count| *count += 1);
    }

    /// Lets a span in, or not; what may not be kept of it is taken out of `span`.
    pub(super) fn span(&mut self, span: &mut RawSpan<'_>, origin: Origin) {
        let rejection = if span.trace_id == [0; 16] {
            Some(Rejection::TraceId)
        } else if span.span_id == [0; 8] {
            Some(Rejection::SpanId)
        } else if span.start.saturating_add(span.duration) < self.earliest {
            Some(Rejection::TooOld)
        } else if span.start > self.latest {
            Some(Rejection::InFuture)
        } else if self.tally.accepted >= limits::SPANS {
            Some(Rejection::TooMany)
        } else {
            None
        };
        if let Some(rejection) = rejection {
            return self.reject(rejection);
        }
        span.parent = span.parent.filter(|parent| *parent != [0; 8]);
        for text in [&mut span.name, &mut span.tracestate, &mut span.message] {
            shorten(text, limits::NAME);
        }
        let mut room = limits::SPAN;
        let tells = self.sift_counted(&mut span.attributes, &mut room, &mut span.dropped);
        for event in &mut span.events {
            shorten(&mut event.name, limits::NAME);
            self.sift_counted(&mut event.attributes, &mut room, &mut span.dropped);
        }
        let outcome = if tells {
            // The resource says nothing of how a span went.
            outcome(&WithResource {
                span,
                resource: &[],
            })
        } else if span.status == 2 {
            Outcome::Error
        } else {
            Outcome::Ok
        };
        self.encoder.push(span, origin, outcome);
        self.tally.accepted += 1;
    }

    fn sift_counted(
        &mut self,
        attributes: &mut Vec<RawAttribute<'_>>,
        room: &mut usize,
        dropped: &mut u32,
    ) -> bool {
        let before = attributes.len();
        let tells = self.sift(attributes, room);
        *dropped = dropped.saturating_add((before - attributes.len()) as u32);
        tells
    }

    /// Takes out what may not be kept, and cuts what is too long. Answers whether a key tells how the span went.
    fn sift(&mut self, attributes: &mut Vec<RawAttribute<'_>>, room: &mut usize) -> bool {
        let mut tells = false;
        attributes.truncate(limits::LIST);
        attributes.retain_mut(|RawAttribute { key, value }| {
            let (rule, tells_outcome) = self.rules.of(key);
            match rule {
                Rule::Content | Rule::Credential => return false,
                Rule::Url => change(value, privacy::without_credentials),
                Rule::Query => change(value, privacy::query_without_credentials),
                Rule::Keep => {}
            }
            tells |= tells_outcome;
            shorten(key, limits::NAME);
            let size = key.len() + cut_value(value);
            let fits = size <= *room;
            if fits {
                *room -= size;
            }
            fits
        });
        tells
    }
}

/// Cuts a value, and answers what it takes.
fn cut_value(value: &mut RawValue<'_>) -> usize {
    match value {
        RawValue::Text(text) | RawValue::Json(text) => {
            shorten(text, limits::VALUE);
            text.len()
        }
        RawValue::Bytes(bytes) => {
            if bytes.len() > limits::VALUE {
                bytes.to_mut().truncate(limits::VALUE);
            }
            bytes.len()
        }
        _ => 8,
    }
}

fn shorten(text: &mut Cow<'_, str>, limit: usize) {
    if let (kept, true) = limits::cut(text, limit) {
        *text = Cow::Owned(format!("{kept}{}", limits::MARK));
    }
}

fn change(value: &mut RawValue<'_>, to: impl Fn(&str) -> Cow<'_, str>) {
    if let RawValue::Text(text) = value
        && let Cow::Owned(changed) = to(text)
    {
        *text = Cow::Owned(changed);
    }
}

pub(super) fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
