//! Images of the builder are read as its model says.

use crate::{SECTOR, builder::shapes, open_bytes, raw_layer, read_all, sectors};
use proptest::prelude::*;
use std::sync::Arc;
use vdisk_core::{
    Chain, Deny, Job, Kind, OpenOptions, Result,
    check::Severity,
    ops::check::{Extent, check},
    testing::{conformance, contents},
};

fn flat(model: &[Option<Vec<u8>>], below: &[u8]) -> Vec<u8> {
    let hole = |i: usize| {
        let mut sector = below.get(i * SECTOR..).unwrap_or_default().to_vec();
        sector.resize(SECTOR, 0);
        sector
    };
    model
        .iter()
        .enumerate()
        .flat_map(|(i, s)| s.clone().unwrap_or_else(|| hole(i)))
        .collect()
}

/// The worst that a check says of an image alone, and all that it says.
fn findings(bytes: &[u8], deep: bool) -> Result<(Option<Severity>, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.vhd");
    std::fs::write(&path, bytes).unwrap();
    let vhd = Some(vdisk_core::format::named("vhd")?);
    let options = OpenOptions {
        format: vhd,
        ..OpenOptions::new(&Deny)
    };
    let extent = Extent { deep, chain: false };
    let found = check(&path, &options, extent, &Job::default())?.findings;
    // Parents are not at hand.
    let own = found
        .list()
        .iter()
        .filter(|f| !f.rule.starts_with("parent-"));
    Ok((
        own.map(|f| f.severity).max(),
        format!("{:#?}", found.list()),
    ))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn dynamic_images_read_as_the_model(shape in shapes(3)) {
        let model = shape.model();
        let layer = open_bytes(shape.build(), false).unwrap();
        prop_assert_eq!(contents(&layer).unwrap(), flat(&model, &[]));
        prop_assert_eq!(conformance(&layer), Ok(()));
        prop_assert_eq!(&layer.facts().subformat, "dynamic");
        for ((kind, _), kept) in sectors(&layer).iter().zip(&model) {
            prop_assert_eq!(*kind, if kept.is_some() { Kind::Data } else { Kind::Zero });
        }
        // As an overlay, the same image lets what is below it show through.
        let overlay = open_bytes(shape.build(), true).unwrap();
        prop_assert_eq!(conformance(&overlay), Ok(()));
        for ((kind, bytes), kept) in sectors(&overlay).iter().zip(&model) {
            prop_assert_eq!(*kind, if kept.is_some() { Kind::Data } else { Kind::Absent });
            prop_assert_eq!(bytes, kept);
        }
    }

    #[test]
    fn differencing_images_read_as_the_model(shape in shapes(4), below in 0..40usize) {
        let model = shape.model();
        let layer = open_bytes(shape.build(), false).unwrap();
        prop_assert_eq!(conformance(&layer), Ok(()));
        for ((kind, bytes), kept) in sectors(&layer).iter().zip(&model) {
            prop_assert_eq!(*kind, if kept.is_some() { Kind::Data } else { Kind::Absent });
            prop_assert_eq!(bytes, kept);
        }
        // The parent may be shorter or longer.
        let parent: Vec<u8> = (0..below * SECTOR).map(|i| (i / 3) as u8).collect();
        let chain = Chain::new(vec![Arc::new(layer), raw_layer(parent.clone())]).unwrap();
        prop_assert_eq!(contents(&chain).unwrap(), flat(&model, &parent));
        prop_assert_eq!(conformance(&chain), Ok(()));
    }

    #[test]
    fn damaged_images_never_panic(
        shape in shapes(4),
        hits in prop::collection::vec((0..3000usize, any::<u8>()), 1..6),
        len in 0..40_000usize,
    ) {
        let mut bytes = shape.build();
        for (at, byte) in hits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        for len in [bytes.len(), len] {
            bytes.truncate(len);
            let (read, found) = (read_all(bytes.clone()), findings(&bytes, true));
            // What cannot be read is not called healthy.
            if let (Err(error), Ok((worst, said))) = (read, found) {
                prop_assert_eq!(worst, Some(Severity::Error), "{}: {}", error, said);
            }
        }
    }

    #[test]
    fn healthy_images_are_called_healthy(shape in shapes(3), child in shapes(4)) {
        // What lies under the bits that are not set is rubbish here, so not all data are looked at.
        for (shape, deep) in [(shape, false), (child, true)] {
            let (worst, said) = findings(&shape.build(), deep).unwrap();
            prop_assert!(worst <= Some(Severity::Note), "{}", said);
        }
    }
}
