//! Blocks of disks of any pattern.

use crate::model::{Fill, Model, Whole, first_half, found, job, scanned};
use proptest::prelude::*;
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};
use vdisk_core::{
    Disk, ErrorKind, Job, Kind, Watch,
    ops::dedup::{Content, scan},
    testing,
};

const UNITS: [usize; 5] = [512, 1536, 4096, 12 << 10, 1 << 20];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn blocks_are_those_of_the_model(
        model in Model::strategy(&[Kind::Data, Kind::Zero, Kind::Absent]),
        unit in prop::sample::select(&UNITS[..]),
        threads in prop::sample::select(&[1usize, 2, 5][..]),
    ) {
        let whole = Whole { model: &model, unit };
        let found = scanned(&model, &whole, unit, threads).unwrap();
        prop_assert_eq!(found, model.blocks(unit));
    }

    #[test]
    fn blocks_of_a_complete_disk_tile_it(
        model in Model::strategy(&[Kind::Data, Kind::Zero]),
        unit in prop::sample::select(&UNITS[..]),
    ) {
        let found = scanned(&model, &model, unit, 2).unwrap();
        let mut end = 0;
        for (pos, len, _) in &found {
            prop_assert_eq!(*pos, end);
            end += len;
        }
        prop_assert_eq!(end, model.size());
        prop_assert_eq!(found, model.blocks(unit));
    }
}

#[test]
fn a_long_hole_is_one_block() {
    let size = 1 << 50;
    let disk = testing::disk(&[(4096, Some(1)), (size - 4096, None), (size, Some(2))]);
    let data = |byte: u8| Some(first_half(&[byte; 4096]));
    let expected = [
        (0, 4096, data(1)),
        (4096, size - 8192, None),
        (size - 4096, 4096, data(2)),
    ];
    assert_eq!(scanned(&disk, &disk, 4096, 2).unwrap(), expected);
    let empty = testing::disk(&[(size, None)]);
    let one = scanned(&empty, &empty, 4096, 2).unwrap();
    assert_eq!(one, [(0, size, None)]);
    let nothing: Vec<u8> = vec![];
    assert_eq!(scanned(&nothing, &nothing, 4096, 2).unwrap(), []);
}

#[test]
fn stored_zeros_are_one_block_too() {
    // Many pieces of data that are zero, between holes.
    let parts = [
        (9, Kind::Zero, Fill::Zeros),
        (20_000, Kind::Data, Fill::Zeros),
        (7, Kind::Zero, Fill::Zeros),
    ];
    let model = Model::new(&parts, 1);
    let found = scanned(&model, &model, 4096, 2).unwrap();
    assert_eq!(found, [(0, model.size(), None)]);
}

#[test]
fn some_blocks_are_deflated() {
    let parts = [
        (8 * 500, Kind::Data, Fill::Random),
        (8 * 500, Kind::Data, Fill::Sparse),
    ];
    let model = Model::new(&parts, 3);
    for bits in [0, 3] {
        let mut deflated = 0;
        let mut saved = 0;
        scan(&model, &model, 4096, bits, &job(2), &mut |blocks| {
            for block in blocks {
                let Content::Data {
                    print,
                    deflated: len,
                } = block.content
                else {
                    continue;
                };
                let last = print.bytes()[15];
                assert_eq!(len.is_some(), last.trailing_zeros() >= bits, "{print:?}");
                let Some(len) = len else { continue };
                deflated += 1;
                let bytes = &model.bytes[block.pos as usize..][..4096];
                // Another level and another wrapper, so only roughly the same.
                let mut other = Vec::new();
                let level = flate2::Compression::best();
                let mut reader = flate2::read::DeflateEncoder::new(bytes, level);
                std::io::Read::read_to_end(&mut reader, &mut other).unwrap();
                let expected = other.len().min(4096) as u32;
                assert!(len.abs_diff(expected) <= 30, "{len} {expected}");
                saved += u64::from(4096 - len);
            }
            Ok(())
        })
        .unwrap();
        assert!(deflated > 20 && saved > 20_000, "{deflated} {saved}");
        if bits == 3 {
            assert!(deflated < 200, "{deflated}");
        }
    }
}

#[derive(Default)]
struct Heard(Mutex<(Vec<(String, u64)>, u64)>);

impl Watch for Heard {
    fn phase(&self, name: &str, total: u64) {
        self.0.lock().unwrap().0.push((name.to_owned(), total));
    }
    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().1 += bytes;
    }
}

#[test]
fn progress_ends_at_its_total() {
    let parts = [
        (700, Kind::Data, Fill::Random),
        (3000, Kind::Absent, Fill::Random),
        (100, Kind::Zero, Fill::Zeros),
        (2000, Kind::Absent, Fill::Random),
    ];
    for model in [
        Model::new(&parts, 3),
        Model::new(&parts[..2], 3),
        Model::new(&parts[1..2], 3),
        Model::new(&parts[1..3], 3),
    ] {
        let heard = Heard::default();
        let job = Job {
            watch: &heard,
            ..job(2)
        };
        let whole = Whole {
            model: &model,
            unit: 4096,
        };
        scan(&model, &whole, 4096, 9, &job, &mut |_| Ok(())).unwrap();
        let (phases, bytes) = heard.0.into_inner().unwrap();
        assert_eq!(phases, [("scan".to_owned(), model.size())]);
        assert_eq!(bytes, model.size());
    }
}

#[test]
fn it_stops_when_told_to_and_at_errors() {
    let model = Model::new(&[(20_000, Kind::Data, Fill::Random)], 3);
    let stop = AtomicBool::new(false);
    let job = Job {
        stop: &stop,
        ..job(2)
    };
    let mut blocks = 0;
    let error = scan(&model, &model, 4096, 9, &job, &mut |some| {
        blocks += some.len();
        stop.store(true, Ordering::Relaxed);
        Ok(())
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(blocks < 2500, "{blocks}");

    // A chain that cannot be read where it must be: all before it was handed over.
    let mut bad = model.clone();
    bad.kinds[12_345] = Kind::Absent;
    let mut last = None;
    let error = scan(&model, &bad, 4096, 9, &Job::default(), &mut |some| {
        last = some.last().map(found);
        Ok(())
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Reference);
    let (pos, len, _) = last.unwrap();
    let bad_at = 12_345 * 512;
    assert!(
        pos + len <= bad_at && pos + len + (1 << 20) > bad_at,
        "{pos}"
    );
}
