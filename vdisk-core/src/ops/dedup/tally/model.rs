//! A model of the tally, for its tests: how often each image has each block, as plain numbers.
#![allow(
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init,
    reason = "numbers are small, and a span can be the only one"
)]

use super::{
    super::{ImageCounts, sorter::Record},
    *,
};
use std::collections::BTreeMap;

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Images, blocks, and how often each image has each block.
pub(super) struct Model {
    pub(super) spans: Vec<Range<u32>>,
    pub(super) alive: Vec<bool>,
    pub(super) nodes: Vec<u32>,
    pub(super) groups: Vec<u32>,
    pub(super) main: u8,
    sizes: Vec<u64>,
    /// By print, class and length: counts by image, of those that did not fail.
    pub(super) blocks: Vec<(u128, Class, u64, Vec<u64>)>,
    pub(super) records: Vec<Print>,
}

impl Model {
    pub(super) fn random(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let images = 1 + random.below(40);
        let mut spans = vec![0..images as u32];
        for _ in 0..random.below(30) {
            let start = random.below(images);
            let end = start + 1 + random.below(images - start);
            spans.push(start as u32..end as u32);
        }
        spans.extend((0..images as u32).map(|i| i..i + 1));
        let dead = [1, 3, 100][random.below(3)];
        let mut nodes: Vec<u32> = (0..images as u32 + 5).collect();
        for i in 0..nodes.len() {
            let other = random.below(nodes.len());
            nodes.swap(i, other);
        }
        nodes.truncate(images);
        let groups = random.below(6);
        let mut model = Self {
            spans,
            alive: (0..images)
                .map(|_| dead > 1 && !random.one_in(dead))
                .collect(),
            nodes,
            groups: (0..if groups > 0 { images } else { 0 })
                .map(|_| random.below(groups) as u32)
                .collect(),
            main: random.below(2) as u8,
            sizes: vec![4096, 12288],
            blocks: vec![],
            records: vec![],
        };
        for _ in 0..random.below(400) {
            model.block(&mut random);
        }
        model
    }

    /// Adds a block, with records that never take away what is not there, but from failed images.
    fn block(&mut self, random: &mut Random) {
        let (class, len) = match random.below(5) {
            0 | 1 => (Class::Size(0), 4096),
            2 => (Class::Size(1), 12288),
            3 => (Class::Place, 65536),
            _ => (Class::Chunk, 1 + random.below(1 << 24) as u64),
        };
        let len = if random.one_in(9) { 512 } else { len };
        let print = (random.below(1 << 16) as u128) << 100; // some have the same
        if self
            .blocks
            .iter()
            .any(|b| (b.0, b.1, b.2) == (print, class, len))
        {
            return;
        }
        let mut counts = vec![0i64; self.alive.len()];
        let mut records = BTreeMap::new();
        for _ in 0..=[0, 0, 1, 5, 60][random.below(5)] {
            let span = random.below(self.spans.len());
            let range = self.spans[span].start as usize..self.spans[span].end as usize;
            let mut lived = range.clone().filter(|&i| self.alive[i]);
            let some = lived.clone().count() > 0;
            let step = if random.one_in(3) && lived.all(|i| counts[i] > 0) {
                -1
            } else if class == Class::Place && some && range.clone().any(|i| counts[i] > 0) {
                continue; // no image has a place twice
            } else {
                1
            };
            for image in range {
                counts[image] += step;
            }
            *records.entry(span as u32).or_insert(0) += step;
        }
        let kind = Print::kind(class, len);
        let records = records.into_iter().map(|(span, count)| Print {
            print,
            kind,
            span,
            count,
        });
        self.records.extend(records.filter(|r| !r.is_void()));
        let lived = counts.iter().zip(&self.alive);
        let counts = lived.map(|(&count, &alive)| if alive { count as u64 } else { 0 });
        self.blocks.push((print, class, len, counts.collect()));
    }

    pub(super) fn tally(&self, memory: u64, sample_bits: u32) -> Found {
        let mut tally = Tally::new(Plan {
            spans: self.spans.clone(),
            alive: self.alive.clone(),
            nodes: self.nodes.clone(),
            groups: self.groups.clone(),
            main: self.main,
            sizes: self.sizes.clone(),
            sample_bits,
            memory,
            places: true,
        });
        let mut records = self.records.clone();
        records.sort_by_key(Print::key);
        records.into_iter().try_for_each(|r| tally.add(r)).unwrap();
        tally.finish().unwrap()
    }

