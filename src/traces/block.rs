//! The block: some hundred to some thousand spans as bytes, and what is known of them without reading these.
//!
//! ```text
//! block   = lz4 of: four lengths (u32), then dictionary, resources, scopes, records
//! records = for each span: length (u32), trace id, span id, start (u64), marks (u8), resource, scope, ...
//! ```
//!
//! A string that is not long stands once in the dictionary and by its number elsewhere. What a question is decided by
//! stands first in a record, so that the others are stepped over.

use std::borrow::Cow;

use hashbrown::{HashMap, HashSet};

use super::convention::{Outcome, PROJECT_KEYS, raw_text};
use super::cursor::{Cursor, put_bytes, put_varint, unzigzag, zigzag};
use super::dictionary::{Dictionary, Strings};
use super::head::{Group, Head, MAX_GROUPS, fingerprint};
use super::limits;
use super::raw::{RawAttribute, RawEvent, RawSpan, RawValue, find};

/// Longer strings are hardly ever repeated, and would only be hashed.
const LONGEST_SHARED: usize = 128;

/// No block of ours is larger: what a damaged file says of a size is not believed.
const MAX_SIZE: usize = 256 * 1024 * 1024;

/// A finished block.
pub(super) struct Block {
    pub(super) head: Head,
    /// Of its traces, ascending.
    pub(super) fingerprints: Vec<u32>,
    /// Compressed.
    pub(super) bytes: Vec<u8>,
    /// Before that.
    pub(super) size: usize,
}

/// Whose the spans of a resource are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) service: String,
    pub(super) project: String,
}

impl Owner {
    /// By the attributes of a resource.
    pub(super) fn of(resource: &[RawAttribute<'_>]) -> Self {
        let text = |key: &str| find(resource, key).map(raw_text);
        let cut = |text: &str| limits::cut(text, limits::NAME).0.to_owned();
        let project = PROJECT_KEYS
            .iter()
            .filter_map(|key| text(key))
            .find(|value| !value.is_empty());
        Self {
            service: cut(&text("service.name").unwrap_or_default()),
            project: cut(&project.unwrap_or_default()),
        }
    }
}

/// A block that is being filled.
#[derive(Default)]
pub(super) struct Encoder {
    dictionary: Dictionary,
    resources: Table,
    owners: Vec<Owner>,
    scopes: Table,
    records: Vec<u8>,
    entries: Vec<Entry>,
}

/// Encoded things, each once.
#[derive(Default)]
struct Table {
    bytes: Vec<u8>,
    numbers: HashMap<Vec<u8>, u32>,
}

impl Table {
    fn number(&mut self, encoded: Vec<u8>) -> u32 {
        let next = self.numbers.len() as u32;
        let Self { bytes, numbers } = self;
        *numbers.entry_ref(&encoded).or_insert_with(|| {
            put_bytes(bytes, &encoded);
            next
        })
    }
}

/// What the head is made of.
struct Entry {
    fingerprint: u32,
    resource: u32,
    start: u64,
    duration: u64,
    outcome: Outcome,
}

/// The number of a resource in a block, and of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) resource: u32,
    pub(super) scope: u32,
}

