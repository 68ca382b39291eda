//! Images of the builder are read as its model says.

use crate::{
    assert_is,
    builder::{Cluster, Is, Shape},
    open_bytes, read_all,
};
use proptest::prelude::*;
use std::sync::Arc;
use vdisk_core::{
    Chain, Deny, Kind, OpenOptions, open,
    storage::ImageFile,
    testing::{conformance, contents},
};

/// Which features the images of a strategy have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    Version2,
    Zlib,
    Zstd,
    Subclusters,
    DataFile,
}

pub(crate) fn shapes(with: With) -> impl Strategy<Value = Shape> {
    let is = || prop_oneof![Just(Is::Hole), Just(Is::Zero), Just(Is::Data)];
    let bits = match with {
        With::Subclusters => 14..16u32,
        _ => 9..14,
    };
    let cluster = move || {
        let plain = (is(), any::<bool>()).prop_map(move |(is, place)| match (with, is) {
            (With::Version2, Is::Zero) => Cluster::Plain(Is::Hole, false),
            _ => Cluster::Plain(is, place),
        });
        let other = match with {
            With::DataFile => Just(Cluster::Plain(Is::Data, false)).boxed(),
            _ => Just(Cluster::Packed).boxed(),
        };
        match with {
            With::Subclusters => {
                let parts = prop::collection::vec(is(), 32).prop_map(Cluster::Parts);
                prop_oneof![plain, other, parts].boxed()
            }
            _ => prop_oneof![2 => plain, 1 => other].boxed(),
        }
    };
    // Clusters of 512 bytes have 64 entries a table, so some images have several tables.
    (bits, prop_oneof![1..9usize, 60..200usize], 1..17usize)
        .prop_flat_map(move |(bits, count, last)| {
            let count = if bits > 10 { count.min(9) } else { count };
            let per_cluster = (1usize << bits) / 512;
            (
                prop::collection::vec(cluster(), count),
                prop::collection::vec(any::<u32>(), 2 + 4 + count),
                (0..3usize, any::<u8>()),
                Just((bits, (count - 1) * per_cluster + last.min(per_cluster))),
            )
        })
        .prop_map(
            move |(clusters, order, (gap, seed), (cluster_bits, sectors))| Shape {
                version: if with == With::Version2 { 2 } else { 3 },
                cluster_bits,
                sectors,
                clusters,
                order,
                gap,
                extended: with == With::Subclusters,
                zstd: with == With::Zstd,
                external: with == With::DataFile,
                backing: None,
                seed,
            },
        )
}

pub(crate) fn any_shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        shapes(With::Version2),
        shapes(With::Zlib),
        shapes(With::Zstd),
        shapes(With::Subclusters),
        shapes(With::DataFile),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn images_read_as_the_model(shape in any_shape()) {
        let model = shape.model();
        let layer = open_bytes(shape.build(), false).unwrap();
        assert_is(&layer, &model, Kind::Zero);
        prop_assert_eq!(conformance(&layer), Ok(()));
        // As an overlay, the same image lets what is below it show through.
        let overlay = open_bytes(shape.build(), true).unwrap();
        assert_is(&overlay, &model, Kind::Absent);
        prop_assert_eq!(conformance(&overlay), Ok(()));
    }

    #[test]
    fn holes_show_the_backing_file(mut shape in any_shape(), below in 0..400usize) {
        shape.backing = Some(("b.raw", Some("raw")));
        let model = shape.model();
        let layer = open_bytes(shape.build(), false).unwrap();
        assert_is(&layer, &model, Kind::Absent);
        // The backing file may be shorter or longer.
        let parent: Vec<u8> = (0..below * 512).map(|i| (i / 3) as u8).collect();
        let file = ImageFile::from_storage("b.raw", parent.clone()).unwrap();
        let base = open::open_file(file, &OpenOptions::new(&Deny)).unwrap();
        let chain = Chain::new(vec![Arc::new(layer), Arc::new(base)]).unwrap();
        let expected: Vec<u8> = model
            .iter()
            .enumerate()
            .flat_map(|(s, (is, bytes))| match is {
                Is::Hole => parent.get(s * 512..).and_then(|p| p.get(..512)).unwrap_or(&[0; 512]).to_vec(),
                _ => bytes.clone(),
            })
            .collect();
        prop_assert!(contents(&chain).unwrap() == expected);
        prop_assert_eq!(conformance(&chain), Ok(()));
    }

    #[test]
    fn damaged_images_never_panic(
        shape in any_shape(),
        hits in prop::collection::vec((any::<u32>(), any::<u8>()), 1..6),
        len in 0..40_000usize,
    ) {
        let (mut bytes, data) = shape.build();
        for (at, byte) in hits {
            let at = at as usize % bytes.len();
            bytes[at] = byte;
        }
        let _ = read_all((bytes.clone(), data.clone()));
        bytes.truncate(len);
        let _ = read_all((bytes, data));
    }
}
