//! Chunks, against the crate that cuts them run over whole stretches.

use crate::model::{Fill, Model, first_half, job};
use proptest::prelude::*;
use vdisk_core::{Disk, ErrorKind, Kind, ops::dedup::chunks};

type Chunk = ([u8; 16], u32);

fn cut(disk: &dyn Disk, average: u32, threads: usize) -> vdisk_core::Result<Vec<Chunk>> {
    let mut all = Vec::new();
    chunks(disk, average, &job(threads), &mut |some| {
        assert!(!some.is_empty());
        all.extend(some.iter().map(|(print, len)| (print.bytes(), *len)));
        Ok(())
    })?;
    Ok(all)
}

fn expected(bytes: &[u8], average: usize) -> Vec<Chunk> {
    let blocks: Vec<&[u8]> = bytes.chunks(4096).collect();
    let zero = |block: &[u8]| block.iter().all(|b| *b == 0);
    let mut found = Vec::new();
    for stretch in blocks.chunk_by(|a, b| zero(a) == zero(b)) {
        let stretch = stretch.concat();
        if zero(&stretch) {
            continue;
        }
        let cutter = fastcdc::v2020::FastCDC::new(&stretch, average / 4, average, average * 4);
        found.extend(cutter.map(|c| {
            let chunk = &stretch[c.offset..c.offset + c.length];
            (first_half(chunk), c.length as u32)
        }));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn stretches_are_cut_as_wholes(
        model in Model::strategy(&[Kind::Data, Kind::Zero]),
        log in 10..21u32,
    ) {
        let found = cut(&model, 1 << log, 2).unwrap();
        prop_assert_eq!(found, expected(&model.bytes, 1 << log));
    }
}

#[test]
fn long_stretches_are_cut_as_wholes() {
    // Stretches longer than what is read at once, not at multiples of it, and a short last block.
    let parts = [
        (8 * 1000 + 3, Kind::Data, Fill::Random),
        (8 * 10, Kind::Zero, Fill::Zeros),
        (8 * 2000, Kind::Data, Fill::Random),
        (8 * 100 + 1, Kind::Data, Fill::Repeated),
    ];
    let model = Model::new(&parts, 5);
    assert!(!model.size().is_multiple_of(4096));
    for average in [1 << 10, 1 << 16, 1 << 20] {
        for threads in [1, 2, 5] {
            let found = cut(&model, average, threads).unwrap();
            assert_eq!(found, expected(&model.bytes, average as usize));
        }
    }
}

#[test]
fn other_averages_are_refused() {
    let disk = vec![1u8; 8192];
    for average in [0, 512, 1000, 3 << 10, 2 << 20, u32::MAX] {
        let error = cut(&disk, average, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{average}");
    }
}