impl Encoder {
    /// The number of a resource.
    pub(super) fn resource(&mut self, attributes: &[RawAttribute<'_>], owner: Owner) -> u32 {
        let mut encoded = Vec::new();
        put_attributes(&mut self.dictionary, &mut encoded, attributes);
        let number = self.resources.number(encoded);
        if number as usize == self.owners.len() {
            self.owners.push(owner);
        }
        number
    }

    /// The number of a scope.
    pub(super) fn scope(&mut self, name: &str, version: &str) -> u32 {
        let mut encoded = Vec::new();
        put_varint(&mut encoded, self.dictionary.number(name));
        put_varint(&mut encoded, self.dictionary.number(version));
        self.scopes.number(encoded)
    }

    /// Adds a span.
    pub(super) fn push(&mut self, span: &RawSpan<'_>, origin: Origin, outcome: Outcome) {
        self.entries.push(Entry {
            fingerprint: fingerprint(span.trace_id),
            resource: origin.resource,
            start: span.start,
            duration: span.duration,
            outcome,
        });
        let at = self.records.len();
        let (out, dictionary) = (&mut self.records, &mut self.dictionary);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&span.trace_id);
        out.extend_from_slice(&span.span_id);
        out.extend_from_slice(&span.start.to_le_bytes());
        let parent = u8::from(span.parent.is_some()) << 7;
        out.push(parent | (outcome as u8) << 5 | (span.status & 3) << 3 | span.kind & 7);
        put_varint(out, u64::from(origin.resource));
        put_varint(out, u64::from(origin.scope));
        put_varint(out, span.duration);
        if let Some(parent) = span.parent {
            out.extend_from_slice(&parent);
        }
        put_varint(out, dictionary.number(&span.name));
        put_varint(out, dictionary.number(&span.tracestate));
        put_varint(out, dictionary.number(&span.message));
        put_varint(out, u64::from(span.dropped));
        put_attributes(dictionary, out, &span.attributes);
        put_varint(out, span.events.len() as u64);
        for event in &span.events {
            put_varint(out, zigzag(event.at.wrapping_sub(span.start).cast_signed()));
            put_varint(out, dictionary.number(&event.name));
            put_attributes(dictionary, out, &event.attributes);
        }
        put_varint(out, span.links.len() as u64);
        for (trace_id, span_id) in &span.links {
            out.extend_from_slice(trace_id);
            out.extend_from_slice(span_id);
        }
        let length = (out.len() - at - 4) as u32;
        if let Some(place) = out.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Where it stands, to come back to.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.records.len(), self.entries.len())
    }

    /// Forgets the spans since then. Their strings stay, and are nobody's.
    pub(super) fn back_to(&mut self, (records, entries): (usize, usize)) {
        self.records.truncate(records);
        self.entries.truncate(entries);
    }

    /// Spans so far.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> usize {
        self.records.len() + self.dictionary.size() + self.resources.bytes.len()
    }

    /// The block, compressed.
    pub(super) fn finish(self) -> Block {
        let mut bytes = Vec::with_capacity(self.size() + 64);
        bytes.extend_from_slice(&[0; 16]);
        let mut lengths = Vec::with_capacity(16);
        let mut end = bytes.len();
        let mut section = |bytes: &Vec<u8>| {
            lengths.extend_from_slice(&((bytes.len() - end) as u32).to_le_bytes());
            end = bytes.len();
        };
        self.dictionary.write(&mut bytes);
        section(&bytes);
        bytes.extend_from_slice(&self.resources.bytes);
        section(&bytes);
        bytes.extend_from_slice(&self.scopes.bytes);
        section(&bytes);
        bytes.extend_from_slice(&self.records);
        section(&bytes);
        if let Some(place) = bytes.get_mut(..16) {
            place.copy_from_slice(&lengths);
        }
        let head = self.head();
        let mut fingerprints: Vec<_> = self.entries.iter().map(|e| e.fingerprint).collect();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        Block {
            head,
            fingerprints,
            bytes: lz4_flex::compress_prepend_size(&bytes),
            size: bytes.len(),
        }
    }

    fn head(&self) -> Head {
        let mut groups: Vec<Group> = Vec::new();
        let mut others = false;
        let mut known: HashMap<&Owner, usize> = HashMap::new();
        let mut places = Vec::with_capacity(self.owners.len());
        for owner in &self.owners {
            if groups.len() == MAX_GROUPS && !known.contains_key(owner) {
                others = true;
                places.push(MAX_GROUPS - 1);
                continue;
            }
            places.push(*known.entry(owner).or_insert_with(|| {
                groups.push(Group::of(owner));
                groups.len() - 1
            }));
        }
        let mut traces = HashSet::with_capacity(self.entries.len() / 4);
        for entry in &self.entries {
            let place = places.get(entry.resource as usize).copied();
            let Some((place, group)) = place.and_then(|p| Some((p, groups.get_mut(p)?))) else {
                continue;
            };
            group.traces += u32::from(traces.insert((place as u32, entry.fingerprint)));
            group.spans += 1;
            group.failed += u32::from(entry.outcome != Outcome::Ok);
            group.first = group.first.min(entry.start);
            group.last = group.last.max(entry.start);
            group.longest = group.longest.max(entry.duration);
        }
        groups.retain(|group| group.spans > 0);
        Head { groups, others }
    }
}

