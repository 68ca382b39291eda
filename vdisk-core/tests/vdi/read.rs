//! Images of the builder are read as its model says.

use crate::{
    assert_is,
    builder::{Is, Shape, UUID},
    open_bytes, read_all,
};
use proptest::prelude::*;
use vdisk_core::{Kind, testing::conformance};

fn shapes() -> impl Strategy<Value = Shape> {
    let is = prop_oneof![1 => Just(Is::Hole), 1 => Just(Is::Zero), 3 => Just(Is::Data)];
    (
        9..14u32,
        prop::collection::vec(is, 1..9),
        1..17usize,
        prop_oneof![Just(1u32), Just(2), Just(4)],
    )
        .prop_flat_map(|(bits, blocks, last, kind)| {
            let count = blocks.len();
            let per_block = (1usize << bits) / 512;
            (
                Just((bits, blocks, kind, last.min(per_block))),
                prop::collection::vec(any::<u32>(), count),
                prop_oneof![2 => Just(0usize), 1 => Just(512), 1 => Just(96)],
                (0..3usize, 0..3usize, 0..3usize, any::<u8>()),
            )
        })
        .prop_map(
            |((bits, blocks, kind, last), order, extra, (gap, spare, pad, seed))| {
                let block = 1usize << bits;
                Shape {
                    kind,
                    sectors: (blocks.len() - 1) * block / 512 + last,
                    block,
                    extra,
                    blocks,
                    order,
                    gap,
                    spare,
                    pad,
                    parent: (kind == 4).then_some((*b"the parent of it", [1; 16])),
                    uuid: UUID,
                    seed,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn images_read_as_the_model(shape in shapes()) {
        let hole = if shape.kind == 4 { Kind::Absent } else { Kind::Zero };
        let layer = open_bytes(shape.build(), false).unwrap();
        assert_is(&layer, &shape.model(), hole);
        prop_assert_eq!(conformance(&layer), Ok(()));
        let facts = layer.facts();
        prop_assert_eq!(facts.creator.as_deref(), Some("Somebody's Disk Image"));
        prop_assert!(facts.details.contains(&("comment", "made by hand".to_owned())));
        let overlay = open_bytes(shape.build(), true).unwrap();
        assert_is(&overlay, &shape.model(), Kind::Absent);
        prop_assert_eq!(conformance(&overlay), Ok(()));
    }

    #[test]
    fn damaged_images_never_panic(
        shape in shapes(),
        hits in prop::collection::vec((any::<u32>(), any::<u8>()), 1..6),
        len in 0..40_000usize,
    ) {
        let mut bytes = shape.build();
        for (at, byte) in hits {
            // Mostly in the header and the map.
            let end = bytes.len().min(if at % 4 == 0 { usize::MAX } else { 1000 });
            bytes[at as usize / 4 % end] = byte;
        }
        let _ = read_all(bytes.clone());
        bytes.truncate(len);
        let _ = read_all(bytes);
    }
}
