//! Counts of one block in sixteen.

use crate::figures::options;
use vdisk_core::{
    Job,
    ops::dedup::{Block, Content, Count, Fingerprint, Node, Options, Outcome},
};

/// Two images of 3000 blocks, all but `apart` of which they share, all named after `seed`.
fn count(seed: u32, sample_bits: u32, apart: u32) -> Outcome {
    let node = Node {
        size: 3000 * 4096,
        image: true,
        parent: None,
    };
    let options = Options {
        sample_bits,
        ..options(4096)
    };
    let mut count = Count::new(&[node, node], options).unwrap();
    for image in 0..2u32 {
        let block = |number: u32| Block {
            pos: u64::from(number) * 4096,
            len: 4096,
            content: Content::Data {
                print: Fingerprint::of(format!("{seed} {}", number + image * apart).as_bytes()),
                deflated: None,
            },
        };
        let blocks: Vec<Block> = (0..3000).map(block).collect();
        count.add(image as usize, &blocks, &Job::default()).unwrap();
    }
    count.finish(&Job::default()).unwrap()
}

#[test]
fn the_truth_is_within_the_error_nine_times_of_ten() {
    let (mut held, mut exact) = (0, 0);
    for seed in 0..60 {
        let found = count(seed, 4, 2000);
        let truth = count(seed, 0, 2000);
        assert_eq!(truth.total.unique, 5000 * 4096);
        assert_eq!(truth.sampled.unique_error, 0);
        assert_eq!(
            found.total.data, truth.total.data,
            "what needs no sample is exact"
        );
        assert_eq!(found.images[0].unwrap().data, 3000 * 4096);
        let off = found.total.unique.abs_diff(truth.total.unique);
        held += usize::from(off <= found.sampled.unique_error);
        exact += usize::from(off == 0);
        // Two standard deviations of 5000 blocks, each seen with a chance of 1/16, are about 550.
        let error = found.sampled.unique_error / 4096;
        assert!((450..650).contains(&error), "{error}");
        let image = found.images[0].unwrap();
        assert!(image.distinct <= image.data && image.exclusive <= image.distinct);
    }
    assert!(held >= 54, "{held} of 60");
    assert!(exact < 10, "{exact} of 60: is it sampled at all?");
}

#[test]
fn no_estimate_is_more_than_there_is() {
    let mut reached = 0;
    for seed in 0..8 {
        let found = count(seed, 6, 3000);
        assert_eq!(found.total.data, 6000 * 4096);
        assert!(found.total.unique <= found.total.data && found.total.once <= found.total.unique);
        reached += usize::from(found.total.unique == found.total.data);
        for image in found.images.into_iter().flatten() {
            assert!(image.distinct <= image.data && image.exclusive <= image.distinct);
        }
    }
    // All blocks are different: about half of the estimates are too high.
    assert!((1..8).contains(&reached), "{reached} of 8");
}