fn put_attributes(dictionary: &mut Dictionary, out: &mut Vec<u8>, attributes: &[RawAttribute<'_>]) {
    put_varint(out, attributes.len() as u64);
    for RawAttribute { key, value } in attributes {
        put_varint(out, dictionary.number(key));
        put_value(dictionary, out, value);
    }
}

fn put_value(dictionary: &mut Dictionary, out: &mut Vec<u8>, value: &RawValue<'_>) {
    match value {
        RawValue::Empty => out.push(0),
        RawValue::Text(text) if text.len() <= LONGEST_SHARED => {
            out.push(1);
            put_varint(out, dictionary.number(text));
        }
        RawValue::Text(text) => {
            out.push(2);
            put_bytes(out, text.as_bytes());
        }
        RawValue::Int(number) => {
            out.push(3);
            put_varint(out, zigzag(*number));
        }
        RawValue::Double(number) => {
            out.push(4);
            out.extend_from_slice(&number.to_le_bytes());
        }
        RawValue::Bool(bool) => out.push(5 + u8::from(*bool)),
        RawValue::Bytes(bytes) => {
            out.push(7);
            put_bytes(out, bytes);
        }
        RawValue::Json(text) => {
            out.push(8);
            put_bytes(out, text.as_bytes());
        }
    }
}

/// The bytes of a block, decompressed; `None` when they are none.
pub(super) fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    let size = Cursor(bytes).u32()? as usize;
    if size > MAX_SIZE {
        return None;
    }
    lz4_flex::decompress_size_prepended(bytes).ok()
}

/// The same of a block that has so many spans, and in which all of them can be found.
pub(super) fn decompress_whole(bytes: &[u8], spans: u64) -> Option<Vec<u8>> {
    let bytes = decompress(bytes)?;
    let is_whole = Spans::read(&bytes)?.is_whole(spans);
    is_whole.then_some(bytes)
}

/// A block that is being read. What is no block, or only half a one, ends early and never panics.
pub(super) struct Spans<'b> {
    strings: Strings<'b>,
    resources: Vec<&'b [u8]>,
    scopes: Vec<&'b [u8]>,
    records: &'b [u8],
}

/// What is known of a span before the rest of it is read.
#[derive(Clone, Copy)]
pub(super) struct Record<'b> {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) start: u64,
    pub(super) outcome: Outcome,
    pub(super) origin: Origin,
    marks: u8,
    pub(super) duration: u64,
    rest: &'b [u8],
}

