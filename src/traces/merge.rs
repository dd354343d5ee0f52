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

/// What is merged, blocks with the numbers of their spans: each span once, however often it was delivered; and how many
/// spans of each block are lost, because they, or all of it, cannot be read.
pub(super) fn merge(small: &[(Vec<u8>, u64)]) -> (Vec<Block>, Vec<u64>) {
    let bytes: Vec<_> = small
        .iter()
        .map(|(bytes, spans)| block::decompress_whole(bytes, *spans))
        .collect();
    let sources: Vec<_> = bytes
        .iter()
        .map(|bytes| Spans::read(bytes.as_deref()?))
        .collect();
    let all = small.iter().zip(&sources);
    let mut lost: Vec<_> = all
        .map(|((_, spans), source)| if source.is_some() { 0 } else { *spans })
        .collect();
    let mut owners = HashMap::new();
    let mut items = Vec::new();
    let readable = sources.iter().enumerate();
    for (source, spans) in readable.filter_map(|(n, spans)| Some((n, spans.as_ref()?))) {
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
    (encode(&sources, &items, &mut lost), lost)
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

fn encode(sources: &[Option<Spans<'_>>], items: &[Item<'_>], lost: &mut [u64]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut filling = Filling::default();
    let mut owner = None;
    let mut span = RawSpan::default();
    for item in items {
        let Some(source) = sources.get(item.source).and_then(Option::as_ref) else {
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
        } else if let Some(lost) = lost.get_mut(item.source) {
            *lost += 1;
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
            let part = |(s, spans): &(String, Vec<_>)| (encoded(s, spans).bytes, spans.len() as u64);
            let mut small: Vec<_> = parts.iter().map(part).collect();
            let (expected, _) = all(&small.iter().map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>());
            if twice {
                small.extend(small.clone());
            }
            let (merged, lost) = merge(&small);
            let merged: Vec<_> = merged.into_iter().map(|block| block.bytes).collect();
            let (found, count) = all(&merged);
            prop_assert!(lost.iter().all(|lost| *lost == 0));
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
            (encoded(service, &spans).bytes, count)
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
        let good = encoded("a", &[RawSpan::default()]).bytes;
        let (blocks, lost) = merge(&[(vec![1, 2, 3], 7), (good.clone(), 1), (good, 2)]);
        assert_eq!((blocks.len(), lost), (1, vec![7, 0, 2]));
    }
}
