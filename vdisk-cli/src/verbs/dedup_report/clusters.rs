//! Full disks that were made from one image: which ones, from which, and what it would free to make
//! them its children.
//!
//! A child records blocks at their positions, so only what two disks have at the same positions
//! counts here.

use std::{cmp::Reverse, collections::BinaryHeap};

/// What clusters need to know of an image. Bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    /// The machine that it is on, if there are several: children need their base on theirs.
    pub(super) host: Option<&'a str>,
    pub(super) format: &'a str,
    /// It has no parent, and is a file that can be given up for a child.
    pub(super) full: bool,
    /// Children of its own format can have it as their parent.
    pub(super) base: bool,
    pub(super) layers: u32,
    pub(super) size: u64,
    pub(super) data: u64,
    pub(super) allocated: u64,
}

/// Images that could be children of one of them, by their numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) base: usize,
    pub(super) members: Vec<usize>,
    /// Of the members' data.
    pub(super) shared: u64,
    pub(super) data: u64,
    /// About.
    pub(super) frees: u64,
}

/// What is not worth a command, in bytes.
const LEAST: u64 = 1 << 20;

/// Clusters of `images`, each image in one at most, those that share most first. `shared` says what a
/// base and a member have at the same positions. `fit` has the last word on a base.
///
/// The base is the image with which the others share most, each at least half of its data; among
/// such images the one that has least data of its own, as a golden image has nothing else; and then the
/// one with the shortest chain.
pub(super) fn find(
    images: &[Member<'_>],
    shared: &dyn Fn(usize, usize) -> u64,
    fit: &mut dyn FnMut(usize) -> bool,
) -> Vec<Found> {
    let mut free = vec![true; images.len()];
    let with_base = |base: usize, free: &[bool]| {
        let hub = images.get(base)?;
        let mut found = Found {
            base,
            members: Vec::new(),
            shared: 0,
            data: 0,
            frees: 0,
        };
        for (number, (image, _)) in images.iter().zip(free).enumerate().filter(|(_, i)| *i.1) {
            if number == base || !image.could_lie_over(hub) {
                continue;
            }
            let shared = shared(base, number).min(image.data);
            let rest = image.data.saturating_sub(shared);
            let frees = image.allocated.saturating_sub(rest);
            if shared > 0 && shared >= rest && frees > 0 {
                found.members.push(number);
                found.shared = found.shared.saturating_add(shared);
                found.data = found.data.saturating_add(image.data);
                found.frees = found.frees.saturating_add(frees);
            }
        }
        (found.frees >= LEAST).then_some(found)
    };
    let rank = |found: &Found| {
        let base = images.get(found.base);
        let (data, layers) = base.map_or((0, 0), |i| (i.data, i.layers));
        (found.shared, Reverse((data, layers, found.base)))
    };
    let bases = (0..images.len()).filter(|i| images.get(*i).is_some_and(|i| i.base));
    let mut bases: BinaryHeap<_> = bases
        .filter_map(|base| with_base(base, &free).map(|found| (rank(&found), base)))
        .collect();
    let mut clusters = Vec::new();
    while let Some((was, base)) = bases.pop() {
        // What it had may be taken by now.
        let Some(found) = Some(base)
            .filter(|base| free.get(*base) == Some(&true))
            .and_then(|base| with_base(base, &free))
        else {
            continue;
        };
        if rank(&found) < was {
            bases.push((rank(&found), base));
            continue;
        }
        if !fit(base) {
            continue;
        }
        for taken in found.members.iter().chain([&base]) {
            if let Some(free) = free.get_mut(*taken) {
                *free = false;
            }
        }
        clusters.push(found);
    }
    clusters
}

impl Member<'_> {
    /// Whether it makes sense as a child of `base`: a disk of the same size that would not change
    /// its format, unless it has none of its own.
    fn could_lie_over(&self, base: &Member<'_>) -> bool {
        let format = self.format == base.format || self.format == "raw";
        self.full && format && self.size == base.size && self.host == base.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn image(data: u64) -> Member<'static> {
        Member {
            host: None,
            format: "vmdk",
            full: true,
            base: true,
            layers: 1,
            size: 100 * MIB,
            data: data * MIB,
            allocated: data * MIB,
        }
    }

    /// What images share, in MiB; nothing where nothing is said.
    fn table(pairs: &[(usize, usize, u64)]) -> impl Fn(usize, usize) -> u64 {
        move |a, b| {
            let pair = pairs.iter().find(|p| (p.0, p.1) == (a.min(b), a.max(b)));
            pair.map_or(0, |p| p.2 * MIB)
        }
    }

    fn found(images: &[Member<'_>], pairs: &[(usize, usize, u64)]) -> Vec<Found> {
        find(images, &table(pairs), &mut |_| true)
    }

    #[test]
    fn the_base_is_the_golden_image_and_not_a_desktop() {
        // Each desktop has 8 MiB of its own besides the 20 of the golden image.
        let images = [image(28), image(28), image(20), image(28)];
        let all = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)].map(|(a, b)| (a, b, 20));
        let expected = Found {
            base: 2,
            members: vec![0, 1, 3],
            shared: 60 * MIB,
            data: 84 * MIB,
            frees: 60 * MIB,
        };
        assert_eq!(found(&images, &all), [expected]);
    }

    #[test]
    fn a_fresh_clone_of_the_golden_image_is_not_the_base() {
        let clone = Member {
            full: false,
            layers: 2,
            ..image(20)
        };
        let clusters = found(&[clone, image(20), image(28)], &[(0, 2, 20), (1, 2, 20)]);
        assert_eq!((clusters.len(), clusters[0].base), (1, 1));
    }

    #[test]
    fn two_families_are_two_clusters_the_larger_first() {
        let images = [10, 10, 30, 30, 50].map(image);
        let clusters = found(&images, &[(0, 1, 9), (2, 3, 25), (1, 4, 3)]);
        let bases: Vec<_> = clusters.iter().map(|c| (c.base, &c.members[..])).collect();
        assert_eq!(bases, [(2, &[3][..]), (0, &[1][..])]);
    }

    #[test]
    fn an_image_is_in_one_cluster_only() {
        // 1 lies between two families; it goes to the one that has more of it.
        let images = [10, 20, 20, 20].map(image);
        let clusters = found(&images, &[(0, 1, 10), (1, 2, 15), (2, 3, 15)]);
        assert_eq!(clusters.len(), 1, "{clusters:?}");
        assert_eq!(
            (clusters[0].base, &clusters[0].members[..]),
            (2, &[1, 3][..])
        );
    }

    #[test]
    fn who_shares_less_than_half_or_frees_nothing_is_left_out() {
        let images = [10, 10].map(image);
        assert!(found(&images, &[(0, 1, 4)]).is_empty());
        assert_eq!(found(&images, &[(0, 1, 5)]).len(), 1);
        // A compressed image can take less than its child would.
        let mut small = image(10);
        small.allocated = 4 * MIB;
        assert_eq!(found(&[image(10), small], &[(0, 1, 6)])[0].base, 1);
        small.base = false;
        assert!(found(&[image(10), small], &[(0, 1, 6)]).is_empty());
    }

    #[test]
    fn only_what_can_be_a_child_is_a_member() {
        let pairs = [(0, 1, 10)];
        let clone = Member {
            full: false,
            ..image(10)
        };
        let larger = Member {
            size: 200 * MIB,
            ..image(10)
        };
        let vhd = Member {
            format: "vhd",
            ..image(10)
        };
        let elsewhere = Member {
            host: Some("west"),
            ..image(10)
        };
        let raw = Member {
            format: "raw",
            base: false,
            ..image(10)
        };
        for (other, wanted) in [
            (larger, None),
            (vhd, None),
            (elsewhere, None),
            (clone, Some(1)),
            (raw, Some(0)),
        ] {
            let clusters = found(&[image(10), other], &pairs);
            assert_eq!(clusters.first().map(|c| c.base), wanted, "{other:?}");
        }
        assert!(find(&[image(10), image(10)], &table(&pairs), &mut |_| false).is_empty());
    }
}
