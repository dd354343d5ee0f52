//! Many small blocks become a few large ones, in which the spans of a service lie together. Pure.

use hashbrown::HashMap;

use super::block::{self, Block, Encoder, Origin, Owner, Record, Spans};
use super::raw::RawSpan;

/// Spans of a block: a trace is found by reading one or two of them, each within a millisecond.
const LARGE: usize = 4_096;

/// A block ends with its service when it has so many; services with fewer share one.
const ENOUGH: usize = 1_024;

/// Bytes of a block before it is compressed, whatever its spans are like: what has to be read to find one of them.
const LARGE_BYTES: usize = 2 * 1024 * 1024;

/// What is merged: each span once, however often it was delivered. A block that cannot be read is left out, and counted.
pub(super) fn merge(compressed: &[Vec<u8>]) -> (Vec<Block>, usize) {
    let bytes: Vec<_> = compressed
        .iter()
        .filter_map(|bytes| block::decompress(bytes))
        .collect();
    let sources: Vec<_> = bytes.iter().filter_map(|bytes| Spans::read(bytes)).collect();
    let unreadable = compressed.len() - sources.len();
    let mut owners = HashMap::new();
    let mut items = Vec::new();
    for (source, spans) in sources.iter().enumerate() {
        let numbers: Vec<usize> = spans
            .resources()
            .iter()
            .map(|resource| {
                let next = owners.len();
                *owners.entry(Owner::of(resource)).or_insert(next)
            })
            .collect();
        for record in spans.records() {
            let Some(owner) = numbers.get(record.origin.resource as usize) else {
                continue;
            };
            items.push(Item {
                owner: *owner,
                source,
                record,
            });
        }
    }
    items.sort_unstable_by_key(Item::order);
    items.dedup_by(|a, b| a.is_same(b));
    (encode(&sources, &items), unreadable)
}

struct Item<'b> {
    owner: usize,
    source: usize,
    record: Record<'b>,
}

impl Item<'_> {
    fn order(&self) -> (usize, u64, [u8; 8], [u8; 16], usize) {
        let Record {
            start,
            span_id,
            trace_id,
            ..
        } = self.record;
        (self.owner, start, span_id, trace_id, self.source)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.owner == other.owner
            && self.record.span_id == other.record.span_id
            && self.record.trace_id == other.record.trace_id
    }
}

fn encode(sources: &[Spans<'_>], items: &[Item<'_>]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut filling = Filling::default();
    let mut owner = None;
    let mut span = RawSpan::default();
    for item in items {
        let Some(source) = sources.get(item.source) else {
            continue;
        };
        let length = filling.encoder.len();
        if length >= LARGE
            || filling.encoder.size() >= LARGE_BYTES
            || (length >= ENOUGH && owner != Some(item.owner)) {
            blocks.push(std::mem::take(&mut filling).encoder.finish());
        }
        owner = Some(item.owner);
        if source.span(&item.record, &mut span).is_some() {
            let origin = filling.origin(item, source);
            filling.encoder.push(&span, origin, item.record.outcome);
        }
    }
    if filling.encoder.len() > 0 {
        blocks.push(filling.encoder.finish());
    }
    blocks
}

/// A block that is being filled, and what the sources' resources and scopes are called in it.
#[derive(Default)]
struct Filling {
    encoder: Encoder,
    resources: HashMap<(usize, u32), u32>,
    scopes: HashMap<(usize, u32), u32>,
}

impl Filling {
    fn origin(&mut self, item: &Item<'_>, source: &Spans<'_>) -> Origin {
        let Origin { resource, scope } = item.record.origin;
        let encoder = &mut self.encoder;
        Origin {
            resource: *self
                .resources
                .entry((item.source, resource))
                .or_insert_with(|| {
                    let attributes = source.resource(resource);
                    let owner = Owner::of(&attributes);
                    encoder.resource(&attributes, owner)
                }),
            scope: *self
                .scopes
                .entry((item.source, scope))
                .or_insert_with(|| {
                    let (name, version) = source.scope(scope).unwrap_or_default();
                    encoder.scope(name, version)
                }),
        }
    }
}
