//! Disks behind zeros.

use crate::model::{Model, scanned};
use proptest::prelude::*;
use vdisk_core::{
    Disk, Kind,
    ops::dedup::Padded,
    testing::{conformance, contents},
};

fn padded(model: &Model, sectors: usize) -> Model {
    let mut longer = Model {
        kinds: vec![Kind::Zero; sectors],
        bytes: vec![0; sectors * 512],
    };
    longer.kinds.extend(&model.kinds);
    longer.bytes.extend(&model.bytes);
    longer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_padded_disk_conforms(
        model in Model::strategy(&[Kind::Data, Kind::Zero]),
        pad in 0..40usize,
    ) {
        let disk = Padded::new(&model, pad as u64 * 512);
        prop_assert_eq!(conformance(&disk), Ok(()));
        prop_assert!(contents(&disk).unwrap() == padded(&model, pad).bytes);
    }

    #[test]
    fn a_padded_disk_is_scanned_as_one_that_starts_with_zeros(
        model in Model::strategy(&[Kind::Data, Kind::Zero, Kind::Absent]),
        pad in 0..40usize,
    ) {
        let recorded = Padded::new(&model, pad as u64 * 512);
        prop_assert_eq!(conformance(&recorded), Ok(()));
        let disk = Padded::new(&model.bytes, pad as u64 * 512);
        let found = scanned(&recorded, &disk, 4096, 2).unwrap();
        prop_assert_eq!(found, padded(&model, pad).blocks(4096));
    }
}

/// Sectors of 4096 bytes.
struct Large(Vec<u8>);

impl Disk for Large {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn sector_size(&self) -> u32 {
        4096
    }
    fn extent_at(&self, pos: u64) -> vdisk_core::Result<vdisk_core::Extent> {
        self.0.extent_at(pos)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> vdisk_core::Result<()> {
        self.0.read_at(pos, buf)
    }
}

#[test]
fn large_sectors_stay_whole() {
    let disk = Large(vec![1; 8192]);
    for (pad, sector) in [(0, 4096), (8192, 4096), (512, 512)] {
        let padded = Padded::new(&disk, pad);
        assert_eq!(padded.sector_size(), sector);
        assert_eq!(conformance(&padded), Ok(()));
    }
}
