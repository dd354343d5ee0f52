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
    let sources: Vec<_> = bytes
        .iter()
        .filter_map(|bytes| Spans::read(bytes))
        .collect();
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
            || (length >= ENOUGH && owner != Some(item.owner))
        {
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
            scope: *self.scopes.entry((item.source, scope)).or_insert_with(|| {
                let (name, version) = source.scope(scope).unwrap_or_default();
                encoder.scope(name, version)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::traces::block::tests::{encoded, span};

    type Key = (String, [u8; 16], [u8; 8]);

    /// Every span of some blocks, printed.
    fn all(compressed: &[Vec<u8>]) -> (BTreeMap<Key, String>, usize) {
        let mut found = BTreeMap::new();
        let mut count = 0;
        for bytes in compressed {
            let bytes = block::decompress(bytes).unwrap();
            let spans = Spans::read(&bytes).unwrap();
            let mut raw = RawSpan::default();
            for record in spans.records() {
                spans.span(&record, &mut raw).unwrap();
                let owner = Owner::of(&spans.resource(record.origin.resource));
                let key = (owner.service, raw.trace_id, raw.span_id);
                found.entry(key).or_insert_with(|| format!("{raw:?}"));
                count += 1;
            }
        }
        (found, count)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn nothing_is_lost_and_nothing_is_there_twice(
            parts in vec(("[ab]", vec(span(), 0..20)), 0..6), twice: bool,
        ) {
            let mut small: Vec<_> = parts.iter().map(|(s, spans)| encoded(s, spans).bytes).collect();
            let (expected, _) = all(&small);
            if twice {
                small.extend(small.clone());
            }
            let (merged, unreadable) = merge(&small);
            let merged: Vec<_> = merged.into_iter().map(|block| block.bytes).collect();
            let (found, count) = all(&merged);
            prop_assert_eq!(unreadable, 0);
            prop_assert_eq!(count, found.len());
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_service_with_many_spans_has_blocks_of_its_own() {
        let many = |service: &str, count: u64| {
            let spans: Vec<_> = (0..count)
                .map(|n| RawSpan {
                    trace_id: [1; 16],
                    span_id: n.to_be_bytes(),
                    start: n,
                    ..RawSpan::default()
                })
                .collect();
            encoded(service, &spans).bytes
        };
        let small = [
            many("large", 10_000),
            many("a", 10),
            many("b", 2_000),
            many("c", 10),
        ];
        let (blocks, _) = merge(&small);
        let services = |block: &Block| {
            let groups = block.head.groups.iter();
            groups
                .map(|group| (group.service.clone(), group.spans))
                .collect::<Vec<_>>()
        };
        let named: Vec<_> = blocks.iter().map(services).collect();
        let own = |service: &str, spans| (service.to_owned(), spans);
        assert_eq!(
            named,
            [
                vec![own("large", 4_096)],
                vec![own("large", 4_096)],
                vec![own("large", 1_808)],
                vec![own("a", 10), own("b", 2_000)],
                vec![own("c", 10)],
            ]
        );
    }

    #[test]
    fn a_block_that_cannot_be_read_is_counted() {
        let (blocks, unreadable) =
            merge(&[vec![1, 2, 3], encoded("a", &[RawSpan::default()]).bytes]);
        assert_eq!((blocks.len(), unreadable), (1, 1));
    }
}