    /// The blocks of a class: length, and counts by image.
    pub(super) fn of(&self, class: Class) -> impl Iterator<Item = (u64, &Vec<u64>)> {
        let blocks = self.blocks.iter().filter(move |b| b.1 == class);
        blocks.map(|(_, _, len, counts)| (*len, counts))
    }

    /// Unique and once, of the images that are `wanted`.
    fn counts(&self, class: Class, wanted: impl Fn(usize) -> bool) -> Counts {
        let mut sums = Counts::default();
        for (len, counts) in self.of(class) {
            let refs: u64 = (0..counts.len())
                .filter(|&i| wanted(i))
                .map(|i| counts[i])
                .sum();
            sums.unique += if refs > 0 { len } else { 0 };
            sums.once += if refs == 1 { len } else { 0 };
        }
        sums
    }

    /// What the images number `a` and `b` share.
    fn shared(&self, class: Class, a: usize, b: usize) -> Option<u64> {
        let both = self.of(class).filter(|(_, c)| c[a] > 0 && c[b] > 0);
        (self.alive[a] && self.alive[b]).then(|| both.map(|(len, _)| len).sum())
    }

    /// Compares all that was found, which is `times` as much.
    pub(super) fn check(&self, found: &Found, times: u64) {
        let Found { images, outcome } = found;
        let scaled = |c: Counts| Counts {
            unique: c.unique * times,
            once: c.once * times,
            ..c
        };
        let main = Class::Size(self.main);
        for (image, &(distinct, exclusive)) in images.iter().enumerate() {
            let mut model = ImageCounts::default();
            for (len, counts) in self.of(main).filter(|(_, c)| c[image] > 0) {
                model.distinct += len * times;
                if counts.iter().filter(|&&c| c > 0).count() == 1 {
                    model.exclusive += len * times;
                }
            }
            assert_eq!((distinct, exclusive), (model.distinct, model.exclusive));
        }
        assert_eq!(outcome.total, scaled(self.counts(main, |_| true)));
        for (group, counts) in outcome.groups.iter().enumerate() {
            let model = self.counts(main, |i| self.groups[i] as usize == group);
            assert_eq!(*counts, scaled(model), "group {group}");
        }
        for (size, found) in outcome.sizes.iter().enumerate() {
            let model = self.counts(Class::Size(size as u8), |_| true);
            assert_eq!(found.counts, scaled(model));
            let blocks = self.of(Class::Size(size as u8));
            let there = blocks.filter(|(_, counts)| counts.iter().any(|n| *n > 0));
            assert_eq!(found.blocks, times * there.count() as u64);
        }
        let mut refs = BTreeMap::new();
        let mut chunks = ChunkCounts::default();
        for (class, refs) in [(main, Some(&mut refs)), (Class::Chunk, None)] {
            let mut refs = refs;
            for (len, counts) in self.of(class) {
                let n: u64 = counts.iter().sum();
                if n == 0 {
                    continue;
                }
                let Some(refs) = &mut refs else {
                    chunks.chunks += n * times;
                    chunks.data += n * len * times;
                    chunks.unique += len * times;
                    continue;
                };
                let mut from = 1;
                while from * 2 <= n {
                    from *= 2;
                }
                let sums = refs.entry(from).or_insert([0; 3]);
                for (sum, more) in sums.iter_mut().zip([1, len, n * len]) {
                    *sum += more * times;
                }
            }
        }
        let found: Vec<_> = outcome.refs.iter().collect();
        let found = found.iter().map(|r| (r.from, [r.blocks, r.unique, r.data]));
        assert!(found.eq(refs), "refs");
        assert_eq!(outcome.chunks.unwrap_or_default(), chunks);
        for (table, class) in [(&outcome.pairs, main), (&outcome.places, Class::Place)] {
            let Some(table) = table else { continue };
            for (a, &node) in self.nodes.iter().enumerate() {
                for (b, &other) in self.nodes.iter().enumerate() {
                    let model = self.shared(class, a, b).map(|bytes| bytes * times);
                    assert_eq!(table.get(node as usize, other as usize), model);
                }
                let none = (0..100).find(|n| !self.nodes.contains(n)).unwrap();
                assert_eq!(table.get(node as usize, none as usize), None);
            }
        }
    }
}