impl<'b> Spans<'b> {
    /// Of decompressed bytes.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let lengths = [cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?];
        let [dictionary, resources, scopes, records] = lengths.map(|length| length as usize);
        Some(Self {
            strings: Strings::read(cursor.take(dictionary)?)?,
            resources: items(cursor.take(resources)?),
            scopes: items(cursor.take(scopes)?),
            records: cursor.take(records)?,
        })
    }

    /// Whether it has so many spans, each of a resource and a scope that are there. What else is said of them is not
    /// looked at: that would take as long as reading them.
    fn is_whole(&self, spans: u64) -> bool {
        let mut attributes = Vec::new();
        let mut resources = self.resources.iter();
        let mut scopes = 0..self.scopes.len() as u32;
        let mut count = 0;
        let mut records = self.records().inspect(|_| count += 1);
        let all = resources.all(|bytes| {
            let read = self.attributes(&mut Cursor(bytes), &mut attributes);
            read.is_some()
        }) && scopes.all(|number| self.scope(number).is_some())
            && records.all(|Record { origin, .. }| {
                (origin.resource as usize) < self.resources.len()
                    && (origin.scope as usize) < self.scopes.len()
            });
        drop(records);
        all && count == spans
    }

    /// Whether every span can be read.
    pub(super) fn is_readable(&self) -> bool {
        let mut span = RawSpan::default();
        let mut records = self.records();
        records.all(|record| self.span(&record, &mut span).is_some())
    }

    /// All of them, in the order in which they were put in.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'b>> + use<'b> {
        let mut cursor = Cursor(self.records);
        std::iter::from_fn(move || {
            let length = cursor.u32()? as usize;
            Record::read(cursor.take(length)?)
        })
    }

    /// Attributes of each resource.
    pub(super) fn resources(&self) -> Vec<Vec<RawAttribute<'b>>> {
        let numbers = 0..self.resources.len() as u32;
        numbers.map(|number| self.resource(number)).collect()
    }

    /// Attributes of a resource.
    pub(super) fn resource(&self, number: u32) -> Vec<RawAttribute<'b>> {
        let mut attributes = Vec::new();
        if let Some(bytes) = self.resources.get(number as usize) {
            self.attributes(&mut Cursor(bytes), &mut attributes);
        }
        attributes
    }

    /// Name and version of a scope.
    pub(super) fn scope(&self, number: u32) -> Option<(&'b str, &'b str)> {
        let mut cursor = Cursor(self.scopes.get(number as usize)?);
        let name = self.string(&mut cursor)?;
        Some((name, self.string(&mut cursor)?))
    }

    /// The whole span of a record, into `span`.
    pub(super) fn span(&self, record: &Record<'b>, span: &mut RawSpan<'b>) -> Option<()> {
        let mut cursor = Cursor(record.rest);
        span.trace_id = record.trace_id;
        span.span_id = record.span_id;
        span.start = record.start;
        span.duration = record.duration;
        span.kind = record.marks & 7;
        span.status = record.marks >> 3 & 3;
        span.parent = match record.marks >> 7 {
            0 => None,
            _ => Some(cursor.array()?),
        };
        span.name = Cow::Borrowed(self.string(&mut cursor)?);
        span.tracestate = Cow::Borrowed(self.string(&mut cursor)?);
        span.message = Cow::Borrowed(self.string(&mut cursor)?);
        span.dropped = u32::try_from(cursor.varint()?).ok()?;
        self.attributes(&mut cursor, &mut span.attributes)?;
        span.events.clear();
        for _ in 0..cursor.length()? {
            let offset = unzigzag(cursor.varint()?);
            let mut event = RawEvent {
                at: span.start.wrapping_add_signed(offset),
                name: Cow::Borrowed(self.string(&mut cursor)?),
                attributes: Vec::new(),
            };
            self.attributes(&mut cursor, &mut event.attributes)?;
            span.events.push(event);
        }
        span.links.clear();
        for _ in 0..cursor.length()? {
            span.links.push((cursor.array()?, cursor.array()?));
        }
        Some(())
    }

    /// What leads to the name of a span, without its attributes.
    pub(super) fn name(&self, record: &Record<'b>) -> Option<&'b str> {
        let mut cursor = Cursor(record.rest);
        if record.marks >> 7 == 1 {
            cursor.take(8)?;
        }
        self.string(&mut cursor)
    }

    fn string(&self, cursor: &mut Cursor<'b>) -> Option<&'b str> {
        self.strings.get(cursor.varint()?)
    }

    fn attributes(&self, cursor: &mut Cursor<'b>, out: &mut Vec<RawAttribute<'b>>) -> Option<()> {
        out.clear();
        for _ in 0..cursor.length()? {
            let key = Cow::Borrowed(self.string(cursor)?);
            let value = self.value(cursor)?;
            out.push(RawAttribute { key, value });
        }
        Some(())
    }

    fn value(&self, cursor: &mut Cursor<'b>) -> Option<RawValue<'b>> {
        let text = |bytes| std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
        Some(match cursor.byte()? {
            0 => RawValue::Empty,
            1 => RawValue::Text(Cow::Borrowed(self.string(cursor)?)),
            2 => RawValue::Text(text(cursor.bytes()?)?),
            3 => RawValue::Int(unzigzag(cursor.varint()?)),
            4 => RawValue::Double(f64::from_le_bytes(cursor.array()?)),
            5 => RawValue::Bool(false),
            6 => RawValue::Bool(true),
            7 => RawValue::Bytes(Cow::Borrowed(cursor.bytes()?)),
            8 => RawValue::Json(text(cursor.bytes()?)?),
            _ => return None,
        })
    }
}

impl<'b> Record<'b> {
    fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let trace_id = cursor.array()?;
        let span_id = cursor.array()?;
        let start = cursor.u64()?;
        let marks = cursor.byte()?;
        let origin = Origin {
            resource: u32::try_from(cursor.varint()?).ok()?,
            scope: u32::try_from(cursor.varint()?).ok()?,
        };
        Some(Self {
            trace_id,
            span_id,
            start,
            outcome: Outcome::of_number(marks >> 5 & 3),
            origin,
            marks,
            duration: cursor.varint()?,
            rest: cursor.0,
        })
    }

    /// As OTLP numbers it.
    pub(super) fn kind(&self) -> u8 {
        self.marks & 7
    }
}

fn items(bytes: &[u8]) -> Vec<&[u8]> {
    let mut cursor = Cursor(bytes);
    std::iter::from_fn(|| cursor.bytes()).collect()
}

#[cfg(test)]
pub(in crate::traces) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Cow<'static, str>> {
        prop_oneof!["[a-c]{0,3}", any::<String>(), "x{120,140}"].prop_map(Cow::Owned)
    }

    fn value() -> impl Strategy<Value = RawValue<'static>> {
        prop_oneof![
            Just(RawValue::Empty),
            text().prop_map(RawValue::Text),
            any::<i64>().prop_map(RawValue::Int),
            (-1e300..1e300).prop_map(RawValue::Double),
            any::<bool>().prop_map(RawValue::Bool),
            vec(any::<u8>(), 0..9).prop_map(|bytes| RawValue::Bytes(Cow::Owned(bytes))),
            text().prop_map(RawValue::Json),
        ]
    }

    fn attributes() -> impl Strategy<Value = Vec<RawAttribute<'static>>> {
        vec(
            (text(), value()).prop_map(|(key, value)| RawAttribute { key, value }),
            0..4,
        )
    }

    prop_compose! {
        fn event()(at: u64, name in text(), attributes in attributes()) -> RawEvent<'static> {
            RawEvent { at, name, attributes }
        }
    }

    prop_compose! {
        pub(in crate::traces) fn span()(
            trace in 0..5u8, span_id: [u8; 8], parent: Option<[u8; 8]>,
            (tracestate, name, message) in (text(), text(), text()),
            (kind, status) in (0..6u8, 0..3u8),
            (start, duration, dropped) in any::<(u64, u64, u32)>(),
            attributes in attributes(), events in vec(event(), 0..3),
            links: Vec<([u8; 16], [u8; 8])>,
        ) -> RawSpan<'static> {
            RawSpan {
                trace_id: [trace; 16], span_id, parent, tracestate, name, kind, start, duration, status,
                message, attributes, events, links, dropped,
            }
        }
    }

    pub(in crate::traces) fn encoded(service: &str, spans: &[RawSpan<'_>]) -> Block {
        let mut encoder = Encoder::default();
        let resource = [RawAttribute {
            key: Cow::Borrowed("service.name"),
            value: RawValue::Text(Cow::Borrowed(service)),
        }];
        let origin = Origin {
            resource: encoder.resource(&resource, Owner::of(&resource)),
            scope: encoder.scope("scope", "1"),
        };
        for span in spans {
            encoder.push(span, origin, Outcome::Error);
        }
        encoder.finish()
    }

    proptest! {
        #[test]
        fn spans_are_read_as_they_were_written(spans in vec(span(), 0..8)) {
            let block = encoded("weather", &spans);
            let bytes = decompress(&block.bytes).unwrap();
            let read = Spans::read(&bytes).unwrap();
            let mut again = RawSpan::default();
            let mut count = 0;
            for (record, span) in read.records().zip(&spans) {
                prop_assert!(read.span(&record, &mut again).is_some());
                prop_assert_eq!(&again, span);
                prop_assert_eq!(record.outcome, Outcome::Error);
                prop_assert_eq!(read.scope(record.origin.scope), Some(("scope", "1")));
                prop_assert_eq!(&Owner::of(&read.resource(record.origin.resource)).service, "weather");
                prop_assert!(block.fingerprints.binary_search(&fingerprint(span.trace_id)).is_ok());
                count += 1;
            }
            prop_assert_eq!(count, spans.len());
            prop_assert_eq!(block.head.spans(), spans.len() as u64);
            prop_assert_eq!(block.head.may_have("weather"), !spans.is_empty());
        }

        #[test]
        fn damaged_blocks_are_read_as_far_as_they_go(
            spans in vec(span(), 1..4), places: Vec<(prop::sample::Index, u8)>, end: prop::sample::Index,
        ) {
            let mut bytes = decompress(&encoded("weather", &spans).bytes).unwrap();
            for (place, byte) in places {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(end.index(bytes.len()) + 1);
            if let Some(read) = Spans::read(&bytes) {
                let mut span = RawSpan::default();
                read.resources();
                read.is_whole(spans.len() as u64);
                read.is_readable();
                for record in read.records() {
                    read.span(&record, &mut span);
                    read.name(&record);
                }
            }
            decompress(&bytes);
        }

        #[test]
        fn any_bytes_are_no_reason_to_panic(bytes: Vec<u8>) {
            decompress(&bytes);
            if let Some(read) = Spans::read(&bytes) {
                read.records().count();
            }
        }
    }
}
