//! The same figures from the bytes of whole blocks, each looked up in a map.

use crate::farm::Farm;
use std::collections::{BTreeMap, HashMap};
use vdisk_core::{
    is_zero,
    ops::dedup::{Counts, ImageCounts, Refs},
};

/// In which images a block is, and how often.
type Where = BTreeMap<usize, u64>;

/// All blocks of a set of images.
pub(crate) struct Truth<'a> {
    /// Block, and where it is counted by place: its position.
    blocks: HashMap<(&'a [u8], Option<usize>), Where>,
    /// By image: bytes in all, and in blocks that are not all zero.
    sums: BTreeMap<usize, (u64, u64)>,
}

impl<'a> Truth<'a> {
    /// Cuts the images for which `counted` is true into blocks of `block` bytes.
    pub(crate) fn new(farm: &'a Farm, counted: &[bool], block: usize, by_place: bool) -> Self {
        let mut truth = Self {
            blocks: HashMap::new(),
            sums: BTreeMap::new(),
        };
        for (image, bytes) in farm.bytes.iter().enumerate().filter(|(i, _)| counted[*i]) {
            let mut data = 0;
            for (number, bytes) in bytes.chunks(block).enumerate().filter(|(_, b)| !is_zero(b)) {
                data += bytes.len() as u64;
                let place = by_place.then_some(number);
                *truth
                    .blocks
                    .entry((bytes, place))
                    .or_default()
                    .entry(image)
                    .or_default() += 1;
            }
            truth.sums.insert(image, (bytes.len() as u64, data));
        }
        truth
    }

    fn each(&self) -> impl Iterator<Item = (u64, &Where)> {
        self.blocks
            .iter()
            .map(|((bytes, _), images)| (bytes.len() as u64, images))
    }

    pub(crate) fn counts(&self) -> Counts {
        let total = self.sums.values().map(|s| s.0).sum();
        let data = self.sums.values().map(|s| s.1).sum();
        let unique = self.each().map(|(len, _)| len).sum();
        let refs = |images: &Where| images.values().sum::<u64>();
        let once = self.each().filter(|(_, images)| refs(images) == 1);
        Counts {
            total,
            zero: total - data,
            data,
            unique,
            duplicate: data - unique,
            once: once.map(|(len, _)| len).sum(),
        }
    }

    pub(crate) fn image(&self, image: usize) -> Option<ImageCounts> {
        let &(total, data) = self.sums.get(&image)?;
        let mine = self
            .each()
            .filter(|(_, images)| images.contains_key(&image));
        let (mut distinct, mut exclusive) = (0, 0);
        for (len, images) in mine {
            distinct += len;
            if images.len() == 1 {
                exclusive += len;
            }
        }
        Some(ImageCounts {
            total,
            zero: total - data,
            data,
            distinct,
            internal_duplicate: data - distinct,
            exclusive,
            shared: distinct - exclusive,
        })
    }

    /// What two images share; none unless both are counted.
    pub(crate) fn pair(&self, a: usize, b: usize) -> Option<u64> {
        let both = self.sums.contains_key(&a) && self.sums.contains_key(&b);
        both.then(|| {
            self.each()
                .filter(|(_, images)| images.contains_key(&a) && images.contains_key(&b))
                .map(|(len, _)| len)
                .sum()
        })
    }

    pub(crate) fn refs(&self) -> Vec<Refs> {
        let mut powers: BTreeMap<u64, Refs> = BTreeMap::new();
        for (len, images) in self.each() {
            let times: u64 = images.values().sum();
            let mut from = 1;
            while from * 2 <= times {
                from *= 2;
            }
            let row = powers.entry(from).or_insert(Refs {
                from,
                blocks: 0,
                unique: 0,
                data: 0,
            });
            row.blocks += 1;
            row.unique += len;
            row.data += len * times;
        }
        powers.into_values().collect()
    }
}
