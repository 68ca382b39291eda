//! In which images blocks are, by sets of images.
//!
//! A farm has millions of blocks, and few sets of images that have the same ones. So bytes are
//! gathered by set first, and then told to each image, group and pair of the set.

use super::super::pairs::Table;
use std::{collections::HashMap, mem};

/// Images with consecutive numbers that have a block equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Part {
    pub(in super::super) start: u32,
    pub(in super::super) end: u32,
    /// Each has it more than once. Always false if there are no groups, which alone ask for it.
    pub(in super::super) again: bool,
}

impl Part {
    /// First image, and the one behind the last.
    pub(in super::super) fn ends(&self) -> (usize, usize) {
        (self.start as usize, self.end as usize)
    }
}

/// Bytes of an image, without those that repeat others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) distinct: u64,
    /// That no other image has.
    pub(super) exclusive: u64,
}

/// Bytes of a group, without those that repeat others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) unique: u64,
    /// That occur once in it.
    pub(super) once: u64,
}

/// Bytes of a set of images.
#[derive(Default)]
struct Weights {
    blocks: u64,
    places: u64,
}

/// Bytes of memory of one entry of the map beside its parts: the slot, twice as many when the map grows,
/// and what the allocator adds.
const ENTRY: usize = 128;

/// Sums bytes for images, groups and pairs of images.
pub(super) struct Sets {
    /// By image.
    exclusive: Vec<u64>,
    /// By image: bytes that others have too, as a difference to the image before.
    shared: Vec<u64>,
    /// By image: its group. Empty if there are none.
    group_of: Vec<u32>,
    /// By image: where the next one of another group is.
    stretch: Vec<u32>,
    groups: Vec<Group>,
    /// By group: how often a block occurs in it, 2 for more. Zero between sets.
    seen: Vec<u32>,
    pub(super) pairs: Option<Table>,
    pub(super) places: Option<Table>,
    gathered: HashMap<Box<[Part]>, Weights>,
    /// Bytes of memory that it takes, and may take.
    held: usize,
    memory: usize,
}

impl Sets {
    /// Sets of `images`, or those of `group_of` if that is not empty, with `groups` groups.
    pub(super) fn new(images: usize, group_of: Vec<u32>, groups: usize, memory: u64) -> Self {
        let mut stretch = vec![0; group_of.len()];
        let mut end = group_of.len();
        for image in (0..group_of.len()).rev() {
            if group_of.get(image + 1) != Some(&group_of[image]) {
                end = image + 1;
            }
            stretch[image] = u32::try_from(end).unwrap_or(u32::MAX);
        }
        Self {
            exclusive: vec![0; images],
            shared: vec![0; images + 1],
            group_of,
            stretch,
            groups: vec![Group::default(); groups],
            seen: vec![0; groups],
            pairs: None,
            places: None,
            gathered: HashMap::new(),
            held: 0,
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
        }
    }

    /// A block of `len` bytes is in the images of `parts`.
    pub(super) fn block(&mut self, parts: &[Part], len: u64) {
        match parts {
            [part] if part.end - part.start == 1 => {
                let image = part.start as usize;
                self.exclusive[image] += len;
                if let Some(&group) = self.group_of.get(image) {
                    self.groups[group as usize].add(len, !part.again);
                }
            }
            _ => self.gather(parts, len, 0),
        }
    }

    /// A place of `len` bytes is the same in the images of `parts`.
    pub(super) fn place(&mut self, parts: &[Part], len: u64) {
        match (parts, &mut self.places) {
            (_, None) => {}
            ([part], Some(places)) if part.end - part.start == 1 => {
                places.add_own(part.start as usize, len);
            }
            _ => self.gather(parts, 0, len),
        }
    }

    fn gather(&mut self, parts: &[Part], blocks: u64, places: u64) {
        if let Some(weights) = self.gathered.get_mut(parts) {
            weights.blocks += blocks;
            weights.places += places;
            return;
        }
        let bytes = ENTRY + size_of_val(parts);
        if self.held + bytes > self.memory {
            self.flush();
        }
        self.held += bytes;
        self.gathered
            .insert(parts.into(), Weights { blocks, places });
    }

    /// Tells images, groups and pairs what was gathered for their sets.
    fn flush(&mut self) {
        let mut gathered = mem::take(&mut self.gathered);
        for (parts, Weights { blocks, places }) in gathered.drain() {
            if let Some(table) = self.places.as_mut().filter(|_| places > 0) {
                table.add(&parts, places);
            }
            if blocks == 0 {
                continue;
            }
            if let Some(table) = &mut self.pairs {
                table.add(&parts, blocks);
            }
            for part in &parts {
                let (start, end) = part.ends();
                self.shared[start] = self.shared[start].wrapping_add(blocks);
                self.shared[end] = self.shared[end].wrapping_sub(blocks);
            }
            self.tell_groups(&parts, blocks);
        }
        self.gathered = gathered;
        self.held = 0;
    }

    fn tell_groups(&mut self, parts: &[Part], len: u64) {
        if self.group_of.is_empty() {
            return;
        }
        let mut met = Vec::new();
        for part in parts {
            let mut image = part.start;
            while image < part.end {
                let next = self.stretch[image as usize].min(part.end);
                let group = self.group_of[image as usize] as usize;
                if self.seen[group] == 0 {
                    met.push(group);
                }
                let times = (next - image).saturating_add(part.again.into());
                self.seen[group] = self.seen[group].saturating_add(times).min(2);
                image = next;
            }
        }
        for group in met {
            let once = mem::take(&mut self.seen[group]) == 1;
            self.groups[group].add(len, once);
        }
    }

    /// By image, by group, and the tables of pairs and places multiplied by 2 to the power of `bits`.
    pub(super) fn finish(mut self, bits: u32) -> Sums {
        self.flush();
        let scale = |bytes: u64| bytes.saturating_mul(1 << bits);
        let mut shared = 0u64;
        let mut images = Vec::with_capacity(self.exclusive.len());
        for (image, &exclusive) in self.exclusive.iter().enumerate() {
            shared = shared.wrapping_add(self.shared[image]);
            images.push(Image {
                distinct: scale(shared.saturating_add(exclusive)),
                exclusive: scale(exclusive),
            });
            if let Some(pairs) = &mut self.pairs {
                pairs.add_own(image, exclusive);
            }
        }
        for group in &mut self.groups {
            *group = Group {
                unique: scale(group.unique),
                once: scale(group.once),
            };
        }
        Sums {
            images,
            groups: self.groups,
            pairs: self.pairs.map(|table| table.finish(bits)),
            places: self.places.map(|table| table.finish(bits)),
        }
    }
}

/// What [`Sets::finish`] gives.
pub(super) struct Sums {
    pub(super) images: Vec<Image>,
    pub(super) groups: Vec<Group>,
    pub(super) pairs: Option<Table>,
    pub(super) places: Option<Table>,
}

impl Group {
    fn add(&mut self, len: u64, once: bool) {
        self.unique += len;
        if once {
            self.once += len;
        }
    }
}
